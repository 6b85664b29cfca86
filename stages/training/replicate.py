"""One replicate: one arm's rates, one seed, from the first weights to the last."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from stages.data.batches import Samples, batch_sizes
from stages.errors import UserError
from stages.models.compute import Compute
from stages.models.network import Classifier, Network
from stages.params import Params, Part, Train
from stages.rates.freezing import freeze_all_but
from stages.rates.optimizers import build_optimizer, parameter_groups, unfreeze
from stages.rates.policies import Plan, learning, phases
from stages.rates.schedules import scales
from stages.signals import Interrupted, Signals
from stages.training.divergence import Divergence, grown_most, weight_norms
from stages.training.features import head_on_features
from stages.training.loop import DivergedError, Score, Tally, measure, train_epoch
from stages.training.progress import Epoch, Progress, as_state, progress_of, restore_generators, tell_steps
from stages.training.unfinished import Keeper, State


@dataclass(frozen=True)
class Replicate:
    """What one replicate came to.

    Attributes:
        epochs: from first to last.
        evaluated: the training samples, measured in evaluation mode after the last epoch; NaN where it diverged.
        diverged: None where it did not.
    """

    epochs: list[Epoch]
    evaluated: Score
    diverged: Divergence | None = None


def steps_per_epoch(train: Train, samples: Samples) -> int:
    """Optimizer steps of one epoch."""
    return len(batch_sizes(len(samples), train.batch_size))


@dataclass
class Training:
    """A replicate in the making: trains a network in place, from its first weights or from what the keeper has.

    Attributes:
        network: with its first weights.
        plan: layer group -> rate and first epoch.
        seed: decides the order of the samples, their augmentation, and what dropout draws.
        params: of which the sections `train`, `optimizer` and `schedule` are read.
        samples: `train` is learnt from, `val` only measured.
        compute: device and precision.
        keeper: keeps the state on the disk, or nowhere.
        signals: wait until a step is whole.
    """

    network: Network
    plan: Plan
    seed: int
    params: Params
    samples: dict[Part, Samples]
    compute: Compute
    keeper: Keeper = field(default_factory=Keeper)
    signals: Signals = field(default_factory=Signals)

    def __post_init__(self) -> None:
        """Begin, or take up what the keeper has."""
        self.module = self.network.module.to(self.compute.device)
        self.first_norms = weight_norms(self.network)
        self.entries = parameter_groups(self.params.optimizer, self.module, self.network.groups, self.plan)

        self.optimizer = build_optimizer(self.params.optimizer, self.entries, learning(self.plan, epoch=1))
        self.progress = Progress([], Tally.of_nothing(self.compute.device))
        self.generators: dict[str, Any] | None = None
        saved = self.keeper.load(self.compute.device)
        if saved is not None:
            try:
                self._take_up(saved)
            except torch.OutOfMemoryError:
                raise
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise UserError(f"{self.keeper.path} holds no state of this replicate: remove it") from error
        self.begun_at = self.progress.position

    def _take_up(self, saved: State) -> None:
        self.optimizer = build_optimizer(self.params.optimizer, self.entries, saved["groups"])
        self.progress = progress_of(saved)
        self.generators = saved["generators"]
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])

    def run(self, on_step: Callable[[int, Score | None], None]) -> Replicate:
        """Train to the end, or to where the loss stops being finite, and leave the state of that on the disk.

        Args:
            on_step: called after every step, those of an earlier run too, with the epoch and, now and then, the score.

        Raises:
            Interrupted: a signal has arrived; the state is on the disk.
            UserError: the schedule does not fit the training.
        """
        progress, epochs = self.progress, self.params.train.epochs
        tell_steps(progress, steps_per_epoch(self.params.train, self.samples["train"]), on_step)
        try:
            if not (progress.evaluated or progress.diverged):
                try:
                    self._train(on_step)
                except DivergedError as found:
                    step = progress.tally.steps + 1 if found.in_a_step else 0
                    group = grown_most(self.network, self.first_norms)
                    progress.diverged = Divergence(min(progress.epoch, epochs), step, group)
                self._save()
        except Interrupted:
            self._save()
            raise
        return Replicate(progress.epochs, progress.evaluated or Score(math.nan, math.nan), progress.diverged)

    def _train(self, on_step: Callable[[int, Score | None], None]) -> None:
        """Train what is left of the epochs, and measure."""
        train, progress = self.params.train, self.progress
        steps = steps_per_epoch(train, self.samples["train"])
        scale = scales(self.params.schedule, train.epochs, steps)
        begun = min(progress.epoch, train.epochs)
        classifier, seen = self._begin_phase(begun)
        while progress.epoch <= train.epochs:
            epoch, done = progress.epoch, progress.tally.steps
            if epoch in phases(self.plan, train.epochs) and epoch != begun:
                classifier, seen = self._begin_phase(epoch)

            torch.manual_seed(self.seed * 1_000_003 + epoch)  # dropout and stochastic depth
            if self.generators and done:
                restore_generators(self.generators)
            train_epoch(
                classifier,
                self.optimizer,
                seen["train"].shuffled_batches(train, self.seed, epoch, first_batch=done),
                scale[(epoch - 1) * steps + done : epoch * steps],
                self.params,
                self.compute,
                progress.tally,
                on_step=partial(self._after_step, on_step, epoch),
                whole=self.signals.held,
            )
            measured = refuse_infinite(measure(classifier, seen["val"], self.compute))
            with self.signals.held():
                progress.end_epoch(measured)
            if self.keeper.due_after_epoch:
                self._save()
        progress.evaluated = refuse_infinite(measure(classifier, seen["train"], self.compute))

    def _begin_phase(self, epoch: int) -> tuple[Classifier, dict[Part, Samples]]:
        """Let the layer groups of an epoch learn; where it is the head alone, on features instead of images."""
        groups = learning(self.plan, epoch)
        with self.signals.held():
            unfreeze(self.optimizer, self.entries, groups)
        freeze_all_but(self.module, (name for group in groups for name in self.network.groups[group]))
        on_features = head_on_features(self.network, self.samples, self.params.train, self.compute)
        return on_features or (self.network, self.samples)

    def _after_step(self, on_step: Callable[[int, Score | None], None], epoch: int, score: Score | None) -> None:
        on_step(epoch, score)
        if self.keeper.due_within_epoch:
            self._save()

    def _save(self) -> None:
        """Save the state, unless it is the one on the disk, to whose generators torch may not have come back yet."""
        with self.signals.held():
            if self.progress.diverged or not self.progress.tally.steps or self.progress.position != self.begun_at:
                self.keeper.save(as_state(self.progress, self.module, self.optimizer))


def refuse_infinite(score: Score) -> Score:
    """Give a score whose loss is finite.

    Raises:
        DivergedError: it is not.
    """
    if not math.isfinite(score.loss):
        raise DivergedError(in_a_step=False)
    return score
