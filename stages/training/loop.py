"""The story's loop: forward, loss, backward, step."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn, optim

from stages.data.batches import Samples
from stages.models.compute import Compute
from stages.models.inference import predict_logits
from stages.models.network import Network
from stages.rates.freezing import train_mode

SHOW_EVERY = 10  # steps; reading a figure waits for the device, so it is not done at every step


@dataclass(frozen=True)
class Score:
    """Accuracy as a fraction, and cross-entropy per sample in nats."""

    accuracy: float
    loss: float


def train_epoch(
    network: Network,
    optimizer: optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    compute: Compute,
    *,
    on_step: Callable[[Score | None], None],
) -> Score:
    """Train on every batch once.

    Args:
        network: what learns.
        optimizer: how it learns.
        batches: uint8 pixels and labels, on the device.
        compute: device and precision.
        on_step: called after every step, with the score so far at every `SHOW_EVERY`th.

    Returns:
        The story's training figures: of each batch as the network was when it met it, over all samples.
    """
    train_mode(network.module)
    correct = torch.zeros((), dtype=torch.int64, device=compute.device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=compute.device)
    seen = 0
    for step, (pixels, labels) in enumerate(batches, start=1):
        optimizer.zero_grad()
        with compute.autocast():
            logits = network.logits(pixels)
            loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

        correct += (logits.detach().argmax(1) == labels).sum()
        loss_sum += loss.detach() * len(labels)
        seen += len(labels)
        on_step(Score(correct.item() / seen, loss_sum.item() / seen) if step % SHOW_EVERY == 1 else None)
    return Score(correct.item() / seen, loss_sum.item() / seen)


def measure(network: Network, samples: Samples, compute: Compute) -> Score:
    """Score samples in evaluation mode."""
    logits = predict_logits(network, samples, compute)
    return Score(
        accuracy=(logits.argmax(1) == samples.labels).double().mean().item(),
        loss=nn.functional.cross_entropy(logits, samples.labels).item(),
    )
