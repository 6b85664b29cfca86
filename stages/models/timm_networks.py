"""timm's networks. timm describes them: their head in `default_cfg`, their layers in `group_matcher`."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from stages.errors import UserError
from stages.libraries import timm
from stages.models.layer_groups import name_groups
from stages.models.preprocessing import IMAGENET, Preprocessing
from stages.params import Granularity


def names() -> list[str]:
    """Every network that timm can build."""
    return list(timm.list_models())


def create(name: str, classes: int) -> nn.Module:
    """Build a network with a head for that many classes and weights drawn from torch's generator."""
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=classes)
    return network


def default_weights(name: str) -> Mapping[str, Tensor]:
    """Return the weights that timm would download: from the hub's cache where they are."""
    return dict(timm.create_model(name, pretrained=True).state_dict())


def preprocessing(name: str) -> Preprocessing:
    """Return what the network's pretrained weights expect of their input."""
    config: Any = timm.get_pretrained_cfg(name)
    return Preprocessing(config.mean, config.std) if config else IMAGENET


def layer_groups(name: str, network: nn.Module, granularity: Granularity) -> dict[str, list[str]]:
    """Name every parameter under its layer group, from input to head.

    The groups are those of timm's `group_matcher`, as `timm.optim.param_groups_layer_decay` walks them; of its last
    one the classifier is the head, and what else stands there is the neck.

    Raises:
        UserError: timm does not describe this network, or not so coarsely, or it has no classifier.
    """
    described: Any = network
    if not hasattr(network, "group_matcher"):
        raise UserError(f"model.name: timm does not describe the layers of {name}; choose another network")
    classifier = described.default_cfg["classifier"] or ()
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    try:
        numbered = timm.models.group_parameters(network, described.group_matcher(coarse=granularity == "stages"))
    except (AssertionError, NotImplementedError):
        raise UserError(f"model.layer_groups: timm does not know the {granularity} of {name}; set blocks") from None
    *layers, last = [numbered[depth] for depth in sorted(numbered)]
    neck = [parameter for parameter in last if not parameter.startswith(heads)]
    head = [parameter for parameter in last if parameter.startswith(heads)]
    if not head:
        raise UserError(f"model.name: {name} has no classifier of its own; choose another network")
    return name_groups(granularity, layers, neck, head)
