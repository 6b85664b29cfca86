"""The training loop: forward, loss, backward, step."""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from stages.rates.optimizers import set_lr


@dataclass(frozen=True)
class EpochMetrics:
    """Accuracy as a fraction, and cross-entropy per sample in nats."""

    accuracy: float
    loss: float


@dataclass
class RunningMetrics:
    """Training metrics over an epoch while it trains: of each batch as the network was when it met it.

    Attributes:
        correct: int64 (), on the device; reading it waits for the device.
        loss_sum: float64 (), likewise.
        samples: so far.
        steps: so far.
    """

    correct: Tensor
    loss_sum: Tensor
    samples: int = 0
    steps: int = 0

    @classmethod
    def zeros(cls, device: torch.device) -> "RunningMetrics":
        """Return the metrics of an epoch that has not begun."""
        return cls(
            torch.zeros((), dtype=torch.int64, device=device), torch.zeros((), dtype=torch.float64, device=device)
        )

    def update(self, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
        """Count a batch: its logits (batch, classes), its mean loss (), and its labels as `train_step` takes them."""
        self.correct += (logits.argmax(1) == most_likely(labels)).sum()
        self.loss_sum += loss * len(labels)
        self.samples += len(labels)
        self.steps += 1

    def compute(self) -> EpochMetrics:
        """Return the metrics so far."""
        return EpochMetrics(self.correct.item() / self.samples, self.loss_sum.item() / self.samples)


def train_epoch(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    lr_multipliers: Sequence[float],
    params: Params,
    compute: Compute,
    running: RunningMetrics,
    critical_section: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[RunningMetrics]:
    """Train on every batch once.

    Args:
        classifier: what learns.
        optimizer: how it learns.
        batches: inputs and labels, on the device; as many as there are multipliers.
        lr_multipliers: of the rates, one for each batch.
        params: of which the sections `train` and `optimizer` are read.
        compute: device and precision.
        running: counts the batches, beyond those that it has counted already.
        critical_section: makes a context in which a step, with its batch and its count, is done as a whole or not at
            all.

    Yields:
        The running metrics, after every step.

    Raises:
        DivergedError: the loss is not finite.
    """
    train_mode(classifier.module, params.train)
    remaining = iter(batches)
    for multiplier in lr_multipliers:
        with critical_section():
            inputs, labels = next(remaining)
            set_lr(optimizer, multiplier)
            logits, loss = train_step(
                classifier,
                optimizer,
                inputs,
                labels,
                compute,
                grad_accum_steps=params.train.grad_accum_steps,
                clip_grad_norm=params.optimizer.clip_grad_norm,
            )
            running.update(logits, loss, labels)
        yield running


class DivergedError(Exception):
    """A loss is not finite.

    Attributes:
        in_a_step: whether it was that of a batch and not that of a measurement.
    """

    def __init__(self, in_a_step: bool) -> None:
        """Keep where it was."""
        super().__init__(in_a_step)
        self.in_a_step = in_a_step


def most_likely(labels: Tensor) -> Tensor:
    """Return labels (batch,); of mixed images, whose labels are shares (batch, classes), the larger share's."""
    return labels if labels.ndim == 1 else labels.argmax(1)


def train_step(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    compute: Compute,
    grad_accum_steps: int = 1,
    clip_grad_norm: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Take one step.

    Args:
        classifier: what learns, in training mode.
        optimizer: how it learns, with its rates set.
        inputs: a batch of what the classifier takes.
        labels: (batch,), or the share of each class (batch, classes).
        compute: device and precision.
        grad_accum_steps: cuts the batch into so many pieces, whose gradients add up to the batch's.
        clip_grad_norm: the largest L2 norm of the whole gradient; None leaves it as it is.

    Returns:
        The logits (batch, classes), and the mean loss () from which the step was taken.

    Raises:
        DivergedError: the loss is not finite; nothing has been changed but BatchNorm's statistics.
    """
    optimizer.zero_grad()
    pieces = min(grad_accum_steps, len(inputs) // 2)  # BatchNorm wants two images in each
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
    if clip_grad_norm is not None:
        parameters = (parameter for entry in optimizer.param_groups for parameter in entry["params"])
        nn.utils.clip_grad_norm_(parameters, clip_grad_norm)
    optimizer.step()
    return torch.cat(all_logits), loss_sum


def measure(classifier: Classifier, samples: Samples, compute: Compute) -> EpochMetrics:
    """Return the metrics of samples in evaluation mode."""
    logits = predict_logits(classifier, samples, compute)
    return EpochMetrics(
        accuracy=(logits.argmax(1) == samples.labels).double().mean().item(),
        loss=nn.functional.cross_entropy(logits, samples.labels).item(),
    )
