"""How far a replicate has come: with the weights, the optimizer and the generators, all that it takes to go on."""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import nn, optim

from stages.training.divergence import Divergence
from stages.training.loop import Score, Tally


@dataclass(frozen=True)
class Epoch:
    """The story's figures of one epoch: training while it trained, validation after it."""

    train: Score
    val: Score


@dataclass
class Progress:
    """What has been done.

    Attributes:
        epochs: those that are over.
        tally: counts the one that goes on.
        evaluated: the training samples, measured in evaluation mode after the last epoch.
        diverged: where the loss stopped being finite.
    """

    epochs: list[Epoch]
    tally: Tally
    evaluated: Score | None = None
    diverged: Divergence | None = None

    @property
    def epoch(self) -> int:
        """Which one goes on; the first is 1."""
        return len(self.epochs) + 1

    @property
    def begun(self) -> bool:
        """Whether any step has been taken."""
        return self.position != (0, 0)

    @property
    def position(self) -> tuple[int, int]:
        """Epochs that are over, and steps of the one that goes on."""
        return len(self.epochs), self.tally.steps

    def end_epoch(self, val: Score) -> None:
        """Close the epoch that goes on."""
        self.epochs.append(Epoch(self.tally.score(), val))
        self.tally = Tally.of_nothing(self.tally.correct.device)


def as_state(progress: Progress, module: nn.Module, optimizer: optim.Optimizer) -> dict[str, Any]:
    """Give the whole state of a training, in tensors, numbers and text alone."""
    tally = progress.tally
    return {
        "module": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "groups": list(dict.fromkeys(entry["layer_group"] for entry in optimizer.param_groups)),
        "generators": {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state() if tally.correct.device.type == "cuda" else None,
        },
        "epochs": [[*astuple(epoch.train), *astuple(epoch.val)] for epoch in progress.epochs],
        "tally": [tally.correct, tally.loss_sum, tally.seen, tally.steps],
        "evaluated": list(astuple(progress.evaluated)) if progress.evaluated else None,
        "diverged": list(astuple(progress.diverged)) if progress.diverged else None,
    }


def progress_of(state: dict[str, Any]) -> Progress:
    """Give the progress that a state holds."""
    return Progress(
        epochs=[Epoch(Score(*figures[:2]), Score(*figures[2:])) for figures in state["epochs"]],
        tally=Tally(*state["tally"]),
        evaluated=Score(*state["evaluated"]) if state["evaluated"] else None,
        diverged=Divergence(*state["diverged"]) if state["diverged"] else None,
    )


def restore_generators(generators: dict[str, Any]) -> None:
    """Let torch draw on from where a state was saved, by the `generators` of that state."""
    torch.set_rng_state(generators["cpu"].cpu())
    if generators["cuda"] is not None:
        torch.cuda.set_rng_state(generators["cuda"].cpu())


def tell_steps(progress: Progress, steps: int, on_step: Callable[[int, None], None]) -> None:
    """Tell the steps that an earlier run has taken, so many in every epoch that is over."""
    for epoch in range(1, progress.epoch + 1):
        for _ in range(steps if epoch < progress.epoch else progress.tally.steps):
            on_step(epoch, None)
