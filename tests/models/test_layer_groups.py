import contextlib

import pytest
import torch
from torch import nn

from stages.models.network import LIBRARIES
from stages.models.torchvision_networks import LAYERS

NETWORKS = {
    "timm": [
        "tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "regnety_002", "densenet121", "vgg11",
    ],
    "torchvision": [
        "resnet18", "wide_resnet50_2", "efficientnet_b0", "efficientnet_v2_s", "mobilenet_v2", "mobilenet_v3_small",
        "mobilenet_v3_large", "convnext_tiny", "vit_b_32", "swin_t", "swin_v2_t", "regnet_y_400mf", "densenet121",
        "vgg11", "vgg16_bn", "alexnet", "squeezenet1_0", "squeezenet1_1", "shufflenet_v2_x0_5", "mnasnet0_5",
        "maxvit_t",
    ],
}  # fmt: skip
EACH = pytest.mark.parametrize(
    ("library", "name"), [(library, name) for library in NETWORKS for name in NETWORKS[library]]
)


def create(library, name, classes=5):
    """Build a network whose weights take no memory and no time; torchvision's RegNet computes with its own."""
    with contextlib.nullcontext() if name.startswith("regnet_y_4") else torch.device("meta"):
        return LIBRARIES[library].create(name, classes)


# Stages and blocks of each torchvision network, as its paper or torchvision's own source lists them.
SIZES = {
    "resnet18": (4, 8),
    "wide_resnet50_2": (4, 16),
    "efficientnet_b0": (7, 16),
    "efficientnet_v2_s": (6, 40),
    "mobilenet_v2": (7, 17),
    "mobilenet_v3_small": (5, 11),
    "mobilenet_v3_large": (6, 15),
    "convnext_tiny": (4, 18),
    "vit_b_32": (12, 12),
    "swin_t": (4, 12),
    "swin_v2_t": (4, 12),
    "regnet_y_400mf": (4, 16),
    "densenet121": (4, 58),
    "vgg11": (4, 7),
    "vgg16_bn": (4, 12),
    "alexnet": (4, 4),
    "squeezenet1_0": (3, 8),
    "squeezenet1_1": (3, 8),
    "shufflenet_v2_x0_5": (3, 16),
    "mnasnet0_5": (6, 16),
    "maxvit_t": (4, 11),
}


@pytest.mark.parametrize("granularity", ["stages", "blocks"])
@EACH
def test_every_parameter_belongs_to_exactly_one_group_from_input_to_head(library, name, granularity):
    network = create(library, name)
    groups = LIBRARIES[library].layer_groups(name, network, granularity)
    grouped = [parameter for names in groups.values() for parameter in names]
    assert sorted(grouped) == sorted(parameter for parameter, _ in network.named_parameters())
    assert all(groups.values())
    numbered = [group for group in groups if group not in ("stem", "neck", "head")]
    assert numbered == [f"{granularity[:-1]}{number}" for number in range(1, len(numbered) + 1)]
    assert [group for group in groups if group != "neck"] == ["stem", *numbered, "head"]
    assert list(groups)[-2:] == ["neck", "head"] or "neck" not in groups
    assert {network.get_parameter(parameter).shape[0] for parameter in groups["head"]} == {5}


@pytest.mark.parametrize("name", NETWORKS["torchvision"])
def test_torchvisions_networks_have_the_stages_and_blocks_of_their_papers(name):
    network = create("torchvision", name)
    sizes = tuple(
        len(
            [
                group
                for group in LIBRARIES["torchvision"].layer_groups(name, network, granularity)
                if group[-1].isdigit()
            ]
        )
        for granularity in ("stages", "blocks")
    )
    assert sizes == SIZES[name]


@EACH
def test_each_block_lies_within_one_stage(library, name):
    network = create(library, name)
    stages, blocks = (
        LIBRARIES[library].layer_groups(name, network, granularity) for granularity in ("stages", "blocks")
    )
    stage_of = {parameter: stage for stage, names in stages.items() for parameter in names}
    for block, names in blocks.items():
        # timm counts the last norm of a Swin among its head in stages, and with its last block in blocks.
        within = {stage_of[name] for name in names} - ({"neck"} if "swin" in name and library == "timm" else set())
        assert len(within) == 1, (block, within)


@pytest.mark.parametrize("name", ["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"])
def test_vggs_stages_begin_after_its_poolings(name):
    network = create("torchvision", name)
    groups = LIBRARIES["torchvision"].layer_groups(name, network, "stages")
    begins = [names[0].split(".")[1] for group, names in groups.items() if group.startswith("stage")]
    layers = list(network.features)
    assert begins == [
        str(position + 1) for position, layer in enumerate(layers[:-1]) if isinstance(layer, nn.MaxPool2d)
    ]


def test_every_classification_network_of_torchvision_is_described():
    families = {type(create("torchvision", name)).__name__ for name in NETWORKS["torchvision"]}
    assert len(families) == 15
    by_name = {name for name in LAYERS if name[0].islower()}
    assert families - set(LAYERS) == {"MobileNetV3", "SqueezeNet", "VGG"}
    known = set(LIBRARIES["torchvision"].names())
    assert by_name == {name for name in known if name.startswith(("mobilenet_v3", "squeezenet", "vgg"))}


@pytest.mark.parametrize("library", LIBRARIES)
def test_resnet18_has_the_layers_of_the_exercise(library):
    network = create(library, "resnet18", 10)
    groups = LIBRARIES[library].layer_groups("resnet18", network, "stages")
    tops = {group: {name.split(".")[0] for name in names} for group, names in groups.items()}
    assert tops == {
        "stem": {"conv1", "bn1"},
        "stage1": {"layer1"},
        "stage2": {"layer2"},
        "stage3": {"layer3"},
        "stage4": {"layer4"},
        "head": {"fc"},
    }


@pytest.mark.parametrize(
    ("library", "name", "neck"),
    [
        ("timm", "convnext_atto", {"head.norm"}),
        ("timm", "vgg11", {"pre_logits.fc1", "pre_logits.fc2"}),
        ("torchvision", "convnext_tiny", {"classifier.0"}),
        ("torchvision", "vgg11", {"classifier.0", "classifier.3"}),
        ("torchvision", "mobilenet_v3_small", {"classifier.0"}),
    ],
)
def test_pretrained_layers_beside_the_classifier_are_the_neck(library, name, neck):
    network = create(library, name)
    groups = LIBRARIES[library].layer_groups(name, network, "stages")
    assert {name.rpartition(".")[0] for name in groups["neck"]} == neck


def test_networks_with_several_outputs_are_not_offered():
    assert not {"googlenet", "inception_v3"} & set(LIBRARIES["torchvision"].names())
