"""timm's networks. timm describes them: their head in `default_cfg`, their layers in `group_matcher`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stages.errors import UserError
from stages.libraries import timm
from stages.models.preprocessing import IMAGENET, Preprocessing


def names() -> list[str]:
    """Every network that timm can build."""
    return list(timm.list_models())


def create(name: str, classes: int) -> nn.Module:
    """Build a network with a head for that many classes and weights drawn from torch's generator."""
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network


def default_weights(name: str) -> Mapping[str, Tensor]:
    """Give the weights that timm would download: from the hub's cache where they are."""
    return dict(timm.create_model(name, pretrained=True).state_dict())


def preprocessing(name: str) -> Preprocessing:
    """Give what the network's pretrained weights expect of their input."""
    config: Any = timm.get_pretrained_cfg(name)
    return Preprocessing(config.mean, config.std) if config else IMAGENET


def layer_groups(name: str, network: nn.Module) -> dict[str, list[str]]:
    """Name every parameter under its layer group, from input to head.

    The groups are those of timm's coarse `group_matcher`, with the classifier in a group of its own, as
    `timm.optim.param_groups_layer_decay` walks them.

    Raises:
        UserError: timm does not describe this network.
    """
    described: Any = network
    if not hasattr(network, "group_matcher"):
        raise UserError(f"model.name: timm does not describe the layers of {name}; choose another network")
    classifier = described.default_cfg["classifier"]
    heads = tuple(f"{part}." for part in ([classifier] if isinstance(classifier, str) else classifier))
    layers = timm.models.group_parameters(network, described.group_matcher(coarse=True))
    backbone = [
        [parameter for parameter in layers[depth] if not parameter.startswith(heads)] for depth in sorted(layers)
    ]
    stem, *stages = [layer for layer in backbone if layer]
    return {
        "stem": stem,
        **{f"stage{number}": layer for number, layer in enumerate(stages, start=1)},
        "head": [parameter for parameter, _ in network.named_parameters() if parameter.startswith(heads)],
    }
