"""Learning curves: of replicates that are finished, and of those that are being trained, in a file that moves."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from stages.files import write_csv
from stages.progress import write_line
from stages.training.state import Epoch

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
    """A table of the learning curves so far, rewritten whole when epochs have ended, at most once a second."""

    def __init__(self, path: Path, seeds: Sequence[int]) -> None:
        """Begin, without a table.

        Args:
            path: of the table.
            seeds: of the replicates, in the order of its rows.
        """
        self._path, self._seeds = path, seeds
        self._epochs: dict[int, Sequence[Epoch]] = {}
        self._looked_at = -LOOK_EVERY
        self._is_writable = True
        with contextlib.suppress(OSError):  # none is there
            path.unlink()

    def take(self, seed: int, epochs: Sequence[Epoch]) -> None:
        """Take what a replicate came to in the end."""
        self._epochs[seed] = epochs
        self._write()

    def look(self, epochs_so_far: Callable[[], Mapping[int, Sequence[Epoch]]]) -> None:
        """Take the epochs that have ended since the last look, which is at least a second ago.

        Args:
            epochs_so_far: gives those of replicates that are being trained, by seed.
        """
        if time.monotonic() - self._looked_at < LOOK_EVERY:
            return
        self._looked_at = time.monotonic()
        found = epochs_so_far()
        longer = {seed: epochs for seed, epochs in found.items() if len(epochs) > len(self._epochs.get(seed, ()))}
        if longer:
            self._epochs.update(longer)
            self._write()

    def _write(self) -> None:
        ordered = {seed: self._epochs[seed] for seed in self._seeds if seed in self._epochs}
        if not self._is_writable:
            return
        try:
            write_csv(self._path, learning_curves(ordered))
        except OSError as error:  # which must not end a training
            self._is_writable = False
            write_line(f"warning: {self._path} does not move: {error.strerror}")
