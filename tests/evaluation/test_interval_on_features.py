"""The interval on real images: the pretrained network's features of the solar cells, of which the truth is known."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.interval_on_features import Setting, experiment, find_population

TRIALS = 60


@pytest.fixture(scope="module")
def population():
    return find_population(image_size=64)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["fixed", "folds"])
def test_the_interval_covers_the_difference_of_heads_on_real_features(population, design):
    random = np.random.default_rng(0)
    setting = Setting(design, images=250, replicates=5, metric="accuracy", same=False)
    covered = [low <= truth <= high for low, high, truth in outcomes(population, setting, random) if low is not None]
    assert len(covered) > TRIALS / 2
    assert sum(covered) >= stats.binom.ppf(0.001, len(covered), 0.94)


@pytest.mark.slow
@pytest.mark.parametrize("design", ["fixed", "folds"])
def test_heads_with_one_rate_are_seldom_told_apart_on_real_features(population, design):
    random = np.random.default_rng(1)
    setting = Setting(design, images=250, replicates=5, metric="accuracy", same=True)
    told_apart = sum(low is not None and not low <= 0 <= high for low, high, _ in outcomes(population, setting, random))
    assert told_apart <= stats.binom.ppf(0.999, TRIALS, 0.05)


def outcomes(population, setting, random):
    return [experiment(population, setting, random) for _ in range(TRIALS)]
