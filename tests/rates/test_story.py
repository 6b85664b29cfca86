"""The story's user wrote the parameter groups of a ResNet-18 by hand. Ours are those."""

import pytest
from torch import optim

from stages.models.network import empty_network
from stages.params import Optimizer, Policy
from stages.rates.optimizers import build_optimizer, parameter_groups
from stages.rates.policies import learning, plan_policy

BELOW_THE_HEAD = ["conv1", "bn1", "layer1", "layer2", "layer3", "layer4"]


@pytest.mark.parametrize("grain", ["stages", "blocks"])
@pytest.mark.parametrize(("name", "theirs"), [("sgd", optim.SGD), ("adam", optim.Adam)])
def test_the_storys_own_groups_for_resnet18(name, theirs, grain):
    network = empty_network("torchvision", "resnet18", classes=10, grain=grain)
    by_hand = theirs(
        [{"params": network.module.get_submodule(layer).parameters(), "lr": 0.0001} for layer in BELOW_THE_HEAD]
        + [{"params": network.module.fc.parameters(), "lr": 0.01}],
        **({"momentum": 0.9} if name == "sgd" else {}),
    )
    knobs = Optimizer(
        name=name, momentum=0.9, nesterov=False, weight_decay=0.0, decay_biases_and_norms=True, clip_norm=None
    )
    plan = plan_policy(Policy(backbone=0.0001, head=0.01), list(network.groups))
    entries = parameter_groups(knobs, network.module, network.groups, plan)
    ours = build_optimizer(knobs, entries, learning(plan, epoch=1))

    def settings(optimizer):
        return {
            parameter: {key: entry.get(key) for key in ("lr", "momentum", "weight_decay", "nesterov", "betas", "eps")}
            for entry in optimizer.param_groups
            for parameter in entry["params"]
        }

    assert settings(ours) == settings(by_hand)
    assert len(settings(ours)) == len(list(network.module.parameters()))
