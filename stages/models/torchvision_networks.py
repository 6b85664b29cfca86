"""torchvision's classification networks. It does not describe their layers, so the names of the parameters do."""

import re
from collections.abc import Mapping

from torch import Tensor, nn

from stages.libraries import torchvision
from stages.models.preprocessing import Preprocessing

# They give several outputs while training, which the story's loss does not know.
WITH_AUXILIARY_HEADS = {"googlenet", "inception_v3"}

# How torchvision numbers the parts of its networks: ResNet's layer1, ViT's encoder_layer_0, EfficientNet's features.1 …
NUMBERED_PART = re.compile(r"(?:layer|block|encoder_layer_|stage|layers\.|blocks\.|features\.)\d+(?=\.)")

# DenseNet's files are older than the names of its parts: denselayer1.norm.1.weight is denselayer1.norm1.weight now.
OLD_DENSENET_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(?=[12]\.)")


def names() -> list[str]:
    """Every network that torchvision can build and that this project can train."""
    return sorted(set(torchvision.models.list_models(module=torchvision.models)) - WITH_AUXILIARY_HEADS)


def create(name: str, classes: int) -> nn.Module:
    """Build a network with a head for that many classes and weights drawn from torch's generator."""
    network: nn.Module = torchvision.models.get_model(name, weights=None, num_classes=classes)
    return network


def default_weights(name: str) -> Mapping[str, Tensor]:
    """Give the weights that torchvision calls default: from torch's hub cache where they are, or downloaded."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return {OLD_DENSENET_NAME.sub(r"\1", name): tensor for name, tensor in state.items()}


def preprocessing(name: str) -> Preprocessing:
    """Give what the network's pretrained weights expect of their input."""
    evaluation = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return Preprocessing(tuple(evaluation.mean), tuple(evaluation.std))


def layer_groups(name: str, network: nn.Module) -> dict[str, list[str]]:
    """Name every parameter under its layer group, from input to head.

    A new group begins where the numbered part of the parameters' names changes; a parameter without one belongs to
    the group before it. The head is the last layer.
    """
    names = [parameter for parameter, _ in network.named_parameters()]
    last_layer = names[-1].rpartition(".")[0]
    head = [parameter for parameter in names if parameter.rpartition(".")[0] == last_layer]

    layers: list[list[str]] = [[]]
    part = None
    for parameter in names[: -len(head)]:
        numbered = NUMBERED_PART.search(parameter)
        if numbered and numbered[0] != part:
            part = numbered[0]
            layers.append([])
        layers[-1].append(parameter)
    stem, *stages = [layer for layer in layers if layer]
    return {"stem": stem, **{f"stage{number}": layer for number, layer in enumerate(stages, start=1)}, "head": head}
