"""Batches as tensors: which images, in which order, augmented how. All of it follows from the seed and the epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stages.data.store import Prepared
from stages.params import Augmentation, Part


@dataclass(frozen=True)
class Samples:
    """The images and labels of one part.

    Attributes:
        pixels: uint8 (all samples, height, width, channels): the memory-mapped file, or a copy on the GPU. Where the
            backbone is frozen, the features (all samples, …) that it makes of them stand in their place.
        rows: int64 (samples of this part,), positions in `pixels`.
        labels: int64 (samples of this part,).
    """

    pixels: Tensor
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Give all samples in their order, as (uint8 pixels, labels)."""
        for rows, labels in zip(torch.split(self.rows, batch_size), torch.split(self.labels, batch_size), strict=True):
            yield self.pixels[rows], labels

    def shuffled_batches(
        self, batch_size: int, augment: Sequence[Augmentation], seed: int, epoch: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Give all samples once, in an order and with an augmentation that `seed` and `epoch` alone decide."""
        random = np.random.default_rng((seed, epoch))
        order = torch.from_numpy(random.permutation(len(self))).to(self.rows.device)
        for chosen in torch.split(order, batch_sizes(len(self), batch_size)):
            pixels = self.pixels[self.rows[chosen]]
            for name in augment:
                pixels = AUGMENTATIONS[name](pixels, random)
            yield pixels, self.labels[chosen]


def open_samples(prepared: Prepared, parts: Sequence[Part], device: torch.device) -> dict[Part, Samples]:
    """Give parts as tensors. On the CPU the pixels stay in the memory-mapped file; a GPU gets one copy for all."""
    pixels = torch.from_numpy(prepared.images).to(device)
    return {
        part: Samples(
            pixels,
            rows=torch.from_numpy(prepared.rows(part)).to(device),
            labels=torch.from_numpy(prepared.labels(part)).to(device),
        )
        for part in parts
    }


def batch_sizes(count: int, batch_size: int) -> list[int]:
    """Cut `count` samples into batches; a single one left over joins the batch before it.

    BatchNorm cannot be trained on one image whose last feature map is a single pixel.
    """
    sizes = [batch_size] * (count // batch_size)
    rest = count % batch_size
    if rest == 1 and sizes:
        sizes[-1] += 1
    elif rest:
        sizes.append(rest)
    return sizes


def _flip(axis: int) -> Callable[[Tensor, np.random.Generator], Tensor]:
    """Flip about half of the images along one axis of (batch, height, width, channels)."""

    def flip(pixels: Tensor, random: np.random.Generator) -> Tensor:
        chosen = torch.from_numpy(random.random(len(pixels)) < 0.5).to(pixels.device)
        return torch.where(chosen[:, None, None, None], pixels.flip(axis), pixels)

    return flip


def _quarter_turn(pixels: Tensor, random: np.random.Generator) -> Tensor:
    """Turn each image by 0, 90, 180 or 270 degrees."""
    turns = torch.from_numpy(random.integers(4, size=len(pixels))).to(pixels.device)
    turned = pixels.clone()
    for turn in (1, 2, 3):
        turned[turns == turn] = pixels[turns == turn].rot90(turn, (1, 2))
    return turned


AUGMENTATIONS: dict[Augmentation, Callable[[Tensor, np.random.Generator], Tensor]] = {
    "horizontal_flip": _flip(axis=2),
    "vertical_flip": _flip(axis=1),
    "quarter_turn": _quarter_turn,
}
