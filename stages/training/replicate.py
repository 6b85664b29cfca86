"""One replicate: one arm's rates, one seed, from the first weights to the last."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from stages.data.batches import Samples, batch_sizes
from stages.errors import UserError
from stages.models.compute import Compute
from stages.models.network import Classifier, Network
from stages.params import Params, Part, Train
from stages.rates.freezing import freeze_all_but
from stages.rates.optimizers import build_optimizer, parameter_groups, unfreeze
from stages.rates.policies import Plan, in_words, learning, phases
from stages.rates.schedules import scales
from stages.training.features import head_on_features
from stages.training.loop import Score, measure, train_epoch


@dataclass(frozen=True)
class Epoch:
    """The story's figures of one epoch: training while it trained, validation after it."""

    train: Score
    val: Score


@dataclass(frozen=True)
class Replicate:
    """What one replicate came to.

    Attributes:
        epochs: from first to last.
        train: the training samples, measured in evaluation mode after the last epoch.
    """

    epochs: list[Epoch]
    train: Score


def steps_per_epoch(train: Train, samples: Samples) -> int:
    """Optimizer steps of one epoch."""
    return len(batch_sizes(len(samples), train.batch_size))


def train_replicate(
    network: Network,
    plan: Plan,
    seed: int,
    params: Params,
    samples: dict[Part, Samples],
    compute: Compute,
    *,
    on_step: Callable[[int, Score | None], None],
) -> Replicate:
    """Train a network in place.

    Args:
        network: with its first weights.
        plan: layer group -> rate and first epoch.
        seed: decides the order of the samples, their augmentation, and what dropout draws.
        params: of which the sections `train`, `optimizer` and `schedule` are read.
        samples: `train` is learnt from, `val` only measured.
        compute: device and precision.
        on_step: called after every step with the epoch and, now and then, the score so far.

    Raises:
        UserError: the loss stopped being finite, or the schedule does not fit the training.
    """
    train, module = params.train, network.module.to(compute.device)
    steps = steps_per_epoch(train, samples["train"])
    scale = scales(params.schedule, train.epochs, steps)
    entries = parameter_groups(params.optimizer, module, network.groups, plan)
    optimizer = build_optimizer(params.optimizer, entries, learning(plan, epoch=1))
    beginnings = phases(plan, train.epochs)

    classifier: Classifier
    epochs: list[Epoch] = []
    for epoch in range(1, train.epochs + 1):
        if epoch in beginnings:
            groups = learning(plan, epoch)
            unfreeze(optimizer, entries, groups)
            freeze_all_but(module, (name for group in groups for name in network.groups[group]))
            classifier, seen = head_on_features(network, samples, train, compute) or (network, samples)

        torch.manual_seed(seed * 1_000_003 + epoch)  # dropout and stochastic depth
        batches = seen["train"].shuffled_batches(train, seed, epoch)
        of_epoch = scale[(epoch - 1) * steps : epoch * steps]
        trained = train_epoch(
            classifier, optimizer, batches, of_epoch, params, compute, on_step=partial(on_step, epoch)
        )
        measured = measure(classifier, seen["val"], compute)
        refuse_divergence([trained, measured], plan, seed, epoch)
        epochs.append(Epoch(trained, measured))
    final = measure(classifier, seen["train"], compute)
    refuse_divergence([final], plan, seed, train.epochs)
    return Replicate(epochs, final)


def refuse_divergence(scores: list[Score], plan: Plan, seed: int, epoch: int) -> None:
    """Stop where there is nothing left to learn from.

    Raises:
        UserError: a loss is not finite.
    """
    if not all(math.isfinite(score.loss) for score in scores):
        raise UserError(
            f"lr: with seed {seed} the loss is not finite in epoch {epoch}; lower the rates ({in_words(plan)})"
        )
