"""The story's loop: forward, loss, backward, step."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from stages.data.batches import Samples
from stages.models.compute import Compute
from stages.models.inference import predict_logits
from stages.models.network import Classifier
from stages.params import Params
from stages.rates.freezing import train_mode
from stages.rates.optimizers import scale_rates

SHOW_EVERY = 10  # steps; each look at the figures waits for the device once more


@dataclass(frozen=True)
class Score:
    """Accuracy as a fraction, and cross-entropy per sample in nats."""

    accuracy: float
    loss: float


@dataclass
class Tally:
    """The story's training figures, counted over an epoch: of each batch as the network was when it met it.

    Attributes:
        correct: int64 (), on the device; reading it waits for the device.
        loss_sum: float64 (), likewise.
        seen: samples.
        steps: batches.
    """

    correct: Tensor
    loss_sum: Tensor
    seen: int = 0
    steps: int = 0

    @classmethod
    def of_nothing(cls, device: torch.device) -> "Tally":
        """Begin to count."""
        return cls(
            torch.zeros((), dtype=torch.int64, device=device), torch.zeros((), dtype=torch.float64, device=device)
        )

    def add(self, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
        """Count a batch."""
        self.correct += (logits.argmax(1) == most_likely(labels)).sum()
        self.loss_sum += loss * len(labels)
        self.seen += len(labels)
        self.steps += 1

    def score(self) -> Score:
        """Give what has been counted."""
        return Score(self.correct.item() / self.seen, self.loss_sum.item() / self.seen)


def train_epoch(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    scales: Sequence[float],
    params: Params,
    compute: Compute,
    tally: Tally,
    *,
    on_step: Callable[[Score | None], None],
    whole: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> None:
    """Train on every batch once.

    Args:
        classifier: what learns.
        optimizer: how it learns.
        batches: inputs and labels, on the device; as many as there are scales.
        scales: of the rates, one for each batch.
        params: of which the sections `train` and `optimizer` are read.
        compute: device and precision.
        tally: counts the batches, beyond those that it has counted already.
        on_step: called after every step, with the score so far at every `SHOW_EVERY`th.
        whole: makes a context in which a step, with its batch and its count, is done whole or not at all.

    Raises:
        DivergedError: the loss is not finite.
    """
    train_mode(classifier.module, params.train)
    drawn = iter(batches)
    for scale in scales:
        with whole():
            inputs, labels = next(drawn)
            scale_rates(optimizer, scale)
            logits, loss = train_step(classifier, optimizer, inputs, labels, params, compute)
            tally.add(logits, loss, labels)
        on_step(tally.score() if tally.steps % SHOW_EVERY == 1 else None)


class DivergedError(Exception):
    """A loss is not finite.

    Attributes:
        in_a_step: that of a batch, not that of a measurement.
    """

    def __init__(self, in_a_step: bool) -> None:
        """Keep where it was."""
        super().__init__(in_a_step)
        self.in_a_step = in_a_step


def most_likely(labels: Tensor) -> Tensor:
    """Give labels (batch,); of mixed images, whose labels are shares (batch, classes), the larger share's."""
    return labels if labels.ndim == 1 else labels.argmax(1)


def train_step(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    params: Params,
    compute: Compute,
) -> tuple[Tensor, Tensor]:
    """Take one step; give the logits (batch, classes) and the mean loss from which it was taken.

    Args:
        classifier: what learns, in training mode.
        optimizer: how it learns, with its rates set.
        inputs: a batch of what the classifier takes.
        labels: (batch,), or the share of each class (batch, classes).
        params: `train.accumulate` cuts the batch into so many pieces, whose gradients add up to the batch's;
            `optimizer.clip_norm` is the largest L2 norm of the whole gradient, or None.
        compute: device and precision.

    Raises:
        DivergedError: the loss is not finite; nothing has been changed but BatchNorm's statistics.
    """
    optimizer.zero_grad()
    pieces = min(params.train.accumulate, len(inputs) // 2)  # BatchNorm wants two images in each
    all_logits, loss_sum = [], torch.zeros((), device=compute.device)
    for some_inputs, some_labels in zip(inputs.tensor_split(pieces), labels.tensor_split(pieces), strict=True):
        with compute.autocast():
            logits = classifier.logits(some_inputs)
            loss = nn.functional.cross_entropy(logits, some_labels) * (len(some_labels) / len(labels))
        loss.backward()  # type: ignore[no-untyped-call]
        all_logits.append(logits.detach())
        loss_sum += loss.detach()
    if not loss_sum.isfinite():
        raise DivergedError(in_a_step=True)
    if params.optimizer.clip_norm is not None:
        learning = (parameter for entry in optimizer.param_groups for parameter in entry["params"])
        nn.utils.clip_grad_norm_(learning, params.optimizer.clip_norm)
    optimizer.step()
    return torch.cat(all_logits), loss_sum


def measure(classifier: Classifier, samples: Samples, compute: Compute) -> Score:
    """Score samples in evaluation mode."""
    logits = predict_logits(classifier, samples, compute)
    return Score(
        accuracy=(logits.argmax(1) == samples.labels).double().mean().item(),
        loss=nn.functional.cross_entropy(logits, samples.labels).item(),
    )
