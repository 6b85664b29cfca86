"""Prepared data: every image decoded and resized once, in one memory-mapped array beside a table of samples."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.errors import UserError
from stages.files import read_json, write_csv, write_json
from stages.hashing import hash_bytes, hash_file
from stages.params import Split

PREPARED = Path("data/prepared")
IMAGES, SAMPLES, CHECKSUMS = "images.npy", "samples.csv", "checksums.json"
COLUMNS = ["image", "label", "class", "stratum", "group", "unit", "near_duplicates", "split", "usable"]
SPLITS_FILE = Path("data/splits.csv")  # what `split` leaves: a row for each sample, a column for each replicate
SEARCH_SPLITS_FILE = Path("data/search_splits.csv")  # the same for the trials of the search
MADE_BY = {SPLITS_FILE: "dvc repro split", SEARCH_SPLITS_FILE: "dvc repro search/dvc.yaml:split"}


@dataclass(frozen=True)
class Prepared:
    """What `prepare` left.

    Attributes:
        images: uint8 (samples, size, size, channels), memory-mapped.
        samples: a row for each image: `image`, `label`, `class`, `stratum`, `group`; `unit`, what no split may divide;
            `near_duplicates`, a name that images share which look alike; `split`, the source's own, or in what
            `of_replicate` gives the replicate's; and whether it is `usable`.
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
        """1 for gray images, 3 for RGB."""
        return 1 if self.images.shape[3] == 1 else 3

    def of_replicate(self, splits: "pd.Series[str]") -> "Prepared":
        """Return the same images with the splits of one replicate, a column of data/splits.csv."""
        return replace(self, samples=self.samples.assign(split=splits.to_numpy()))

    @property
    def majority_class(self) -> int:
        """The label that most training images have: what one has in hand where a network learnt nothing."""
        return int(np.bincount(self.labels("train")).argmax())

    def rows(self, split: Split) -> npt.NDArray[np.intp]:
        """Positions of the samples of one split."""
        return np.flatnonzero(self.samples["split"] == split)

    def labels(self, split: Split) -> npt.NDArray[np.int64]:
        """Labels of the samples of one split."""
        return self.samples["label"].to_numpy(dtype=np.int64)[self.rows(split)]


def make_array(folder: Path, shape: tuple[int, int, int, int]) -> Path:
    """Make the file of the array, full of zeros that take no room on the disk yet.

    Args:
        folder: what to write into.
        shape: (images, size, size, channels).
    """
    path = folder / IMAGES
    with _named(path):
        np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    return path


def write_images(path: Path, first: int, pixels: npt.NDArray[np.uint8]) -> None:
    """Write images into the array's file at their place.

    They go through the file and not through a mapping, whose pages would count as this process's memory.

    Args:
        path: what `make_array` gave.
        first: the place of the first of them.
        pixels: uint8 (images, size, size, channels), contiguous.
    """
    with _named(path), path.open("r+b") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        file.seek(first * pixels[0].nbytes, os.SEEK_CUR)
        file.write(pixels.data)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have an error name the file, which writing alone does not."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.relative_to(path.parent.parent))) from None


def write_samples(folder: Path, samples: pd.DataFrame) -> None:
    """Write the table beside the array, one row for each image, and the checksums of both: the folder is complete."""
    write_csv(folder / SAMPLES, samples[COLUMNS])
    write_json(folder / CHECKSUMS, {name: hash_file(folder / name) for name in (IMAGES, SAMPLES)})


def verified_checksums(folder: Path = PREPARED) -> dict[str, str]:
    """Read every byte of what `prepare` wrote, and give the checksums if it is what it was.

    Raises:
        UserError: a file is missing, or a bit has changed since.
    """
    written = read_json(folder / CHECKSUMS)
    for name in (IMAGES, SAMPLES):
        try:
            found = hash_file(folder / name)
        except FileNotFoundError:
            raise UserError(f"{folder / name} is missing: run `dvc repro prepare`, which makes it") from None
        if found != written.get(name):
            raise UserError(f"{folder / name} is not as `prepare` wrote it: run `dvc repro --force prepare`")
    return {name: str(written[name]) for name in (IMAGES, SAMPLES)}


def replicate_checksums(checksums: Mapping[str, str], splits: "pd.Series[str]") -> dict[str, str]:
    """Return the checksums of the prepared data together with that of a replicate's column of data/splits.csv."""
    return {**checksums, "splits": hash_bytes("\n".join(splits).encode())}


def open_prepared(folder: Path = PREPARED) -> Prepared:
    """Open what `prepare` wrote, without reading the images.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        # Read-only: a copy-on-write mapping larger than the memory is refused by Linux.
        images = np.load(folder / IMAGES, mmap_mode="r", allow_pickle=False)
        # A class may be called 01.
        text = dict.fromkeys(("image", "class", "stratum", "group", "unit", "near_duplicates", "split"), str)
        samples = pd.read_csv(folder / SAMPLES, keep_default_na=False, dtype=text)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing: run `dvc repro prepare`, which makes it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is damaged ({error}): run `dvc repro --force prepare`") from None
    if images.ndim != 4 or images.dtype != np.uint8 or len(images) != len(samples) or list(samples) != COLUMNS:
        raise UserError(f"{folder} is damaged (its images and its table disagree): run `dvc repro --force prepare`")
    return Prepared(images, samples)


def write_splits(
    samples: pd.DataFrame, parts: "pd.Series[str]", splits: pd.DataFrame, path: Path = SPLITS_FILE
) -> None:
    """Write who trains, validates and tests on what: a row for each sample, a column for each replicate."""
    named = splits.rename(columns=split_column)
    write_csv(path, pd.concat([samples["image"], parts.rename("part"), named], axis=1))


def split_column(seed: object) -> str:
    """Return the name of a replicate's column."""
    return f"seed-{seed}"


def open_splits(prepared: Prepared, seeds: Sequence[int], path: Path = SPLITS_FILE) -> pd.DataFrame:
    """Open what `split` wrote: a row for each sample, a column for each seed.

    Raises:
        UserError: it is missing, damaged, or of other images or seeds.
    """
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype=str)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `{MADE_BY[path]}`, which makes it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it and run `{MADE_BY[path]}`") from None
    columns = [split_column(seed) for seed in seeds]
    if list(table.get("image", [])) != list(prepared.samples["image"]) or not {*columns, "part"} <= set(table):
        raise UserError(f"{path} is of other images or seeds: run `{MADE_BY[path]}`, which makes it")
    return table[columns].set_axis(pd.Index(seeds), axis=1)
