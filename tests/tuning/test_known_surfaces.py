"""What a search finds, and how often it is right, on known surfaces: benchmarks/search_on_surfaces.py in short."""

import numpy as np
import pandas as pd
import pytest

from benchmarks.interval_coverage import covers
from benchmarks.search_on_surfaces import (
    ACCURACY_NOISE,
    ARMS,
    CLIFF,
    FLOOR,
    GAIN,
    LOSS_NOISE,
    NO_GAIN,
    OBJECTIVE,
    OFFSET,
    PLATEAU,
    RIDGE,
    STUDY,
    SURFACES,
    Sizes,
    best_accuracy,
    chance,
    chosen_regrets,
    contains,
    counted,
    curve_outcome,
    draws_of,
    first_trials,
    loss_at,
    region_outcome,
    regret_row,
    regrets,
    repeats_intervals,
    search,
    search_params,
    search_ranges,
    tables,
    true_curve,
    true_difference,
)
from stages.tuning.curves import best_trial, scores_of, tuning_curve
from stages.tuning.draws import run_draws

SEARCHES = 100


def outcomes(known, trials, objective=OBJECTIVE, searches=SEARCHES):
    return [curve_outcome(known, objective, trials, number) for number in range(searches)]


@pytest.mark.parametrize("known", [RIDGE, CLIFF], ids=["ridge", "cliff"])
def test_the_bands_of_both_arms_contain_the_true_curves(known):
    found = outcomes(known, trials=32)
    assert sum(all(outcome.covered.values()) for outcome in found) >= 85
    assert sum(outcome.missed for outcome in found) <= 12


def test_arms_with_the_same_curve_are_seldom_told_apart():
    np.testing.assert_allclose(
        true_curve(RIDGE, "baseline", OBJECTIVE), true_curve(RIDGE, "differential", OBJECTIVE), atol=2e-4
    )
    found = outcomes(RIDGE, trials=48)
    assert min(outcome.reach for outcome in found) == 4
    assert sum(outcome.ahead or outcome.behind for outcome in found) <= 12


def test_three_points_everywhere_are_shown_by_48_trials():
    found = outcomes(OFFSET, trials=48)
    assert sum(outcome.ahead for outcome in found) >= 50
    assert not any(outcome.behind for outcome in found)


def test_eight_trials_show_nothing_as_their_bands_are_not_finite():
    assert {outcome.reach for outcome in outcomes(OFFSET, trials=8, searches=5)} == {0}


def test_a_wrong_curve_is_noticed():
    wrong = true_curve(RIDGE, "baseline", OBJECTIVE)[:32] + 0.15
    bands = [
        tuning_curve(scores_of(table[table["arm"] == "baseline"], OBJECTIVE), OBJECTIVE, 0.975)
        for table in (first_trials(search(RIDGE, number), 32) for number in range(SEARCHES))
    ]
    assert sum(contains(band, wrong) for band in bands) <= 10


@pytest.mark.parametrize("objective", ["val_loss", "val_accuracy"])
@pytest.mark.parametrize("arm", ARMS)
def test_the_true_curve_is_that_of_many_simulated_trials(arm, objective):
    random, (head, share) = np.random.default_rng(0), search_ranges()
    heads, shares = (random.uniform(np.log10(of.low), np.log10(of.high), (20_000, 4)).ravel() for of in (head, share))
    backbone = heads if arm == "baseline" else heads + shares
    accuracy = CLIFF.accuracy(backbone, heads)
    if objective == "val_accuracy":
        scores = counted(accuracy + random.normal(0, ACCURACY_NOISE, len(accuracy)))
    else:
        scores = -(loss_at(accuracy) + random.normal(0, LOSS_NOISE, len(accuracy)))
    scores[CLIFF.diverges(backbone, heads)] = -np.inf
    best = np.median(scores.reshape(-1, 4).max(axis=1))
    assert true_curve(CLIFF, arm, objective)[3] == pytest.approx(
        best if objective == "val_accuracy" else -best, abs=0.004
    )


def test_the_best_trial_of_32_loses_less_than_two_points_on_the_plateau():
    for arm in ARMS:
        assert np.percentile(regrets(PLATEAU, 32, arm, SEARCHES), 95) < 0.02


