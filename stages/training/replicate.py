"""One replicate: one arm's rates, one seed, from the first weights to the last."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from stages.data.batches import Samples, batch_sizes
from stages.errors import UserError
from stages.models.compute import Compute
from stages.models.network import Network
from stages.params import Params, Part, Train
from stages.rates.freezing import freeze
from stages.rates.optimizers import build_optimizer
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


def steps_per_replicate(train: Train, samples: Samples) -> int:
    """Optimizer steps from the first epoch to the last."""
    return train.epochs * len(batch_sizes(len(samples), train.batch_size))


def train_replicate(
    network: Network,
    rates: dict[str, float],
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
        rates: layer group -> learning rate per step; 0 freezes the group.
        seed: decides the order of the samples, their augmentation, and what dropout draws.
        params: of which the sections `train` and `optimizer` are read.
        samples: `train` is learnt from, `val` only measured.
        compute: device and precision.
        on_step: called after every step with the epoch and, now and then, the score so far.

    Raises:
        UserError: the loss stopped being finite.
    """
    network.module.to(compute.device)
    freeze(network.module, {name for group, names in network.groups.items() if rates[group] == 0 for name in names})
    optimizer = build_optimizer(params.optimizer, network.module, network.groups, rates)

    epochs: list[Epoch] = []
    for epoch in range(1, params.train.epochs + 1):
        torch.manual_seed(seed * 1_000_003 + epoch)  # dropout and stochastic depth
        batches = samples["train"].shuffled_batches(params.train.batch_size, params.train.augment, seed, epoch)
        trained = train_epoch(network, optimizer, batches, compute, on_step=partial(on_step, epoch))
        measured = measure(network, samples["val"], compute)
        refuse_divergence([trained, measured], rates, seed, epoch)
        epochs.append(Epoch(trained, measured))
    final = measure(network, samples["train"], compute)
    refuse_divergence([final], rates, seed, params.train.epochs)
    return Replicate(epochs, final)


def refuse_divergence(scores: list[Score], rates: dict[str, float], seed: int, epoch: int) -> None:
    """Stop where there is nothing left to learn from.

    Raises:
        UserError: a loss is not finite.
    """
    if not all(math.isfinite(score.loss) for score in scores):
        said = ", ".join(f"{group} {rate:g}" for group, rate in rates.items())
        raise UserError(f"lr: with seed {seed} the loss is not finite in epoch {epoch}; lower the rates ({said})")
