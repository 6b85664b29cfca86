import re

import pandas as pd
import pytest

from stages.reporting.figures import as_svg, confusion_matrix, group_marks, learning_curves
from stages.reporting.results import Results, result_table, verdict

FIGURES = ["train_accuracy", "train_loss", "val_accuracy", "val_loss", "overfitting_gap"]


def replicates(*seeds):
    """Figures in the shape of metrics/ARM.json; each seed gives the five figures."""
    table = pd.DataFrame(seeds, columns=FIGURES)
    std = table.std() if len(seeds) > 1 else None
    return {
        "mean": table.mean().to_dict(),
        "std": dict.fromkeys(FIGURES) if std is None else std.to_dict(),
        **{f"seed_{number}": row for number, row in enumerate(table.to_dict("records"), start=1)},
    }


@pytest.fixture
def results():
    uniform, split = {"stem": 0.01, "stage1": 0.01, "head": 0.01}, {"stem": 0.0001, "stage1": 0.0001, "head": 0.01}
    tested = {"mean": {"accuracy": 0.81}, "std": {"accuracy": 0.01}}
    missed = {"met": False, "val_accuracy_met": False, "train_accuracy_met": False, "replicates_met": 0}
    met = {"met": True, "val_accuracy_met": True, "train_accuracy_met": True, "replicates_met": 2}
    return Results(
        prepare={},
        training={
            "baseline": {"learning_rates": uniform}
            | replicates([0.95, 0.15, 0.78, 0.45, 0.17], [0.97, 0.13, 0.80, 0.43, 0.17]),
            "differential": {"learning_rates": split}
            | replicates([0.90, 0.25, 0.87, 0.35, 0.03], [0.90, 0.25, 0.87, 0.35, 0.03]),
        },
        evaluation={
            "story": {"difference": replicates([-0.05, 0.1, 0.09, -0.1, -0.14], [-0.07, 0.12, 0.07, -0.08, -0.14])},
            "test": {"baseline": tested, "differential": tested, "difference": tested},
            "goal": {"val_accuracy_above": 0.85, "train_accuracy_below": 0.92, "baseline": missed, "differential": met},
        },
    )


def row(results, figure):
    return next(row for row in result_table(results) if row["figure"] == figure)


def test_the_table_says_mean_and_spread_and_the_paired_difference(results):
    assert row(results, "training accuracy") == {
        "figure": "training accuracy",
        "baseline": "96.0 ± 1.4 %",
        "differential": "90.0 ± 0.0 %",
        "difference": "−6.0 ± 1.4",
    }
    assert row(results, "validation loss")["difference"] == "−0.090 ± 0.014"


def test_the_table_says_the_rates_that_were_trained_with(results):
    rates = row(results, "learning rate of backbone / head")
    assert (rates["baseline"], rates["differential"]) == ("0.01 / 0.01", "0.0001 / 0.01")


def test_the_table_says_whether_the_goal_is_met(results):
    goal = row(results, "goal: validation accuracy above 85 %")
    assert (goal["baseline"], goal["differential"]) == ("not met", "met")
    assert row(results, "replicates that meet both")["differential"] == "2 of 2"


def test_the_verdict_says_goal_difference_and_how_far_the_seeds_agree(results):
    assert verdict(results) == (
        "The differential arm meets the goal. Against the baseline it validates +8.0 ± 1.4 points (better in 2 of 2 "
        "seeds), and its overfitting gap differs by −14.0 ± 0.0 points (narrower in 2 of 2)."
    )


def test_charts_hold_no_script_and_name_no_other_file():
    curves = pd.DataFrame({"seed": [1, 1], "epoch": [1, 2], "train_accuracy": [0.5, 0.6], "val_accuracy": [0.5, 0.4]})
    names = ["plain", "<script>alert(1)</script>"]
    predictions = pd.DataFrame({"actual": names, "predicted": names})
    arms = ("baseline", "differential")
    for chart in (
        learning_curves(dict.fromkeys(arms, curves), "accuracy"),
        group_marks({arm: {"stem": 0.1, "head": 0.0} for arm in arms}, "learning rate"),
        confusion_matrix(predictions, names, "baseline"),
    ):
        svg = as_svg(chart)
        assert svg.startswith("<svg")
        assert "<script" not in svg
        assert not [link for link in re.findall(r"https?://[^\"]*", svg) if not link.startswith("http://www.w3.org")]
        assert svg == as_svg(chart)
