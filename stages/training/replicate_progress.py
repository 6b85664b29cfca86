"""What people see of a training."""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from tqdm import tqdm

from stages.training.loop import RunningMetrics

METRICS_EVERY = 10  # steps; each look at the metrics waits for the device once more
Bar: TypeAlias = "tqdm[Any]"


@dataclass
class ReplicateProgress:
    """Moves a bar, which may be that of several replicates, by the steps of one.

    Attributes:
        label: of the replicate, for people.
        epochs: of the training.
        bar: shows nothing where none is given.
    """

    label: str = ""
    epochs: int = 0
    bar: Bar = field(default_factory=lambda: tqdm(disable=True))

    def resume(self, steps: int) -> None:
        """Jump over the steps that an earlier run has taken."""
        self.bar.update(steps)

    def step(self, epoch: int, running: RunningMetrics) -> None:
        """Move by one step.

        Args:
            epoch: in which it was taken; the first is 1.
            running: metrics of that epoch so far.
        """
        if not self.bar.disable:
            self.bar.set_description(f"{self.label}, epoch {epoch} of {self.epochs}", refresh=False)
            if running.steps % METRICS_EVERY == 1:
                metrics = running.compute()
                self.bar.set_postfix(loss=f"{metrics.loss:.3f}", accuracy=f"{metrics.accuracy:.1%}", refresh=False)
        self.bar.update()
