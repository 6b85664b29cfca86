"""torchvision's classification networks. It does not describe their layers, so a table here does."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from stages.libraries import torchvision
from stages.models.layer_groups import name_groups
from stages.models.preprocessing import Preprocessing
from stages.params import Granularity

# They give several outputs while training, which a plain cross-entropy loss does not take.
WITH_AUXILIARY_HEADS = {"googlenet", "inception_v3"}


@dataclass(frozen=True)
class Layers:
    """Where the layers of a family of networks begin, by the names of their parameters.

    Attributes:
        stage: a stage begins at the first name in which this pattern matches something new; what lies before is
            the stem.
        block: likewise a block, inside its stage.
    """

    stage: str
    block: str


# A transition, a downsampling or a last convolution without a number of its own belongs to the stage before it, but
# where torchvision numbers it (ConvNeXt's and Swin's features.2) it begins the next one, as in timm.
LAYERS = {
    "AlexNet": Layers(r"features\.(?:3|6|8|10)\.", r"features\.\d+"),
    "ConvNeXt": Layers(r"features\.[1246]\.", r"features\.[1357]\.\d+"),
    "DenseNet": Layers(r"denseblock\d", r"denseblock\d\.denselayer\d+"),
    "EfficientNet": Layers(r"features\.\d(?=\.\d+\.block)", r"features\.\d\.\d+(?=\.block)"),
    "MaxVit": Layers(r"blocks\.\d", r"blocks\.\d\.layers\.\d+"),
    "MNASNet": Layers(r"layers\.(?:8|9|10|11|12|13)\.", r"layers\.\d+\.\d+(?=\.layers)"),
    "MobileNetV2": Layers(r"features\.(?:1|2|4|7|11|14|17)\.", r"features\.\d+(?=\.conv)"),
    "mobilenet_v3_large": Layers(r"features\.(?:1|2|4|7|11|13)\.", r"features\.\d+(?=\.block)"),
    "mobilenet_v3_small": Layers(r"features\.(?:1|2|4|7|9)\.", r"features\.\d+(?=\.block)"),
    "RegNet": Layers(r"trunk_output\.block\d", r"block\d\.block\d-\d+"),
    "ResNet": Layers(r"layer\d", r"layer\d\.\d+"),
    "ShuffleNetV2": Layers(r"stage\d", r"stage\d\.\d+"),
    "squeezenet1_0": Layers(r"features\.(?:3|7|12)\.", r"features\.\d+"),
    "squeezenet1_1": Layers(r"features\.(?:3|6|9)\.", r"features\.\d+"),
    "SwinTransformer": Layers(r"features\.[1246]\.", r"features\.[1357]\.\d+"),
    "vgg11": Layers(r"features\.(?:3|6|11|16)\.", r"features\.\d+"),
    "vgg11_bn": Layers(r"features\.(?:4|8|15|22)\.", r"features\.(?:0|4|8|11|15|18|22|25)\."),
    "vgg13": Layers(r"features\.(?:5|10|15|20)\.", r"features\.\d+"),
    "vgg13_bn": Layers(r"features\.(?:7|14|21|28)\.", r"features\.(?:0|3|7|10|14|17|21|24|28|31)\."),
    "vgg16": Layers(r"features\.(?:5|10|17|24)\.", r"features\.\d+"),
    "vgg16_bn": Layers(r"features\.(?:7|14|24|34)\.", r"features\.(?:0|3|7|10|14|17|20|24|27|30|34|37|40)\."),
    "vgg19": Layers(r"features\.(?:5|10|19|28)\.", r"features\.\d+"),
    "vgg19_bn": Layers(r"features\.(?:7|14|27|40)\.", r"features\.(?:0|3|7|10|14|17|20|23|27|30|33|36|40|43|46|49)\."),
    "VisionTransformer": Layers(r"encoder_layer_\d+", r"encoder_layer_\d+"),
}

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
    """Return the weights that torchvision calls default: from torch's hub cache where they are, or downloaded."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    return {OLD_DENSENET_NAME.sub(r"\1", name): tensor for name, tensor in state.items()}


def preprocessing(name: str) -> Preprocessing:
    """Return what the network's pretrained weights expect of their input."""
    evaluation = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return Preprocessing(tuple(evaluation.mean), tuple(evaluation.std))


def layer_groups(name: str, network: nn.Module, granularity: Granularity) -> dict[str, list[str]]:
    """Name every parameter under its layer group, from input to head.

    The head is the last layer; the pretrained layers beside it in the same `classifier` are the neck.
    """
    described = LAYERS.get(name) or LAYERS[type(network).__name__]
    names = [parameter for parameter, _ in network.named_parameters()]
    last_layer = names[-1].rpartition(".")[0]
    container = last_layer.rpartition(".")[0]
    head = [parameter for parameter in names if parameter.rpartition(".")[0] == last_layer]
    neck = [parameter for parameter in names if container and parameter.startswith(f"{container}.")][: -len(head)]
    backbone = names[: -len(neck + head)]
    return name_groups(granularity, _cut(backbone, described, granularity), neck, head)


def _cut(names: list[str], described: Layers, granularity: Granularity) -> list[list[str]]:
    """Cut names, in their order, where stages begin; with the granularity `blocks` also where blocks begin in them."""
    layers: list[list[str]] = [[]]
    stage = block = ""
    for name in names:
        new_stage, new_block = (re.search(pattern, name) for pattern in (described.stage, described.block))
        if new_stage and new_stage[0] != stage:
            stage, block = new_stage[0], ""
            layers.append([])
        if new_block and new_block[0] != block:
            # The first block of a stage stands in the slice that the stage has begun.
            if block and granularity == "blocks":
                layers.append([])
            block = new_block[0]
        layers[-1].append(name)
    return layers
