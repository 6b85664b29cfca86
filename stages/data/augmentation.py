"""Augmentation of uint8 images in tensors, with torchvision's transforms.

Every image is augmented by itself, with random numbers that follow from the seed, the epoch and the image alone: not
from the batch that it is in, nor from what is drawn elsewhere.
"""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.params import Augmentation, Train

Transform = Callable[[Tensor], Tensor]


def changes_images(train: Train) -> bool:
    """Whether an image looks different from epoch to epoch."""
    return bool(train.augment or train.mixup or train.cutmix)


def augment_images(pixels: Tensor, train: Train, seeds: Sequence[tuple[int, ...]]) -> Tensor:
    """Augment each image in its own way.

    Args:
        pixels: uint8 (batch, height, width, channels).
        train: the section of params.yaml, which names the transforms in their order.
        seeds: one for each image.

    Returns:
        As `pixels`.
    """
    transforms = [_transform(name, pixels.shape[1], train.crop_area, train.color_strength) for name in train.augment]
    augmented = []
    for image, seed in zip(pixels.permute(0, 3, 1, 2), seeds, strict=True):
        changed = image
        with seeded(seed):
            for transform in transforms:
                changed = transform(changed)
        augmented.append(changed)
    return torch.stack(augmented).permute(0, 2, 3, 1)


def mix_images(
    pixels: Tensor, labels: Tensor, classes: int, train: Train, seed: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """Mix the images of a batch in pairs: mixup blends them, cutmix puts a piece of one into the other.

    Where params.yaml asks for both, the batch gets one of them by the toss of a coin.

    Args:
        pixels: uint8 (batch, height, width, channels).
        labels: (batch,).
        classes: how many there are.
        train: the section of params.yaml, with the alphas of both.
        seed: of the batch.

    Returns:
        uint8 pixels as given, and the share of each class in each image (batch, classes).
    """
    v2 = _torchvision()
    ways = [
        way(alpha=alpha, num_classes=classes)
        for way, alpha in ((v2.MixUp, train.mixup), (v2.CutMix, train.cutmix))
        if alpha
    ]
    with seeded(seed):
        chosen = ways[int(torch.randint(len(ways), ()))]
        mixed, shares = chosen(pixels.permute(0, 3, 1, 2).float(), labels)
    return mixed.round().to(torch.uint8).permute(0, 2, 3, 1), shares


@contextmanager
def seeded(seed: tuple[int, ...]) -> Iterator[None]:
    """Let torch draw from a seed of its own, and leave its generator as it was; v2 takes no generator.

    Torchvision draws its parameters on the CPU, whatever device the images are on.
    """
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(int(np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]))
        yield
    finally:
        torch.default_generator.set_state(state)


@cache
def _transform(name: Augmentation, size: int, crop_area: float, color_strength: float) -> Transform:
    """Return one of torchvision's transforms of an image (channels, height, width)."""
    v2 = _torchvision()
    # Each is made when it is asked for.
    table: dict[Augmentation, Callable[[], Any]] = {
        "horizontal_flip": v2.RandomHorizontalFlip,
        "vertical_flip": v2.RandomVerticalFlip,
        "quarter_turn": lambda: _quarter_turn,
        "random_resized_crop": lambda: v2.RandomResizedCrop(size, scale=(crop_area, 1)),
        "color_jitter": lambda: v2.ColorJitter(color_strength, color_strength, color_strength),
        "random_erasing": lambda: v2.RandomErasing(p=0.25),  # timm's and the paper's common choice
    }
    transform: Transform = table[name]()
    return transform


def _torchvision() -> Any:
    """Return torchvision's transforms, which take seconds to import."""
    from stages.libraries import torchvision

    return importlib.import_module(f"{torchvision.__name__}.transforms.v2")


def _quarter_turn(image: Tensor) -> Tensor:
    """Turn a square image by 0, 90, 180 or 270 degrees."""
    return image.rot90(int(torch.randint(4, ())), (1, 2))
