"""The classification sets of torchvision.datasets, by name, with the splits that each comes in."""

import difflib
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from stages.data.image_set import DatasetImages, ImageSet, sample_table
from stages.data.images import BadImageError, translate_decode_errors
from stages.errors import UserError, first_line
from stages.params import Data

if TYPE_CHECKING:
    from torchvision.datasets import VisionDataset

# How to ask a set for each of its splits. `all`: it comes in one, and is split here.
Splits = dict[str, dict[str, Any]]
BY_FLAG: Splits = {"train": {"train": True}, "test": {"train": False}}
IN_TWO: Splits = {"train": {"split": "train"}, "test": {"split": "test"}}
IN_THREE: Splits = {**IN_TWO, "val": {"split": "val"}}
# Their test labels are kept back, so what they call val is the only split beside train.
WITHOUT_TEST: Splits = {"train": {"split": "train"}, "val": {"split": "val"}}
IN_ONE: Splits = {"all": {}}

SETS: dict[str, Splits] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "QMNIST", "USPS"), BY_FLAG),
    **dict.fromkeys(("Food101", "GTSRB", "StanfordCars", "STL10", "SVHN"), IN_TWO),
    **dict.fromkeys(("DTD", "FGVCAircraft", "Flowers102", "PCAM", "RenderedSST2"), IN_THREE),
    **dict.fromkeys(("ImageNet", "Imagenette"), WITHOUT_TEST),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), IN_ONE),
    "Country211": {**IN_TWO, "val": {"split": "valid"}},
    "EMNIST": {split: {"split": "balanced", **flag} for split, flag in BY_FLAG.items()},
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
}
# Under which names the sets keep their labels.
LABELS = ("targets", "labels", "_labels", "y")


def load_torchvision(data: Data, may_download: bool = True) -> ImageSet:
    """Find a set of torchvision in `data.path`, or download it there.

    Torchvision checks what it downloads against fixed checksums before it unpacks anything.

    Raises:
        UserError: there is no such set, or it is neither there nor to be had.
    """
    from stages.libraries import torchvision

    name = str(data.dataset)
    if name not in SETS:
        meant = difflib.get_close_matches(name, SETS, n=1, cutoff=0.5)
        advice = f"did you mean {meant[0]}?" if meant else f"known are {', '.join(sorted(SETS))}"
        raise UserError(f"data.dataset: torchvision has no classification set {name}; {advice}")
    kind = getattr(torchvision.datasets, name)
    splits = {split: _open(kind, Path(data.path), how, name, may_download) for split, how in SETS[name].items()}

    datasets = list(splits.values())
    samples = pd.concat(
        sample_table(
            image=[f"{name}-{split}-{row:06}" for row in range(len(dataset))],
            label=_labels(dataset),
            split="" if split == "all" else split,
        )
        for split, dataset in splits.items()
    ).reset_index(drop=True)
    if not len(samples):
        raise UserError(f"data.dataset: {name} in {data.path} has no images: put it there as torchvision keeps it")
    classes = _classes(datasets[0], int(samples["label"].max()) + 1)
    if len(classes) < 2:
        raise UserError(f"data.dataset: {name} in {data.path} has one class, {classes[0]}: choose another set")
    return ImageSet(
        classes=classes,
        channels=_channels(datasets[0]),
        samples=samples,
        images=DatasetImages(
            datasets, tuple((split, row) for split, dataset in enumerate(datasets) for row in range(len(dataset)))
        ),
    )


def _open(kind: "type[VisionDataset]", root: Path, how: dict[str, Any], name: str, may_download: bool) -> Any:
    """Open a split of a set, downloaded if it must be, may be, and can be."""
    absent = f"data.dataset: {name} is not in {root}; `dvc repro prepare` would download it"
    if not may_download and not root.is_dir():  # some sets would make it
        raise UserError(absent)
    try:
        return kind(root, **how)
    except (RuntimeError, OSError):
        pass  # it is not there yet
    except (ImportError, ValueError) as error:
        raise UserError(f"data.dataset: {name}: {first_line(error)}; mend that, or choose another set") from None
    if not may_download:
        raise UserError(absent)
    try:
        return kind(root, **how, download=True)
    except Exception as error:  # of the network, of archives, of checksums
        raise UserError(
            f"data.dataset: {name} is not in {root} and could not be downloaded ({first_line(error)}): "
            f"put it there as torchvision keeps it"
        ) from None


def _channels(dataset: Any) -> Literal[1, 3]:
    """Return the channels of the first image that can be read."""
    for row in range(len(dataset)):
        with suppress(BadImageError), translate_decode_errors():
            return 1 if dataset[row][0].mode == "L" else 3
    return 3


def _labels(dataset: Any) -> list[int]:
    for name in LABELS:
        if hasattr(dataset, name):
            found = np.asarray(getattr(dataset, name))
            return [int(label) for label in (found if found.ndim == 1 else found[:, 0])]  # QMNIST's have more columns
    if hasattr(dataset, "_samples"):  # of paths and labels
        return [int(label) for _, label in dataset._samples]
    return [int(dataset[row][1]) for row in range(len(dataset))]


def _classes(dataset: Any, count: int) -> list[str]:
    named = getattr(dataset, "classes", getattr(dataset, "categories", ()))
    if len(named) != count:
        return [str(label) for label in range(count)]
    return [name if isinstance(name, str) else name[0] for name in named]  # ImageNet's have several names each
