"""Folding BatchNorm changes rounding alone, in every network, or is not done."""

import pytest
import torch
from torch import nn

from stages.models.folding import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, fold_batchnorm
from stages.models.network import Network, empty_network
from stages.models.preprocessing import UNIT_RANGE

NETWORKS = [
    ("timm", "test_efficientnet"),
    ("timm", "tf_efficientnet_lite0"),
    ("timm", "mobilenetv3_small_050"),
    ("timm", "resnet10t"),
    ("timm", "regnetx_002"),
    ("torchvision", "resnet18"),
    ("torchvision", "mobilenet_v2"),
    ("torchvision", "densenet121"),
    ("torchvision", "shufflenet_v2_x0_5"),
]


def used(network):
    """A network whose running statistics are no longer those that it began with."""
    random = torch.Generator().manual_seed(0)
    for layer in network.module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=random).mul_(0.1)
            layer.running_var.uniform_(0.5, 1.5, generator=random)
    network.module.eval()
    return network


@pytest.fixture
def pixels():
    return torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def batchnorms(network):
    return sum(isinstance(layer, nn.BatchNorm2d) for layer in network.module.modules())


@pytest.mark.parametrize(("library", "name"), NETWORKS)
def test_logits_stay_within_the_tolerance_and_the_network_as_it_was(pixels, library, name):
    network = used(empty_network(library, name, 3))
    before = {key: tensor.clone() for key, tensor in network.module.state_dict().items()}
    with torch.inference_mode():
        wanted = network.logits(pixels)
        found = fold_batchnorm(network, pixels).logits(pixels)
        again = network.logits(pixels)
    assert torch.allclose(found, wanted, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE)
    assert torch.equal(again, wanted)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.module.state_dict().items())


def test_the_default_network_is_folded_to_its_last_batchnorm(pixels):
    network = used(empty_network("timm", "tf_efficientnet_lite0", 3))
    assert batchnorms(network) == 49
    assert batchnorms(fold_batchnorm(network, pixels)) == 0


def test_a_network_without_batchnorm_stays_what_it_is(pixels):
    network = used(empty_network("torchvision", "vgg11", 3))
    assert fold_batchnorm(network, pixels) is network


class Branching(nn.Module):
    """A convolution whose output is used beside BatchNorm too."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, images):
        features = self.conv(images)
        return (self.bn(features) + features).mean((2, 3))


def test_where_the_convolution_has_another_reader_nothing_is_folded(pixels):
    network = used(Network(Branching(), UNIT_RANGE, {}))
    assert fold_batchnorm(network, pixels) is network


def test_weights_that_are_no_numbers_stay_as_they_are(pixels):
    network = used(empty_network("timm", "test_efficientnet", 3))
    next(network.module.parameters()).data.fill_(torch.nan)
    assert fold_batchnorm(network, pixels) is network
