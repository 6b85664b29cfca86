"""What people see of a training: how far each replicate is, in numbers that processes share, and the bars of it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt
import psutil

from stages.progress import ProgressBar, describe_seconds, progress_bar, write_line
from stages.training.loop import EpochMetrics, RunningMetrics
from stages.training.state import Epoch

METRICS_EVERY = 10  # steps; each look at the metrics waits for the device once more
RESUMED_AT, STEPS, ACCURACY, LOSS, RUNNING, EPOCHS = range(6)  # columns, each replicate has a row
COLUMNS = 6
EPOCH_COLUMNS = 4  # of each epoch that is over, after those
EVALUATING = 0.08  # of the time that training a replicate takes, evaluating it; measured on the sample images

Rows = npt.NDArray[np.float64]


def row_length(epochs: int) -> int:
    """Return how many columns replicates of so many epochs need."""
    return COLUMNS + EPOCH_COLUMNS * epochs


def finished_epochs(row: Rows) -> list[Epoch]:
    """Return the metrics of the epochs that a replicate has behind it."""
    values = row[COLUMNS:].reshape(-1, EPOCH_COLUMNS)[: int(row[EPOCHS])].tolist()
    return [Epoch(EpochMetrics(*epoch[:2]), EpochMetrics(*epoch[2:])) for epoch in values]


class ReplicateProgress:
    """Keeps the row of one replicate."""

    def __init__(self, row: Rows | None = None, changed: Callable[[], None] = lambda: None) -> None:
        """Begin.

        Args:
            row: (row_length(epochs),), which may be in memory that processes share; None where nobody looks.
            changed: is called after every change.
        """
        self._row, self._changed = np.zeros(COLUMNS) if row is None else row, changed

    def begin(self, steps: int) -> None:
        """Say that the replicate is trained from now on, after so many steps that an earlier run has taken."""
        self._row[:COLUMNS] = steps, steps, 0, 0, 1, 0
        self._changed()

    def step(self, running: RunningMetrics) -> None:
        """Count one step, after which the metrics of its epoch are these."""
        self._row[STEPS] += 1
        if running.steps % METRICS_EVERY == 1:
            metrics = running.compute()
            self._row[[ACCURACY, LOSS]] = metrics.accuracy, metrics.loss
        self._changed()

    def tell_epochs(self, epochs: Sequence[Epoch]) -> None:
        """Say what all epochs came to that are over."""
        values = [value for epoch in epochs for value in (*astuple(epoch.train), *astuple(epoch.val))]
        if len(values) <= len(self._row) - COLUMNS:
            self._row[COLUMNS : COLUMNS + len(values)] = values
            self._row[EPOCHS] = len(epochs)  # last, for others may be reading
        self._changed()

    def end(self) -> None:
        """Say that the replicate is no longer trained."""
        self._row[RUNNING] = 0
        self._changed()


@dataclass(frozen=True)
class Afterwards:
    """What a pipeline still does when replicates are trained.

    Attributes:
        trained: replicates that a later stage trains, be they begun here.
        evaluated: replicates that are evaluated.
        starts: how many times as long as this stage to start it takes to start the others.
    """

    trained: int
    evaluated: int
    starts: float


class TimeLeft:
    """Estimates how long a pipeline still takes, from what this run of a training stage has measured."""

    def __init__(self, rows: Rows, wanted: int, steps: int, afterwards: Afterwards) -> None:
        """Begin.

        Args:
            rows: (replicates, row_length(epochs)).
            wanted: how many replicates this stage trains.
            steps: of each.
            afterwards: what the pipeline does when they are trained.
        """
        self._rows, self._afterwards = rows, afterwards
        self._trained = (wanted + afterwards.trained) * steps
        self._evaluated = EVALUATING * afterwards.evaluated * steps
        self._first_step: float | None = None  # when a replicate had begun
        self._start = 0.0  # seconds that it took to start this stage, as it will take to start the others

    def look(self) -> None:
        """See whether a replicate has begun."""
        if self._first_step is None and self._rows[:, RUNNING].any():
            self._first_step = time.time()
            self._start = self._first_step - psutil.Process().create_time()

    def seconds(self) -> float | None:
        """Return the estimate, or None where no step has been taken."""
        taken = float((self._rows[:, STEPS] - self._rows[:, RESUMED_AT]).sum())
        if self._first_step is None or not taken:
            return None
        per_step = (time.time() - self._first_step) / taken
        steps_left = max(self._trained - float(self._rows[:, STEPS].sum()), 0.0)
        return per_step * (steps_left + self._evaluated) + self._start * self._afterwards.starts


class ReplicateBars:
    """One bar for all replicates of a stage, and one for each that is trained side by side with others."""

    def __init__(
        self,
        labels: Sequence[str],
        wanted: int,
        epochs: int,
        steps_per_epoch: int,
        rows: Rows,
        workers: int,
        time_left: TimeLeft | None = None,
    ) -> None:
        """Draw them, on a terminal.

        Args:
            labels: of the replicates, for people.
            wanted: how many of them, from the first on, are waited for.
            epochs: of each.
            steps_per_epoch: of each.
            rows: (replicates, row_length(epochs)).
            workers: how many are trained at a time; one has no bar of its own.
            time_left: of the whole pipeline, which is told when the first replicate has ended.
        """
        self._labels, self._wanted, self._epochs, self._steps = labels, wanted, epochs, steps_per_epoch
        self._rows, self._told = rows, set[int]()
        self._time_left, self._one_has_ended = time_left, False
        self._whole = progress_bar(wanted * epochs * steps_per_epoch, unit=" steps")
        self._each = [self._bar() for _ in range(workers if workers > 1 else 0)]

    def _bar(self) -> ProgressBar:
        bar = progress_bar(self._epochs * self._steps, unit=" steps")
        bar.bar_format = "{desc} |{bar}| {percentage:3.0f} %{postfix}"
        return bar

    def show(self) -> None:
        """Move every bar to where its replicate is now, and say of each that it goes on where an earlier run ended."""
        for number in np.flatnonzero(self._rows[:, RESUMED_AT]).tolist():
            if number not in self._told:
                self._told.add(number)
                write_line(f"{self._labels[number]}: {self._resume_message(int(self._rows[number, RESUMED_AT]))}")
        if self._time_left:
            self._time_left.look()
        if self._whole.disable:
            return
        if self._one_has_ended and (left := self._pipeline_left()):
            self._whole.bar_format = f"{{l_bar}}{{bar}}| {{n_fmt}}/{{total_fmt}} [{left}, {{rate_fmt}}{{postfix}}]"
        running = [number for number in range(len(self._labels)) if self._rows[number, RUNNING]]
        if running and not self._each:
            self._whole.set_description(self._description(running[0]), refresh=False)
            self._whole.set_postfix_str(self._metrics(running[0]), refresh=False)
        self._whole.update(int(self._rows[: self._wanted, STEPS].sum()) - self._whole.n)
        for bar, shown in zip_longest(self._each, running[: len(self._each)]):
            bar.n = 0 if shown is None else int(self._rows[shown, STEPS])
            bar.set_description_str("" if shown is None else self._description(shown), refresh=False)
            bar.set_postfix_str("" if shown is None else self._metrics(shown), refresh=False)
            bar.refresh()

    def tell_end(self) -> None:
        """Say how long the pipeline still takes, when the first replicate has ended; from then on a bar does."""
        if not self._one_has_ended and (left := self._pipeline_left()):
            write_line(f"about {left}")
        self._one_has_ended = True

    def close(self) -> None:
        """Take the bars away."""
        for bar in (*self._each, self._whole):
            bar.close()

    def _pipeline_left(self) -> str:
        seconds = self._time_left.seconds() if self._time_left else None
        return "" if seconds is None else f"{describe_seconds(seconds)} left of the pipeline"

    def _description(self, number: int) -> str:
        epoch = min(int(self._rows[number, STEPS]) // self._steps + 1, self._epochs)
        return f"{self._labels[number]}, epoch {epoch} of {self._epochs}"

    def _resume_message(self, steps: int) -> str:
        if steps >= self._epochs * self._steps:
            return "was trained before"
        taken = steps % self._steps
        return f"goes on in epoch {steps // self._steps + 1}, after {taken} step{'' if taken == 1 else 's'}"

    def _metrics(self, number: int) -> str:
        return f"loss={self._rows[number, LOSS]:.3f}, accuracy={self._rows[number, ACCURACY]:.1%}"
