"""A training of seconds: forty small images of noise, in two kinds that a network can tell apart."""

import numpy as np
import pytest
import torch

from stages.data.batches import Samples
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import load_params
from stages.rates.policies import plan_policy
from stages.signals import Signals
from stages.training.replicate import Training
from stages.training.unfinished import Keeper
from tests.conftest import ROOT


def with_knobs(params, section, **changes):
    """Give params with changes in one section."""
    return params.model_copy(update={section: getattr(params, section).model_copy(update=changes)})


@pytest.fixture(scope="module")
def params():
    return with_knobs(load_params(ROOT / "params.yaml"), "train", epochs=2, batch_size=8, threads=1, device="cpu")


@pytest.fixture(scope="module")
def samples():
    """Dark images and bright ones."""
    random = np.random.default_rng(0)
    labels = torch.arange(40) % 2
    noise = random.integers(0, 120, size=(40, 32, 32, 1)) + 120 * labels.numpy()[:, None, None, None]
    pixels = torch.from_numpy(noise.astype(np.uint8))
    return {
        "train": Samples(pixels, torch.arange(24), labels[:24]),
        "val": Samples(pixels, torch.arange(24, 40), labels[24:]),
    }


def train(params, samples, policy, *, seed=1, on_step=lambda epoch, score: None, keeper=None, signals=None):
    """Train a replicate; give its network and what it came to."""
    network = build_network(params.model, 2, seed)
    plan = plan_policy(policy, list(network.groups))
    compute = set_up_compute(params.train)
    training = Training(network, plan, seed, params, samples, compute, keeper or Keeper(), signals or Signals())
    return network, training.run(on_step)


def same_weights(one, other):
    """Whether two networks have the same bits, those of BatchNorm's statistics included."""
    ours, theirs = one.module.state_dict(), other.module.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)
