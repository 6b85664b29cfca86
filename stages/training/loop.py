"""The training loop: forward, loss, backward, step."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from stages.models.compute import Compute
from stages.models.network import Classifier
from stages.params import Params
from stages.rates.freezing import train_mode
from stages.rates.optimizers import set_lr
from stages.training.distributed import ALONE, Processes


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
        diverged_at: int64 (), likewise; the first step whose loss was not finite, 0 where there is none.
        samples: so far.
        steps: so far.
    """

    correct: Tensor
    loss_sum: Tensor
    diverged_at: Tensor
    samples: int = 0
    steps: int = 0

    @classmethod
    def zeros(cls, device: torch.device) -> "RunningMetrics":
        """Return the metrics of an epoch that has not begun."""
        return cls(
            correct=torch.zeros((), dtype=torch.int64, device=device),
            loss_sum=torch.zeros((), dtype=torch.float64, device=device),
            diverged_at=torch.zeros((), dtype=torch.int64, device=device),
        )

    def update(self, logits: Tensor, loss: Tensor, labels: Tensor) -> None:
        """Count a batch: its logits (batch, classes), its mean loss (), and its labels as `train_step` takes them."""
        self.correct += (logits.argmax(1) == most_likely(labels)).sum()
        self.loss_sum += loss * len(labels)
        self.samples += len(labels)
        self.steps += 1
        self.diverged_at = torch.where((self.diverged_at == 0) & ~loss.isfinite(), self.steps, self.diverged_at)

    def check_finite(self) -> None:
        """Wait for the device.

        Raises:
            DivergedError: the loss of a step was not finite.
        """
        if step := int(self.diverged_at.item()):
            raise DivergedError(step)

    def compute(self) -> EpochMetrics:
        """Return the metrics so far."""
        return EpochMetrics(self.correct.item() / self.samples, self.loss_sum.item() / self.samples)


# Steps from one look at the loss to the next. Each look waits for the device, which costs a CPU nothing.
CHECK_EVERY = {"cpu": 1, "cuda": 10}


def train_epoch(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    lr_multipliers: Sequence[float],
    params: Params,
    compute: Compute,
    running: RunningMetrics,
    critical_section: Callable[[], AbstractContextManager[None]] = nullcontext,
    processes: Processes = ALONE,
) -> Iterator[RunningMetrics]:
    """Train on every batch once.

    Args:
        classifier: what learns.
        optimizer: how it learns.
        batches: inputs and labels, on the device; as many as there are multipliers. The inputs are this process's part
            of a batch, the labels those of all of it.
        lr_multipliers: of the rates, one for each batch.
        params: of which the sections `train` and `optimizer` are read.
        compute: device and precision.
        running: counts the batches, beyond those that it has counted already.
        critical_section: makes a context in which a step, with its batch and its count, is done as a whole or not at
            all.
        processes: that share the batches.

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
                params,
                compute,
                diverged=running.diverged_at > 0,
                processes=processes,
            )
            running.update(logits, loss, labels)
        if running.steps % CHECK_EVERY[compute.device.type] == 0:
            running.check_finite()
        yield running
    running.check_finite()


class DivergedError(Exception):
    """A loss is not finite.

    Attributes:
        step: of the epoch, the first is 1; 0 where it is that of a measurement.
    """

    def __init__(self, step: int = 0) -> None:
        """Keep where it was."""
        super().__init__(step)
        self.step = step


def most_likely(labels: Tensor) -> Tensor:
    """Return labels (batch,); of mixed images, whose labels are shares (batch, classes), the larger share's."""
    return labels if labels.ndim == 1 else labels.argmax(1)


def train_step(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    params: Params,
    compute: Compute,
    diverged: Tensor | None = None,
    processes: Processes = ALONE,
) -> tuple[Tensor, Tensor]:
    """Take one step, unless the loss is not finite: then nothing changes but BatchNorm's statistics.

    The device itself sees to that, so that nothing waits for it.

    Args:
        classifier: what learns, in training mode.
        optimizer: how it learns, with its rates set.
        inputs: this process's part of a batch of what the classifier takes.
        labels: of the whole batch: (batch,), or the share of each class (batch, classes).
        params: of which `train` says into how many pieces the batch is cut, whose gradients add up to the batch's, and
            `optimizer` how long the whole gradient may be.
        compute: device and precision.
        diverged: bool (), whether an earlier loss was not finite; then nothing changes either.
        processes: that share the batch.

    Returns:
        The logits (batch, classes), and the mean loss () from which the step was taken, both of the whole batch.
    """
    optimizer.zero_grad()
    images, own_labels = len(labels), processes.part(labels)
    scale = processes.size if processes.shares(images) else 1  # for DistributedDataParallel takes the mean over them
    # BatchNorm wants two images in each piece, and all processes must cut alike.
    pieces = min(params.train.grad_accum_steps, images // scale // 2)
    all_logits, loss_sum = [], torch.zeros((), device=compute.device)
    for some_inputs, some_labels in zip(inputs.tensor_split(pieces), own_labels.tensor_split(pieces), strict=True):
        with compute.autocast(), processes.batchnorm(params.train, images):
            logits = classifier.logits(some_inputs)
            loss = nn.functional.cross_entropy(logits, some_labels) * (scale * len(some_labels) / images)
        loss.backward()  # type: ignore[no-untyped-call]
        all_logits.append(logits.detach())
        loss_sum += loss.detach()
    loss_sum = processes.mean(loss_sum, images)
    if params.optimizer.clip_grad_norm is not None:
        parameters = (parameter for entry in optimizer.param_groups for parameter in entry["params"])
        nn.utils.clip_grad_norm_(parameters, params.optimizer.clip_grad_norm)
    stands_still = ~loss_sum.isfinite() if diverged is None else diverged | ~loss_sum.isfinite()
    optimizer.found_inf = stands_still.float()  # type: ignore[attr-defined]  # fused kernels skip the step where it is 1
    optimizer.step()
    return processes.gather(torch.cat(all_logits), images), loss_sum


def metrics_of(logits: Tensor, labels: Tensor) -> EpochMetrics:
    """Return the metrics of logits (samples, classes) for labels (samples,)."""
    return EpochMetrics(
        accuracy=(logits.argmax(1) == labels).double().mean().item(),
        loss=nn.functional.cross_entropy(logits.double(), labels).item(),
    )
