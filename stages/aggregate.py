"""Metrics over replicates: their mean, how far apart they are, and each."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

Metrics = dict[str, float]


def summarize_replicates(by_seed: Mapping[int, Metrics]) -> dict[str, Any]:
    """Return `mean` and `std` (sample standard deviation) over the replicates, and under `seeds` each.

    The standard deviation of a single replicate is unknown, hence None.
    """
    names = list(next(iter(by_seed.values())))
    values = {name: [metrics[name] for metrics in by_seed.values()] for name in names}
    return {
        "mean": {name: statistics.fmean(values[name]) for name in names},
        "std": {name: statistics.stdev(values[name]) if len(by_seed) > 1 else None for name in names},
        "seeds": {str(seed): dict(metrics) for seed, metrics in by_seed.items()},
    }


def mean_of(metrics: Sequence[Metrics]) -> Metrics:
    """Return the mean of each metric."""
    return {name: statistics.fmean(each[name] for each in metrics) for name in metrics[0]}
