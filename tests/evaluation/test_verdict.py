"""What the stage makes of probabilities: which replicates failed, what counts as a group, and the verdict."""

import numpy as np
import pandas as pd
import pytest

from stages.aggregate import summarize_replicates
from stages.data.store import Prepared
from stages.evaluate import find_failures, planned_replicates, weigh_evidence, without_near_duplicates
from stages.evaluation.comparison import Pool, ScoredReplicate
from stages.evaluation.images import image_units
from stages.evaluation.statistics import level_of_look
from stages.metrics_files import PlannedInterval, TrainingMetrics, Verdict
from stages.params import ARMS, Evidence

IMAGES = 240
TESTED = np.arange(120, IMAGES)


def prepared(**columns):
    """Images, the second half of them tested."""
    table = {
        "image": [f"image-{number}" for number in range(IMAGES)],
        "label": np.arange(IMAGES) % 2,
        "group": "",
        "near_duplicates": "",
        "split": np.where(np.arange(IMAGES) < 120, "train", "test"),
    }
    return Prepared(np.zeros((IMAGES, 8, 8, 1), dtype=np.uint8), pd.DataFrame({**table, **columns}))


def replicate(random, accuracy):
    """Both arms on all test images, right as often as is said; an arm at None takes all for the same class."""
    labels = TESTED % 2
    probabilities = {}
    for arm in ARMS:
        of_label = np.where(random.random(len(labels)) < (accuracy[arm] or 0), 0.9, 0.1)
        second = np.where(labels == 1, of_label, 1 - of_label) if accuracy[arm] else np.full(len(labels), 0.1)
        probabilities[arm] = np.stack([1 - second, second], axis=1)
    return ScoredReplicate(TESTED, labels, probabilities)


def experiment(random, replicates=3, baseline=0.7, differential=0.9, collapses=()):
    """Replicates of which those in `collapses` have a differential arm that learnt nothing."""
    return {
        seed: replicate(random, {"baseline": baseline, "differential": None if seed in collapses else differential})
        for seed in range(1, replicates + 1)
    }


def trained(diverged=()):
    training = TrainingMetrics(learning_rates={"head": 0.1}, **summarize_replicates({1: {"val_accuracy": 0.9}}))
    where = {seed: {"epoch": 1, "step": 1, "group": None} for seed in diverged}
    return TrainingMetrics.model_validate({**training.model_dump(), "diverged": where})


def weigh(tested, looks=None, metric="accuracy", diverged=(), images=None, units=None):
    training = {"baseline": trained(), "differential": trained(diverged)}
    images = images or prepared()
    pool = Pool(np.arange(IMAGES) if units is None else units)
    evidence = Evidence(metric=metric, looks=looks)
    weighed = weigh_evidence(tested, pool, find_failures(tested, training), dict.fromkeys(tested, images), evidence)
    return Verdict.model_validate(weighed["verdict"]), weighed["plan"]


@pytest.mark.parametrize(("metric", "decision"), [("accuracy", "better"), ("loss", "better"), ("roc_auc", "better")])
def test_an_arm_that_is_much_better_is_called_better_by_every_metric(metric, decision):
    verdict, plan = weigh(experiment(np.random.default_rng(0)), metric=metric)
    assert (verdict.decision, verdict.metric, verdict.reached_at) == (decision, metric, 3)
    assert verdict.units == "images"
    assert verdict.effective_units == pytest.approx(len(TESTED))
    assert {PlannedInterval.model_validate(of).images for of in plan} == {120, 240, 480}


def test_an_arm_that_is_much_worse_is_called_worse():
    verdict, _ = weigh(experiment(np.random.default_rng(0), baseline=0.9, differential=0.7))
    assert (verdict.decision, verdict.reached_at) == ("worse", 3)


def test_the_interval_is_the_last_looks_and_the_decision_the_first_that_decides():
    verdict, _ = weigh(
        experiment(np.random.default_rng(0), replicates=6, baseline=0.5, differential=0.99), looks=[3, 6, 12]
    )
    assert [look.replicates for look in verdict.looks] == [3, 6]
    assert verdict.looks[0].decision == "better"
    assert (verdict.decision, verdict.reached_at) == ("better", 3)
    assert verdict.level == pytest.approx(level_of_look([3, 6, 12], 1))
    assert (verdict.low, verdict.high) == (verdict.looks[1].interval.low, verdict.looks[1].interval.high)


