import math
from typing import get_args

import pytest
import torch

from stages.data.batches import Samples
from stages.models.compute import set_up_compute
from stages.models.inference import predict_logits
from stages.models.network import build_network
from stages.params import Augmentation, Policy
from stages.rates.optimizers import build_optimizer, build_param_groups
from stages.rates.policies import plan_policy
from stages.rates.schedules import lr_multipliers, rate_curves
from stages.training import loop as loop_module
from stages.training import trainer as trainer_module
from stages.training.divergence import Divergence
from stages.training.loop import EpochMetrics, RunningMetrics, metrics_of, train_epoch
from stages.training.trainer import count_steps
from tests.training.conftest import SMALL, RecordedProgress, same_weights, train, with_params

EQUAL = Policy(uniform=0.01)
FROZEN = Policy(backbone=0.0, head=0.1)


@pytest.mark.parametrize("same", [{"backbone": 0.01, "head": 0.01}, {"head": 0.01, "layer_decay": 1.0}])
def test_equal_rates_give_the_same_bits_however_they_are_said(params, samples, same):
    uniform, other = (train(params, samples, policy) for policy in (EQUAL, Policy(**same)))
    assert same_weights(uniform[0], other[0])
    assert uniform[1] == other[1]


@pytest.mark.parametrize(
    "config", [{"augment": list(get_args(Augmentation))}, {"augment": ["vertical_flip"], "mixup": 0.5, "cutmix": 0.5}]
)
def test_both_arms_see_the_same_augmented_and_mixed_images(params, samples, config):
    changed = with_params(params, "train", **config)
    one, other = (train(changed, samples, policy) for policy in (EQUAL, Policy(backbone=0.01, head=0.01)))
    assert same_weights(one[0], other[0])
    assert one[1] == other[1]
    assert not same_weights(one[0], train(params, samples, EQUAL)[0])


def test_finer_layer_groups_at_the_same_rates_give_the_same_bits(params, samples):
    params = params.model_copy(update={"model": SMALL.model_copy(update={"name": "mobilenetv3_small_050"})})
    stages, blocks = (
        train(with_params(params, "model", layer_groups=granularity), samples, EQUAL)
        for granularity in ("stages", "blocks")
    )
    assert len(stages[0].groups) < len(blocks[0].groups)
    assert same_weights(stages[0], blocks[0])


def test_other_rates_or_another_seed_give_another_network(params, samples):
    first, _ = train(params, samples, EQUAL)
    slower, _ = train(params, samples, Policy(backbone=0.001, head=0.01))
    seeded, _ = train(params, samples, EQUAL, seed=2)
    assert not same_weights(first, slower)
    assert not same_weights(first, seeded)


@pytest.mark.parametrize("changes", [{"threads": 2}, {"augment": ["horizontal_flip", "vertical_flip", "quarter_turn"]}])
def test_the_same_seed_gives_the_same_bits(params, samples, changes):
    first, again = (train(with_params(params, "train", **changes), samples, EQUAL) for _ in range(2))
    assert same_weights(first[0], again[0])
    assert first[1] == again[1]


def test_the_network_learns(params, samples):
    """Dark from bright: six seeds, with three sets of instructions, end at a loss below 0.01 and all images right."""
    _, result = train(with_params(params, "train", epochs=20), samples, EQUAL)
    assert result.epochs[-1].train.loss < result.epochs[0].train.loss / 10
    assert result.epochs[-1].val.accuracy > 0.9


def test_the_final_metrics_are_those_of_the_network_that_is_kept(params, samples):
    network, result = train(params, samples, EQUAL)
    compute = set_up_compute(params.train)
    logits = predict_logits(network, samples["val"], compute)
    assert result.epochs[-1].val == metrics_of(logits, samples["val"].labels)


def test_training_metrics_are_counted_over_the_epoch_while_it_trains(params, samples):
    """With a rate too small to move anything, they are those of the first network in training mode."""
    still = Policy(uniform=1e-30)
    _, result = train(params, samples, still)
    network = build_network(params.model, 2, 1)
    network.module.train()
    losses, correct = 0.0, 0
    with torch.no_grad():
        for pixels, labels in samples["train"].shuffled_batches(params.train, seed=1, epoch=1):
            logits = network.logits(pixels)
            losses += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            correct += (logits.argmax(1) == labels).sum().item()
    assert result.epochs[0].train.loss == pytest.approx(losses / 24, rel=1e-5)
    assert result.epochs[0].train.accuracy == correct / 24


