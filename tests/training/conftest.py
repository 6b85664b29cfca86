"""A training of seconds: forty small images of noise, in two kinds that a network can tell apart."""

import os
import signal

import numpy as np
import pytest
import torch

from stages.data.batches import Samples
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import Model, load_params
from stages.rates.policies import plan_policy
from stages.rates.schedules import lr_multipliers
from stages.signals import Signals
from stages.training.replicate_progress import ReplicateProgress
from stages.training.resume import ResumeState
from stages.training.trainer import Trainer, count_steps
from tests.conftest import ROOT

# A network of a hundred thousand parameters, with BatchNorm, strides and squeeze-and-excitation, for the mechanics.
SMALL = Model(library="timm", name="test_efficientnet", weights="none", layer_groups="stages")


ARM = ("models/baseline", "metrics/baseline")


def outputs(project):
    """The digest of every file that training the baseline leaves."""
    return {name: digest for name, digest in project.fingerprints("models", "metrics").items() if name.startswith(ARM)}


def with_params(params, section, **changes):
    """Return params with changes in one section."""
    return params.model_copy(update={section: getattr(params, section).model_copy(update=changes)})


@pytest.fixture(scope="module")
def params():
    small = load_params(ROOT / "params.yaml").model_copy(update={"model": SMALL})
    constant = with_params(small, "schedule", name="constant", warmup=0)
    return with_params(constant, "train", epochs=2, batch_size=8, threads=1, device="cpu", augment=[])


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


class RecordedProgress(ReplicateProgress):
    """Keeps what it is told: the steps of an earlier run, and for every step of this one the steps of its epoch."""

    def __init__(self):
        super().__init__()
        self.resumed, self.steps = 0, []

    def begin(self, steps):
        self.resumed = steps

    def step(self, running):
        self.steps.append(running.steps)


class StopAfter(ReplicateProgress):
    """Sends SIGTERM to this process after so many steps of this run."""

    def __init__(self, steps):
        super().__init__()
        self.left = steps

    def step(self, running):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def train(params, samples, policy, *, seed=1, progress=None, resume_state=None, signals=None):
    """Train a replicate; return its network and its result."""
    network = build_network(params.model, 2, seed)
    trainer = Trainer(
        network,
        plan=plan_policy(policy, list(network.groups)),
        seed=seed,
        params=params,
        lr_multipliers=lr_multipliers(
            params.schedule, params.train.epochs, count_steps(params.train, samples["train"])
        ),
        samples=samples,
        compute=set_up_compute(params.train),
        resume_state=resume_state or ResumeState(),
        signals=signals or Signals(),
        progress=progress or ReplicateProgress(),
    )
    return network, trainer.fit()


def same_weights(one, other):
    """Whether two networks have the same bits, those of BatchNorm's statistics included."""
    ours, theirs = one.module.state_dict(), other.module.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)
