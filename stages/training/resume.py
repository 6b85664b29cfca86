"""The state of a replicate that is not finished, on the disk, so that a killed training goes on where it was.

A state counts for one replicate, and for the parameters, data, code, versions and processor that it was made with.
"""

import contextlib
import io
import json
import math
import pickle
import platform
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.files import remove_leftovers, write_bytes
from stages.hashing import hash_bytes, hash_file, hash_tensors
from stages.params import Params
from stages.rates.policies import Plan

RESUME_DIR = Path(".resume")
PACKAGES = ("torch", "torchvision", "timm", "numpy")
MIN_SAVE_INTERVAL = 2.0  # seconds; epochs that are shorter are not worth a file each
MAGIC = b"resume state 2\n"  # what a file begins with; then comes the digest of the rest, as hexadecimal text
HEADER_SIZE = len(MAGIC) + 64


def fingerprint(params: Params, plan: Plan, seed: int, network: nn.Module, checksums: Mapping[str, str]) -> str:
    """Return a digest of everything that decides what a replicate comes to.

    Args:
        params: of which the sections model, optimizer, schedule and train count.
        plan: layer group -> rate and first epoch.
        seed: of the replicate.
        network: with its first weights, whatever they come from.
        checksums: of the prepared data.
    """
    inputs = {
        "params": {
            **params.model_dump(include={"model", "optimizer", "schedule"}),
            "train": params.train.model_dump(exclude={"seeds", "on_divergence"}),  # they decide no replicate
        },
        "plan": {group: [entry.rate, entry.first_epoch] for group, entry in plan.items()},
        "seed": seed,
        "weights": hash_tensors(network.state_dict()),
        "data": dict(checksums),
        "code": _code(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability(), _gpu()],
    }
    return hash_bytes(json.dumps(inputs, sort_keys=True).encode())


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

    def __init__(self, path: Path | None = None, save_every_minutes: float = math.inf) -> None:
        """Name the file.

        Args:
            path: of the state; None saves nothing.
            save_every_minutes: within an epoch.
        """
        self.path, self._interval = path, 60 * save_every_minutes
        self._saved_at = time.monotonic()

    def load(self, device: torch.device) -> dict[str, Any] | None:
        """Return the state that an earlier run left, or None; what is damaged is set aside with a warning."""
        if self.path is None or not self.path.exists():
            return None
        content = self.path.read_bytes()
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
        aside = self.path.with_suffix(".damaged")
        self.path.replace(aside)
        print(f"warning: {self.path} is damaged; it was set aside as {aside}, and the replicate begins anew")
        return None

    def save(self, state: dict[str, Any]) -> None:
        """Write a state in the place of the one before."""
        if self.path is None:
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


@cache
def _code() -> dict[str, str]:
    """Return the digest of every module of ours, as it was when it was first asked for: files may change under us."""
    specifications = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    return {
        found.name: hash_file(Path(found.origin))
        for found in specifications
        if found and found.name.startswith("stages.") and found.origin
    }


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
