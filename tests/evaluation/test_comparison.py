import math

import pytest
import torch
from torch import nn

from stages.evaluation.comparison import difference, figures_by_seed, judge_goal
from stages.evaluation.movement import relative_movement
from stages.params import Goal
from stages.spread import over_replicates


def test_movement_is_the_norm_of_the_change_over_the_norm_of_the_start():
    before, after = nn.Linear(2, 1), nn.Linear(2, 1)
    before.load_state_dict({"weight": torch.tensor([[3.0, 4.0]]), "bias": torch.tensor([2.0])})
    after.load_state_dict({"weight": torch.tensor([[3.0, 5.0]]), "bias": torch.tensor([2.0])})
    assert relative_movement(before, after, {"stem": ["weight"], "head": ["bias"]}) == {"stem": 0.2, "head": 0.0}


def test_replicates_have_mean_sample_deviation_and_each():
    summary = over_replicates({1: {"accuracy": 0.8}, 5: {"accuracy": 0.9}})
    assert summary["mean"] == {"accuracy": pytest.approx(0.85)}
    assert summary["std"] == {"accuracy": pytest.approx(0.1 / math.sqrt(2))}
    assert summary["seed_1"] == {"accuracy": 0.8}
    assert summary["seed_5"] == {"accuracy": 0.9}


def test_the_deviation_of_one_replicate_is_unknown():
    assert over_replicates({1: {"accuracy": 0.8}})["std"] == {"accuracy": None}


def test_the_difference_is_paired_by_seed():
    baseline, differential = {1: {"accuracy": 0.8}, 2: {"accuracy": 0.9}}, {2: {"accuracy": 0.8}, 1: {"accuracy": 0.9}}
    paired = difference(baseline, differential)
    assert paired[1]["accuracy"] == pytest.approx(0.1)
    assert paired[2]["accuracy"] == pytest.approx(-0.1)


def test_seeds_are_read_back_from_the_metrics():
    figures = {1: {"accuracy": 0.5}, 20: {"accuracy": 0.6}}
    assert figures_by_seed(over_replicates(figures)) == figures


@pytest.mark.parametrize(
    ("val", "train", "met"),
    [(0.86, 0.91, True), (0.85, 0.91, False), (0.86, 0.92, False), (0.84, 0.93, False)],
)
def test_the_goal_is_strictly_above_and_strictly_below(val, train, met):
    figures = {"val_accuracy": val, "train_accuracy": train}
    goal = judge_goal(Goal(val_accuracy_above=0.85, train_accuracy_below=0.92), figures, [figures, figures])
    assert goal["met"] is met
    assert goal["replicates_met"] == (2 if met else 0)
    assert goal["val_accuracy"] == {"value": val, "met": val > 0.85, "replicates_met": 2 if val > 0.85 else 0}
    assert goal["train_accuracy"] == {"value": train, "met": train < 0.92, "replicates_met": 2 if train < 0.92 else 0}
