"""Measure how often intervals for the difference of two arms cover the truth, in simulated experiments.

Each experiment has a few seeds and some hundred samples; samples are easy or hard for both arms and for each, and
replicates are lucky or not. The truth is known: no difference. A 95 % interval should cover it in 95 % of them.

    python -m benchmarks.interval_coverage
"""

import argparse
from collections.abc import Callable
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import stats

from stages.errors import run_cli
from stages.evaluation.statistics import crossed_random_effects_interval, mean_squares

Differences = npt.NDArray[np.float64]
Ends = tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="experiments for each row (default: 2000)")
    trials = parser.parse_args().trials
    random = np.random.default_rng(0)
    print(f"| seeds | luck of seeds | luck of samples | {' | '.join(METHODS)} |")
    print(f"| ---: | ---: | ---: |{' ---: |' * len(METHODS)}")
    for seeds, seed_luck, sample_luck in product((2, 3, 5), (0.0, 0.05, 0.2), (0.0, 0.5, 1.0)):
        covered = dict.fromkeys(METHODS, 0)
        for _ in range(trials):
            differences = experiment(random, seeds, seed_luck, sample_luck)
            for name, ends in METHODS.items():
                low, high = ends(differences, random)
                covered[name] += low <= 0 <= high
        cells = [f"{100 * covered[name] / trials:.1f} %" for name in METHODS]
        print(f"| {seeds} | {seed_luck:g} | {sample_luck:g} | {' | '.join(cells)} |", flush=True)


def experiment(
    random: np.random.Generator, seeds: int, seed_luck: float, sample_luck: float, samples: int = 500
) -> Differences:
    """Return (seeds, samples) of being right less being right, of two arms that are right in 85 % of samples."""
    common = random.normal(0, 1.5, samples)
    spread = np.sqrt(1 + 1.5**2 + sample_luck**2 + seed_luck**2)

    def right() -> Differences:
        ease = stats.norm.ppf(0.85) * spread + common + random.normal(0, sample_luck, samples)
        drawn: Differences = ease + random.normal(0, seed_luck, (seeds, 1)) + random.normal(0, 1, (seeds, samples))
        return (drawn > 0).astype(float)

    return right() - right()


def ours(differences: Differences, random: np.random.Generator) -> Ends:
    """Return the interval that `evaluate` gives."""
    found = crossed_random_effects_interval(differences)
    return found.low or 0.0, found.high or 0.0


def hillis(differences: Differences, random: np.random.Generator) -> Ends:
    """Take Hillis's own degrees of freedom (2007, doi 10.1002/sim.2532)."""
    seeds, samples = differences.shape
    between_seeds, between_samples, residual = mean_squares(differences)
    variance = between_seeds + max(between_samples - residual, 0)
    freedom = (seeds - 1) * (variance / between_seeds) ** 2 if between_seeds else np.inf
    return _ends(differences, stats.t.ppf(0.975, freedom) * np.sqrt(variance / (seeds * samples)))


def over_seeds(differences: Differences, random: np.random.Generator) -> Ends:
    """Take Student's interval over the seeds, as if the samples were all there are."""
    seeds = len(differences)
    return _ends(differences, stats.t.ppf(0.975, seeds - 1) * differences.mean(1).std(ddof=1) / np.sqrt(seeds))


def over_samples(differences: Differences, random: np.random.Generator) -> Ends:
    """Take Student's interval over the samples, as if the seeds were all there are."""
    samples = differences.shape[1]
    return _ends(differences, stats.t.ppf(0.975, samples - 1) * differences.mean(0).std(ddof=1) / np.sqrt(samples))


def bootstrapped(differences: Differences, random: np.random.Generator) -> Ends:
    """Take percentiles over 400 resamplings of the seeds."""
    by_seed = differences.mean(1)
    low, high = np.quantile(random.choice(by_seed, (400, len(by_seed))).mean(1), [0.025, 0.975])
    return float(low), float(high)


def _ends(differences: Differences, margin: float) -> Ends:
    estimate = float(differences.mean())
    return estimate - margin, estimate + margin


METHODS: dict[str, Callable[[Differences, np.random.Generator], Ends]] = {
    "ours": ours,
    "Hillis": hillis,
    "t over seeds": over_seeds,
    "t over samples": over_samples,
    "bootstrap over seeds": bootstrapped,
}


if __name__ == "__main__":
    run_cli(main)
