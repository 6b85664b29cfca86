"""One replicate: one arm's rates, one seed, from the first weights to the last."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from stages.data.batches import Samples, batch_sizes
from stages.errors import UserError
from stages.models.compute import Compute
from stages.models.network import Classifier, Network
from stages.params import Params, Split, Train
from stages.rates.freezing import freeze_all_but
from stages.rates.optimizers import build_optimizer, build_param_groups, unfreeze
from stages.rates.policies import Plan, phases, trainable_groups
from stages.signals import Interrupted, Signals
from stages.training.distributed import ALONE, Processes
from stages.training.divergence import Divergence, fastest_growing_group, weight_norms
from stages.training.frozen_features import head_on_features
from stages.training.loop import DivergedError, EpochMetrics, RunningMetrics, metrics_of, train_epoch
from stages.training.replicate_progress import ReplicateProgress
from stages.training.resume import ResumeState
from stages.training.state import Epoch, TrainingState, generator_states, restore_generators

DRAWS_OF_A_PROCESS = 2**40  # apart from the seeds of every epoch


@dataclass(frozen=True)
class ReplicateResult:
    """What one replicate came to.

    Attributes:
        epochs: from first to last.
        diverged: None where it did not.
    """

    epochs: list[Epoch]
    diverged: Divergence | None = None


@dataclass(frozen=True)
class Pruning:
    """When a training is given up. It depends on nothing but the training itself, so order and time change nothing.

    Attributes:
        after: the first epoch after which it may be.
        val_loss_above: what its validation loss must then exceed.
    """

    after: int
    val_loss_above: float


def count_steps(train: Train, samples: Samples) -> int:
    """Return the optimizer steps of one epoch."""
    return len(batch_sizes(len(samples), train.batch_size))


@dataclass
class Trainer:
    """Trains a network in place, from its first weights or from the state that an earlier run has saved.

    Attributes:
        network: with its first weights.
        plan: layer group -> rate and first epoch.
        seed: decides the order of the samples, their augmentation, and what dropout draws.
        params: of which the sections `train` and `optimizer` are read.
        lr_multipliers: of the rates, one for each step of the whole training.
        samples: `train` is learnt from, `val` only measured.
        compute: device and precision.
        resume_state: saves the state on the disk, or nowhere.
        signals: wait until a step is whole.
        progress: what people see.
        pruning: when to give up; None never does.
        processes: that share the training; the network is then the same in all of them after every step.
    """

    network: Network
    plan: Plan
    seed: int
    params: Params
    lr_multipliers: list[float]
    samples: dict[Split, Samples]
    compute: Compute
    resume_state: ResumeState = field(default_factory=ResumeState)
    signals: Signals = field(default_factory=Signals)
    progress: ReplicateProgress = field(default_factory=ReplicateProgress)
    pruning: Pruning | None = None
    processes: Processes = ALONE

    def __post_init__(self) -> None:
        """Begin, or load what an earlier run has saved."""
        self.module = self.network.module.to(self.compute.device)
        self.initial_norms = weight_norms(self.network)
        self.param_groups = build_param_groups(self.params.optimizer, self.module, self.network.groups, self.plan)
        self.optimizer = build_optimizer(self.params.optimizer, self.param_groups, trainable_groups(self.plan, epoch=1))
        self.state = TrainingState([], RunningMetrics.zeros(self.compute.device))
        self.generators: dict[str, Any] | None = None
        self.val_logits: Tensor | None = None  # those of the network after its last epoch
        saved = self.resume_state.load(self.compute.device)
        if saved is not None:
            try:
                self._load_state(saved)
            except torch.OutOfMemoryError:
                raise
            except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
                raise UserError(f"{self.resume_state.path} holds no state of this replicate: remove it") from error
        self.resumed_at = self.state.position

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return len(self.lr_multipliers) // self.params.train.epochs

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state of the training, in tensors, numbers and text alone."""
        return {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "trainable_groups": list(dict.fromkeys(entry["layer_group"] for entry in self.optimizer.param_groups)),
            "generators": generator_states(self.compute.device),
            "training": self.state.state_dict(),
        }

    def _load_state(self, saved: dict[str, Any]) -> None:
        self.optimizer = build_optimizer(self.params.optimizer, self.param_groups, saved["trainable_groups"])
        self.state = TrainingState.from_state_dict(saved["training"])
        self.generators = saved["generators"]
        self.module.load_state_dict(saved["module"])
        self.optimizer.load_state_dict(saved["optimizer"])

    def fit(self) -> ReplicateResult:
        """Train to the end, or to where the loss stops being finite, and leave the state of that on the disk.

        Raises:
            Interrupted: a signal has arrived; the state is on the disk.
        """
        state, epochs = self.state, self.params.train.epochs
        is_over = state.epoch > epochs or state.diverged is not None or self._is_pruned
        done = len(state.epochs) * self.steps_per_epoch + state.running.steps
        self.progress.begin(len(self.lr_multipliers) if is_over else done)
        self.progress.tell_epochs(state.epochs)
        try:
            if not is_over:
                try:
                    self._train()
                except DivergedError as found:
                    state.diverged = Divergence(
                        state.epoch, found.step, fastest_growing_group(self.network, self.initial_norms)
                    )
                self._save()
        except Interrupted:
            self._save()
            raise
        return ReplicateResult(state.epochs, state.diverged)

    def _train(self) -> None:
        """Train what is left of the epochs."""
        train, state, steps = self.params.train, self.state, self.steps_per_epoch
        first_epoch = state.epoch
        while state.epoch <= train.epochs:
            epoch, done = state.epoch, state.running.steps
            if epoch == first_epoch or epoch in phases(self.plan, train.epochs):
                classifier, samples = self._begin_phase(epoch)
                learner = self.processes.wrap(classifier, train)

            # Dropout and stochastic depth, which differ between the parts of a batch that processes share.
            torch.manual_seed(self.seed * 1_000_003 + epoch + DRAWS_OF_A_PROCESS * self.processes.rank)
            if self.generators and done:
                restore_generators(self.generators)
            for running in train_epoch(
                learner,
                self.optimizer,
                samples["train"].shuffled_batches(train, self.seed, epoch, done, self.processes.part),
                self.lr_multipliers[(epoch - 1) * steps + done : epoch * steps],
                self.params,
                self.compute,
                state.running,
                critical_section=self.signals.deferred,
                processes=self.processes,
            ):
                self.progress.step(running)
                self.signals.agree()
                if self.resume_state.should_save_within_epoch:
                    self._save()
            val_logits = self.processes.predict_logits(classifier, samples["val"], self.compute)
            val = check_finite(metrics_of(val_logits, samples["val"].labels))
            self.val_logits = val_logits if classifier is self.network else None
            with self.signals.deferred():
                state.end_epoch(val)
            self.progress.tell_epochs(state.epochs)
            if self._is_pruned:
                break
            if state.epoch <= train.epochs and self.resume_state.should_save_after_epoch:
                self._save()

    @property
    def _is_pruned(self) -> bool:
        """Whether the validation loss says to give up."""
        if self.pruning is None:
            return False
        late = self.state.epochs[self.pruning.after - 1 :]
        return any(epoch.val.loss > self.pruning.val_loss_above for epoch in late)

    def predictions(self) -> dict[str, Tensor]:
        """Return the trained network's logits (samples, classes) of every split that it was given.

        Those that the last epoch was measured by are not made again.
        """
        return {
            split: self.val_logits
            if split == "val" and self.val_logits is not None
            else self.processes.predict_logits(self.network, samples, self.compute)
            for split, samples in self.samples.items()
        }

    def _begin_phase(self, epoch: int) -> tuple[Classifier, dict[Split, Samples]]:
        """Let the layer groups of an epoch learn; where it is the head alone, on features instead of images."""
        groups = trainable_groups(self.plan, epoch)
        with self.signals.deferred():
            unfreeze(self.optimizer, self.param_groups, groups)
        freeze_all_but(self.module, (name for group in groups for name in self.network.groups[group]))
        on_features = head_on_features(self.network, self.samples, self.params.train, self.compute)
        return on_features or (self.network, self.samples)

    def _save(self) -> None:
        """Save the state, unless it is the one on the disk, to whose generators torch may not have come back yet."""
        with self.signals.deferred():
            if self.state.diverged or not self.state.running.steps or self.state.position != self.resumed_at:
                self.resume_state.save(self.state_dict())


def check_finite(metrics: EpochMetrics) -> EpochMetrics:
    """Return metrics whose loss is finite.

    Raises:
        DivergedError: it is not.
    """
    if not math.isfinite(metrics.loss):
        raise DivergedError
    return metrics
