"""Checkpoints for tests of what is exported and predicted: written in a moment, and not trained."""

import importlib.util
from pathlib import Path

import elpv_dataset
import numpy as np
import pytest
import torch

from stages.data.images import read_pixels
from stages.models.checkpoint import Description, save_checkpoint
from stages.models.network import empty_network

PHOTOGRAPHS = sorted((Path(elpv_dataset.__file__).parent / "data/images").glob("*.png"))[::60]
MISSING = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"no {', '.join(MISSING)}: make export-requirements installs it")


def make_checkpoint(
    path, seed=1, library="timm", name="test_efficientnet", channels=1, classes=("good", "bad"), size=32
):
    """Write the checkpoint of a network that has seen photographs, so that its BatchNorm knows what they are like."""
    network = empty_network(library, name, len(classes), seed)
    pixels = torch.from_numpy(np.stack([read_pixels(image, size, channels) for image in PHOTOGRAPHS[:16]]))
    network.module.train()
    with torch.no_grad():
        for _ in range(20):
            network.logits(pixels)
    description = Description(
        library=library,
        name=name,
        classes=classes,
        image_size=size,
        channels=channels,
        mean=network.preprocessing.mean,
        std=network.preprocessing.std,
        layer_groups=network.groups,
    )
    save_checkpoint(path, network, description)
    return path
