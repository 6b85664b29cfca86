"""The state of a replicate that is not finished, on the disk, so that a killed training goes on where it was.

A state counts for one replicate, and for the parameters, data, code, versions and processor that it was made with.
"""

import contextlib
import hashlib
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
from torch import Tensor, nn

from stages.files import remove_leftovers, write_bytes
from stages.params import Params
from stages.rates.policies import Plan

FOLDER = Path(".unfinished")
PACKAGES = ("torch", "torchvision", "timm", "numpy")
SELDOM = 2.0  # seconds; epochs that are shorter are not worth a file each
MARK, DIGEST = b"unfinished replicate 1\n", 32  # what a file begins with, and the bytes of a SHA-256 after it
State = dict[str, Any]


def fingerprint(params: Params, plan: Plan, seed: int, network: nn.Module, checksums: Mapping[str, str]) -> str:
    """Name everything that decides what a replicate comes to.

    Args:
        params: of which the sections model, optimizer, schedule and train count.
        plan: layer group -> rate and first epoch.
        seed: of the replicate.
        network: with its first weights, whatever they come from.
        checksums: of the prepared data.
    """
    decides = {
        "params": {
            **params.model_dump(include={"model", "optimizer", "schedule"}),
            "train": params.train.model_dump(exclude={"seeds", "on_divergence"}),  # they decide no replicate
        },
        "plan": {group: [entry.rate, entry.first_epoch] for group, entry in plan.items()},
        "seed": seed,
        "weights": _digest(network.state_dict()),
        "data": dict(checksums),
        "code": _code(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "processor": [platform.machine(), torch.backends.cpu.get_cpu_capability(), _gpu()],
    }
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()


def state_file(replicate: str, fingerprint: str) -> Path:
    """Name the file of a replicate's state."""
    return FOLDER / f"{replicate}-{fingerprint[:16]}.state"


def forget_all(arm: str) -> None:
    """Remove every state of an arm: it is finished."""
    for path in [*FOLDER.glob(f"{arm}-seed-*"), *FOLDER.glob(f".{arm}-seed-*")]:  # the latter are half written
        _remove(path)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    remove_leftovers(path)
    with contextlib.suppress(OSError):  # there are others
        path.parent.rmdir()


class Keeper:
    """Keeps the state of one replicate in a file, whole and synced to the disk, or keeps nothing."""

    def __init__(self, path: Path | None = None, every_minutes: float = math.inf) -> None:
        """Name the file.

        Args:
            path: of the state; None keeps nothing.
            every_minutes: within an epoch.
        """
        self.path, self._every = path, 60 * every_minutes
        self._saved = time.monotonic()

    def load(self, device: torch.device) -> State | None:
        """Give the state that an earlier run left, or None; what is damaged is set aside with a warning."""
        if self.path is None or not self.path.exists():
            return None
        content = self.path.read_bytes()
        digest, state = content[: len(MARK) + DIGEST], content[len(MARK) + DIGEST :]
        if digest == MARK + hashlib.sha256(state).digest():
            try:
                # Tensors, numbers and text; nothing that a pickle could run.
                loaded: State = torch.load(io.BytesIO(state), map_location=device, weights_only=True)
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

    def save(self, state: State) -> None:
        """Write a state in the place of the one before."""
        if self.path is None:
            return
        content = io.BytesIO()
        torch.save(state, content)
        digest = hashlib.sha256(content.getvalue()).digest()
        write_bytes(self.path, MARK + digest + content.getvalue(), synced=True)
        self._saved = time.monotonic()

    def forget(self) -> None:
        """Remove the state."""
        if self.path:
            _remove(self.path)

    @property
    def due_within_epoch(self) -> bool:
        """Whether so many minutes have passed that a state is worth a file in the middle of an epoch."""
        return time.monotonic() - self._saved >= self._every

    @property
    def due_after_epoch(self) -> bool:
        """Whether an epoch has been long enough to be worth a file."""
        return time.monotonic() - self._saved >= min(self._every, SELDOM)


@cache
def _code() -> dict[str, str]:
    """Give the checksum of every module of ours, as it was when it was first asked for: files may change under us."""
    specifications = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    return {
        found.name: hashlib.sha256(Path(found.origin).read_bytes()).hexdigest()
        for found in specifications
        if found and found.name.startswith("stages.") and found.origin
    }


def _digest(tensors: Mapping[str, Tensor]) -> str:
    found = hashlib.sha256()
    for name, tensor in tensors.items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _gpu() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
