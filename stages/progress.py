"""What people see of a run: bars at a terminal, lines everywhere, and a folder of what is only looked at."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
ProgressBar: TypeAlias = "tqdm[Any]"
LIVE = Path(".live")  # what moves while a stage runs; neither Git nor DVC keeps it


def progress_bar(total: int, unit: str) -> ProgressBar:
    """Return a bar of `total` units. `disable=None` is tqdm's word for: only on a terminal."""
    return tqdm(total=total, unit=unit, disable=None, dynamic_ncols=True, leave=False)


def with_progress(items: Iterable[Item], description: str, unit: str, total: int | None = None) -> Iterable[Item]:
    """Return the items, whose iteration moves a bar; their number, where it is not seen from the items."""
    return tqdm(items, total=total, desc=description, unit=unit, disable=None, dynamic_ncols=True, leave=False)


def write_line(line: str) -> None:
    """Print a line, above the bars where there are any."""
    tqdm.write(line)


def describe_seconds(seconds: float) -> str:
    """Return a time as bars show it, such as 01:05."""
    return str(tqdm.format_interval(seconds))
