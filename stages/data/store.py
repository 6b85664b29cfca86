"""Prepared data: every image decoded and resized once, in one memory-mapped array beside a table of samples."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.errors import UserError
from stages.files import whole_directory, write_csv
from stages.params import Part

PREPARED = Path("data/prepared")
IMAGES, SAMPLES = "images.npy", "samples.csv"
COLUMNS = ["image", "label", "class", "stratum", "part"]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` left.

    Attributes:
        images: uint8 (samples, size, size, channels), memory-mapped.
        samples: a row for each image, with the columns `image`, `label`, `class`, `stratum`, `part`.
    """

    images: npt.NDArray[np.uint8]
    samples: pd.DataFrame

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their labels."""
        return list(self.samples.drop_duplicates("label").sort_values("label")["class"])

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""
        return int(self.images.shape[1])

    @property
    def channels(self) -> Literal[1, 3]:
        """1 for grey images, 3 for RGB."""
        return 1 if self.images.shape[3] == 1 else 3

    def rows(self, part: Part) -> npt.NDArray[np.intp]:
        """Positions of the samples of one part."""
        return np.flatnonzero(self.samples["part"] == part)

    def labels(self, part: Part) -> npt.NDArray[np.int64]:
        """Labels of the samples of one part."""
        return self.samples["label"].to_numpy(dtype=np.int64)[self.rows(part)]


def write_prepared(
    samples: pd.DataFrame,
    pixels: Callable[[int], npt.NDArray[np.uint8]],
    shape: tuple[int, int, int],
    progress: Callable[[range], Iterable[int]],
    folder: Path = PREPARED,
) -> None:
    """Write the array image by image, and the table; both stand in `folder` when all is done, or neither.

    Args:
        samples: the table, one row for each image.
        pixels: gives the uint8 pixels of a row, of the given shape.
        shape: (size, size, channels).
        progress: shows how far the rows have come.
        folder: what to write.
    """
    with whole_directory(folder) as beside:
        images = np.lib.format.open_memmap(beside / IMAGES, mode="w+", dtype=np.uint8, shape=(len(samples), *shape))
        for row in progress(range(len(samples))):
            images[row] = pixels(row)
        images.flush()
        write_csv(beside / SAMPLES, samples[COLUMNS])


def open_prepared(folder: Path = PREPARED) -> Prepared:
    """Open what `prepare` wrote, without reading the images.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        # Copy-on-write, since torch has no read-only tensors; nothing ever writes to it.
        images = np.load(folder / IMAGES, mmap_mode="c", allow_pickle=False)
        samples = pd.read_csv(folder / SAMPLES, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run `dvc repro prepare`, which makes it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): run `dvc repro --force prepare`") from None
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(samples) or list(samples) != COLUMNS:
        raise UserError(f"{folder} is damaged (its images and its table disagree): run `dvc repro --force prepare`")
    return Prepared(images, samples)
