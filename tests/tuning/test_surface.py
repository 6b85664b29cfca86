"""The surface over both rates: it recovers what made the trials, and says where it cannot tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.params import SearchRange
from stages.tuning.surface import (
    COARSE_STEP,
    REGIONS,
    best_regions,
    chance_ahead,
    chances_without_gain,
    fit_surface,
    grid,
    on_diagonal,
    plane_points,
)
from tests.tuning.conftest import RATE, SHARE

HEAD, BACKBONE = SearchRange(**RATE), SearchRange(**SHARE)


def bowl(points, best=(-3.0, -2.0), drop=0.03):
    """Accuracy of 0.9 at the best place, and lower by the square of the distance from it."""
    return 0.9 - drop * ((points - np.array(best)) ** 2).sum(1)


@pytest.fixture(scope="module")
def points():
    """48 trials: 24 on the diagonal, 24 pairs below it."""
    random = np.random.default_rng(0)
    uniform, head, share = random.uniform(-4, -1, 24), random.uniform(-4, -1, 24), random.uniform(-3, 0, 24)
    return np.concatenate([np.column_stack([uniform, uniform]), np.column_stack([head + share, head])])


@pytest.mark.parametrize("noise", [0.0, 0.005])
def test_it_recovers_a_quadratic_within_its_noise(points, noise):
    random = np.random.default_rng(1)
    surface = fit_surface(points, bowl(points) + random.normal(0, noise, len(points)))
    at = grid(HEAD, BACKBONE)
    inside = at[at[:, 0] >= -5]
    mean, deviation = surface.predict(inside)
    assert np.abs(mean - bowl(inside)).max() < 0.005 + 4 * noise
    assert (np.abs(mean - bowl(inside)) <= 4 * deviation + 0.005).all()
    assert surface.noise == pytest.approx(noise, abs=0.003)


def test_its_best_lies_where_the_true_one_does(points):
    at = grid(HEAD, BACKBONE)
    mean, _ = fit_surface(points, bowl(points)).predict(at)
    assert np.abs(at[mean.argmax()] - [-3, -2]).max() <= 0.25


def test_it_is_less_certain_where_no_trial_is(points):
    near = points[points[:, 0] > -3]
    surface = fit_surface(near, bowl(near) + np.random.default_rng(1).normal(0, 0.005, len(near)))
    _, deviation = surface.predict(np.array([[-2.0, -2.0], [-7.0, -4.0]]))
    assert deviation[1] > deviation[0]


def test_it_is_the_same_again_for_the_same_trials(points):
    values = bowl(points) + np.random.default_rng(2).normal(0, 0.01, len(points))
    one, other = fit_surface(points, values), fit_surface(points, values)
    at = grid(HEAD, BACKBONE, COARSE_STEP)
    assert np.array_equal(one.predict(at)[0], other.predict(at)[0])
    assert np.array_equal(one.sample(at), other.sample(at))


def test_trials_of_the_baseline_lie_on_the_diagonal(make_trials):
    trials = make_trials(lambda backbone, head: 0.9, trials=8)
    points = plane_points(trials)
    assert on_diagonal(points[:8]).all()
    pairs = trials[trials["arm"] == "differential"]
    assert np.allclose(10 ** points[8:], pairs[["lr.backbone", "lr.head"]].to_numpy())


def test_the_grid_covers_the_space_that_pairs_are_drawn_from_and_holds_the_diagonal():
    at = grid(HEAD, BACKBONE)
    assert at[:, 1].min() == pytest.approx(-4)
    assert at[:, 1].max() == pytest.approx(-1)
    share = at[:, 0] - at[:, 1]
    assert share.min() == pytest.approx(-3)
    assert share.max() == pytest.approx(0)
    diagonal = on_diagonal(at)
    assert diagonal.sum() == len(np.unique(at[:, 1].round(9))) == 25
    assert diagonal[:25].all()


regions_of = st.integers(0, 1000).map(lambda seed: np.random.default_rng(seed).normal(0, 1, (30, 200)))


@given(samples=regions_of, higher=st.booleans())
def test_the_regions_of_the_best_nest_and_hold_their_share(samples, higher):
    region = best_regions(samples, higher)
    best = samples.argmax(0) if higher else samples.argmin(0)
    small, large = sorted(REGIONS)
    assert set(region) <= {small, large, np.inf}
    for level in REGIONS:
        held = np.isin(best, np.flatnonzero(region <= level)).mean()
        assert held >= level
        fewest = np.sort(np.bincount(best, minlength=30))[::-1].cumsum()
        assert (region <= level).sum() == np.argmax(fewest >= level * 200) + 1


def test_a_point_that_is_always_the_best_is_the_whole_region():
    samples = np.random.default_rng(0).uniform(0, 1, (10, 100))
    samples[3] += 2
    assert np.flatnonzero(np.isfinite(best_regions(samples, True))).tolist() == [3]
    samples[3] -= 4
    assert np.flatnonzero(np.isfinite(best_regions(samples, False))).tolist() == [3]


@pytest.mark.parametrize(("margin", "chance"), [(0.0, 1.0), (0.1, 0.5), (0.3, 0.0)])
def test_the_chance_is_the_share_of_samples_that_are_ahead_by_the_margin(margin, chance):
    diagonal = np.array([True, False])
    higher = np.array([[0.5, 0.5], [0.7, 0.4]])  # ahead by 0.2, and by nothing, for the plane holds the diagonal
    assert chance_ahead(higher, diagonal, margin, True) == chance
    assert chance_ahead(-higher, diagonal, margin, False) == chance


def test_without_a_margin_the_plane_is_ahead_of_the_diagonal_that_it_holds_whatever_the_truth():
    samples = np.random.default_rng(0).normal(0, 1, (20, 50))
    assert chance_ahead(samples, np.arange(20) < 5, 0.0, True) == 1


@pytest.mark.slow
def test_a_second_rate_that_brings_nothing_is_seldom_ahead_by_a_point_and_one_that_brings_much_is(points, monkeypatch):
    monkeypatch.setattr("stages.tuning.surface.SIMULATIONS", 20)
    random, at = np.random.default_rng(3), grid(HEAD, BACKBONE, COARSE_STEP)
    diagonal = on_diagonal(at)
    noise = random.normal(0, 0.01, len(points))
    without = fit_surface(points, bowl(points, best=(-2.0, -2.0)) + noise)
    much = fit_surface(points, bowl(points, best=(-4.0, -2.0), drop=0.05) + noise)
    null = chances_without_gain(without, points, at, 0.01, True)
    assert len(null) == 20
    assert ((null >= 0) & (null <= 1)).all()
    assert chance_ahead(much.sample(at), diagonal, 0.01, True) > 0.95
    assert chance_ahead(without.sample(at), diagonal, 0.01, True) < 0.95
    assert np.mean(null) < 0.6
