"""The evidence is itself tested: against reference implementations, and by experiments simulated with a known truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from stages.evaluation.statistics import (
    crossed_random_effects_interval,
    decide,
    mcnemar,
    mean_squares,
    t_interval,
)
from stages.metrics_files import Interval

TRIALS = 400


def experiment(random, seeds=3, samples=500, accuracy=0.85, seed_luck=0.05, sample_luck=0.5, effect=0.0, loss=False):
    """Return (seeds, samples) of differential − baseline in being right, of arms that differ by `effect` in difficulty.

    With `loss` it is the log loss that a logistic classifier has on the same scale.

    Samples are easy or hard, in common and for each arm; each replicate of each arm is lucky or not.
    """
    common = random.normal(0, 1.5, samples)
    right = []
    for shift in (0.0, effect):
        of_arm = random.normal(0, sample_luck, samples)
        luck = random.normal(0, seed_luck, (seeds, 1))
        spread = np.sqrt(1 + 1.5**2 + sample_luck**2 + seed_luck**2)
        ease = stats.norm.ppf(accuracy) * spread + shift + common + of_arm + luck
        ease = ease + random.normal(0, 1, (seeds, samples))
        right.append(np.logaddexp(0, -ease) if loss else ease > 0)
    return right[1].astype(float) - right[0]


def true_difference(effect, accuracy=0.85, seed_luck=0.05, sample_luck=0.5):
    spread = np.sqrt(1 + 1.5**2 + sample_luck**2 + seed_luck**2)
    return stats.norm.cdf(stats.norm.ppf(accuracy) + effect / spread) - accuracy


def at_least(rate, trials=TRIALS):
    """The fewest hits in so many trials that chance gives 999 times in a thousand at that rate."""
    return stats.binom.ppf(0.001, trials, rate)


CONDITIONS = [
    {"seeds": 3, "seed_luck": 0.0, "sample_luck": 0.0},
    {"seeds": 3, "seed_luck": 0.05, "sample_luck": 0.5},
    {"seeds": 3, "seed_luck": 0.2, "sample_luck": 0.5},
    {"seeds": 5, "seed_luck": 0.05, "sample_luck": 1.0},
    {"seeds": 2, "seed_luck": 0.1, "sample_luck": 0.5},
]
# One of them in every run of the tests, all in the slow ones.
SIMULATED = [
    CONDITIONS[1],
    *(pytest.param(other, marks=pytest.mark.slow) for other in CONDITIONS if other != CONDITIONS[1]),
]


@pytest.mark.parametrize("conditions", SIMULATED)
@pytest.mark.parametrize("effect", [0.0, 0.4])
def test_intervals_cover_the_true_difference_in_95_of_100_experiments(conditions, effect):
    random = np.random.default_rng(1)
    luck = {key: value for key, value in conditions.items() if key != "seeds"}
    true = true_difference(effect, **luck)
    intervals = [
        crossed_random_effects_interval(experiment(random, effect=effect, **conditions)) for _ in range(TRIALS)
    ]
    covered = sum(interval.low <= true <= interval.high for interval in intervals)
    assert covered >= at_least(0.95)


@pytest.mark.parametrize("conditions", SIMULATED)
def test_intervals_of_log_loss_cover_the_true_difference_too(conditions):
    random = np.random.default_rng(6)
    intervals = [crossed_random_effects_interval(experiment(random, loss=True, **conditions)) for _ in range(TRIALS)]
    assert sum(interval.low <= 0 <= interval.high for interval in intervals) >= at_least(0.95)


@pytest.mark.parametrize("conditions", SIMULATED)
def test_two_equal_classifiers_are_told_apart_in_no_more_than_about_5_of_100_experiments(conditions):
    random = np.random.default_rng(2)
    verdicts = [decide(crossed_random_effects_interval(experiment(random, **conditions))) for _ in range(TRIALS)]
    assert verdicts.count("no difference shown") >= at_least(0.95)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("seed_luck", [0.0, 0.1, 0.3])
def test_an_arm_against_itself_with_other_seeds_is_told_apart_no_more_often(seeds, seed_luck):
    """An A/A test: nothing belongs to one arm alone, the replicates alone are other ones."""
    random = np.random.default_rng(7)
    luck = {"seeds": seeds, "seed_luck": seed_luck, "sample_luck": 0.0}
    verdicts = [decide(crossed_random_effects_interval(experiment(random, **luck))) for _ in range(TRIALS)]
    assert verdicts.count("no difference shown") >= at_least(0.95)


def test_the_percentile_bootstrap_over_three_seeds_would_tell_equal_arms_apart_too_often():
    """Why the interval is not simply bootstrapped."""
    random = np.random.default_rng(3)
    told_apart = 0
    for _ in range(100):
        by_seed = experiment(random, seed_luck=0.2).mean(1)
        means = random.choice(by_seed, (300, 3)).mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        told_apart += not low <= 0 <= high
    assert told_apart > 15


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5])
def test_a_difference_of_the_claimed_size_is_shown_with_about_the_claimed_power(seeds):
    random = np.random.default_rng(4)
    conditions = {"seeds": seeds, "seed_luck": 0.05, "sample_luck": 0.5}
    claimed = np.median(
        [
            crossed_random_effects_interval(experiment(random, **conditions)).minimum_detectable_difference
            for _ in range(TRIALS)
        ]
    )
    effects = np.linspace(0, 2, 400)
    luck = {key: value for key, value in conditions.items() if key != "seeds"}
    effect = effects[np.argmin(np.abs(true_difference(effects, **luck) - claimed))]
    verdicts = [
        decide(crossed_random_effects_interval(experiment(random, effect=effect, **conditions))) for _ in range(TRIALS)
    ]
    assert 0.7 < verdicts.count("better") / TRIALS < 0.92
    assert "worse" not in verdicts


def without_ends(estimate):
    return Interval(estimate=estimate, low=None, high=None, minimum_detectable_difference=None)


def between(low, high):
    return Interval(estimate=(low + high) / 2, low=low, high=high, minimum_detectable_difference=0.1)


def test_one_replicate_says_nothing_of_the_chance_between_seeds():
    alone = crossed_random_effects_interval(np.ones((1, 50)))
    assert alone == without_ends(1.0)
    assert decide(alone) == "no difference shown"
    assert t_interval(np.array([0.1])).low is None


def test_the_verdict_is_a_matter_of_the_interval_alone():
    assert decide(between(0.1, 0.3)) == "better"
    assert decide(between(-0.3, -0.1)) == "worse"
    assert decide(between(0.0, 0.4)) == "no difference shown"


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_without_any_spread_there_is_no_interval_and_nothing_is_shown(same):
    everywhere = crossed_random_effects_interval(np.full((3, 50), same))
    assert everywhere == without_ends(same)
    assert decide(everywhere) == "no difference shown"
    assert t_interval(np.full(3, same)) == without_ends(same)


def test_mean_squares_are_those_worked_by_hand():
    """Two seeds, three samples: rows 1 2 6 and 3 4 2. Means of rows 3 and 3, of columns 2, 3, 4; in all 3."""
    between_seeds, between_samples, residual = mean_squares(np.array([[1.0, 2, 6], [3, 4, 2]]))
    assert between_seeds == 0
    assert between_samples == 2 * (1 + 0 + 1) / 2
    assert residual == (1 + 1 + 4) * 2 / 2


@given(shift=st.floats(-3, 3))
@settings(max_examples=20)
def test_turning_the_arms_round_turns_the_interval_round(shift):
    differences = np.random.default_rng(5).normal(shift, 1, (3, 40))
    one, other = crossed_random_effects_interval(differences), crossed_random_effects_interval(-differences)
    assert (one.low, one.high, one.minimum_detectable_difference) == pytest.approx(
        (-other.high, -other.low, other.minimum_detectable_difference)
    )


def test_an_interval_over_seeds_is_students():
    differences = np.array([0.1, 0.3, 0.2])
    interval = t_interval(differences)
    expected = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx(tuple(expected))


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_mcnemar_is_statsmodels_exact_one(pairs):
    baseline, differential = (np.array(arm) for arm in zip(*pairs, strict=True))
    ours = mcnemar(baseline, differential)
    table = [[(a & b).sum() for b in (differential, ~differential)] for a in (baseline, ~baseline)]
    assert ours.p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert (ours.baseline_only_correct, ours.differential_only_correct) == (table[0][1], table[1][0])


def test_no_interval_of_accuracies_goes_beyond_what_accuracies_can_differ_by():
    few = crossed_random_effects_interval(np.array([[0.0, 1.0, 0.0], [-1.0, 1.0, 1.0]]))
    assert few.low < -1 and few.high > 1
    assert (few.clipped(1).low, few.clipped(1).high) == (-1, 1)
    assert few.clipped(1).model_copy(update={"low": few.low, "high": few.high}) == few
    alone = crossed_random_effects_interval(np.array([[0.0, 1.0, 0.0]]))
    assert alone.clipped(1) == alone
