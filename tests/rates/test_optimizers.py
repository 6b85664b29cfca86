import pytest
import torch
from torch import nn

from stages.params import Optimizer
from stages.rates.freezing import freeze, train_mode
from stages.rates.optimizers import build_optimizer

GROUPS = {"stem": ["0.weight", "0.bias"], "stage1": ["1.weight", "1.bias"], "head": ["2.weight", "2.bias"]}


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def knobs(name, momentum=0.9, weight_decay=0.0):
    return Optimizer(name=name, momentum=momentum, weight_decay=weight_decay)


def backward(network):
    network(torch.arange(12.0).reshape(3, 4)).square().sum().backward()


def test_each_layer_group_is_a_parameter_group_with_its_rate(network):
    optimizer = build_optimizer(knobs("sgd"), network, GROUPS, {"stem": 0.1, "stage1": 0.2, "head": 0.3})
    assert [(group["name"], group["lr"], len(group["params"])) for group in optimizer.param_groups] == [
        ("stem", 0.1, 2),
        ("stage1", 0.2, 2),
        ("head", 0.3, 2),
    ]


def test_one_sgd_step_is_rate_times_gradient(network):
    optimizer = build_optimizer(knobs("sgd"), network, GROUPS, {"stem": 0.1, "stage1": 0.2, "head": 0.3})
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    backward(network)
    optimizer.step()
    for group, rate in {"stem": 0.1, "stage1": 0.2, "head": 0.3}.items():
        for name in GROUPS[group]:
            parameter = network.get_parameter(name)
            assert torch.allclose(parameter, before[name] - rate * parameter.grad)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_first_adam_step_has_the_length_of_the_rate(network, name):
    rates = {"stem": 0.1, "stage1": 0.2, "head": 0.3}
    optimizer = build_optimizer(knobs(name), network, GROUPS, rates)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    backward(network)
    optimizer.step()
    for group, rate in rates.items():
        for name in GROUPS[group]:
            parameter = network.get_parameter(name)
            moving = parameter.grad.abs() > 1e-3
            moved = (parameter - before[name]).abs()[moving]
            assert torch.allclose(moved, torch.full_like(moved, rate), rtol=1e-3)


def test_a_group_at_rate_zero_is_frozen_with_its_batchnorm_statistics(network):
    freeze(network, {*GROUPS["stem"], *GROUPS["stage1"]})
    optimizer = build_optimizer(knobs("sgd"), network, GROUPS, {"stem": 0.0, "stage1": 0.0, "head": 0.3})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    train_mode(network)
    backward(network)
    optimizer.step()
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"2.weight", "2.bias"}
    assert [group["name"] for group in optimizer.param_groups] == ["head"]


def test_a_group_with_a_rate_moves_its_batchnorm_statistics(network):
    freeze(network, set())
    train_mode(network)
    before = network[1].running_mean.clone()
    backward(network)
    assert not torch.equal(network[1].running_mean, before)
