"""Where images come from: each source is an entry in one table."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from stages.errors import UserError
from stages.params import Data


@dataclass(frozen=True)
class ImageSet:
    """Labelled images that are yet to be decoded.

    Attributes:
        classes: their names; a label is a position in this list.
        channels: 1 where every image is grey, 3 otherwise.
        samples: a row for each image: `image` (a name for people), `label`, and `stratum`, kept balanced in the split.
        open: gives the image of a row.
    """

    classes: list[str]
    channels: int
    samples: pd.DataFrame
    open: Callable[[int], Image.Image]


def load_source(data: Data) -> ImageSet:
    """Find the images that `data.source` names.

    Raises:
        UserError: the package that carries them is not installed.
    """
    return SOURCES[data.source](data)


def _elpv(data: Data) -> ImageSet:
    """2,624 electroluminescence images of solar cells with the probability of a defect.

    Deitsch et al. 2019, https://doi.org/10.1016/j.solener.2019.02.067. The published two-class protocol
    (`labels: all`) calls a cell defective above 0.5; `confident` keeps the cells on which the experts were sure.
    """
    package = importlib.util.find_spec("elpv_dataset")
    if package is None or package.origin is None:
        raise UserError("data.source: elpv needs the package elpv-dataset: pip install -r requirements.txt")
    folder = Path(package.origin).parent / "data"
    table = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["image", "probability", "cell"])
    if data.labels == "confident":
        table = table[table["probability"].isin([0.0, 1.0])].reset_index(drop=True)
    table["label"] = (table["probability"] > 0.5).astype(int)
    table["stratum"] = table["cell"]
    files = [folder / name for name in table["image"]]
    return ImageSet(
        classes=["functional", "defective"],
        channels=1,
        samples=table[["image", "label", "stratum"]],
        open=lambda row: Image.open(files[row]),
    )


def _fake(data: Data) -> ImageSet:
    """Torchvision's FakeData as the story uses it: 1,000 images of noise in 10 classes."""
    from stages.libraries import torchvision

    fake = torchvision.datasets.FakeData(
        size=1000, image_size=(3, data.image_size, data.image_size), num_classes=10, random_offset=1000 * data.seed
    )
    labels = [int(fake[row][1]) for row in range(len(fake))]
    return ImageSet(
        classes=[f"class {label}" for label in range(10)],
        channels=3,
        samples=pd.DataFrame({"image": [f"fake-{row:04}" for row in range(len(fake))], "label": labels, "stratum": ""}),
        open=lambda row: fake[row][0],
    )


SOURCES: dict[str, Callable[[Data], ImageSet]] = {"elpv": _elpv, "fake": _fake}
