import math

import pytest
import torch
from torch import nn

from stages.aggregate import summarize_replicates
from stages.evaluation.comparison import check_goal, compare_eval_mode, compare_training, paired_difference
from stages.evaluation.weight_change import relative_weight_change
from stages.metrics_files import Summary, TrainingMetrics
from stages.params import ARMS, Goal


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


def test_training_metrics_are_compared_over_the_seeds_that_both_arms_have():
    training = {"baseline": trained({1: 0.1, 2: 0.2, 3: 0.9}), "differential": trained({1: 0.05, 2: 0.1})}
    compared = compare_training(training, [1, 2])
    assert compared["difference"]["mean"]["overfitting_gap"] == pytest.approx(-0.075)
    assert set(compared["difference"]["mean"]) == {"train_accuracy", "train_loss", "overfitting_gap"}
    assert compared["interval"]["overfitting_gap"]["estimate"] == pytest.approx(-0.075)


def test_the_gap_in_evaluation_mode_is_that_of_the_accuracies_of_the_same_replicate():
    def scores(accuracies):
        return {
            arm: summarize_replicates({1: {"accuracy": accuracy}})
            for arm, accuracy in zip(ARMS, accuracies, strict=True)
        }

    compared = compare_eval_mode(train=scores([0.9, 0.95]), val=scores([0.8, 0.9]))
    assert compared["baseline"]["mean"]["overfitting_gap"] == pytest.approx(0.1)
    assert compared["difference"]["seeds"]["1"]["overfitting_gap"] == pytest.approx(-0.05)
    assert compared["interval"]["overfitting_gap"]["low"] is None  # of one seed


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
