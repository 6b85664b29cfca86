"""The state of a replicate that is not finished, on the disk, so that a killed training goes on where it was.

A state counts for one replicate, and for all that decides it (`fingerprint`).
"""

import contextlib
import io
import math
import pickle
import time
from pathlib import Path
from typing import Any

import torch

from stages.files import remove_leftovers, write_bytes
from stages.hashing import hash_bytes
from stages.training.distributed import ALONE, Processes

RESUME_DIR = Path(".resume")
MIN_SAVE_INTERVAL = 2.0  # seconds; epochs that are shorter are not worth a file each
MAGIC = b"resume state 3\n"  # what a file begins with; then comes the digest of the rest, as hexadecimal text
HEADER_SIZE = len(MAGIC) + 64


def resume_path(replicate: str, fingerprint: str) -> Path:
    """Return the path of a replicate's state."""
    return RESUME_DIR / f"{replicate}-{fingerprint[:16]}.state"


def clear_resume_states(arm: str) -> None:
    """Remove every state of an arm: it is finished."""
    for path in [*RESUME_DIR.glob(f"{arm}-seed-*"), *RESUME_DIR.glob(f".{arm}-seed-*")]:  # the latter are half written
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    remove_leftovers(path)
    with contextlib.suppress(OSError):  # there are others
        path.parent.rmdir()


class ResumeState:
    """The state of one replicate in a file, whole and synced to the disk; without a path, nowhere."""

    def __init__(
        self, path: Path | None = None, save_every_minutes: float = math.inf, processes: Processes = ALONE
    ) -> None:
        """Name the file.

        Args:
            path: of the state; None saves nothing.
            save_every_minutes: within an epoch.
            processes: that share the training; the first of them reads and writes the file for all.
        """
        self.path, self._interval, self._processes = path, 60 * save_every_minutes, processes
        self._saved_at = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the state that an earlier run left, or None; what is damaged is set aside with a warning."""
        if self.path is None:
            return None
        content = self.path.read_bytes() if self._processes.rank == 0 and self.path.exists() else None
        content = self._processes.from_first(content, device)
        if content is None:
            return None
        header, state = content[:HEADER_SIZE], content[HEADER_SIZE:]
        if header == MAGIC + hash_bytes(state).encode():
            try:
                # Tensors, numbers and text; nothing that a pickle could run.
                loaded: dict[str, Any] = torch.load(io.BytesIO(state), map_location=device, weights_only=True)
            except torch.OutOfMemoryError:  # which says nothing of the file
                raise
            except (RuntimeError, pickle.UnpicklingError, EOFError):
                pass
            else:
                return loaded
        if self._processes.rank == 0:
            aside = self.path.with_suffix(".damaged")
            self.path.replace(aside)
            print(
                f"warning: {self.path} is damaged; it was set aside as {aside}, and the replicate begins anew",
                flush=True,
            )
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Write a state in the place of the one before."""
        if self.path is None or self._processes.rank:
            return
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        write_bytes(self.path, MAGIC + hash_bytes(content).encode() + content, synced=True)
        self._saved_at = time.monotonic()

    def delete(self) -> None:
        """Remove the state."""
        if self.path:
            _remove(self.path)

    @property
    def should_save_within_epoch(self) -> bool:
        """Whether so many minutes have passed that a state is worth a file in the middle of an epoch."""
        return time.monotonic() - self._saved_at >= self._interval

    @property
    def should_save_after_epoch(self) -> bool:
        """Whether an epoch has been long enough to be worth a file."""
        return time.monotonic() - self._saved_at >= min(self._interval, MIN_SAVE_INTERVAL)
