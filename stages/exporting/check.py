"""The check of an export: the written files against the checkpoint, on real images."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from stages.data.images import read_pixels
from stages.errors import UserError
from stages.exporting.description import Exported
from stages.exporting.formats import FORMATS
from stages.models.network import Network

CHECKED = 32  # images

# Of the largest logit. Other libraries sum in another order: of eleven networks with 0.1 to 130 million weights the
# worst was 0.000007 off, the trained one of the sample images in ONNX; colors in another order or
# BatchNorm in training mode move logits by a hundredth at least (tests/test_export.py).
TOLERANCE = 1e-4


def sample_images() -> list[Path]:
    """Return photographs from all over the installed sample images.

    Raises:
        UserError: the package that holds them is missing.
    """
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise UserError("the package elpv-dataset, whose images check an export, is missing: "
                        "pip install -r requirements.txt")  # fmt: skip
    images = sorted((Path(package.origin).parent / "data/images").glob("*.png"))
    return images[:: len(images) // CHECKED][:CHECKED]


def reference(network: Network, exported: Exported, images: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """Return images as uint8 pixels, and the logits that the checkpoint's network gives them."""
    pixels = torch.from_numpy(np.stack([read_pixels(path, exported.image_size, exported.channels) for path in images]))
    network.module.eval()
    with torch.inference_mode():
        return pixels, network.logits(pixels)


def check_format(
    name: str, exported: Exported, folder: Path, images: Sequence[Path], pixels: Tensor, expected: Tensor
) -> float:
    """Return how far the logits of a written format are from those of the checkpoint, as a part of the largest.

    Args:
        name: of the format.
        exported: what the network says of itself.
        folder: with the written files.
        images: files.
        pixels: the same as the network sees them.
        expected: logits of the checkpoint.

    Raises:
        UserError: they are farther than `TOLERANCE`, or not finite.
    """
    with torch.inference_mode():
        found = FORMATS[name].read(exported, folder, images, pixels)
    difference = float((found - expected).abs().max() / expected.abs().max().clamp(min=torch.finfo().tiny))
    if not difference <= TOLERANCE:  # which NaN is not either
        raise UserError(
            f"--format {name}: the written network's logits differ from the checkpoint's by {difference:.1g} of the "
            f"largest, allowed are {TOLERANCE:g}: nothing is kept; choose another format"
        )
    return difference
