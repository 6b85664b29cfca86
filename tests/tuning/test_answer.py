"""What the trials say in the end: the best, the edges, the curves and the surface, and nothing beyond that."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import UserError
from stages.metrics_files import SplitMetrics
from stages.params import SearchRange
from stages.tuning.answer import (
    EDGE,
    MIN_FOR_SURFACE,
    answer_study,
    curves_answer,
    find_edges,
    has_plane,
    surface_values,
)
from stages.tuning.curves import tuning_curves
from stages.tuning.space import ranges_of
from tests.tuning.conftest import RATE, SHARE, search_params

SPLITS = SplitMetrics(
    replicates=16, folds=None, part="development", development=100, train=80, val=20, test=0, tested=0,
    tested_groups=0, unused=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Where no images are prepared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stages.tuning.surface.SIMULATIONS", 3)
    monkeypatch.setattr("stages.tuning.answer.SIMULATIONS", 3)


def valley(backbone, head):
    """Accuracy over rates, the best pair at 0.001 and 0.01."""
    return 0.9 - 0.02 * ((math.log10(backbone) + 3) ** 2 + (math.log10(head) + 2) ** 2)


def answered(trials, params=None):
    return answer_study("sgd", trials, params or search_params(), SPLITS, 2)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("lr.uniform", 0.0001, ("low", 0.0001)),
        ("lr.uniform", 0.00014, ("low", 0.0001)),
        ("lr.uniform", 0.00015, None),
        ("lr.uniform", 0.01, None),
        ("lr.uniform", 0.07, None),
        ("lr.uniform", 0.072, ("high", 0.1)),
        ("lr.uniform", 0.1, ("high", 0.1)),
    ],
)
def test_a_twentieth_of_a_range_is_its_edge(name, value, found):
    edges = find_edges({name: value}, {name: SearchRange(**RATE)})
    assert [(edge.end, edge.value) for edge in edges] == ([found] if found else [])
    assert all(edge.parameter == name for edge in edges)


@given(place=st.floats(0, 1), is_log=st.booleans())
def test_an_edge_is_as_wide_on_either_axis(place, is_log):
    found = SearchRange(low=1.0, high=100.0, log=is_log)
    value = 100**place if is_log else 1 + 99 * place
    ends = [edge.end for edge in find_edges({"optimizer.x": value}, {"optimizer.x": found})]
    if min(abs(place - EDGE), abs(place - (1 - EDGE))) > 1e-6:
        assert ends == (["low"] if place < EDGE else ["high"] if place > 1 - EDGE else [])


def test_equal_rates_are_no_edge_of_the_share_but_its_lower_end_is_one():
    ranges = {"lr.head": SearchRange(**RATE), "lr.backbone": SearchRange(**SHARE)}
    assert find_edges({"lr.head": 0.01, "lr.backbone": 0.01}, ranges) == []
    (edge,) = find_edges({"lr.head": 0.01, "lr.backbone": 0.00001}, ranges)
    assert (edge.parameter, edge.end, edge.value) == ("lr.backbone", "low", 0.001)
    half = {**ranges, "lr.backbone": SearchRange(low=0.001, high=0.5, times="lr.head")}
    (edge,) = find_edges({"lr.head": 0.01, "lr.backbone": 0.005}, half)
    assert (edge.end, edge.value) == ("high", 0.5)


def test_a_loss_above_guessing_is_cut_off_and_so_is_a_trial_without_one():
    trials = pd.DataFrame({"val_loss": [0.2, 5.0, np.nan], "val_accuracy": [0.9, 0.4, np.nan]})
    assert surface_values(trials, "val_loss", math.log(2)).tolist() == [0.2, math.log(2), math.log(2)]
    assert np.array_equal(surface_values(trials, "val_accuracy", math.log(2)), [0.9, 0.4, np.nan], equal_nan=True)


def test_the_best_of_each_arm_is_told_with_its_own_rates(make_trials):
    trials = make_trials(valley, trials=5)
    answer, _, _ = answered(trials)
    for arm, names in (("baseline", ["lr.uniform"]), ("differential", ["lr.head", "lr.backbone"])):
        of_arm, best = trials[trials["arm"] == arm], answer.arms[arm].best
        row = of_arm.loc[of_arm["val_loss"].idxmin()]
        assert best.trial == row["trial"]
        assert best.values == {name: row[name] for name in names}
        assert best.metrics["val_accuracy"] == row["val_accuracy"]
        assert (answer.arms[arm].trials, answer.arms[arm].diverged, answer.arms[arm].pruned) == (5, 0, 0)


def without(trials, arm, numbers, state):
    """The same trials, some of which have not come to their end."""
    gone = (trials["arm"] == arm) & trials["trial"].isin(numbers)
    changed = trials.assign(state=trials["state"].where(~gone, state))
    metrics = ["val_loss", "val_accuracy", "train_loss", "train_accuracy", "overfitting_gap"]
    changed.loc[gone, metrics] = np.nan
    return changed


def test_trials_that_did_not_come_to_their_end_are_counted_and_never_the_best(make_trials):
    trials = make_trials(valley, trials=5)
    best = answered(trials)[0].arms["baseline"].best.trial
    answer, _, _ = answered(without(trials, "baseline", [best], "diverged"))
    assert answer.arms["baseline"].diverged == 1
    assert answer.arms["baseline"].best.trial != best
    answer, _, _ = answered(without(trials, "baseline", [best], "pruned"))
    assert answer.arms["baseline"].pruned == 1


def test_an_arm_of_which_no_trial_came_to_its_end_is_one_line(make_trials):
    trials = without(make_trials(valley, trials=4), "differential", range(1, 5), "diverged")
    with pytest.raises(UserError, match=r"search\.studies\.sgd: no trial of the differential arm came to its end"):
        answered(trials)


def test_few_trials_have_curves_and_no_surface(make_trials):
    answer, curves, surface = answered(make_trials(valley, trials=MIN_FOR_SURFACE // 2 - 1))
    assert answer.surface is None
    assert len(surface) == 0
    assert list(surface)  # a table without columns could not be read
    assert set(curves["metric"]) == {"val_loss", "val_accuracy"}


@pytest.mark.parametrize("sampler", ["qmc", "gp"])
def test_trials_that_are_no_independent_draws_have_no_bands(make_trials, sampler):
    answer, curves, _ = answered(make_trials(valley, trials=4), search_params(search__sampler=sampler))
    assert answer.curves is None
    assert len(curves) == 0
    assert list(curves)


def test_the_differences_of_the_curves_go_as_far_as_both_bands():
    random = np.random.default_rng(0)
    scores = {"baseline": random.normal(0.8, 0.02, 48), "differential": random.normal(0.9, 0.02, 48)}
    curves = tuning_curves(scores, "val_accuracy")
    found = curves_answer(curves, 48)
    assert found.reach >= 3
    assert found.reach_of_twice >= found.reach
    assert [point.k for point in found.differences["differential"]] == list(range(1, found.reach + 1))
    for point in found.differences["differential"]:
        assert point.low <= point.difference <= point.high
        assert point.low > 0
    assert "baseline" not in found.differences


@pytest.mark.slow
def test_the_surface_says_where_the_best_lies_and_what_to_expect_there(make_trials):
    answer, _, surface = answered(make_trials(valley, trials=32, noise=0.004))
    said = answer.surface
    assert said.head.low <= 0.01 <= said.head.high
    assert said.backbone.low <= 0.001 <= said.backbone.high
    assert said.uniform.low <= 0.01
    assert said.noise == pytest.approx(0.004, abs=0.004)
    assert set(said.places) == {"baseline", "differential", "rule_of_thumb"}
    thumb = said.places["rule_of_thumb"]
    assert (thumb.backbone, thumb.head) == (0.0001, 0.01)
    assert thumb.val_accuracy.low - 0.01 <= valley(0.0001, 0.01) <= thumb.val_accuracy.high + 0.01
    assert said.places["differential"].behind_best.mean < thumb.behind_best.mean
    assert {"backbone", "head", "val_loss", "val_loss_sd", "val_accuracy", "overfitting_gap", "region"} <= set(surface)
    in_region = surface[surface["region"].notna()]
    assert 0 < len(in_region) < len(surface)


@pytest.mark.slow
def test_the_answer_is_the_same_again(make_trials):
    trials = make_trials(valley, trials=8, noise=0.004)
    one, other = answered(trials), answered(trials)
    assert one[0] == other[0]
    assert one[1].equals(other[1])
    assert one[2].equals(other[2])


@pytest.mark.parametrize(
    ("backbone", "plane"),
    [
        (SHARE, True),
        ({**SHARE, "high": 0.5}, False),
        ({**SHARE, "low": 0.0, "log": False}, False),
        ({"low": 0.00001, "high": 0.1}, False),
    ],
)
def test_there_is_a_surface_where_pairs_are_drawn_from_below_the_diagonal(make_trials, backbone, plane):
    params = search_params({"lr": {"backbone": backbone}})
    assert has_plane(ranges_of(params.search.studies["sgd"], "differential")) == plane
    if not plane:
        assert answered(make_trials(valley, trials=6), params)[0].surface is None
