"""Figures over replicates: what they are on average, how far apart, and each."""

import statistics
from collections.abc import Mapping

Figures = dict[str, float]


def over_replicates(by_seed: Mapping[int, Figures]) -> dict[str, dict[str, float | None]]:
    """Give `mean` and `std` (sample standard deviation) over the seeds, then `seed_N` for each.

    The standard deviation of a single replicate is unknown, hence None.
    """
    names = list(next(iter(by_seed.values())))
    values = {name: [figures[name] for figures in by_seed.values()] for name in names}
    return {
        "mean": {name: statistics.fmean(values[name]) for name in names},
        "std": {name: statistics.stdev(values[name]) if len(by_seed) > 1 else None for name in names},
        **{f"seed_{seed}": dict(figures) for seed, figures in by_seed.items()},
    }
