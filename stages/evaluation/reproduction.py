"""Whether an experiment that was run again came to the same: to the last digit, within tolerance, or not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["identical", "within tolerance", "different"]

# Standard deviations over the committed seeds. Another processor, or another number of threads, rounds otherwise, and
# training amplifies that to noise of the kind that another seed makes; benchmarks/README.md has the measurement.
TOLERANCE = 6.0
# A spread of three seeds can be small by chance. So far at least a figure may differ: two points of accuracy, say. How
# far a layer group moved can be a figure smaller than that, and may differ by a share of itself.
FLOOR, FLOOR_OF_MOVEMENT = 0.02, 0.2


@dataclass(frozen=True)
class Figure:
    """One figure, then and now.

    Attributes:
        name: such as `test.baseline.mean.accuracy`.
        committed: what Git has.
        again: what came out; None where it is no longer there.
        tolerance: how far apart they may be; None where they must be equal.
    """

    name: str
    committed: Any
    again: Any
    tolerance: float | None

    @property
    def verdict(self) -> Verdict:
        """Say how alike they are."""
        if self.committed == self.again:
            return "identical"
        if self.tolerance is None or not isinstance(self.again, int | float):
            return "different"
        return "within tolerance" if abs(self.committed - self.again) <= self.tolerance else "different"


def compare_metrics(committed: Mapping[str, Any], again: Mapping[str, Any]) -> list[Figure]:
    """Compare the content of two JSON files, figure by figure.

    Figures over replicates, which stand under `mean` and `seed_N` beside a `std`, have a tolerance; all else has none,
    but for what follows from such figures: intervals, the goal, and spreads.

    Args:
        committed: what Git has.
        again: what came out.
    """
    return list(_figures(committed, again, prefix=""))


def overall(figures: list[Figure]) -> Verdict:
    """Give the worst of all verdicts."""
    order: list[Verdict] = ["different", "within tolerance", "identical"]
    return min((figure.verdict for figure in figures), key=order.index, default="identical")


# What follows from figures that have a tolerance themselves, and so is only shown.
DERIVED = {"std", "interval", "mcnemar", "goal", "verdict", "diverged"}


def _figures(committed: Mapping[str, Any], again: Mapping[str, Any], prefix: str) -> Iterator[Figure]:
    spread = committed.get("std") if isinstance(committed.get("std"), Mapping) else None
    for key, value in committed.items():
        name = f"{prefix}{key}"
        other = again.get(key)
        if key in DERIVED:
            continue
        if spread is not None and isinstance(value, Mapping) and (key == "mean" or key.startswith("seed_")):
            for figure, then in value.items():
                now = other.get(figure) if isinstance(other, Mapping) else None
                floor = FLOOR_OF_MOVEMENT * abs(then) if name.startswith("movement.") else FLOOR * max(1.0, abs(then))
                tolerance = max(TOLERANCE * (spread.get(figure) or 0.0), floor)
                yield Figure(f"{name}.{figure}", then, now, tolerance)
        elif isinstance(value, Mapping):
            yield from _figures(value, other if isinstance(other, Mapping) else {}, f"{name}.")
        else:
            yield Figure(name, value, other, None)
    yield from (
        Figure(f"{prefix}{key}", None, value, None) for key, value in again.items() if key not in {*committed, *DERIVED}
    )
