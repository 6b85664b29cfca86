"""A pretrained network with a new head, and all that belongs to it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from stages.errors import UserError, first_line
from stages.models import timm_networks, torchvision_networks
from stages.models.preprocessing import UNIT_RANGE, Preprocessing
from stages.models.weights import load_backbone, pretrained_weights
from stages.params import Granularity, Model


class Library(Protocol):
    """What a library of networks must offer. The modules in the table below do."""

    def names(self) -> list[str]:
        """Every network that can be built."""

    def create(self, name: str, classes: int) -> nn.Module:
        """Build one with a head for that many classes."""

    def default_weights(self, name: str) -> Mapping[str, Tensor]:
        """Return the library's own pretrained weights."""

    def preprocessing(self, name: str) -> Preprocessing:
        """Return what those weights expect of their input."""

    def layer_groups(self, name: str, network: nn.Module, granularity: Granularity) -> dict[str, list[str]]:
        """Name every parameter under its layer group, from input to head."""


LIBRARIES: dict[str, Library] = {"timm": timm_networks, "torchvision": torchvision_networks}


class Classifier(Protocol):
    """What training and evaluation need of a network, or of the end of one."""

    @property
    def module(self) -> nn.Module:
        """What learns."""

    def logits(self, inputs: Tensor, /) -> Tensor:
        """Return logits (batch, classes) for a batch of inputs."""


@dataclass(frozen=True)
class Network:
    """A classifier, how images come to it, and its layers.

    Attributes:
        module: gives logits (batch, classes).
        preprocessing: what `module` expects of its input.
        groups: layer group -> names of its parameters, from input to `head`.
    """

    module: nn.Module
    preprocessing: Preprocessing
    groups: dict[str, list[str]]

    def logits(self, pixels: Tensor) -> Tensor:
        """Return logits (batch, classes) for uint8 pixels (batch, height, width, channels)."""
        outputs: Tensor = self.module(self.preprocessing(pixels))
        return outputs


def build_network(model: Model, classes: int, seed: int) -> Network:
    """Build the network that params.yaml names, with its pretrained weights and a new head.

    Args:
        model: the section of params.yaml.
        classes: outputs of the new head.
        seed: the same seed gives the same head, and without pretrained weights the same network.

    Raises:
        UserError: the network or its weights are unknown, missing, or do not fit each other.
    """
    network = empty_network(model.library, model.name, classes, seed, model.layer_groups)
    if model.weights == "none":
        return Network(network.module, UNIT_RANGE, network.groups)
    weights = pretrained_weights(model, list(network.module.state_dict()), LIBRARIES[model.library].default_weights)
    load_backbone(network.module, network.groups["head"], weights, model)
    return network


def empty_network(library: str, name: str, classes: int, seed: int = 0, granularity: Granularity = "stages") -> Network:
    """Build a network with weights drawn from `seed` alone.

    Args:
        library: timm or torchvision.
        name: the network's, in that library.
        classes: outputs of the head.
        seed: of the weights.
        granularity: how finely the backbone is cut into layer groups.

    Raises:
        UserError: the library has no network of that name, or none that can be trained here.
    """
    known = LIBRARIES[library].names()
    if library == "torchvision" and name in torchvision_networks.WITH_AUXILIARY_HEADS:
        raise UserError(f"model.name: {name} has auxiliary heads, which cannot be trained here; choose another network")
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"{library} lists its networks with list_models()"
        raise UserError(f"model.name: {library} has no network {name!r}; {hint}")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module: nn.Module = LIBRARIES[library].create(name, classes)
        groups = LIBRARIES[library].layer_groups(name, module, granularity)
        _start_like_a_plain_layer(module, groups["head"])
    for layer in module.modules():
        if isinstance(layer, nn.ReLU6):
            layer.inplace = False  # in place it copies its input first, for the backward pass: 5 % slower, same bits
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Network(module, LIBRARIES[library].preprocessing(name), groups)


def _start_like_a_plain_layer(module: nn.Module, head: list[str]) -> None:
    """Draw the head's first weights as a new `nn.Linear(features, classes)` draws them.

    Some networks draw them for a thousand classes from scratch: EfficientNet's for two classes give a loss of 3.
    """
    for name in dict.fromkeys(name.rpartition(".")[0] for name in head):
        layer = module.get_submodule(name)
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.reset_parameters()


def check_image_size(network: Network, model: Model, image_size: int, channels: int) -> None:
    """Try two blank images.

    Raises:
        UserError: the network cannot take images of that size.
    """
    pixels = torch.zeros(2, image_size, image_size, channels, dtype=torch.uint8)
    try:
        with torch.inference_mode():
            network.module.eval()
            network.logits(pixels)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UserError(
            f"data.image_size: {model.name} cannot take images of {image_size} px ({first_line(error)}); "
            f"set the size that it takes"
        ) from None
