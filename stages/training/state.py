"""How far a replicate has come: with the weights, the optimizer and the generators, all that it takes to go on."""

from dataclasses import astuple, dataclass
from typing import Any

import torch

from stages.training.divergence import Divergence
from stages.training.loop import EpochMetrics, RunningMetrics


@dataclass(frozen=True)
class Epoch:
    """The metrics of one epoch: training while it trained, validation after it."""

    train: EpochMetrics
    val: EpochMetrics


@dataclass
class TrainingState:
    """How far a replicate has come.

    Attributes:
        epochs: those that are over.
        running: counts the one that goes on.
        diverged: where the loss stopped being finite.
    """

    epochs: list[Epoch]
    running: RunningMetrics
    diverged: Divergence | None = None

    @property
    def epoch(self) -> int:
        """Which one goes on; the first is 1."""
        return len(self.epochs) + 1

    @property
    def position(self) -> tuple[int, int]:
        """Epochs that are over, and steps of the one that goes on."""
        return len(self.epochs), self.running.steps

    @property
    def is_resumed(self) -> bool:
        """Whether any step was taken, so that a training that holds it goes on where another ended."""
        return self.position != (0, 0)

    def end_epoch(self, val: EpochMetrics) -> None:
        """Close the epoch that goes on."""
        self.epochs.append(Epoch(self.running.compute(), val))
        self.running = RunningMetrics.zeros(self.running.correct.device)

    def state_dict(self) -> dict[str, Any]:
        """Return it in tensors, numbers and text alone."""
        running = self.running
        return {
            "epochs": [[*astuple(epoch.train), *astuple(epoch.val)] for epoch in self.epochs],
            "running": list(vars(running).values()),
            "diverged": list(astuple(self.diverged)) if self.diverged else None,
        }

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "TrainingState":
        """Return what `state_dict` has put into tensors, numbers and text."""
        return cls(
            epochs=[Epoch(EpochMetrics(*metrics[:2]), EpochMetrics(*metrics[2:])) for metrics in state["epochs"]],
            running=RunningMetrics(*state["running"]),
            diverged=Divergence(*state["diverged"]) if state["diverged"] else None,
        )


def generator_states(device: torch.device) -> dict[str, Any]:
    """Return the states of the generators that torch draws from on the CPU and on a device."""
    return {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if device.type == "cuda" else None,
    }


def restore_generators(states: dict[str, Any]) -> None:
    """Let torch draw on from where `generator_states` found it."""
    torch.set_rng_state(states["cpu"].cpu())
    if states["cuda"] is not None:
        torch.cuda.set_rng_state(states["cuda"].cpu())
