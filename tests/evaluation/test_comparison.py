import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from stages.aggregate import summarize_replicates
from stages.evaluation.comparison import (
    Pool,
    ScoredReplicate,
    check_goal,
    compare_eval_mode,
    compare_on_split,
    compare_training,
    difference_sample,
    gap_sample,
    paired_difference,
)
from stages.evaluation.metrics import classification_metrics
from stages.evaluation.statistics import paired_interval
from stages.evaluation.weight_change import relative_weight_change
from stages.metrics_files import SplitComparison, Summary, TrainingMetrics
from stages.params import ARMS, Goal, Metric


def test_the_relative_weight_change_is_the_norm_of_the_change_over_the_norm_of_the_start():
    before, after = nn.Linear(2, 1), nn.Linear(2, 1)
    before.load_state_dict({"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([2.0])})
    after.load_state_dict({"weight": torch.tensor([[3.0, 5.0]]), "bias": torch.tensor([2.0])})
    assert relative_weight_change(before, after, {"stem": ["weight"], "head": ["bias"]}) == {"stem": 0.2, "head": 0.0}


def test_replicates_have_mean_sample_deviation_and_each():
    summary = summarize_replicates({1: {"accuracy": 0.8}, 5: {"accuracy": 0.9}})
    assert summary["mean"] == {"accuracy": pytest.approx(0.85)}
    assert summary["std"] == {"accuracy": pytest.approx(0.1 / math.sqrt(2))}
    assert summary["seeds"] == {"1": {"accuracy": 0.8}, "5": {"accuracy": 0.9}}


def test_the_deviation_of_one_replicate_is_unknown():
    assert summarize_replicates({1: {"accuracy": 0.8}})["std"] == {"accuracy": None}


def test_the_difference_is_paired_by_seed():
    baseline, differential = {1: {"accuracy": 0.8}, 2: {"accuracy": 0.9}}, {2: {"accuracy": 0.8}, 1: {"accuracy": 0.9}}
    paired = paired_difference(baseline, differential)
    assert paired[1]["accuracy"] == pytest.approx(0.1)
    assert paired[2]["accuracy"] == pytest.approx(-0.1)


def test_seeds_are_read_back_from_the_metrics():
    metrics = {1: {"accuracy": 0.5}, 20: {"accuracy": 0.6}}
    assert Summary.model_validate(summarize_replicates(metrics)).seeds == metrics


IMAGES, CLASSES = 60, 3


def scored(random, rows, better=0.0):
    """One pair of replicates on some of `IMAGES`; the differential arm is surer of the label by `better`."""
    labels = np.arange(IMAGES)[rows] % CLASSES
    probabilities = {}
    for arm, surer in zip(ARMS, (0.5, 0.5 + better), strict=True):
        logits = random.normal(0, 1, (len(rows), CLASSES)) + surer * np.eye(CLASSES)[labels]
        probabilities[arm] = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return ScoredReplicate(np.asarray(rows), labels, probabilities)


def accuracy(of, arm):
    return classification_metrics(of.labels, of.probabilities[arm])["accuracy"]


ALONE = Pool(np.arange(IMAGES))


@pytest.mark.parametrize("metric", get_args(Metric))
@given(seed=st.integers(0, 10_000))
@settings(max_examples=10)
def test_the_sample_has_the_difference_of_every_replicate_and_what_each_image_adds(metric, seed):
    random = np.random.default_rng(seed)
    replicates = {7: scored(random, np.arange(0, 40)), 3: scored(random, np.arange(10, 50))}
    sample = difference_sample(metric, replicates, ALONE)
    differences = [
        np.subtract(*(classification_metrics(of.labels, of.probabilities[arm])[metric] for arm in reversed(ARMS)))
        for of in replicates.values()
    ]
    assert sample.estimates == pytest.approx(np.array(differences))
    assert sample.influences.shape == (2, 50)
    assert sample.influences.sum(1) == pytest.approx(0, abs=1e-12)
    assert not sample.influences[~sample.scored].any()
    assert sample.scored.sum(1).tolist() == [40, 40]


def test_with_folds_each_replicate_has_images_of_its_own_and_groups_stay_whole():
    random = np.random.default_rng(0)
    units = np.arange(IMAGES) // 4
    replicates = {seed: scored(random, np.flatnonzero(units % 5 == seed)) for seed in range(5)}
    sample = difference_sample("accuracy", replicates, Pool(units, folds=5))
    assert (sample.folds, sample.sizes.tolist()) == (5, [4] * 15)
    assert (sample.scored.sum(0) == 1).all()
    assert paired_interval(sample).low is not None


def test_a_part_of_a_replicate_keeps_rows_labels_and_probabilities_together():
    whole = scored(np.random.default_rng(0), np.arange(10, 30))
    part = whole.part(whole.rows % 2 == 0)
    assert part.rows.tolist() == list(range(10, 30, 2))
    assert part.labels.tolist() == whole.labels[::2].tolist()
    assert part.probabilities["baseline"].tolist() == whole.probabilities["baseline"][::2].tolist()


def test_the_comparison_on_a_split_is_what_the_schema_says_and_no_interval_is_wider_than_can_be():
    random = np.random.default_rng(0)
    replicates = {seed: scored(random, np.arange(6)) for seed in (1, 2)}
    compared = SplitComparison.model_validate(compare_on_split(replicates, ALONE))
    assert compared.interval.keys() == set(get_args(Metric))
    assert compared.mcnemar.keys() == {1, 2}
    ends = {metric: (found.low, found.high) for metric, found in compared.interval.items() if found.low is not None}
    assert -1 <= ends["accuracy"][0] < ends["accuracy"][1] == 1
    assert max(ends["brier"]) <= 2


def trained(gaps):
    """What metrics/ARM.json holds of replicates with these overfitting gaps."""
    by_seed = {
        seed: {
            "train_accuracy": 0.9,
            "train_loss": 0.2,
            "val_accuracy": 0.9 - gap,
            "val_loss": 0.4,
            "overfitting_gap": gap,
        }
        for seed, gap in gaps.items()
    }
    return TrainingMetrics(learning_rates={"head": 0.1}, **summarize_replicates(by_seed))


def train_and_val(seeds=(1, 2, 3)):
    """Each replicate with training and validation images of its own."""
    random = np.random.default_rng(1)
    drawn = {seed: random.permutation(IMAGES) for seed in seeds}
    return (
        {seed: scored(random, np.sort(rows[:35]), better=1.0) for seed, rows in drawn.items()},
        {seed: scored(random, np.sort(rows[35:50])) for seed, rows in drawn.items()},
    )


def test_the_difference_of_the_gaps_owes_to_training_images_and_the_opposite_to_validation_images():
    train, val = train_and_val()
    sample = gap_sample(train, val, ALONE)
    gaps = {arm: np.array([accuracy(train[seed], arm) - accuracy(val[seed], arm) for seed in train]) for arm in ARMS}
    assert sample.estimates == pytest.approx(gaps["differential"] - gaps["baseline"])
    assert sample.influences.sum(1) == pytest.approx(0, abs=1e-12)
    of_train = difference_sample("accuracy", train, ALONE)
    assert (of_train.influences**2).sum() < (sample.influences**2).sum()
    assert sample.scored.sum(1).tolist() == [50] * 3


def test_training_metrics_are_compared_with_the_images_that_stand_in_for_those_met_while_training():
    training = {"baseline": trained({1: 0.1, 2: 0.2, 3: 0.4}), "differential": trained({1: 0.05, 2: 0.1, 3: 0.25})}
    sample = gap_sample(*train_and_val(), ALONE)
    compared = compare_training(training, sample)
    assert compared["difference"]["mean"]["overfitting_gap"] == pytest.approx(-0.1)
    assert set(compared["difference"]["mean"]) == {"train_accuracy", "train_loss", "overfitting_gap"}
    found = compared["interval"]["overfitting_gap"]
    assert found["estimate"] == pytest.approx(-0.1)
    by_replicates = 4.303 * np.std([-0.05, -0.1, -0.15], ddof=1) / math.sqrt(3)
    assert found["high"] - found["estimate"] >= 0.99 * by_replicates


def test_the_gap_in_evaluation_mode_is_that_of_the_accuracies_of_the_same_replicate():
    train, val = train_and_val(seeds=[1])
    summaries = [compare_on_split(of_split, ALONE) for of_split in (train, val)]
    compared = compare_eval_mode(*summaries, gap_sample(train, val, ALONE))
    expected = {arm: accuracy(train[1], arm) - accuracy(val[1], arm) for arm in ARMS}
    assert compared["baseline"]["mean"]["overfitting_gap"] == pytest.approx(expected["baseline"])
    difference = compared["difference"]["seeds"]["1"]["overfitting_gap"]
    assert difference == pytest.approx(expected["differential"] - expected["baseline"])
    assert compared["interval"]["overfitting_gap"] == {
        "estimate": pytest.approx(difference),
        "reason": "one replicate says nothing of the chance between replicates",
    }


@pytest.mark.parametrize(
    ("val", "train", "met"),
    [(0.86, 0.91, True), (0.85, 0.91, False), (0.86, 0.92, False), (0.84, 0.93, False)],
)
def test_the_goal_is_strictly_above_and_strictly_below(val, train, met):
    by_seed = {seed: {"val_accuracy": val, "train_accuracy": train} for seed in (1, 2)}
    training = TrainingMetrics(learning_rates={"head": 0.1}, **summarize_replicates(by_seed))
    goal = check_goal(Goal(val_accuracy_above=0.85, train_accuracy_below=0.92), training)
    assert goal["met"] is met
    assert goal["replicates_meeting"] == (2 if met else 0)
    assert goal["val_accuracy"] == {"value": val, "met": val > 0.85, "replicates_meeting": 2 if val > 0.85 else 0}
    assert goal["train_accuracy"] == {
        "value": train,
        "met": train < 0.92,
        "replicates_meeting": 2 if train < 0.92 else 0,
    }


@pytest.mark.parametrize(("values", "meeting"), [([0.80, 0.82], 0), ([0.78, 0.90], 1), ([0.90, 0.92], 2)])
def test_the_goal_is_met_by_none_some_or_all_of_the_replicates(values, meeting):
    by_seed = {seed: {"val_accuracy": value, "train_accuracy": 0.9} for seed, value in enumerate(values)}
    training = TrainingMetrics(learning_rates={"head": 0.1}, **summarize_replicates(by_seed))
    goal = check_goal(Goal(val_accuracy_above=0.85, train_accuracy_below=0.92), training)
    assert (goal["replicates_meeting"], goal["met"]) == (meeting, meeting == 2)
    assert goal["train_accuracy"]["replicates_meeting"] == 2


def test_no_interval_of_a_difference_of_gaps_is_wider_than_can_be():
    """Of two replicates that differ as much as can be, the interval would reach beyond 500 points."""
    train, val = train_and_val((1, 2))
    gap = gap_sample(train, val, Pool(np.arange(IMAGES)))
    wild = replace(gap, estimates=np.array([-1.0, 1.0]))
    split = {arm: {"seeds": {seed: {"accuracy": 0.5} for seed in ("1", "2")}} for arm in ARMS}
    assert paired_interval(wild).high > 2
    training = {"baseline": trained({1: 1.0, 2: -1.0}), "differential": trained({1: -1.0, 2: 1.0})}
    for compared in (compare_training(training, gap), compare_eval_mode(split, split, wild)):
        found = compared["interval"]["overfitting_gap"]
        assert (found["low"], found["high"]) == (-2, 2)
