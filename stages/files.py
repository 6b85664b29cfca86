"""Files that are whole or absent: written beside their place, then renamed into it."""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import UserError

if TYPE_CHECKING:
    import pandas as pd  # seldom needed, and slow to load

METRICS = Path("metrics")  # what Git tracks of the results
DIGITS = 6  # enough to distinguish any two results, few enough for a diff that a person reads
OLD = "old."  # in the name of a directory that is about to be replaced


def remove_leftovers(path: Path) -> None:
    """Remove what processes that were killed while they wrote a file or directory have left beside it."""
    for left in path.parent.glob(f".{path.name}.*"):
        process = left.suffix.removeprefix(".")
        if process.isdecimal() and not _is_alive(int(process)):
            was_replaced = left.name.startswith(f".{path.name}.{OLD}")
            if was_replaced and not path.exists():  # it was killed between the two renames
                left.replace(path)
            elif left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def write_bytes(path: Path, content: bytes, synced: bool = False) -> None:
    """Write a whole file or none; a synced one is handed to the disk before it takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
        if synced:
            _sync_names(path.parent)
    except OSError as error:
        error.filename = str(path)  # writing alone does not say it
        raise
    finally:
        beside.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """Sync the names in a folder, where the system has that."""
    if os.name == "posix":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or none."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Mapping[str, Any], exact: Mapping[str, Any] | None = None) -> None:
    """Write JSON with keys in the order given and floats rounded to `DIGITS`; what is `exact` comes first, as it is."""
    write_text(path, json.dumps({**(exact or {}), **_rounded(content)}, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, table: "pd.DataFrame", number: str | None = None) -> None:
    """Write a table with floats rounded to `DIGITS`, or written as the format `number` says."""
    rounded = table if number else table.round(DIGITS)
    write_text(path, rounded.to_csv(index=False, lineterminator="\n", float_format=number))


def read_json(path: Path, command: str = "dvc repro") -> dict[str, Any]:
    """Read what another stage wrote.

    Args:
        path: of the file.
        command: that makes it.

    Raises:
        UserError: the file is missing or is not JSON.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `{command}`, which makes it") from None
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}): run `{command}`, which makes it anew") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: run `{command}`, which makes it anew")
    return content


@contextmanager
def scratch_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory beside `path` that vanishes at the end; after a kill `remove_leftovers` removes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield an empty directory to fill; on success it takes the place of `path`, on failure it vanishes."""
    old = path.with_name(f".{path.name}.{OLD}{os.getpid()}")
    with scratch_directory(path) as beside:
        try:
            yield beside
            if path.exists():
                path.replace(old)
            beside.replace(path)
        finally:
            if old.exists() and not path.exists():  # it was stopped between the two renames
                old.replace(path)
            shutil.rmtree(old, ignore_errors=True)


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, Mapping):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value


def significant(value: Any) -> Any:
    """Return a JSON value with all its floats at `DIGITS` significant digits, for what may be very small."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: significant(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [significant(entry) for entry in value]
    return value
