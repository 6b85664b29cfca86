"""The story's loop: forward, loss, backward, step."""

from collections.abc import Callable, Iterable, Sequence
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

SHOW_EVERY = 10  # steps; reading a figure waits for the device, so it is not done at every step


@dataclass(frozen=True)
class Score:
    """Accuracy as a fraction, and cross-entropy per sample in nats."""

    accuracy: float
    loss: float


def train_epoch(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    scales: Sequence[float],
    params: Params,
    compute: Compute,
    *,
    on_step: Callable[[Score | None], None],
) -> Score:
    """Train on every batch once.

    Args:
        classifier: what learns.
        optimizer: how it learns.
        batches: inputs and labels, on the device.
        scales: of the rates, one for each batch.
        params: of which `train.batchnorm`, `train.frozen_batchnorm` and `optimizer.clip_norm` are read.
        compute: device and precision.
        on_step: called after every step, with the score so far at every `SHOW_EVERY`th.

    Returns:
        The story's training figures: of each batch as the network was when it met it, over all samples.
    """
    train_mode(classifier.module, params.train)
    correct = torch.zeros((), dtype=torch.int64, device=compute.device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=compute.device)
    seen = 0
    for step, ((inputs, labels), scale) in enumerate(zip(batches, scales, strict=True), start=1):
        scale_rates(optimizer, scale)
        logits, loss = train_step(classifier, optimizer, inputs, labels, params.optimizer.clip_norm, compute)

        correct += (logits.argmax(1) == most_likely(labels)).sum()
        loss_sum += loss * len(labels)
        seen += len(labels)
        on_step(Score(correct.item() / seen, loss_sum.item() / seen) if step % SHOW_EVERY == 1 else None)
    return Score(correct.item() / seen, loss_sum.item() / seen)


def most_likely(labels: Tensor) -> Tensor:
    """Give labels (batch,); of mixed images, whose labels are shares (batch, classes), the larger share's."""
    return labels if labels.ndim == 1 else labels.argmax(1)


def train_step(
    classifier: Classifier,
    optimizer: optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    clip_norm: float | None,
    compute: Compute,
) -> tuple[Tensor, Tensor]:
    """Take one step; give the logits (batch, classes) and the mean loss from which it was taken.

    Args:
        classifier: what learns, in training mode.
        optimizer: how it learns, with its rates set.
        inputs: a batch of what the classifier takes.
        labels: (batch,), or the share of each class (batch, classes).
        clip_norm: the largest L2 norm of the whole gradient, or None.
        compute: device and precision.
    """
    optimizer.zero_grad()
    with compute.autocast():
        logits = classifier.logits(inputs)
        loss = nn.functional.cross_entropy(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    if clip_norm is not None:
        learning = (parameter for entry in optimizer.param_groups for parameter in entry["params"])
        nn.utils.clip_grad_norm_(learning, clip_norm)
    optimizer.step()
    return logits.detach(), loss.detach()


def measure(classifier: Classifier, samples: Samples, compute: Compute) -> Score:
    """Score samples in evaluation mode."""
    logits = predict_logits(classifier, samples, compute)
    return Score(
        accuracy=(logits.argmax(1) == samples.labels).double().mean().item(),
        loss=nn.functional.cross_entropy(logits, samples.labels).item(),
    )
