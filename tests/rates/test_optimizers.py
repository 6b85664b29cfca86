"""Steps of real optimizers against updates computed by hand, and the parameter groups through phases."""

import copy
import math

import pytest
import torch
from torch import nn

from stages.params import Optimizer, Policy
from stages.rates.freezing import freeze_all_but
from stages.rates.optimizers import build_optimizer, build_param_groups, no_weight_decay, set_lr, unfreeze
from stages.rates.policies import phases, plan_policy, trainable_groups

GROUPS = {"stem": ["0.weight", "0.bias"], "stage1": ["1.weight", "1.bias"], "head": ["2.weight", "2.bias"]}
POLICIES = {
    "uniform": ({"uniform": 0.1}, {"stem": 0.1, "stage1": 0.1, "head": 0.1}),
    "backbone and head": ({"backbone": 0.01, "head": 0.1}, {"stem": 0.01, "stage1": 0.01, "head": 0.1}),
    "layer_decay": ({"head": 0.1, "layer_decay": 0.5}, {"stem": 0.025, "stage1": 0.05, "head": 0.1}),
    "range": ({"range": [0.001, 0.1]}, {"stem": 0.001, "stage1": 0.01, "head": 0.1}),
    "single groups": ({"uniform": 0.1, "groups": {"stem": 0.3}}, {"stem": 0.3, "stage1": 0.1, "head": 0.1}),
    "frozen": ({"backbone": 0.0, "head": 0.1}, {"stem": 0.0, "stage1": 0.0, "head": 0.1}),
}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def config(name="sgd", **changes):
    default = {"momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "weight_decay_on_bias_and_norm": True}
    return Optimizer(**{"name": name, "clip_grad_norm": None, **default, **changes})


def begin(network, settings, policy, epoch=1):
    """Freeze and build for an epoch, as a replicate does."""
    plan = plan_policy(policy, list(GROUPS))
    param_groups = build_param_groups(settings, network, GROUPS, plan)
    freeze_all_but(network, [name for group in trainable_groups(plan, epoch) for name in GROUPS[group]])
    return build_optimizer(settings, param_groups, trainable_groups(plan, epoch)), param_groups, plan


def backward(network, step=0):
    network.zero_grad()
    network(torch.arange(12.0).reshape(3, 4) / 10 + step).square().sum().backward()


def weights(network):
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def rate_of(rates, name):
    return next(rates[group] for group, names in GROUPS.items() if name in names)


@pytest.mark.parametrize(("policy", "rates"), POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("nesterov", [False, True])
def test_two_sgd_steps_of_each_policy_are_those_computed_by_hand(network, policy, rates, nesterov):
    optimizer, _, _ = begin(network, config(nesterov=nesterov, weight_decay=0.01), Policy(**policy))
    velocity = dict.fromkeys(weights(network), 0.0)
    for step in range(2):
        before = weights(network)
        backward(network, step)
        optimizer.step()
        for name, after in weights(network).items():
            rate = rate_of(rates, name)
            if rate == 0:
                assert torch.equal(after, before[name])
                continue
            gradient = network.get_parameter(name).grad + 0.01 * before[name]
            velocity[name] = 0.9 * velocity[name] + gradient
            direction = gradient + 0.9 * velocity[name] if nesterov else velocity[name]
            assert torch.allclose(after, before[name] - rate * direction, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(("policy", "rates"), POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_two_adam_steps_of_each_policy_are_those_computed_by_hand(network, policy, rates, name):
    """Kingma and Ba 2015, algorithm 1; weight decay as a part of the gradient, or for AdamW beside it."""
    decay, epsilon = 0.01, 1e-8
    optimizer, _, _ = begin(network, config(name, weight_decay=decay), Policy(**policy))
    first, second = (dict.fromkeys(weights(network), 0.0) for _ in range(2))
    for step in (1, 2):
        before = weights(network)
        backward(network, step)
        optimizer.step()
        for parameter, after in weights(network).items():
            rate = rate_of(rates, parameter)
            if rate == 0:
                assert torch.equal(after, before[parameter])
                continue
            gradient = network.get_parameter(parameter).grad + (decay * before[parameter] if name == "adam" else 0)
            first[parameter] = 0.9 * first[parameter] + 0.1 * gradient
            second[parameter] = 0.999 * second[parameter] + 0.001 * gradient**2
            mean, square = first[parameter] / (1 - 0.9**step), second[parameter] / (1 - 0.999**step)
            expected = before[parameter] * (1 - rate * decay if name == "adamw" else 1)
            expected = expected - rate * mean / (square.sqrt() + epsilon)
            assert torch.allclose(after, expected, rtol=1e-4, atol=1e-6)


def test_each_layer_group_is_a_parameter_group_with_its_rate(network):
    optimizer, _, _ = begin(network, config(), Policy(head=0.4, layer_decay=0.5))
    told = [(entry["layer_group"], entry["lr"], len(entry["params"])) for entry in optimizer.param_groups]
    assert told == [("stem", 0.1, 2), ("stage1", 0.2, 2), ("head", 0.4, 2)]


def test_a_frozen_group_asks_for_no_gradient_and_is_not_in_the_optimizer(network):
    optimizer, _, _ = begin(network, config(), Policy(backbone=0.0, head=0.1))
    assert [entry["layer_group"] for entry in optimizer.param_groups] == ["head"]
    assert [name for name, parameter in network.named_parameters() if parameter.requires_grad] == GROUPS["head"]


def test_a_scale_is_of_every_groups_own_rate(network):
    optimizer, _, _ = begin(network, config(), Policy(head=0.4, layer_decay=0.5))
    for scale in (0.5, 0.25, 1.0):
        set_lr(optimizer, scale)
        assert [entry["lr"] for entry in optimizer.param_groups] == [0.1 * scale, 0.2 * scale, 0.4 * scale]


def test_biases_and_norms_may_be_kept_from_decay(network):
    optimizer, _, _ = begin(network, config(weight_decay=0.1, weight_decay_on_bias_and_norm=False), Policy(uniform=0.1))
    names = {parameter: name for name, parameter in network.named_parameters()}
    decay = {
        names[parameter]: entry["weight_decay"] for entry in optimizer.param_groups for parameter in entry["params"]
    }
    assert decay == {"0.weight": 0.1, "2.weight": 0.1, "0.bias": 0, "1.weight": 0, "1.bias": 0, "2.bias": 0}
    everywhere, _, _ = begin(network, config(weight_decay=0.1), Policy(uniform=0.1))
    assert {entry["weight_decay"] for entry in everywhere.param_groups} == {0.1}


def test_a_network_may_exempt_more_from_decay(network):
    network.no_weight_decay = lambda: {"0.*"}
    assert no_weight_decay(network) == {"0.weight", "0.bias", "1.weight", "1.bias", "2.bias"}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_newly_unfrozen_parameter_enters_once_and_the_others_keep_their_state(network, name):
    settings = config(name, weight_decay=0.1, weight_decay_on_bias_and_norm=False)
    optimizer, param_groups, plan = begin(network, settings, Policy(uniform=0.1, gradual_unfreezing=True))
    for epoch in phases(plan, epochs=3):
        state = {parameter: dict(entry) for parameter, entry in optimizer.state.items()}
        unfreeze(optimizer, param_groups, trainable_groups(plan, epoch))
        unfreeze(optimizer, param_groups, trainable_groups(plan, epoch))  # a second time changes nothing
        freeze_all_but(network, [parameter for group in trainable_groups(plan, epoch) for parameter in GROUPS[group]])
        held = [parameter for entry in optimizer.param_groups for parameter in entry["params"]]
        assert len(held) == len(set(held)) == 2 * epoch
        assert set(held) == {parameter for parameter in network.parameters() if parameter.requires_grad}
        for parameter, entry in state.items():
            assert all(torch.equal(optimizer.state[parameter][key], value) for key, value in entry.items())
        backward(network, epoch)
        optimizer.step()


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("policy", [{"gradual_unfreezing": True}, {"head_only_epochs": 1}])
def test_a_run_resumed_in_a_later_phase_has_the_groups_and_the_state_that_it_had(network, name, policy):
    settings = config(name, weight_decay=0.1, weight_decay_on_bias_and_norm=False)
    chosen = Policy(uniform=0.1, **policy)
    optimizer, param_groups, plan = begin(network, settings, chosen)
    for epoch in (1, 2, 3):
        unfreeze(optimizer, param_groups, trainable_groups(plan, epoch))
        freeze_all_but(network, [parameter for group in trainable_groups(plan, epoch) for parameter in GROUPS[group]])
        set_lr(optimizer, 1 / epoch)
        backward(network, epoch)
        optimizer.step()

    other = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    other.load_state_dict(network.state_dict())
    resumed, _, _ = begin(other, settings, chosen, epoch=3)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))  # as from a file
    for stepped, module in ((optimizer, network), (resumed, other)):
        backward(module, step=4)
        stepped.step()
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(network).items())
    assert math.isfinite(sum(value.sum().item() for value in weights(other).values()))
