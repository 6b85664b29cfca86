"""Finished replicates, kept under the digest of all that decides them, so that none is trained twice.

A replicate is a folder with its checkpoint, its logits, and what its training came to with the digests of both. The
least recently used ones go where all together take more room than params.yaml allows.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from stages.files import atomic_directory, remove_leftovers, write_bytes, write_text
from stages.hashing import hash_bytes, hash_file
from stages.progress import write_line
from stages.training.divergence import Divergence
from stages.training.loop import EpochMetrics
from stages.training.memory import GIB
from stages.training.state import Epoch
from stages.training.trainer import ReplicateResult

STORE = Path(".replicates")
RECORD = "replicate.json"


@dataclass(frozen=True)
class KeptReplicate:
    """One replicate in the store.

    Attributes:
        path: its folder.
        label: what it was trained as, for people.
        size: bytes.
        used_at: when it was last kept or used.
    """

    path: Path
    label: str
    size: int
    used_at: datetime


class ReplicateStore:
    """The replicates of this folder."""

    def __init__(self, max_gib: float, path: Path = STORE) -> None:
        """Open the store.

        Args:
            max_gib: the most that all take together; 0 keeps none and has none.
            path: of the store.
        """
        self._path, self._max_size = path, max_gib * GIB

    @property
    def keeps_any(self) -> bool:
        """Whether there is room for any."""
        return self._max_size > 0

    def __contains__(self, fingerprint: str) -> bool:
        """Whether a replicate is kept, be it damaged."""
        return self.keeps_any and (self._path / fingerprint).is_dir()

    def put(self, fingerprint: str, label: str, result: ReplicateResult, files: list[Path]) -> None:
        """Keep a replicate, and let older ones go where there is no room for all.

        Where the disk does not take it, a warning says so, and nothing is kept.

        Args:
            fingerprint: of what decides it.
            label: what it was trained as.
            result: what it came to.
            files: its checkpoint and its logits, whose names are kept; none where it diverged or nobody will ask for
                them. Where it is kept without, they are added.
        """
        if not self.keeps_any or (fingerprint in self and (not files or self._has_files(fingerprint))):
            return
        record = {
            "fingerprint": fingerprint,
            "label": label,
            "files": {file.name: hash_file(file) for file in files},
            "epochs": [asdict(epoch) for epoch in result.epochs],
            "diverged": asdict(result.diverged) if result.diverged else None,
        }
        content = json.dumps(record)
        try:
            with atomic_directory(self._path / fingerprint) as folder:
                for file in files:
                    shutil.copyfile(file, folder / file.name)
                write_text(folder / RECORD, f"{hash_bytes(content.encode())}\n{content}\n")
        except OSError as error:
            write_line(f"warning: {label} is not kept for later, {self._path}: {error.strerror}")
        self._evict()

    def get(self, fingerprint: str, into: Path | None) -> ReplicateResult | None:
        """Copy the files of a replicate into a folder, and return what it came to; None where it is not kept.

        Without a folder, one does that is kept without files.

        One that is damaged is removed with a warning.
        """
        folder = self._path / fingerprint
        if fingerprint not in self:
            return None
        try:
            record = _read_record(folder)
            contents = {name: (folder / name).read_bytes() for name in record["files"]}
            whole = all(hash_bytes(content) == record["files"][name] for name, content in contents.items())
        except (OSError, ValueError, LookupError, TypeError):
            whole = False
        if not whole or record["fingerprint"] != fingerprint:
            _remove(folder)
            write_line(f"warning: {folder} was damaged and is removed; the replicate is trained again")
            return None
        if into and not contents and not record["diverged"]:
            return None
        for name, content in contents.items() if into else ():
            write_bytes(into / name, content)
        with contextlib.suppress(OSError):  # it may be another's, or be gone by now
            os.utime(folder / RECORD)
        epochs = [Epoch(EpochMetrics(**epoch["train"]), EpochMetrics(**epoch["val"])) for epoch in record["epochs"]]
        return ReplicateResult(epochs, Divergence(**record["diverged"]) if record["diverged"] else None)

    def _has_files(self, fingerprint: str) -> bool:
        return any(file.name != RECORD for file in (self._path / fingerprint).iterdir())

    def kept(self) -> list[KeptReplicate]:
        """Return all replicates, the least recently used first."""
        return sorted(self._kept(), key=lambda replicate: replicate.used_at)

    def _kept(self) -> Iterator[KeptReplicate]:
        for record in self._path.glob(f"*/{RECORD}"):
            folder = record.parent
            try:
                label = str(_read_record(folder)["label"])
            except (OSError, ValueError, LookupError, TypeError):
                label = "damaged"
            with contextlib.suppress(OSError):  # another process removes it
                yield KeptReplicate(
                    folder,
                    label,
                    size=sum(file.stat().st_size for file in folder.iterdir()),
                    used_at=datetime.fromtimestamp(record.stat().st_mtime).astimezone(),
                )

    def clear(self) -> None:
        """Remove all replicates."""
        shutil.rmtree(self._path, ignore_errors=True)

    def _evict(self) -> None:
        for left in self._path.glob(".*"):  # half written by processes that were killed
            remove_leftovers(self._path / left.stem.removeprefix("."))
        kept = self.kept()
        size = sum(replicate.size for replicate in kept)
        for replicate in kept:
            if size <= self._max_size:
                break
            _remove(replicate.path)
            size -= replicate.size


def _remove(folder: Path) -> None:
    """Remove a replicate, which is whole until its name is gone."""
    gone = folder.with_name(f".{folder.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # another process was first
        folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _read_record(folder: Path) -> dict[str, Any]:
    """Read what was written of a replicate.

    Raises:
        ValueError: it is damaged.
    """
    digest, _, content = (folder / RECORD).read_text(encoding="utf-8").partition("\n")
    content = content.removesuffix("\n")
    if digest != hash_bytes(content.encode()):
        raise ValueError(f"{folder / RECORD} is damaged")
    record: dict[str, Any] = json.loads(content)
    return record
