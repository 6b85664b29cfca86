"""Networks that predict with torch: checkpoints, and exported timm folders."""

import json
from pathlib import Path

import torch

from stages.errors import UserError, cause_of, first_line
from stages.exporting.description import KEY, TIMM_CONFIG, TIMM_WEIGHTS
from stages.exporting.predictors import Logits, Pixels, Predictor, read_description
from stages.libraries import timm
from stages.models.checkpoint import load_checkpoint
from stages.models.network import Network
from stages.models.preprocessing import Preprocessing


def open_checkpoint(path: Path) -> Predictor:
    """Open a checkpoint.

    Raises:
        UserError: the file is no checkpoint of this project.
    """
    checkpoint = load_checkpoint(path)
    wanted = checkpoint.description
    return _predictor(path, checkpoint.network, wanted.classes, wanted.image_size, wanted.channels)


def open_timm(folder: Path) -> Predictor:
    """Open an exported timm folder, by timm.

    Raises:
        UserError: it is not one that this project exported, or is damaged.
    """
    try:
        stored = json.loads((folder / TIMM_CONFIG).read_text(encoding="utf-8"))
        text = json.dumps(stored[KEY]) if KEY in stored else None
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / TIMM_CONFIG} is not JSON ({first_line(error)}): export it anew") from None
    exported = read_description(folder, text)
    if not (folder / TIMM_WEIGHTS).is_file():
        raise UserError(f"{folder / TIMM_WEIGHTS} is missing: export it anew")
    try:
        module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # what a damaged file makes of timm cannot be listed
        raise UserError(f"{folder} is damaged ({cause_of(error)}): export it anew") from None
    network = Network(module, Preprocessing(exported.mean, exported.std), {})
    return _predictor(folder, network, exported.classes, exported.image_size, exported.channels)


def _predictor(path: Path, network: Network, classes: tuple[str, ...], image_size: int, channels: int) -> Predictor:
    network.module.eval()

    def logits(pixels: Pixels) -> Logits:
        with torch.inference_mode():
            return network.logits(torch.from_numpy(pixels)).numpy()

    return Predictor(path, classes, image_size, channels, logits)
