"""Layer groups and layer-wise decay are those of timm, parameter by parameter."""

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.libraries import timm
from stages.models.network import LIBRARIES
from stages.params import Optimizer, Policy
from stages.rates.optimizers import build_optimizer, build_param_groups
from stages.rates.policies import plan_policy, trainable_groups

NETWORKS = [
    "beit_base_patch16_224",
    "convnext_atto",
    "deit_tiny_distilled_patch16_224",
    "densenet121",
    "mobilenetv3_small_050",
    "regnety_002",
    "resnet18",
    "swin_tiny_patch4_window7_224",
    "tf_efficientnet_lite0",
    "vgg11",
    "vit_tiny_patch16_224",
]


@cache
def described(name, granularity):
    with torch.device("meta"):
        network = LIBRARIES["timm"].create(name, 5)
    return network, LIBRARIES["timm"].layer_groups(name, network, granularity)


@pytest.mark.parametrize("name", NETWORKS)
@settings(max_examples=5)
@given(head=st.floats(1e-5, 1), decay=st.floats(0.3, 1), weight_decay=st.floats(1e-6, 0.1))
def test_rates_and_weight_decay_of_every_parameter_are_timms(name, head, decay, weight_decay):
    network, groups = described(name, "blocks")
    from timm.optim import param_groups_layer_decay

    theirs = param_groups_layer_decay(
        network,
        weight_decay=weight_decay,
        layer_decay=decay,
        no_weight_decay_list=getattr(network, "no_weight_decay", set)(),
    )
    expected = {
        parameter: (head * entry["lr_scale"], entry["weight_decay"])
        for entry in theirs
        for parameter in entry["params"]
    }

    config = Optimizer(
        name="sgd",
        momentum=0.9,
        nesterov=False,
        weight_decay=weight_decay,
        weight_decay_on_bias_and_norm=False,
        clip_grad_norm=None,
    )
    plan = plan_policy(Policy(head=head, layer_decay=decay), list(groups))
    optimizer = build_optimizer(
        config, build_param_groups(config, network, groups, plan), trainable_groups(plan, epoch=1)
    )
    for entry in optimizer.param_groups:
        for parameter in entry["params"]:
            assert (entry["lr"], entry["weight_decay"]) == pytest.approx(expected.pop(parameter))
    assert not expected


@pytest.mark.parametrize("granularity", ["stages", "blocks"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_layer_group_is_a_layer_of_timm_with_the_classifier_set_apart(name, granularity):
    network, groups = described(name, granularity)
    numbers = timm.models.group_parameters(network, network.group_matcher(coarse=granularity == "stages"), reverse=True)
    of_group = {group: {numbers[parameter] for parameter in names} for group, names in groups.items()}
    assert all(len(layers) == 1 for layers in of_group.values())
    in_order = [layers.pop() for group, layers in of_group.items() if group != "neck"]
    assert in_order == list(range(max(numbers.values()) + 1))
