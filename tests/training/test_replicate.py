import math

import numpy as np
import pytest
import torch

from stages.data.batches import Samples
from stages.errors import UserError
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import Rates, load_params
from stages.rates.policies import learning_rates
from stages.training import replicate as replicate_module
from stages.training.loop import Score, measure
from stages.training.replicate import steps_per_replicate, train_replicate
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def params():
    params = load_params(ROOT / "params.yaml")
    train = params.train.model_copy(update={"epochs": 2, "batch_size": 8, "threads": 1, "device": "cpu"})
    return params.model_copy(update={"train": train})


@pytest.fixture(scope="module")
def samples():
    """Two kinds of noise, dark and bright, that a network can tell apart."""
    random = np.random.default_rng(0)
    labels = torch.arange(40) % 2
    noise = random.integers(0, 120, size=(40, 32, 32, 1)) + 120 * labels.numpy()[:, None, None, None]
    pixels = torch.from_numpy(noise.astype(np.uint8))
    return {
        "train": Samples(pixels, torch.arange(24), labels[:24]),
        "val": Samples(pixels, torch.arange(24, 40), labels[24:]),
    }


def train(params, samples, arm, rates, seed=1, on_step=lambda epoch, score: None):
    network = build_network(params.model, 2, seed)
    chosen = learning_rates(arm, rates, network.groups)
    compute = set_up_compute(params.train)
    replicate = train_replicate(network, chosen, seed, params, samples, compute, on_step=on_step)
    return network, replicate


def same_weights(one, other):
    ours, theirs = one.module.state_dict(), other.module.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


EQUAL = Rates(uniform=0.01, backbone=0.01, head=0.01)


def test_equal_rates_give_bit_identical_arms(params, samples):
    baseline, differential = (train(params, samples, arm, EQUAL) for arm in ("baseline", "differential"))
    assert same_weights(baseline[0], differential[0])
    assert baseline[1] == differential[1]


def test_other_rates_or_another_seed_give_another_network(params, samples):
    first, _ = train(params, samples, "differential", EQUAL)
    slower, _ = train(params, samples, "differential", EQUAL.model_copy(update={"backbone": 0.001}))
    seeded, _ = train(params, samples, "differential", EQUAL, seed=2)
    assert not same_weights(first, slower)
    assert not same_weights(first, seeded)


@pytest.mark.parametrize("changes", [{"threads": 2}, {"augment": ["horizontal_flip", "vertical_flip", "quarter_turn"]}])
def test_the_same_seed_gives_the_same_bits(params, samples, changes):
    changed = params.model_copy(update={"train": params.train.model_copy(update=changes)})
    first, again = (train(changed, samples, "baseline", EQUAL) for _ in range(2))
    assert same_weights(first[0], again[0])
    assert first[1] == again[1]


def test_the_network_learns(params, samples):
    longer = params.model_copy(update={"train": params.train.model_copy(update={"epochs": 6})})
    _, replicate = train(longer, samples, "baseline", EQUAL)
    assert replicate.epochs[-1].train.loss < replicate.epochs[0].train.loss / 2
    assert replicate.epochs[-1].val.accuracy > 0.9


def test_the_last_figures_are_those_of_the_network_that_is_kept(params, samples):
    network, replicate = train(params, samples, "baseline", EQUAL)
    compute = set_up_compute(params.train)
    assert replicate.epochs[-1].val == measure(network, samples["val"], compute)
    assert replicate.train == measure(network, samples["train"], compute)


def test_training_figures_are_counted_over_the_epoch_while_it_trains(params, samples):
    """With a rate too small to move anything, they are those of the first network in training mode."""
    still = Rates(uniform=1e-30, backbone=1e-30, head=1e-30)
    _, replicate = train(params, samples, "baseline", still)
    network = build_network(params.model, 2, 1)
    network.module.train()
    losses, correct = 0.0, 0
    with torch.no_grad():
        for pixels, labels in samples["train"].shuffled_batches(8, [], seed=1, epoch=1):
            logits = network.logits(pixels)
            losses += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
    assert replicate.epochs[0].train.loss == pytest.approx(losses / 24, rel=1e-5)
    assert replicate.epochs[0].train.accuracy == correct / 24


def test_every_step_is_told(params, samples):
    told = []
    train(params, samples, "baseline", EQUAL, on_step=lambda epoch, score: told.append(epoch))
    assert told == [1, 1, 1, 2, 2, 2]
    assert len(told) == steps_per_replicate(params.train, samples["train"])


def test_rate_zero_freezes_the_backbone_and_trains_the_head(params, samples):
    frozen = Rates(uniform=0.1, backbone=0.0, head=0.1)
    network, _ = train(params, samples, "differential", frozen)
    first = build_network(params.model, 2, 1).module.state_dict()
    moved = {name for name, tensor in network.module.state_dict().items() if not torch.equal(tensor, first[name])}
    assert moved == set(network.groups["head"])


def test_a_loss_that_is_not_finite_stops_with_one_line(params, samples):
    with pytest.raises(UserError, match=r"lr: with seed 1 the loss is not finite in epoch 1; lower the rates \(stem"):
        train(params, samples, "baseline", Rates(uniform=1e30, backbone=1.0, head=1.0))


@pytest.mark.parametrize("bad", ["trained", "measured", "final"])
def test_any_loss_that_is_not_finite_stops_the_replicate(params, samples, monkeypatch, bad):
    calls = {"train_epoch": 0, "measure": 0}

    def score(kind, last):
        def give(*_, **__):
            calls[kind] += 1
            return Score(0.5, math.nan if calls[kind] == last else 1.0)

        return give

    one = params.model_copy(update={"train": params.train.model_copy(update={"epochs": 1})})
    monkeypatch.setattr(replicate_module, "train_epoch", score("train_epoch", 1 if bad == "trained" else 0))
    monkeypatch.setattr(replicate_module, "measure", score("measure", {"measured": 1, "final": 2}.get(bad, 0)))
    with pytest.raises(UserError, match=r"the loss is not finite in epoch 1"):
        train(one, samples, "baseline", EQUAL)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_trains_too(params, samples, name):
    optimizer = params.optimizer.model_copy(update={"name": name})
    adam = params.model_copy(update={"optimizer": optimizer})
    _, replicate = train(adam, samples, "differential", Rates(uniform=0.1, backbone=1e-4, head=1e-3))
    assert math.isfinite(replicate.epochs[-1].train.loss)
