"""The exercise writes the parameter groups of a ResNet-18 by hand. Ours are those."""

import pytest
from torch import optim

from stages.models.network import empty_network
from stages.params import Optimizer, Policy
from stages.rates.optimizers import build_optimizer, build_param_groups
from stages.rates.policies import plan_policy, trainable_groups

BELOW_THE_HEAD = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


@pytest.mark.parametrize("granularity", ["stages", "blocks"])
@pytest.mark.parametrize(("name", "theirs"), [("sgd", optim.SGD), ("adam", optim.Adam)])
def test_resnet18_has_the_parameter_groups_of_the_exercise(name, theirs, granularity):
    network = empty_network("torchvision", "resnet18", classes=10, granularity=granularity)
    by_hand = theirs(
        [{"params": network.module.get_submodule(layer).parameters(), "lr": 0.0001} for layer in BELOW_THE_HEAD]
        + [{"params": network.module.fc.parameters(), "lr": 0.01}],
        **({"momentum": 0.9} if name == "sgd" else {}),
    )
    config = Optimizer(
        name=name,
        momentum=0.9,
        nesterov=False,
        weight_decay=0.0,
        weight_decay_on_bias_and_norm=True,
        clip_grad_norm=None,
    )
    plan = plan_policy(Policy(backbone=0.0001, head=0.01), list(network.groups))
    param_groups = build_param_groups(config, network.module, network.groups, plan)
    ours = build_optimizer(config, param_groups, trainable_groups(plan, epoch=1))

    def settings(optimizer):
        return {
            parameter: {key: entry.get(key) for key in ("lr", "momentum", "weight_decay", "nesterov", "betas", "eps")}
            for entry in optimizer.param_groups
            for parameter in entry["params"]
        }

    assert settings(ours) == settings(by_hand)
    assert len(settings(ours)) == len(list(network.module.parameters()))