def test_more_trials_lose_less_on_the_ridge():
    few, many = (np.mean([regrets(RIDGE, trials, arm, SEARCHES) for arm in ARMS]) for trials in (8, 48))
    assert many < few


def test_trials_that_diverge_do_no_harm():
    searches = [search(CLIFF, number) for number in range(SEARCHES)]
    every = pd.concat(searches)
    diverged = every["state"] == "diverged"
    assert every.loc[diverged, ["val_loss", "val_accuracy"]].isna().all(axis=None)
    assert 0.28 < diverged[every["arm"] == "baseline"].mean() < 0.39  # a third of the range lies beyond the cliff
    for arm in ARMS:
        for table in searches:
            of_arm = table[table["arm"] == arm]
            assert of_arm.iloc[best_trial(of_arm, OBJECTIVE)]["state"] == "finished"
        assert np.median(regrets(CLIFF, 32, arm, SEARCHES)) < 0.03
        assert best_accuracy(CLIFF, arm) > FLOOR + 0.3


def test_repeated_searches_cover_the_true_difference():
    found, _ = repeats_intervals(RIDGE, 3, SEARCHES)
    truth = true_difference(RIDGE, 8)
    assert truth == pytest.approx(0, abs=0.001)
    assert sum(covers(interval, truth) for interval in found) >= 88
    assert not any(covers(interval, truth + 0.2) for interval in found)


def test_the_chosen_trial_loses_no_more_than_the_best_one():
    chosen = chosen_regrets(GAIN, 48, 12)
    for arm in ARMS:
        assert chosen[arm].mean() <= regrets(GAIN, 48, arm, 12).mean() + 0.002


@pytest.mark.parametrize("known", [GAIN, CLIFF], ids=["gain", "cliff"])
def test_the_region_holds_a_point_as_good_as_the_best(known):
    found = [region_outcome(known, 32, number) for number in range(5)]
    assert sum(outcome.near for outcome in found) >= 4
    assert np.mean([outcome.share for outcome in found]) < 0.5


def test_the_first_trials_are_those_of_a_shorter_search():
    params, short = search_params(), []
    seeded = params.model_copy(update={"search": params.search.model_copy(update={"seed": 5, "sampler": "random"})})

    def run(draws):
        short.extend(draws)
        return {(draw.arm, draw.number): 0.0 for draw in draws}

    run_draws(seeded, params.search.studies[STUDY], ARMS, 8, run)
    assert short == [draw for draw in draws_of(5) if draw.number < 8]


def test_the_same_numbers_come_again():
    before = regret_row(GAIN, 32, 10)
    search.cache_clear()
    draws_of.cache_clear()
    assert regret_row(GAIN, 32, 10) == before


@pytest.mark.slow
@pytest.mark.parametrize("known", SURFACES, ids=lambda known: known.name.split(":")[0])
def test_the_region_of_48_trials_holds_the_best(known):
    found = [region_outcome(known, 48, number) for number in range(20)]
    assert sum(outcome.near for outcome in found) >= 14
    assert np.mean([outcome.share for outcome in found]) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("known", [RIDGE, NO_GAIN], ids=["ridge", "no gain"])
def test_a_chance_of_being_ahead_is_seldom_high_without_a_gain(known):
    found = [chance(known, 48, number, without_gain=40) for number in range(20)]
    assert sum(of.as_high_without_gain < 0.05 for of in found) <= 5


@pytest.mark.slow
def test_a_gain_of_three_points_makes_being_ahead_likely():
    found = {known: [chance(known, 48, number, without_gain=2) for number in range(10)] for known in (GAIN, NO_GAIN)}
    with_gain, without = (np.mean([of.chance for of in found[known]]) for known in (GAIN, NO_GAIN))
    assert with_gain > without + 0.3


@pytest.mark.slow
def test_every_table_has_its_rows():
    found = list(tables(Sizes(searches=4, chosen=2, regions=2, chances=2, without_gain=3)))
    assert len(found) == 7
    for _, headers, rows in found:
        assert len(rows) >= 2 * len(SURFACES) - 2
        assert all(len(row) == len(headers) and row[0] for row in rows)
