"""Tuning curves: the best of k trials as a function of k, with bands that hold for all k at once.

Lourie, Cho and He, Show Your Work with Confidence, 2023, arXiv:2311.09480; the bands are those of their library `opda`.
They hold for independent draws from one prior, whatever the surface looks like, and see nothing but ranks.
"""

import warnings
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import numpy.typing as npt
import pandas as pd
from opda.nonparametric import EmpiricalDistribution

from stages.params import HIGHER_IS_BETTER, METRIC_OF, Objective

Scores = npt.NDArray[np.float64]
LEVEL = 0.95  # of the bands of all arms together


def is_maximized(objective: Objective) -> bool:
    """Whether more of an objective is better."""
    return HIGHER_IS_BETTER[METRIC_OF[objective]]


def level_of_each(arms: int) -> float:
    """Return the level of one arm's band where those of so many hold together: each has its part of the error."""
    return 1 - (1 - LEVEL) / arms


def worst_of(objective: Objective) -> float:
    """Return the score of a trial without metrics."""
    return -np.inf if is_maximized(objective) else np.inf


def scores_of(trials: pd.DataFrame, objective: Objective) -> Scores:
    """Return the scores of trials in their order; those without metrics have the worst."""
    scores: Scores = trials[objective].fillna(worst_of(objective)).to_numpy(dtype=float)
    return scores


def tuning_curve(scores: Scores, objective: Objective, level: float) -> pd.DataFrame:
    """Return the median of the best of k trials.

    Args:
        scores: of independent trials.
        objective: what they are scores of.
        level: of the band, over all k at once.

    Returns:
        A row for each `k` from 1 to the number of trials, with `low`, `median`, `high`; what is not finite is unknown.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Duplicates detected")  # equal scores make the band wider, never less
        bands = EmpiricalDistribution.confidence_bands(
            scores, level, generator=_generator(len(scores), level), method="ld_equal_tailed", n_jobs=1
        )
    ks = np.arange(1, len(scores) + 1)
    # The band of the distribution that has the larger values is the low one of the probabilities.
    high, median, low = (band.quantile_tuning_curve(ks, minimize=not is_maximized(objective)) for band in bands)
    curve = pd.DataFrame({"k": ks, "low": low, "median": median, "high": high})
    return curve.replace([np.inf, -np.inf], np.nan)


@cache
def _generator(trials: int, level: float) -> np.random.Generator:
    """Return what opda simulates the weights of a band with, which it keeps for the same generator."""
    return np.random.default_rng(0)


def tuning_curves(scores: Mapping[str, Scores], objective: Objective) -> pd.DataFrame:
    """Return the curves of all arms, with the column `arm`, at levels that hold together."""
    level = level_of_each(len(scores))
    return pd.concat(
        [tuning_curve(of_arm, objective, level).assign(arm=arm) for arm, of_arm in scores.items()], ignore_index=True
    )[["arm", "k", "low", "median", "high"]]


def curve_differences(curves: pd.DataFrame, arm: str, against: str) -> pd.DataFrame:
    """Return how far the best of k trials of one arm is from that of another, where both bands are finite.

    Returns:
        A row for each `k`, with `low`, `difference`, `high`, which hold for all k at once.
    """
    ours, theirs = (curves[curves["arm"] == name].set_index("k") for name in (arm, against))
    return pd.DataFrame(
        {
            "low": ours["low"] - theirs["high"],
            "difference": ours["median"] - theirs["median"],
            "high": ours["high"] - theirs["low"],
        }
    ).reset_index()


def reach(curve: pd.DataFrame) -> int:
    """Return the largest k up to which a curve's band is finite; 0 where it is nowhere."""
    finite = curve[["low", "high"]].notna().all(axis=1).to_numpy()
    return int(finite.argmin()) if not finite.all() else len(finite)


def reach_of(trials: int, level: float) -> int:
    """Return the k up to which the band of so many different scores is finite; it depends on nothing else."""
    return reach(tuning_curve(np.arange(trials, dtype=float), "val_accuracy", level))


def best_trial(trials: pd.DataFrame, objective: Objective) -> int:
    """Return the position of the best of some trials; the first of equals."""
    scores = scores_of(trials, objective)
    return int(scores.argmax() if is_maximized(objective) else scores.argmin())


def searches(trials: pd.DataFrame, repeats: int) -> Sequence[pd.DataFrame]:
    """Return the independent searches that the trials of one arm fall into, in their order."""
    size = len(trials) // repeats
    return [trials.iloc[number * size : (number + 1) * size] for number in range(repeats)]
