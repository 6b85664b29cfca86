"""The backbone of networks that differ in their heads alone sees the images once, and nothing else changes."""

import pytest
import torch
from torch import nn

from stages.evaluation.cka import grams_of
from stages.evaluation.initial_features import initial_grams
from stages.models.compute import Compute
from stages.models.network import Network, empty_network

CPU = Compute(torch.device("cpu"), torch.float32)
SEEDS = (1, 2, 3)
NETWORKS = [("timm", "test_efficientnet"), ("timm", "convnext_atto"), ("torchvision", "resnet18")]


@pytest.fixture
def batches():
    random = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (5, 64, 64, 3), dtype=torch.uint8, generator=random) for _ in range(2)]


@pytest.fixture
def passes(monkeypatch):
    """Return a list that grows by one whenever a whole network sees a batch."""
    seen, logits = [], Network.logits

    def count(network, pixels):
        seen.append(1)
        return logits(network, pixels)

    monkeypatch.setattr(Network, "logits", count)
    return seen


def with_one_backbone(library, name, seed):
    """A network whose head alone depends on the seed, as with pretrained weights."""
    network, first = (empty_network(library, name, 2, seed=number) for number in (seed, 0))
    head = set(network.groups["head"])
    backbone = {key: tensor for key, tensor in first.module.state_dict().items() if key not in head}
    network.module.load_state_dict(backbone, strict=False)
    return network


def same(one, other):
    return all(
        set(ours) == set(theirs) and all(torch.equal(ours[group], theirs[group]) for group in ours)
        for ours, theirs in zip(one, other, strict=True)
    )


def test_a_head_with_layers_behind_it_is_run_with_its_network(batches):
    networks = {seed: with_one_backbone("torchvision", "squeezenet1_1", seed) for seed in SEEDS}
    found = initial_grams(networks.items(), batches, CPU)
    assert all(same(found[seed], grams_of(network, batches, CPU)) for seed, network in networks.items())


@pytest.mark.parametrize(("library", "name"), NETWORKS)
def test_one_backbone_sees_the_images_once(library, name, batches, passes):
    networks = {seed: with_one_backbone(library, name, seed) for seed in SEEDS}
    found = initial_grams(networks.items(), batches, CPU)
    assert len(passes) == len(batches)
    for seed, network in networks.items():
        assert same(found[seed], grams_of(network, batches, CPU))
    assert not same(found[1], found[2])


def test_each_backbone_of_its_own_sees_them_itself(batches, passes):
    networks = {seed: empty_network("timm", "test_efficientnet", 2, seed=seed) for seed in SEEDS}
    found = initial_grams(networks.items(), batches, CPU)
    assert len(passes) == len(SEEDS) * len(batches)
    assert all(same(found[seed], grams_of(network, batches, CPU)) for seed, network in networks.items())


def test_a_head_of_several_layers_is_run_with_its_network(batches, passes):
    def network(seed):
        one = with_one_backbone("timm", "test_efficientnet", seed)
        one.groups["head"] = [*one.groups["stage5"], *one.groups["head"]]
        del one.groups["stage5"]
        return one

    networks = {seed: network(seed) for seed in SEEDS}
    assert isinstance(networks[1].module, nn.Module)
    found = initial_grams(networks.items(), batches, CPU)
    assert len(passes) == len(SEEDS) * len(batches)
    assert set(found) == set(SEEDS)
