"""The surface over the rates of backbone and head, from the trials of both arms: a Gaussian process with noise.

The baseline's trials lie on the diagonal, where both rates are equal. Rates are logarithms to the base of 10. The plane
contains the diagonal, so its best is ahead of the diagonal's by construction: what it is ahead by is no verdict.
"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Kernel, Matern, WhiteKernel

from stages.params import SearchRange

Points = npt.NDArray[np.float64]  # (points, 2): log10 of the rates of backbone and head
Values = npt.NDArray[np.float64]
STEP, COARSE_STEP = 0.125, 0.25  # of the grid, in powers of ten; the latter where many searches are simulated
SAMPLES = 2000  # of the posterior
SIMULATIONS, SIMULATED_SAMPLES = 200, 300  # of searches without a gain, and of the posterior of each
REGIONS = (0.5, 0.9)  # of where the best lies
SEED = 0


@dataclass(frozen=True)
class Surface:
    """A metric over the plane of rates.

    Attributes:
        process: fitted; its posterior is of the metric's mean, without the noise of a single trial.
        noise: standard deviation of a trial around it.
    """

    process: GaussianProcessRegressor
    noise: float

    def predict(self, points: Points) -> tuple[Values, Values]:
        """Return the posterior's mean and standard deviation at some points."""
        mean, deviation = self.process.predict(points, return_std=True)
        return mean, deviation

    def sample(self, points: Points, samples: int = SAMPLES) -> Values:
        """Return samples of the posterior (points, samples), the same ones again each time."""
        drawn: Values = self.process.sample_y(points, samples, random_state=SEED)
        return drawn


def plane_points(trials: pd.DataFrame) -> Points:
    """Return where the trials of both arms lie on the plane."""
    is_baseline = trials["arm"] == "baseline"
    rates = [trials[name].where(~is_baseline, trials["lr.uniform"]) for name in ("lr.backbone", "lr.head")]
    points: Points = np.log10(np.column_stack(rates))
    return points


def fit_surface(points: Points, values: Values, restarts: int = 4) -> Surface:
    """Fit a Gaussian process: Matérn 5/2 with a length for each rate, its noise estimated.

    Args:
        points: of the trials.
        values: that they came to, all finite.
        restarts: of the search for its lengths, from random ones.
    """
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern([1.0, 1.0], (0.2, 20.0), nu=2.5) + WhiteKernel(0.1, (1e-4, 10.0))
    fitted = _fit(kernel, points, values, restarts)
    signal, noise = fitted.kernel_.k1, float(fitted.kernel_.k2.noise_level)
    # The same process once more with the noise as that of measurements alone, so that its posterior has none.
    process = GaussianProcessRegressor(signal, alpha=noise, optimizer=None, normalize_y=True).fit(points, values)
    return Surface(process, math.sqrt(noise) * float(np.std(values)))


def _fit(kernel: Kernel, points: Points, values: Values, restarts: int) -> GaussianProcessRegressor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound means: no change along that rate
        process = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=restarts, random_state=SEED)
        return process.fit(points, values)


def grid(head: SearchRange, share: SearchRange, step: float = STEP) -> Points:
    """Return evenly spaced points of the part of the plane that pairs are drawn from, the diagonal first.

    Args:
        head: range of the head's rate.
        share: range of the backbone's rate as a share of the head's.
        step: in powers of ten.
    """
    heads = _steps(math.log10(head.low), math.log10(head.high), step)
    shares = _steps(math.log10(share.low), math.log10(share.high), step)[::-1]
    return np.array([(of_head + of_share, of_head) for of_share in shares for of_head in heads])


def without_divergence(at: Points, diverged: Points) -> Points:
    """Return the points at which neither trial has diverged nor one with lower rates: what diverges has no metric.

    Args:
        at: points.
        diverged: of the trials that did.
    """
    beyond: npt.NDArray[np.bool_] = np.any(np.all(at[:, None, :] >= diverged[None, :, :], axis=2), axis=1)
    kept: Points = at[~beyond]
    return kept


def _steps(low: float, high: float, step: float) -> Values:
    return np.linspace(low, high, round((high - low) / step) + 1)


def on_diagonal(points: Points) -> npt.NDArray[np.bool_]:
    """Whether the rates of backbone and head are equal."""
    equal: npt.NDArray[np.bool_] = np.isclose(points[:, 0], points[:, 1])
    return equal


def best_regions(samples: Values, higher_is_better: bool) -> Values:
    """Return for each point the smallest of `REGIONS` that it belongs to; infinite where it belongs to none.

    A region is made of the points that were the best in most samples, as few as hold that share of them.

    Args:
        samples: (points, samples) of the posterior.
        higher_is_better: of the metric.
    """
    best = samples.argmax(0) if higher_is_better else samples.argmin(0)
    times = np.bincount(best, minlength=len(samples))
    order = np.argsort(-times, kind="stable")
    before = np.cumsum(times[order]) - times[order]
    region = np.full(len(samples), np.inf)
    for level in sorted(REGIONS, reverse=True):
        region[order[(before < level * samples.shape[1]) & (times[order] > 0)]] = level
    return region


def chance_ahead(samples: Values, diagonal: npt.NDArray[np.bool_], margin: float, higher_is_better: bool) -> float:
    """Return the share of samples in which the plane's best is ahead of the diagonal's by a margin at least."""
    signed = samples if higher_is_better else -samples
    return float(np.mean(signed.max(0) - signed[diagonal].max(0) >= margin))


def chances_without_gain(surface: Surface, points: Points, at: Points, margin: float, higher_is_better: bool) -> Values:
    """Return what `chance_ahead` comes to in simulated searches in which a second rate brings nothing.

    Their truth is the fitted surface, cut off where it is better than the diagonal's best; their trials lie where those
    of the search do, with its noise.

    Args:
        surface: fitted to the trials.
        points: of the trials.
        at: grid.
        margin: by which the plane's best must be ahead.
        higher_is_better: of the metric.
    """
    diagonal, sign = on_diagonal(at), 1 if higher_is_better else -1
    limit = (sign * surface.predict(at[diagonal])[0]).max()
    truth = sign * np.minimum(sign * surface.predict(points)[0], limit)
    random = np.random.default_rng(SEED)
    chances = []
    for _ in range(SIMULATIONS):
        simulated = fit_surface(points, truth + random.normal(0, surface.noise, len(truth)), restarts=0)
        samples = simulated.sample(at, SIMULATED_SAMPLES)
        chances.append(chance_ahead(samples, diagonal, margin, higher_is_better))
    return np.array(chances)
