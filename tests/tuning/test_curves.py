"""The best of k trials: the median is what its definition says, and the band holds it."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.tuning.curves import (
    best_trial,
    curve_differences,
    reach,
    reach_of,
    scores_of,
    searches,
    tuning_curve,
    tuning_curves,
    worst_of,
)

scores = st.lists(st.floats(0, 1), min_size=4, max_size=10, unique=True).map(np.array)
objectives = st.sampled_from(["val_loss", "val_accuracy"])


def median_of_best(values, k, objective):
    """The smallest value that the best of k draws from these values is at or below with half the probability."""
    ordered = np.sort(values)
    reached = np.arange(1, len(ordered) + 1) / len(ordered)
    at_most = reached**k if objective == "val_accuracy" else 1 - (1 - reached) ** k
    return ordered[np.argmax(at_most >= 0.5)]


@pytest.mark.parametrize(
    ("k", "accuracy", "loss"),
    [(1, 0.2, 0.2), (2, 0.3, 0.2), (3, 0.4, 0.1), (4, 0.4, 0.1)],
)
def test_the_median_on_four_trials(k, accuracy, loss):
    """Of 0.1, 0.2, 0.3 and 0.4: two draws are both at most 0.2 in a quarter of cases, and at most 0.3 in nine 16ths."""
    values = np.array([0.3, 0.1, 0.4, 0.2])
    for objective, wanted in (("val_accuracy", accuracy), ("val_loss", loss)):
        curve = tuning_curve(values, objective, 0.5)
        assert curve.loc[curve["k"] == k, "median"].item() == pytest.approx(wanted)


@settings(max_examples=10)
@given(values=scores, objective=objectives)
def test_the_median_is_the_empirical_one_for_every_k(values, objective):
    curve = tuning_curve(values, objective, 0.8)
    assert curve["k"].tolist() == list(range(1, len(values) + 1))
    for k, median in zip(curve["k"], curve["median"], strict=True):
        # Where a probability is exactly one half, a rounding error away lies the next value.
        assert median in {median_of_best(values, k + nudge, objective) for nudge in (-1e-9, 0, 1e-9)}


@settings(max_examples=10)
@given(values=scores, objective=objectives)
def test_the_band_holds_the_median_and_widens_with_the_level(values, objective):
    narrow, wide = (tuning_curve(values, objective, level) for level in (0.5, 0.95))
    for curve in (narrow, wide):
        assert not (curve["low"] > curve["median"]).any()
        assert not (curve["high"] < curve["median"]).any()
    assert not (wide["low"] > narrow["low"]).any()
    assert not (wide["high"] < narrow["high"]).any()
    assert reach(wide) <= reach(narrow)


@settings(max_examples=10)
@given(values=scores, objective=objectives)
def test_more_trials_never_make_the_best_worse(values, objective):
    curve = tuning_curve(values, objective, 0.8)
    sign = 1 if objective == "val_accuracy" else -1
    for name in ("low", "median", "high"):
        assert (np.diff(sign * curve[name].dropna()) >= 0).all()


@settings(max_examples=8)
@given(values=scores, seed=st.integers(0, 100))
def test_the_order_of_the_trials_does_not_count(values, seed):
    mixed = np.random.default_rng(seed).permutation(values)
    assert tuning_curve(mixed, "val_loss", 0.8).equals(tuning_curve(values, "val_loss", 0.8))


def test_scores_may_be_equal(recwarn):
    curve = tuning_curve(np.array([0.5] * 6 + [0.7] * 6), "val_accuracy", 0.8)
    assert set(curve["median"]) == {0.5, 0.7}
    assert not [warning for warning in recwarn if "Duplicates" in str(warning.message)]


def test_a_trial_without_metrics_has_the_worst_score():
    trials = pd.DataFrame({"val_loss": [0.3, np.nan], "val_accuracy": [0.9, np.nan]})
    assert scores_of(trials, "val_loss").tolist() == [0.3, np.inf]
    assert scores_of(trials, "val_accuracy").tolist() == [0.9, -np.inf]
    assert worst_of("val_loss") == np.inf
    assert [best_trial(trials[::-1], objective) for objective in ("val_loss", "val_accuracy")] == [1, 1]


@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy"])
def test_diverged_trials_leave_the_curve_unknown_where_most_would_diverge(objective):
    curve = tuning_curve(np.array([0.5, 0.6, *[worst_of(objective)] * 4]), objective, 0.5)
    assert curve["median"].isna()[0]
    assert curve["median"].notna()[5]


def test_the_best_of_equals_is_the_first():
    trials = pd.DataFrame({"val_loss": [0.4, 0.3, 0.3], "val_accuracy": [0.9, 0.9, 0.8]})
    assert best_trial(trials, "val_loss") == 1
    assert best_trial(trials, "val_accuracy") == 0


def test_the_band_reaches_as_far_as_it_is_finite():
    def curve(low, high):
        return pd.DataFrame({"low": low, "high": high})

    assert reach(curve([1.0, 1.0, 1.0], [2.0, 2.0, np.nan])) == 2
    assert reach(curve([1.0, 1.0], [2.0, 2.0])) == 2
    assert reach(curve([np.nan, 1.0], [2.0, 2.0])) == 0


@settings(max_examples=8)
@given(values=scores, level=st.floats(0.5, 0.99), objective=objectives)
def test_how_far_depends_on_the_number_of_trials_alone(values, level, objective):
    assert reach(tuning_curve(values, objective, level)) == reach_of(len(values), level)


def test_more_trials_carry_further_and_a_higher_level_less_far():
    by_trials = [reach_of(trials, 0.95) for trials in (8, 16, 32)]
    assert by_trials == sorted(by_trials)
    assert by_trials[0] < by_trials[-1]
    assert reach_of(32, 0.975) <= reach_of(32, 0.8)


def test_the_curves_of_both_arms_hold_together():
    """Each has half of the error."""
    values = np.linspace(0, 1, 20)
    both = tuning_curves({"baseline": values, "differential": values + 1}, "val_accuracy")
    assert list(both) == ["arm", "k", "low", "median", "high"]
    of_one = both[both["arm"] == "baseline"].drop(columns="arm").reset_index(drop=True)
    assert of_one.equals(tuning_curve(values, "val_accuracy", 0.975))


def test_a_difference_takes_the_far_ends_of_both_bands():
    curves = pd.DataFrame(
        {
            "arm": ["differential", "baseline"],
            "k": [1, 1],
            "low": [0.5, 0.4],
            "median": [0.6, 0.45],
            "high": [0.7, 0.5],
        }
    )
    (row,) = curve_differences(curves, "differential", "baseline").to_dict("records")
    assert row == {"k": 1, "low": 0.0, "difference": pytest.approx(0.15), "high": pytest.approx(0.3)}


def test_the_bands_of_many_searches_hold_the_true_curve_at_their_rate():
    """Of uniform scores the median of the best of k is the k-th root of one half."""
    random, searches_of = np.random.default_rng(0), 2000
    ranks = tuning_curve(np.arange(20.0), "val_accuracy", 0.8)  # for a band sees nothing but ranks
    values = np.sort(random.uniform(0, 1, (searches_of, 20)), axis=1)
    true = 0.5 ** (1 / ranks["k"].to_numpy())
    low, high = (
        np.where(np.isfinite(rank), values[:, np.nan_to_num(rank).astype(int)], unknown)
        for rank, unknown in ((ranks["low"].to_numpy(), -np.inf), (ranks["high"].to_numpy(), np.inf))
    )
    held = ((low <= true) & (true <= high)).all(axis=1).mean()
    assert held >= 0.8 - 3 * np.sqrt(0.8 * 0.2 / searches_of)


@given(size=st.integers(2, 9), repeats=st.integers(1, 9))
def test_independent_searches_split_the_trials_in_order_and_evenly(size, repeats):
    trials = pd.DataFrame({"trial": range(1, size * repeats + 1)})
    each = searches(trials, repeats)
    assert [len(one) for one in each] == [size] * repeats
    assert pd.concat(each).equals(trials)
