"""Learning curves: of replicates that are finished, and of those that are being trained, in a file that moves."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from stages.files import write_csv
from stages.progress import write_line
from stages.training.replicate import ReplicateJob
from stages.training.resume import ResumeState
from stages.training.state import Epoch, TrainingState

LOOK_EVERY = 1.0  # seconds


def learning_curves(epochs: Mapping[int, Sequence[Epoch]]) -> pd.DataFrame:
    """Return the metrics of every epoch, a row for each seed and epoch."""
    return pd.DataFrame(
        [
            (seed, number, epoch.train.accuracy, epoch.train.loss, epoch.val.accuracy, epoch.val.loss)
            for seed, of_seed in epochs.items()
            for number, epoch in enumerate(of_seed, start=1)
        ],
        columns=["seed", "epoch", "train_accuracy", "train_loss", "val_accuracy", "val_loss"],
    )


class LiveCurves:
    """A table of the learning curves so far, rewritten whole whenever an epoch has ended.

    What replicates that are being trained came to is read from the states that they save for a resume, so that training
    does nothing for it: an epoch shows as soon as it is saved, and at the latest when its replicate has ended.
    """

    def __init__(self, path: Path, jobs: Sequence[ReplicateJob]) -> None:
        """Begin, without a table.

        Args:
            path: of the table.
            jobs: the replicates, in the order of its rows.
        """
        self._path, self._jobs = path, jobs
        self._epochs: dict[int, Sequence[Epoch]] = {}
        self._read: dict[int, int] = {}  # seed -> when the state was saved that was read last
        self._looked_at = -LOOK_EVERY
        self._is_writable = True
        with contextlib.suppress(OSError):  # none is there
            path.unlink()

    def take(self, job: ReplicateJob, epochs: Sequence[Epoch]) -> None:
        """Take what a replicate came to in the end."""
        self._epochs[job.seed] = epochs
        self._write()

    def look(self) -> None:
        """Take what states have been saved since the last look, which is at least a second ago."""
        if time.monotonic() - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = time.monotonic()
        saved = {job.seed: epochs for job in self._jobs if (epochs := self._newly_saved(job))}
        longer = {seed: epochs for seed, epochs in saved.items() if len(epochs) > len(self._epochs.get(seed, ()))}
        if longer:
            self._epochs.update(longer)
            self._write()

    def _newly_saved(self, job: ReplicateJob) -> list[Epoch]:
        try:
            saved_at = job.state.stat().st_mtime_ns
        except OSError:  # none is saved yet
            return []
        if self._read.get(job.seed) == saved_at:
            return []
        self._read[job.seed] = saved_at
        state = ResumeState(job.state).load(torch.device("cpu"))
        return TrainingState.from_state_dict(state["training"]).epochs if state else []

    def _write(self) -> None:
        ordered = {job.seed: self._epochs[job.seed] for job in self._jobs if job.seed in self._epochs}
        if not self._is_writable:
            return
        try:
            write_csv(self._path, learning_curves(ordered))
        except OSError as error:  # which must not end a training
            self._is_writable = False
            write_line(f"warning: {self._path} does not move: {error.strerror}")
