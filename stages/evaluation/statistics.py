"""The evidence that two arms differ: intervals that count both sources of chance, tests, and a verdict by a fixed rule.

The data are crossed. Every replicate (a seed) is scored on the same samples, as in studies in which several readers
read the same cases: which seeds were drawn and which samples were drawn are two sources of chance.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq

from stages.metrics_files import Decision, Interval, McNemar

LEVEL = 0.95  # of every interval
POWER = 0.8  # with which the smallest difference would be shown

Differences = npt.NDArray[np.float64]


def crossed_random_effects_interval(differences: Differences) -> Interval:
    """Return the mean of paired differences with an interval over both seeds and samples.

    The variance of the mean is that of the analysis of variance of readers and cases (Dorfman, Berbaum and Metz 1992,
    as simplified by Hillis 2007, doi 10.1002/sim.2532): the mean square between seeds, plus what the mean square
    between samples has over the residual one where it has more. The two parts are treated as known with S − 1 and
    N − 1 degrees of freedom; their quantiles of t are weighted by them (Cochran and Cox, Experimental Designs, 1957).
    `benchmarks/interval_coverage.py` shows why: with three seeds Hillis's own degrees of freedom cover less than 95 %.

    Args:
        differences: (seeds, samples), of what one arm scored less what the other did.
    """
    seeds, samples = differences.shape
    estimate = float(differences.mean())
    if seeds < 2:
        return _without_spread(estimate)
    between_seeds, between_samples, residual = mean_squares(differences)
    parts = np.array([between_seeds, max(between_samples - residual, 0.0)])
    if not parts.sum():  # by chance the replicates agree in their means; the residual is what is left to go by
        parts = np.array([residual, 0.0])
    if not parts.sum():
        return _without_spread(estimate)
    weights = parts / parts.sum()
    quantile = float(weights @ stats.t.ppf((1 + LEVEL) / 2, [seeds - 1, samples - 1]))
    return _interval(estimate, math.sqrt(parts.sum() / (seeds * samples)), quantile)


def mean_squares(differences: Differences) -> tuple[float, float, float]:
    """Return the mean squares between seeds, between samples, and of the residual, of (seeds, samples)."""
    seeds, samples = differences.shape
    mean = differences.mean()
    of_seed, of_sample = differences.mean(1) - mean, differences.mean(0) - mean
    residual = differences - mean - of_seed[:, None] - of_sample[None, :]
    return (
        float(samples * (of_seed**2).sum() / (seeds - 1)),
        float(seeds * (of_sample**2).sum() / (samples - 1)),
        float((residual**2).sum() / ((seeds - 1) * (samples - 1))),
    )


def t_interval(differences: npt.NDArray[np.float64]) -> Interval:
    """Return the mean of one difference per seed with Student's interval, for what is counted over a whole replicate.

    Args:
        differences: (seeds,).
    """
    estimate = float(differences.mean())
    if len(differences) < 2:
        return _without_spread(estimate)
    error = float(differences.std(ddof=1)) / math.sqrt(len(differences))
    if not error:
        return _without_spread(estimate)
    return _interval(estimate, error, float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)))


def _interval(estimate: float, error: float, quantile: float) -> Interval:
    """Return the interval of an estimate from its standard error and the quantile of t for its ends."""
    freedom = brentq(lambda candidate: stats.t.ppf((1 + LEVEL) / 2, candidate) - quantile, 0.9, 1e9)
    shift = brentq(lambda candidate: stats.nct.sf(quantile, freedom, candidate) - POWER, 0, 1000)
    return Interval(
        estimate=estimate,
        low=estimate - quantile * error,
        high=estimate + quantile * error,
        minimum_detectable_difference=float(shift) * error,
    )


def _without_spread(estimate: float) -> Interval:
    return Interval(estimate=estimate, low=None, high=None, minimum_detectable_difference=None)


def decide(accuracy: Interval) -> Decision:
    """Return what the interval of an accuracy difference decides, by a rule fixed before anything is measured."""
    if accuracy.low is not None and accuracy.low > 0:
        return "better"
    if accuracy.high is not None and accuracy.high < 0:
        return "worse"
    return "no difference shown"


def mcnemar(baseline_correct: npt.NDArray[np.bool_], differential_correct: npt.NDArray[np.bool_]) -> McNemar:
    """Return how many samples one arm alone gets right, and McNemar's exact test of whether they are as many.

    Args:
        baseline_correct: (samples,), whether the baseline's replicate of one seed is right.
        differential_correct: likewise.
    """
    baseline_only = int((baseline_correct & ~differential_correct).sum())
    differential_only = int((differential_correct & ~baseline_correct).sum())
    discordant = baseline_only + differential_only
    return McNemar(
        baseline_only_correct=baseline_only,
        differential_only_correct=differential_only,
        p_value=float(stats.binomtest(differential_only, discordant).pvalue) if discordant else 1.0,
    )
