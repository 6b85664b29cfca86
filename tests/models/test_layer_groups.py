import pytest

from stages.models.network import LIBRARIES

NETWORKS = {
    "timm": [
        "tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224",
        "deit_tiny_distilled_patch16_224", "swin_tiny_patch4_window7_224", "regnety_002", "densenet121", "vgg11",
    ],
    "torchvision": [
        "resnet18", "wide_resnet50_2", "efficientnet_b0", "mobilenet_v2", "mobilenet_v3_small", "convnext_tiny",
        "vit_b_32", "swin_t", "regnet_y_400mf", "densenet121", "vgg11", "alexnet", "squeezenet1_1",
        "shufflenet_v2_x0_5", "mnasnet0_5", "maxvit_t",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("library", "name"), [(library, name) for library in NETWORKS for name in NETWORKS[library]])
def test_every_parameter_belongs_to_exactly_one_group_from_input_to_head(library, name):
    network = LIBRARIES[library].create(name, 5)
    groups = LIBRARIES[library].layer_groups(name, network)
    grouped = [parameter for names in groups.values() for parameter in names]
    assert sorted(grouped) == sorted(parameter for parameter, _ in network.named_parameters())
    assert all(groups.values())
    assert list(groups) == ["stem", *(f"stage{number}" for number in range(1, len(groups) - 1)), "head"]
    assert len(groups) >= 5
    assert {network.get_parameter(parameter).shape[0] for parameter in groups["head"]} == {5}


@pytest.mark.parametrize("library", LIBRARIES)
def test_resnet18_has_the_layers_of_the_story(library):
    network = LIBRARIES[library].create("resnet18", 10)
    groups = LIBRARIES[library].layer_groups("resnet18", network)
    tops = {group: {name.split(".")[0] for name in names} for group, names in groups.items()}
    assert tops == {
        "stem": {"conv1", "bn1"},
        "stage1": {"layer1"},
        "stage2": {"layer2"},
        "stage3": {"layer3"},
        "stage4": {"layer4"},
        "head": {"fc"},
    }


def test_networks_with_several_outputs_are_not_offered():
    assert not {"googlenet", "inception_v3"} & set(LIBRARIES["torchvision"].names())
