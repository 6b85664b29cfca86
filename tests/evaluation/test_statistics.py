"""The evidence is itself tested: against reference implementations, and by experiments simulated with a known truth."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from benchmarks.interval_coverage import Setting, covers, experiment, over_replicates, sample_of
from stages.evaluation.statistics import (
    ERROR,
    MIN_FOR_INTERVAL,
    POWER,
    Sample,
    components,
    decide,
    grouped,
    is_unstable,
    level_of_look,
    mcnemar,
    paired_interval,
    plan_intervals,
    take_looks,
    variance_parts,
)
from stages.metrics_files import MIN_FOR_VERDICT, ArmFailures, Failures, Interval, failure_bound

TRIALS = 400


def at_least(rate, trials=TRIALS):
    """The fewest hits in so many trials that chance gives 999 times in a thousand at that rate."""
    return stats.binom.ppf(0.001, trials, rate)


def at_most(rate, trials=TRIALS):
    return stats.binom.ppf(0.999, trials, rate)


def drawn(setting, seed, trials=TRIALS):
    """Simulated experiments, their images in groups where the setting has some."""
    random = np.random.default_rng(seed)
    return [grouped(*experiment(setting, random)) for _ in range(trials)]


def crossed(differences):
    """The sample of replicates that were all scored on the same images, (replicates, images) of differences."""
    values = np.asarray(differences, dtype=float)
    return sample_of(values, np.ones(values.shape, dtype=bool))


def noise(seed, replicates=3, images=40):
    random = np.random.default_rng(seed)
    return (
        random.normal(0, 1, (replicates, images)) + random.normal(0, 1, images) + random.normal(0, 1, (replicates, 1))
    )


def decided(sample, looks=None):
    taken = take_looks(sample, looks or [sample.replicates], higher_is_better=True)
    return {look.decision for look in taken} - {"no difference shown"}


def analysis_of_variance(differences, level):
    """The interval of replicates crossed with images, as textbooks have it: mean squares, and t weighted by them."""
    replicates, images = differences.shape
    everywhere, by_replicate, by_image = differences.mean(), differences.mean(1), differences.mean(0)
    between_replicates = images * ((by_replicate - everywhere) ** 2).sum() / (replicates - 1)
    between_images = replicates * ((by_image - everywhere) ** 2).sum() / (images - 1)
    left = differences - by_replicate[:, None] - by_image + everywhere
    residual = (left**2).sum() / ((replicates - 1) * (images - 1))
    parts = np.array([between_replicates, max(between_images - residual, 0)]) / (replicates * images)
    quantile = parts / parts.sum() @ stats.t.ppf((1 + level) / 2, [replicates - 1, images - 1])
    return everywhere - quantile * np.sqrt(parts.sum()), everywhere + quantile * np.sqrt(parts.sum())


@given(
    seed=st.integers(0, 10_000),
    replicates=st.integers(2, 12),
    images=st.integers(10, 60),
    level=st.sampled_from([0.9, 0.95, 0.993]),
)
@settings(max_examples=50)
def test_where_all_replicates_share_the_images_the_interval_is_that_of_the_analysis_of_variance(
    seed, replicates, images, level
):
    differences = noise(seed, replicates, images)
    found = paired_interval(crossed(differences), level)
    assert (found.low, found.high) == pytest.approx(analysis_of_variance(differences, level))
    assert (found.estimate, found.level) == (pytest.approx(differences.mean()), level)


@given(seed=st.integers(0, 10_000), replicates=st.integers(2, 5))
@settings(max_examples=25)
def test_groups_of_one_image_are_no_groups_whatever_their_numbers(seed, replicates):
    alone = crossed(noise(seed, replicates))
    of_one = grouped(alone, 7 + 3 * np.random.default_rng(seed).permutation(40))
    assert of_one.effective_units == pytest.approx(40)
    assert paired_interval(of_one).model_dump() == pytest.approx(paired_interval(alone).model_dump())


def test_groups_add_up_what_their_images_owe_and_leave_out_images_that_were_never_scored():
    scored = np.array([[True, True, True, False, False], [True, True, False, True, False]])
    sample = sample_of(np.array([[3.0, 6, 0, 9, 9], [1, 2, 9, 6, 9]]), scored)
    together = grouped(sample, np.array([4, 4, 2, 0, 1]))
    assert together.sizes.tolist() == [1, 1, 2]
    assert together.influences == pytest.approx(np.array([[0, -1, 1], [1, 0, -1]]))
    assert together.scored.tolist() == [[False, True, True], [True, False, True]]
    assert together.estimates.tolist() == [3, 3]


def test_the_first_replicates_bring_only_the_images_that_they_were_scored_on():
    scored = np.array([[True, True, False], [False, True, True], [True, False, True]])
    first = sample_of(np.arange(9.0).reshape(3, 3), scored).first(1)
    assert (first.replicates, first.sizes.tolist(), first.influences.tolist()) == (1, [1, 1], [[-0.25, 0.25]])


def test_the_effective_number_of_groups_is_kishs():
    sizes = np.array([10.0, 10, 20])
    sample = Sample(np.zeros(2), np.zeros((2, 3)), np.ones((2, 3), dtype=bool), sizes)
    assert sample.effective_units == pytest.approx(40**2 / 600)


CROSSED = [
    Setting("", 3, 500),
    Setting("", 3, 500, effect=0.4),
    Setting("", 2, 200, seed_luck=0.1),
    Setting("", 3, 200, seed_luck=0.0, image_luck=0.0),
    Setting("", 5, 756, seed_luck=0.05, image_luck=1.0),
    Setting("", 10, 50, seed_luck=0.2),
    Setting("", 12, 756, seed_luck=0.3, effect=0.4),
    Setting("", 5, 200, accuracy=0.98),
    Setting("", 3, 500, loss=True, effect=0.3),
    Setting("", 5, 756, loss=True, confidence=4),
]
FOLDED = [
    Setting("", 20, 200, groups=20, group_luck=1.0, folds=5),
    Setting("", 10, 200, groups=20, group_luck=1.0, folds=5),
    Setting("", 10, 200, folds=5),
    Setting("", 5, 200, folds=5, effect=0.4),
    Setting("", 5, 756, folds=5, seed_luck=0.3),
    Setting("", 10, 756, folds=5, image_luck=1.0),
    Setting("", 20, 200, folds=5, seed_luck=0.0),
]


def first_at_once(conditions):
    """The first of them in every run of the tests, all in the slow ones."""
    return [conditions[0], *(pytest.param(other, marks=pytest.mark.slow) for other in conditions[1:])]


@pytest.mark.parametrize("setting", [*first_at_once(CROSSED), *first_at_once(FOLDED)])
def test_intervals_cover_the_truth_in_95_of_100_experiments(setting):
    covered = sum(covers(paired_interval(sample), setting.truth) for sample in drawn(setting, seed=1))
    assert covered >= at_least(0.95)


GROUPED = [
    Setting("", 5, 200, groups=20, group_luck=1.0),
    Setting("", 3, 200, groups=20, group_luck=1.0, effect=0.4),
    Setting("", 5, 100, groups=10, group_luck=1.0),
    Setting("", 10, 400, groups=40, group_luck=1.0, sizes="lognormal"),
]


@pytest.mark.parametrize("setting", first_at_once(GROUPED))
def test_intervals_of_groups_cover_the_truth_where_those_of_their_images_do_not(setting):
    random = np.random.default_rng(2)
    of_groups = of_images = 0
    for _ in range(TRIALS):
        sample, units = experiment(setting, random)
        of_groups += covers(paired_interval(grouped(sample, units)), setting.truth)
        of_images += covers(paired_interval(sample), setting.truth)
    assert of_groups >= at_least(0.95 if setting.sizes == "equal" else 0.94)
    assert of_images < at_least(0.9)


def test_student_over_replicates_alone_forgets_the_images():
    setting = Setting("", 10, 200, image_luck=1.0)
    random = np.random.default_rng(3)
    covered = sum(covers(over_replicates(experiment(setting, random)), 0) for _ in range(TRIALS))
    assert covered < at_least(0.9)


@pytest.mark.slow
@pytest.mark.parametrize("replicates", [2, 3, 5])
@pytest.mark.parametrize("seed_luck", [0.0, 0.1, 0.3])
def test_an_arm_against_itself_with_other_seeds_is_told_apart_no_more_often(replicates, seed_luck):
    """An A/A test: nothing belongs to one arm alone, the replicates alone are other ones."""
    samples = drawn(Setting("", replicates, 500, seed_luck=seed_luck, image_luck=0.0), seed=7)
    assert sum(bool(decided(sample)) for sample in samples) <= at_most(ERROR)


def test_the_error_of_all_looks_together_is_five_in_a_hundred():
    for looks in ([3], [3, 6, 12], [2, 5, 9, 20]):
        levels = [level_of_look(looks, number) for number in range(len(looks))]
        assert sum(1 - level for level in levels) == pytest.approx(ERROR)
        assert levels == sorted(levels, reverse=True)


@pytest.mark.slow
def test_looks_that_do_not_share_the_error_tell_equal_arms_apart_too_often_and_ours_do_not():
    looks, random, shared, unshared = [3, 6, 12], np.random.default_rng(4), 0, 0
    for _ in range(TRIALS):
        sample = experiment(Setting("", 12, 300, seed_luck=0.5), random)[0]
        shared += bool(decided(sample, looks))
        unshared += any(decided(sample.first(look)) for look in looks)
    assert shared <= at_most(ERROR)
    assert unshared > at_most(ERROR)


def test_a_look_is_taken_once_as_many_replicates_are_there_and_sees_no_more():
    sample = crossed(noise(8, replicates=6))
    first, second = take_looks(sample, [3, 6, 12], higher_is_better=True)
    assert (first.replicates, second.replicates) == (3, 6)
    assert first.interval == paired_interval(sample.first(3), level_of_look([3, 6, 12], 0))
    assert second.interval == paired_interval(sample, level_of_look([3, 6, 12], 1))


def failures(baseline=(), differential=()):
    return Failures(
        baseline=ArmFailures(diverged=list(baseline)), differential=ArmFailures(collapsed=list(differential))
    )


def test_some_failures_of_an_arm_leave_its_verdict_unstable_none_and_all_do_not():
    assert not is_unstable(failures(), replicates=3)
    assert is_unstable(failures(baseline=[1]), replicates=3)
    assert is_unstable(failures(differential=[1, 2]), replicates=3)
    assert not is_unstable(failures(differential=[1, 2, 3]), replicates=3)
    assert is_unstable(failures(baseline=[1, 2, 3], differential=[2]), replicates=3)


def test_no_interval_covers_what_an_arm_that_collapses_now_and_then_comes_to():
    """Why some failures leave no verdict."""
    setting = Setting("", 5, 200, collapses=0.2)
    covered = sum(covers(paired_interval(sample), setting.truth) for sample in drawn(setting, seed=5, trials=200))
    assert covered < at_least(0.9, 200)


@pytest.mark.parametrize("replicates", [1, 3, 5, 14])
def test_none_of_so_many_fail_in_one_of_twenty_experiments_at_the_bound(replicates):
    assert (1 - failure_bound(replicates)) ** replicates == pytest.approx(0.05)


def test_the_bound_of_three_replicates_is_63_in_a_hundred():
    assert failure_bound(3) == pytest.approx(0.63, abs=0.005)


POWERED = [
    Setting("", 5, 500, seed_luck=0.05),
    Setting("", 3, 500, seed_luck=0.05),
    Setting("", 10, 800, groups=40, group_luck=0.3),
    Setting("", 10, 600, folds=5),
]


@pytest.mark.parametrize("setting", first_at_once(POWERED))
def test_a_difference_of_the_claimed_size_is_shown_with_about_the_claimed_power(setting):
    claimed = np.median([paired_interval(sample).minimum_detectable_difference for sample in drawn(setting, seed=9)])
    candidates = [replace(setting, effect=effect) for effect in np.linspace(0, 2, 400)]
    apart = min(candidates, key=lambda candidate: abs(candidate.truth - claimed))
    decisions = [decided(sample) for sample in drawn(apart, seed=10)]
    assert POWER - 0.12 < sum(decision == {"better"} for decision in decisions) / TRIALS < POWER + 0.12
    assert {"worse"} not in decisions


@pytest.mark.parametrize(("folds", "rounds"), [(1, 6), (5, 2), (5, 1)])
def test_what_is_planned_for_the_same_replicates_and_images_is_the_interval_that_they_have(folds, rounds):
    setting = Setting("", rounds * folds, 300, folds=folds, image_luck=1.0, seed_luck=0.3)
    ratios = []
    for sample in drawn(setting, seed=11, trials=20):
        found = paired_interval(sample)
        (planned,) = plan_intervals(sample, [sample.replicates], [1.0], level=0.95)
        assert planned.images == 300
        ratios.append(planned.half_width / (found.high - found.estimate))
    assert np.median(ratios) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("folds", "rounds"), [(1, 3), (1, 2), (1, 10), (5, 1), (5, 3)])
def test_more_replicates_and_more_images_never_promise_a_wider_interval(folds, rounds):
    replicates, images = [folds * number for number in (2, 3, 5, 8, 20, 100)], [0.5, 1.0, 2.0, 4.0]
    for sample in drawn(Setting("", rounds * folds, 200, folds=folds, seed_luck=0.2), seed=12, trials=5):
        planned = plan_intervals(sample, replicates, images, level=0.95)
        for field in ("half_width", "half_width_low", "half_width_high", "shown", "shown_low", "shown_high"):
            table = np.array([getattr(one, field) for one in planned]).reshape(len(images), len(replicates))
            assert (np.diff(table, axis=0) <= 1e-9).all()
            assert (np.diff(table, axis=1) <= 1e-9).all()
        assert all(one.half_width_low <= one.half_width <= one.half_width_high for one in planned)
        assert all(one.half_width < one.shown for one in planned)


def test_twice_as_many_replicates_come_to_about_the_interval_that_was_planned():
    setting = Setting("", 6, 300, seed_luck=0.3)
    planned = [
        plan_intervals(sample, [12], [1.0], level=0.95)[0].half_width for sample in drawn(setting, seed=13, trials=150)
    ]
    found = [paired_interval(sample) for sample in drawn(replace(setting, replicates=12), seed=14, trials=150)]
    actual = np.array([one.high - one.estimate for one in found])
    assert np.square(planned).mean() == pytest.approx(np.square(actual).mean(), rel=0.25)


def test_the_parts_of_the_variance_are_found_again():
    """Of 200 replicates of 400 images: luck of replicates 0.3, of images 2, of both together 1."""
    random = np.random.default_rng(15)
    differences = random.normal(0, 0.3, (200, 1)) + random.normal(0, 2, 400) + random.normal(0, 1, (200, 400))
    parts = components(crossed(differences))
    assert parts.replicates == pytest.approx(0.09, rel=0.4)
    assert parts.images * 400 == pytest.approx(4, rel=0.3)
    assert parts.scored * 400 == pytest.approx(5, rel=0.3)


def of_units(sizes):
    """A sample with a large difference, of groups of these sizes."""
    images = 2 + noise(16, images=sum(sizes)) / 10
    return grouped(crossed(images), np.repeat(np.arange(len(sizes)), sizes))


def test_fewer_than_five_groups_have_no_interval():
    found = paired_interval(of_units([10] * (MIN_FOR_INTERVAL - 1)))
    assert (found.low, found.high, found.minimum_detectable_difference) == (None, None, None)
    assert found.reason == "an effective number of 4.0 groups is too few for an interval"
    assert paired_interval(of_units([10] * MIN_FOR_INTERVAL)).low is not None


def test_fewer_than_ten_groups_have_an_interval_and_no_verdict():
    few = of_units([10] * (MIN_FOR_VERDICT - 1))
    assert paired_interval(few).low > 0
    assert decided(few) == set()
    assert decided(of_units([10] * MIN_FOR_VERDICT)) == {"better"}


def test_it_is_the_effective_number_that_counts():
    uneven = of_units([1] * 30 + [100])
    assert uneven.effective_units < MIN_FOR_INTERVAL
    assert paired_interval(uneven).low is None


def test_one_replicate_says_nothing_of_the_chance_between_replicates():
    alone = crossed(np.ones((1, 50)))
    found = paired_interval(alone)
    assert (found.estimate, found.low, found.high) == (1, None, None)
    assert found.reason == "one replicate says nothing of the chance between replicates"
    assert decided(alone) == set()


def between(low, high):
    return Interval(estimate=(low + high) / 2, low=low, high=high, minimum_detectable_difference=0.1)


def test_the_verdict_is_a_matter_of_the_interval_and_of_what_is_better():
    assert decide(between(0.1, 0.3), higher_is_better=True, effective_units=50) == "better"
    assert decide(between(0.1, 0.3), higher_is_better=False, effective_units=50) == "worse"
    assert decide(between(-0.3, -0.1), higher_is_better=True, effective_units=50) == "worse"
    assert decide(between(-0.3, -0.1), higher_is_better=False, effective_units=50) == "better"
    assert decide(between(0.0, 0.4), higher_is_better=True, effective_units=50) == "no difference shown"
    assert decide(Interval(estimate=1), higher_is_better=True, effective_units=50) == "no difference shown"


@pytest.mark.parametrize("same", [0.0, 1.0])
def test_without_any_spread_there_is_no_interval_and_nothing_is_shown(same):
    everywhere = crossed(np.full((3, 50), same))
    found = paired_interval(everywhere)
    assert (found.estimate, found.low) == (same, None)
    assert found.reason == "the difference is the same in every replicate and image"
    assert decided(everywhere) == set()


def test_replicates_that_agree_in_their_means_by_chance_are_not_taken_for_certain():
    """Each misses another image, so that their means are equal and no two have anything in common."""
    agreeing = crossed(np.eye(4, 40))
    parts = variance_parts(agreeing)
    assert parts.images == 0
    assert parts.replicates > 0
    assert decided(agreeing) == set()


@given(shift=st.floats(-3, 3))
@settings(max_examples=20)
def test_turning_the_arms_round_turns_the_interval_round(shift):
    differences = np.random.default_rng(5).normal(shift, 1, (3, 40))
    one, other = paired_interval(crossed(differences)), paired_interval(crossed(-differences))
    assert (one.low, one.high, one.minimum_detectable_difference) == pytest.approx(
        (-other.high, -other.low, other.minimum_detectable_difference)
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_mcnemar_is_statsmodels_exact_one(pairs):
    baseline, differential = (np.array(arm) for arm in zip(*pairs, strict=True))
    ours = mcnemar(baseline, differential)
    table = [[(a & b).sum() for b in (differential, ~differential)] for a in (baseline, ~baseline)]
    assert ours.p_value == pytest.approx(statsmodels_mcnemar(table, exact=True).pvalue)
    assert (ours.baseline_only_correct, ours.differential_only_correct) == (table[0][1], table[1][0])


def test_no_interval_of_accuracies_goes_beyond_what_accuracies_can_differ_by():
    few = paired_interval(crossed([[0, 1, 0, 0, 0, 0], [-1, 1, 1, 1, 1, 1]]))
    assert few.low < -1 and few.high > 1
    assert (few.clipped(1).low, few.clipped(1).high) == (-1, 1)
    assert few.clipped(1).model_copy(update={"low": few.low, "high": few.high}) == few
    alone = paired_interval(crossed([[0, 1, 0]]))
    assert alone.clipped(1) == alone
