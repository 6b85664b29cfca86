import pytest
import torch
from torch import nn

from stages.params import load_params
from stages.rates.freezing import freeze_all_but, train_mode
from tests.conftest import ROOT

TRAIN = load_params(ROOT / "params.yaml").train


def config(**changes):
    return TRAIN.model_copy(update=changes)


@pytest.fixture
def network():
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.5))
    return nn.Sequential(block, nn.BatchNorm1d(4), nn.Linear(4, 2))


BLOCK, NORM, HEAD = (["0.0.weight", "0.0.bias"], ["1.weight", "1.bias"], ["2.weight", "2.bias"])


def moves(network, layer):
    """Whether a forward pass moves the running mean of a layer."""
    before = network.get_submodule(layer).running_mean.clone()
    network(torch.arange(12.0).reshape(3, 4))
    return not torch.equal(network.get_submodule(layer).running_mean, before)


def test_only_what_is_named_learns(network):
    freeze_all_but(network, [*NORM, *HEAD])
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == {*NORM, *HEAD}
    freeze_all_but(network, BLOCK)
    assert {name for name, parameter in network.named_parameters() if parameter.requires_grad} == set(BLOCK)


def test_a_frozen_batchnorm_keeps_its_statistics(network):
    freeze_all_but(network, HEAD)
    train_mode(network, config())
    assert not moves(network, "1")


def test_a_frozen_block_is_a_fixed_function_its_dropout_and_its_plain_batchnorm_too(network):
    freeze_all_but(network, [*NORM, *HEAD])
    train_mode(network, config())
    images = torch.arange(12.0).reshape(3, 4)
    assert torch.equal(network[0](images), network[0](images))
    assert not moves(network, "0.1")
    assert moves(network, "1")


def test_the_statistics_of_frozen_layers_may_be_let_move(network):
    freeze_all_but(network, HEAD)
    train_mode(network, config(frozen_batchnorm="update"))
    assert moves(network, "0.1")
    assert moves(network, "1")
    assert not network[0][2].training


def test_all_statistics_may_be_kept_still(network):
    freeze_all_but(network, [*BLOCK, *NORM, *HEAD])
    train_mode(network, config(batchnorm="freeze"))
    assert not moves(network, "0.1")
    assert not moves(network, "1")
    assert network[0][2].training


def test_what_learns_again_is_in_training_mode_again(network):
    freeze_all_but(network, HEAD)
    train_mode(network, config())
    freeze_all_but(network, [*BLOCK, *NORM, *HEAD])
    train_mode(network, config())
    assert all(part.training for part in network.modules())
