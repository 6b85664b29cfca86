"""Whether an experiment that was run again came to the same: to the last digit, within tolerance, or not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal["identical", "within tolerance", "different"]

# Standard deviations over the committed seeds. Another processor, or another number of threads, rounds otherwise, and
# training amplifies that to noise of the kind that another seed makes; benchmarks/README.md has the measurement.
TOLERANCE = 6.0
# A spread of three seeds can be small by chance. So far at least a metric may differ: two points of accuracy, say. A
# relative weight change can be smaller than that, and may differ by a share of itself.
FLOOR, WEIGHT_CHANGE_FLOOR = 0.02, 0.2


@dataclass(frozen=True)
class MetricComparison:
    """One metric, as it was committed and as it came out again.

    Attributes:
        name: such as `test.baseline.mean.accuracy`.
        committed: what Git has.
        reproduced: what came out; None where it is no longer there.
        tolerance: how far apart they may be; None where they must be equal.
    """

    name: str
    committed: Any
    reproduced: Any
    tolerance: float | None

    @property
    def outcome(self) -> Outcome:
        """Whether they are equal, near enough, or neither."""
        if self.committed == self.reproduced:
            return "identical"
        if self.tolerance is None or not isinstance(self.reproduced, int | float):
            return "different"
        return "within tolerance" if abs(self.committed - self.reproduced) <= self.tolerance else "different"


def compare_metrics(committed: Mapping[str, Any], reproduced: Mapping[str, Any]) -> list[MetricComparison]:
    """Compare the content of two JSON files, metric by metric.

    Metrics over replicates, which stand under `mean` and `seeds` beside a `std`, have a tolerance; all else must be
    equal, and so must be the seeds that diverged. What follows from such metrics is left out: spreads, intervals, the
    verdict, the plan, the goal, McNemar's test.

    Args:
        committed: what Git has.
        reproduced: what came out.
    """
    return list(_compare(committed, reproduced, prefix=""))


def overall(metrics: list[MetricComparison]) -> Outcome:
    """Return the worst of all outcomes."""
    order: list[Outcome] = ["different", "within tolerance", "identical"]
    return min((metric.outcome for metric in metrics), key=order.index, default="identical")


# What follows from metrics that have a tolerance themselves, and so is not compared.
DERIVED = {"std", "interval", "mcnemar", "goal", "verdict", "plan", "failures"}
NOT_MEASURED = {"environment"}  # what it was trained with


def _compare(
    committed: Mapping[str, Any], reproduced: Mapping[str, Any], prefix: str, spread: Mapping[str, Any] | None = None
) -> Iterator[MetricComparison]:
    """Yield a comparison for every value that counts; `spread` is the standard deviation at this depth or below."""
    if isinstance(committed.get("std"), Mapping):
        spread = committed["std"]
    for key, value in committed.items():
        other = reproduced.get(key)
        if key in DERIVED | NOT_MEASURED:
            continue
        if key == "diverged":  # where exactly is a matter of rounding
            yield MetricComparison(f"{prefix}{key}", sorted(value), sorted(other or {}), None)
        elif isinstance(value, Mapping):
            below = spread if key in ("mean", "seeds") or prefix.endswith("seeds.") else None
            yield from _compare(value, other if isinstance(other, Mapping) else {}, f"{prefix}{key}.", below)
        else:
            yield MetricComparison(f"{prefix}{key}", value, other, _tolerance(prefix, key, value, spread))
    yield from (
        MetricComparison(f"{prefix}{key}", None, value, None)
        for key, value in reproduced.items()
        if key not in {*committed, *DERIVED, *NOT_MEASURED}
    )


def _tolerance(prefix: str, metric: str, committed: Any, spread: Mapping[str, Any] | None) -> float | None:
    """Return how far a metric may come out from the committed one; None where it must be equal."""
    if spread is None or metric not in spread:
        return None
    is_weight_change = prefix.startswith("relative_weight_change.")
    floor = WEIGHT_CHANGE_FLOOR * abs(committed) if is_weight_change else FLOOR * max(1.0, abs(committed))
    return float(max(TOLERANCE * (spread[metric] or 0.0), floor))