@pytest.mark.slow
def test_an_arm_that_is_better_where_it_learns_but_sometimes_does_not_is_never_called_better():
    random, without_the_rule = np.random.default_rng(1), set()
    for _ in range(40):
        collapses = [seed for seed in range(1, 13) if random.random() < 0.1] or [int(random.integers(1, 13))]
        tested = experiment(random, replicates=12, collapses=collapses)
        verdict, _ = weigh(tested, looks=[3, 6, 12])
        assert (verdict.decision, verdict.reached_at) == ("unstable", None)
        without_the_rule |= {look.decision for look in verdict.looks}
    assert "better" in without_the_rule


def test_an_arm_that_always_fails_is_worse_and_not_unstable():
    verdict, _ = weigh(experiment(np.random.default_rng(0), baseline=0.9, collapses=[1, 2, 3]))
    assert verdict.decision == "worse"


def test_a_replicate_that_diverged_is_not_told_again_as_collapsed():
    tested = experiment(np.random.default_rng(0), collapses=[1, 2])
    failures = find_failures(tested, {"baseline": trained(), "differential": trained(diverged=[2])})
    assert (failures.differential.diverged, failures.differential.collapsed) == ([2], [1])
    assert failures.of("differential") == [1, 2]
    assert failures.of("baseline") == []


def test_one_replicate_has_no_verdict_and_no_plan():
    verdict, plan = weigh(experiment(np.random.default_rng(0), replicates=1))
    assert (verdict.decision, verdict.low, plan) == ("no difference shown", None, [])
    assert verdict.reason == "one replicate says nothing of the chance between replicates"


def test_images_of_the_same_group_share_a_number_and_others_have_their_own():
    images = prepared(group=["a", "b", "a", "", ""] + ["image-0"] * (IMAGES - 5))
    units = image_units(images.samples)
    assert units[0] == units[2]
    assert len(set(units.tolist())) == 5
    assert units[5] != units[0]


@pytest.mark.parametrize(("groups", "decision", "planned"), [(4, "no difference shown", False), (30, "better", True)])
def test_few_groups_have_no_verdict_however_large_the_difference(groups, decision, planned):
    units = np.arange(IMAGES) % groups
    verdict, plan = weigh(experiment(np.random.default_rng(0), differential=0.98), units=units)
    assert (verdict.decision, verdict.units, bool(plan)) == (decision, "groups", planned)
    assert verdict.effective_units == pytest.approx(groups)


def test_with_folds_one_plans_for_whole_rounds():
    assert planned_replicates(folds=1)[:3] == [2, 3, 4]
    assert planned_replicates(folds=5)[:3] == [5, 10, 15]
    assert all(number % 5 == 0 for number in planned_replicates(folds=5))


def test_test_images_that_look_like_training_images_are_left_out_of_a_second_difference():
    names = np.array([""] * IMAGES, dtype=object)
    names[[0, 130, 131]], names[[140, 141]] = "seen", "both tested"
    tested = experiment(np.random.default_rng(0))
    verdict, _ = weigh(tested, images=prepared(near_duplicates=names))
    assert verdict.near_duplicates == 2
    assert verdict.without_near_duplicates.low < verdict.without_near_duplicates.estimate
    apart, average = without_near_duplicates(tested, dict.fromkeys(tested, prepared(near_duplicates=names)))
    assert average == 2
    assert all(set(TESTED) - set(of_seed.rows) == {130, 131} for of_seed in apart.values())


def test_where_no_image_looks_like_another_there_is_no_second_difference():
    verdict, _ = weigh(experiment(np.random.default_rng(0)))
    assert (verdict.near_duplicates, verdict.without_near_duplicates) == (0, None)


def test_without_them_a_class_may_be_missing():
    names = np.where((np.arange(IMAGES) % 2 == 0), "seen", "")
    verdict, _ = weigh(experiment(np.random.default_rng(0)), images=prepared(near_duplicates=names))
    assert (verdict.near_duplicates, verdict.without_near_duplicates) == (60, None)
