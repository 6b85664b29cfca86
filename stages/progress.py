"""Bars for people at a terminal; nothing where the output goes elsewhere."""

from collections.abc import Iterable
from typing import Any, TypeAlias, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
Bar: TypeAlias = "tqdm[Any]"


def steps(total: int, unit: str) -> Bar:
    """Give a bar for `total` steps. `disable=None` is tqdm's word for: only on a terminal."""
    return tqdm(total=total, unit=unit, disable=None, dynamic_ncols=True, leave=False)


def each(items: Iterable[Item], what: str, unit: str) -> Iterable[Item]:
    """Go through items behind a bar."""
    return tqdm(items, desc=what, unit=unit, disable=None, dynamic_ncols=True, leave=False)