def test_every_step_moves_the_progress(params, samples):
    progress = RecordedProgress()
    train(params, samples, EQUAL, progress=progress)
    assert progress.resumed == 0
    assert progress.steps == [1, 2, 3, 1, 2, 3]


def test_rate_zero_freezes_the_backbone_and_trains_the_head(params, samples):
    network, _ = train(params, samples, FROZEN)
    first = build_network(params.model, 2, 1).module.state_dict()
    weight_change = {
        name for name, tensor in network.module.state_dict().items() if not torch.equal(tensor, first[name])
    }
    assert weight_change == set(network.groups["head"])


def test_a_loss_that_is_not_finite_stops_at_once_and_says_where(params, samples):
    progress = RecordedProgress()
    _, result = train(params, samples, Policy(uniform=1e30), progress=progress)
    assert result.diverged.epoch == 1
    assert result.diverged.step == len(progress.steps) + 1 <= 3
    assert result.epochs == []


def test_a_loss_that_is_looked_at_seldom_diverges_at_the_same_step_with_the_same_weights(params, samples, monkeypatch):
    """As on a GPU, which goes on meanwhile without taking a step."""
    hot = Policy(uniform=1e-4, groups={"stage3": 1e30})
    network, result = train(params, samples, hot)
    monkeypatch.setitem(loop_module.CHECK_EVERY, "cpu", 10)
    later, again = train(params, samples, hot)
    assert again.diverged == result.diverged
    for ours, theirs in zip(network.module.parameters(), later.module.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_on_a_gpu_waits_for_nothing(params, samples):
    params = with_params(params, "train", device="cuda")
    compute = set_up_compute(params.train)
    on_gpu = Samples(*(tensor.to(compute.device) for tensor in vars(samples["train"]).values()))
    network = build_network(params.model, 2, 1)
    network.module.to(compute.device)
    groups = build_param_groups(
        params.optimizer, network.module, network.groups, plan_policy(EQUAL, list(network.groups))
    )
    optimizer = build_optimizer(params.optimizer, groups, list(groups))
    batches = list(on_gpu.shuffled_batches(params.train, seed=1, epoch=1))
    running = RunningMetrics.zeros(compute.device)
    epoch = train_epoch(network, optimizer, batches, [1.0] * len(batches), params, compute, running)
    next(epoch)  # the first one makes what all others use
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(len(batches) - 1):
            next(epoch)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_the_layer_group_with_the_rate_that_is_too_high_is_named(params, samples):
    hot = Policy(uniform=1e-4, groups={"stage3": 1e30})
    _, result = train(params, samples, hot)
    assert result.diverged.group == "stage3"


def test_no_layer_group_is_named_where_none_has_moved(params, samples, monkeypatch):
    """Weights that hold a NaN, say."""
    monkeypatch.setattr(loop_module.nn.functional, "cross_entropy", lambda logits, *_: logits.sum() * math.nan)
    _, result = train(params, samples, EQUAL)
    assert result.diverged == Divergence(epoch=1, step=1, group=None)


def test_a_measurement_that_is_not_finite_is_a_divergence_too(params, samples, monkeypatch):
    monkeypatch.setattr(trainer_module, "metrics_of", lambda *_: EpochMetrics(0.5, math.nan))
    _, result = train(params, samples, EQUAL)
    assert (result.diverged.epoch, result.diverged.step) == (1, 0)
    assert result.epochs == []


def test_pieces_of_a_batch_add_up_to_its_gradient(params, samples):
    """BatchNorm aside, which sees the pieces; so it is frozen here."""
    still = with_params(params, "train", batchnorm="freeze", epochs=1)
    whole, pieces = (
        train(with_params(still, "train", grad_accum_steps=pieces), samples, Policy(uniform=0.001))[0]
        for pieces in (1, 3)
    )
    for ours, theirs in zip(whole.module.parameters(), pieces.module.parameters(), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_trains_too(params, samples, name):
    adam = with_params(params, "optimizer", name=name)
    _, result = train(adam, samples, Policy(backbone=1e-4, head=1e-3))
    assert math.isfinite(result.epochs[-1].train.loss)


def changed_groups(network, params):
    """The layer groups of which any tensor differs from the first weights, running statistics included."""
    first = build_network(params.model, 2, 1)
    group_of = {name.rpartition(".")[0]: group for group, names in network.groups.items() for name in names}
    return {
        group_of[name.rpartition(".")[0]]
        for name, tensor in network.module.state_dict().items()
        if not torch.equal(tensor, first.module.state_dict()[name])
    }


def test_a_single_frozen_group_stays_between_groups_that_learn(params, samples):
    network, _ = train(params, samples, Policy(uniform=0.01, groups={"stem": 0.0, "stage3": 0.0}))
    assert changed_groups(network, params) == set(network.groups) - {"stem", "stage3"}


def test_the_backbone_waits_for_the_head_and_then_learns(params, samples):
    waiting = Policy(uniform=0.01, head_only_epochs=1)
    network, _ = train(with_params(params, "train", epochs=1), samples, waiting)
    assert changed_groups(network, params) == {"head"}
    network, _ = train(params, samples, waiting)
    assert changed_groups(network, params) == set(network.groups)


def test_gradual_unfreezing_reaches_one_group_more_each_epoch(params, samples):
    network, _ = train(with_params(params, "train", epochs=3), samples, Policy(uniform=0.01, gradual_unfreezing=True))
    assert changed_groups(network, params) == set(list(network.groups)[-3:])


def test_running_statistics_of_frozen_layers_may_be_let_move(params, samples):
    updating = with_params(params, "train", frozen_batchnorm="update")
    network, _ = train(updating, samples, FROZEN)
    assert changed_groups(network, params) == set(network.groups)


def test_all_running_statistics_may_be_kept(params, samples):
    network, _ = train(with_params(params, "train", batchnorm="freeze"), samples, EQUAL)
    first = build_network(params.model, 2, 1).module.state_dict()
    changed = {name for name, value in network.module.state_dict().items() if not torch.equal(value, first[name])}
    assert changed == {name for name, _ in network.module.named_parameters()}


def test_the_optimizer_has_at_every_step_the_rate_that_the_curve_says(params, samples, monkeypatch):
    """The curve that is written is computed; the one that is used is the optimizer's."""
    used = []

    def spy(classifier, optimizer, *rest, **keywords):
        used.append({entry["layer_group"]: entry["lr"] for entry in optimizer.param_groups})
        return step(classifier, optimizer, *rest, **keywords)

    step = loop_module.train_step
    monkeypatch.setattr(loop_module, "train_step", spy)
    scheduled = with_params(params, "schedule", name="cosine", warmup=2.0, warmup_unit="steps")
    policy = Policy(head=0.01, layer_decay=0.5, head_only_epochs=1)
    network, _ = train(scheduled, samples, policy)
    steps = count_steps(params.train, samples["train"])
    curves = rate_curves(
        plan_policy(policy, list(network.groups)), lr_multipliers(scheduled.schedule, params.train.epochs, steps), steps
    )
    assert len(used) == params.train.epochs * steps
    for step_number, rates in enumerate(used, start=1):
        for row in curves:
            if row["step"] == step_number:
                assert rates.get(row["layer_group"], 0.0) == row["learning_rate"]


def test_a_clipped_gradient_is_no_longer_than_asked(params, samples):
    """With one step of plain SGD, the network moves by the rate times the clipped length at most."""
    one = with_params(
        with_params(params, "optimizer", momentum=0.0, clip_grad_norm=0.01), "train", epochs=1, batch_size=24
    )
    network, _ = train(one, samples, Policy(uniform=0.5))
    first = build_network(params.model, 2, 1).module
    weight_change = [
        after - before for after, before in zip(network.module.parameters(), first.parameters(), strict=True)
    ]
    assert torch.cat([change.flatten() for change in weight_change]).norm().item() == pytest.approx(
        0.5 * 0.01, rel=1e-3
    )
