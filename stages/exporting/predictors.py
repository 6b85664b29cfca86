"""Networks that predict, from whatever `--checkpoint` names. An ONNX file needs no torch here."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from stages.errors import UserError, first_line
from stages.exporting.description import (
    KEY,
    LOGITS,
    ONNX_FILE,
    PIXELS,
    TIMM_CONFIG,
    TORCH_FILE,
    Exported,
)
from stages.params import ARMS

INSTALL = "pip install -r requirements-export.txt"
MODELS, SUFFIX = Path("models"), ".safetensors"  # where an experiment leaves its checkpoints
FOR_TORCH = "is for torch.export.load, and predict does not read it: export onnx or timm as well"
Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Predictor:
    """A network and how to feed it.

    Attributes:
        path: of the file or folder that it comes from.
        classes: names of the outputs.
        image_size: height and width in pixels.
        channels: 1 for gray, 3 for RGB.
        logits: of uint8 pixels (batch, height, width, channels): float32 (batch, classes).
    """

    path: Path
    classes: tuple[str, ...]
    image_size: int
    channels: int
    logits: Callable[[Pixels], Logits]

    def probabilities(self, pixels: Pixels) -> npt.NDArray[np.float64]:
        """Return the probabilities of each class, (batch, classes)."""
        logits = self.logits(pixels).astype(np.float64)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def open_predictors(given: Sequence[str]) -> list[Predictor]:
    """Open the networks that files and folders hold; several are an ensemble.

    Raises:
        UserError: there are none, one is damaged, one is given twice, or they have different classes.
    """
    paths = [path for one in given for path in find_networks(one)]
    twice = [path for path, times in Counter(path.resolve() for path in paths).items() if times > 1]
    if twice:
        raise UserError(f"--checkpoint: {twice[0].name} is given twice, and would count twice: name it once")
    predictors = [_open(path) for path in paths]
    first = predictors[0]
    for other in predictors[1:]:
        if other.classes != first.classes:
            raise UserError(
                f"--checkpoint: {first.path} and {other.path} have different classes: give networks of the same classes"
            )
    return predictors


def find_networks(given: str) -> list[Path]:
    """Return the file, the exported folder, or the checkpoints of a folder in the order of their names.

    Raises:
        UserError: there is nothing of that name, or nothing that predicts.
    """
    if not given:
        raise UserError("--checkpoint: the name is empty: give a file or a folder, such as models/differential")
    path = Path(given)
    if not path.exists():
        raise UserError(f"{path} is missing: {advice_on_missing(path)}")
    if path.name.endswith(".pt2"):
        raise UserError(f"{path} {FOR_TORCH}")
    if not path.is_dir():
        return [path]
    if (path / TIMM_CONFIG).is_file():
        return [path]
    if (path / ONNX_FILE).is_file():
        return [path / ONNX_FILE]
    checkpoints = [file for file in sorted(path.glob("*.safetensors")) if not file.name.endswith(".logits.safetensors")]
    if checkpoints:
        return checkpoints
    if (path / TORCH_FILE).is_file():
        raise UserError(f"{path / TORCH_FILE} {FOR_TORCH}")
    below = sorted({str(file.parent) for file in path.glob("*/*.safetensors")})
    advice = f"give {' or '.join(below)}" if below else "give a checkpoint, a folder of checkpoints, or an exported one"
    raise UserError(f"{path} holds no checkpoint and is no exported folder: {advice}")


def advice_on_missing(path: Path) -> str:
    """Return what to do about a network that is not there: take one of nearly that name, make it, or give another."""
    lacking = next(part for part in (*reversed(path.parents), path) if not part.exists())
    names = [entry.name for entry in lacking.parent.iterdir()] if lacking.parent.is_dir() else []
    others = [lacking.parent / near / path.relative_to(lacking) for near in get_close_matches(lacking.name, names, n=3)]
    if meant := next((other for other in others if other.exists()), None):
        return f"did you mean {meant}?"
    if path.resolve().is_relative_to(MODELS.resolve()) and not {*path.parts}.isdisjoint(ARMS):
        return "run `dvc repro`, or `dvc pull` where a remote is configured"
    return "give a checkpoint, such as models/differential/seed-11.safetensors, or what was exported"


def checked_name(path: Path) -> Path:
    """Return the path of a checkpoint.

    Raises:
        UserError: no checkpoint has such a name.
    """
    if path.suffix != SUFFIX:
        raise UserError(f"{path} is not a checkpoint, whose name ends in {SUFFIX}: give one of those under {MODELS}/")
    return path


def _open(path: Path) -> Predictor:
    if path.suffix == ".onnx":
        return open_onnx(path)
    try:
        from stages.exporting import torch_predictors
    except ImportError as error:
        raise UserError(
            f"{path} needs torch ({first_line(error)}): pip install -r requirements.txt, or give an exported .onnx file"
        ) from None
    if path.is_dir():
        return torch_predictors.open_timm(path)
    return torch_predictors.open_checkpoint(checked_name(path))


def open_onnx(path: Path) -> Predictor:
    """Open an exported ONNX file, with onnxruntime on the CPU.

    Raises:
        UserError: onnxruntime is missing, or the file is none that this project exported.
    """
    try:
        import onnxruntime
    except ImportError:
        raise UserError(f"{path}: the package onnxruntime is missing: {INSTALL}") from None
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class of its own for every way in which a file can be wrong
        raise UserError(f"{path} is not an ONNX file, or is damaged ({first_line(error)}): export it anew") from None
    exported = read_description(path, session.get_modelmeta().custom_metadata_map.get(KEY))

    def logits(pixels: Pixels) -> Logits:
        return np.asarray(session.run([LOGITS], {PIXELS: pixels})[0])

    return Predictor(path, exported.classes, exported.image_size, exported.channels, logits)


def read_description(path: Path, text: str | None) -> Exported:
    """Return what an exported file says of itself.

    Raises:
        UserError: it says nothing, or something else.
    """
    if text is None:
        raise UserError(f"{path} was not exported by this project: make it with `python -m stages.export`")
    try:
        return Exported.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path} describes itself wrongly ({error.error_count()} problems): export it anew") from None
