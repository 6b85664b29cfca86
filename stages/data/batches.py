"""Batches as tensors: which images, in which order, augmented how. All of it follows from the seed and the epoch."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from stages.data.augmentation import augment_images, mix_images
from stages.data.store import Prepared
from stages.params import Split, Train

GPU_SHARE = 0.5  # of a GPU's free memory that the images may take; the network and its gradients need the rest


@dataclass(frozen=True)
class Samples:
    """The images and labels of one split.

    Attributes:
        pixels: uint8 (all samples, height, width, channels): the memory-mapped file, or a copy on the GPU. Where the
            backbone is frozen, the features (all samples, …) that it makes of them stand in their place.
        rows: int64 (samples of this split,), positions in `pixels`, on the same device.
        labels: int64 (samples of this split,), on the device that computes.
    """

    pixels: Tensor
    rows: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def classes(self) -> int:
        """How many there are; `split` sees to it that every split has them all."""
        return int(self.labels.max()) + 1

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all samples in their order, as (uint8 pixels, labels)."""
        for rows, labels in zip(torch.split(self.rows, batch_size), torch.split(self.labels, batch_size), strict=True):
            yield self._take(rows), labels

    def shuffled_batches(
        self,
        train: Train,
        seed: int,
        epoch: int,
        first_batch: int = 0,
        part: Callable[[Tensor], Tensor] = lambda whole: whole,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all samples once, in an order and with an augmentation that `seed` and `epoch` alone decide.

        Args:
            train: the section of params.yaml, of which the batch size and the augmentation are read.
            seed: of the replicate.
            epoch: the first is 1.
            first_batch: those before it are left out.
            part: takes those rows of a batch whose pixels are wanted.

        Yields:
            uint8 pixels (part of the batch, height, width, channels), and labels of the whole batch: (batch,), or where
            images are mixed the shares of every class (batch, classes).
        """
        order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(len(self)))
        # Each order reaches the device once: a copy for every batch would wait for the device every time.
        rows, all_labels = self.rows[order.to(self.rows.device)], self.labels[order.to(self.labels.device)]
        sizes = batch_sizes(len(self), train.batch_size)
        whole = list(enumerate(zip(*(torch.split(tensor, sizes) for tensor in (order, rows, all_labels)), strict=True)))
        is_mixed = bool(train.mixup or train.cutmix)  # then each image may need any other of its batch
        take = (lambda batch: batch) if is_mixed else part
        for number, (chosen, chosen_rows, labels) in whole[first_batch:]:
            pixels = self._take(take(chosen_rows))
            if train.augment:
                seeds = [(seed, epoch, sample) for sample in take(chosen).tolist()]
                pixels = augment_images(pixels, train, seeds)
            if is_mixed:
                mixed, shares = mix_images(pixels, labels, self.classes, train, seed=(seed, epoch, number))
                yield part(mixed), shares
            else:
                yield pixels, labels

    def _take(self, rows: Tensor) -> Tensor:
        return self.pixels[rows].to(self.labels.device)


def open_samples(prepared: Prepared, splits: Sequence[Split], device: torch.device) -> dict[Split, Samples]:
    """Return splits as tensors.

    On the CPU the pixels stay in the memory-mapped file, which may be larger than the memory. A GPU gets one copy for
    all splits where they fit; otherwise each batch is copied as it is made.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")  # and nothing writes to it
        pixels = torch.from_numpy(prepared.images)
    if device.type == "cuda" and pixels.nbytes < GPU_SHARE * torch.cuda.mem_get_info(device)[0]:
        pixels = pixels.to(device)
    return {
        split: Samples(
            pixels,
            rows=torch.from_numpy(prepared.rows(split)).to(pixels.device),
            labels=torch.from_numpy(prepared.labels(split)).to(device),
        )
        for split in splits
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
