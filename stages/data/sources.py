"""Where images come from: each source is an entry in one table."""

import importlib.util
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from stages.data.image_set import DatasetImages, ImageFiles, ImageSet, sample_table
from stages.data.torchvision_sets import load_torchvision
from stages.data.user_images import load_folder, load_table
from stages.errors import UserError
from stages.params import Data


def load_source(data: Data, may_download: bool = True) -> ImageSet:
    """Find the images that `data.source` names.

    Raises:
        UserError: there are none, or what carries them is missing.
    """
    found = (SOURCES if may_download else OFFLINE_SOURCES)[data.source](data)
    return found if data.color == "auto" else found.in_channels(1 if data.color == "gray" else 3)


def _elpv(data: Data) -> ImageSet:
    """2,624 electroluminescence images of solar cells with the probability of a defect.

    Deitsch et al. 2019, https://doi.org/10.1016/j.solener.2019.02.067. The published two-class protocol
    (`labels: all`, `threshold: 0.5`) calls a cell defective above 0.5; `confident` keeps the cells on which the experts
    were sure.
    """
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise UserError("data.source: elpv needs the package elpv-dataset: pip install -r requirements.txt")
    folder = Path(package.origin).parent / "data"
    table = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["image", "probability", "cell"])
    if data.labels == "confident":
        table = table[table["probability"].isin([0.0, 1.0])].reset_index(drop=True)
    return ImageSet(
        classes=["functional", "defective"],
        channels=1,
        samples=sample_table(
            image=table["image"], label=(table["probability"] > data.threshold).astype(int), stratum=table["cell"]
        ),
        images=ImageFiles(folder, tuple(table["image"])),
    )


def _fake(data: Data) -> ImageSet:
    """Torchvision's FakeData at its own defaults: 1,000 images of noise in 10 classes."""
    from stages.libraries import torchvision

    fake = torchvision.datasets.FakeData(
        size=1000, image_size=(3, data.image_size, data.image_size), num_classes=10, random_offset=1000 * data.seed
    )
    names = [f"fake-{row:04}" for row in range(len(fake))]
    labels = [int(fake[row][1]) for row in range(len(fake))]
    return ImageSet(
        classes=[f"class {label}" for label in range(10)],
        channels=3,
        samples=sample_table(image=names, label=labels),
        images=DatasetImages((fake,), tuple((0, row) for row in range(len(fake)))),
    )


Loader = Callable[[Data], ImageSet]
SOURCES: dict[str, Loader] = {
    "elpv": _elpv,
    "fake": _fake,
    "folder": load_folder,
    "table": load_table,
    "torchvision": load_torchvision,
}
OFFLINE_SOURCES: dict[str, Loader] = {**SOURCES, "torchvision": partial(load_torchvision, may_download=False)}
