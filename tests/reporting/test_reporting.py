import copy
import re

import numpy as np
import pandas as pd
import pytest

from stages.data.store import Prepared
from stages.evaluation.comparison import judge_goal
from stages.params import ARMS, Goal
from stages.reporting.changes import metric_rows, param_rows
from stages.reporting.disagreements import SHOWN, find_disagreements
from stages.reporting.figures import (
    as_specification,
    as_svg,
    confusion_matrix,
    group_marks,
    learning_curves,
    rate_curves,
    reliability_diagram,
    side_by_side,
)
from stages.reporting.results import Results, goal_sentence, goal_table, result_table, verdict
from stages.spread import over_replicates

TRAINING = {
    "baseline": {
        1: {"train_accuracy": 0.95, "val_accuracy": 0.78, "train_loss": 0.15, "val_loss": 0.45},
        2: {"train_accuracy": 0.97, "val_accuracy": 0.80, "train_loss": 0.13, "val_loss": 0.43},
    },
    "differential": {
        seed: {"train_accuracy": 0.90, "val_accuracy": 0.87, "train_loss": 0.25, "val_loss": 0.35} for seed in (1, 2)
    },
}
TESTED = ["accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "loss", "brier", "calibration_error"]
SHOWN_INTERVAL = {"estimate": 0.08, "low": 0.02, "high": 0.14, "smallest_shown": 0.09}


def with_gaps(figures):
    gap = figures["train_accuracy"] - figures["val_accuracy"]
    return {**figures, "overfitting_gap": gap, "overfitting_gap_evaluated": gap / 2}


@pytest.fixture
def results():
    training = {arm: {seed: with_gaps(row) for seed, row in rows.items()} for arm, rows in TRAINING.items()}
    story = {
        seed: {name: value - training["baseline"][seed][name] for name, value in row.items()}
        for seed, row in training["differential"].items()
    }
    tested = over_replicates({seed: dict.fromkeys(TESTED, 0.8 + seed / 100) for seed in (1, 2)})
    summaries = {arm: over_replicates(rows) for arm, rows in training.items()}
    goal = Goal(val_accuracy_above=0.85, train_accuracy_below=0.92)
    return Results(
        prepare={},
        training={
            "baseline": {"learning_rates": {"stem": 0.01, "head": 0.01}, **summaries["baseline"]},
            "differential": {"learning_rates": {"stem": 0.0001, "head": 0.01}, **summaries["differential"]},
        },
        evaluation={
            "verdict": {"word": "better", **SHOWN_INTERVAL},
            "goal": {
                **goal.model_dump(),
                **{arm: judge_goal(goal, summaries[arm]["mean"], list(training[arm].values())) for arm in ARMS},
            },
            "story": {
                "difference": over_replicates(story),
                "interval": dict.fromkeys(["overfitting_gap", "overfitting_gap_evaluated"], SHOWN_INTERVAL),
            },
            "test": {
                **dict.fromkeys([*ARMS, "difference"], tested),
                "interval": {"accuracy": SHOWN_INTERVAL, "loss": SHOWN_INTERVAL},
            },
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
    assert row(results, "test accuracy, 95 % interval")["difference"] == "+2.0 to +14.0"
    assert row(results, "test loss, 95 % interval")["difference"] == "+0.020 to +0.140"


def test_the_table_says_the_rates_that_were_trained_with(results):
    rates = row(results, "rate of backbone / head")
    assert (rates["baseline"], rates["differential"]) == ("0.01 / 0.01", "0.0001 / 0.01")


def test_the_goal_has_its_thresholds_values_and_replicates(results):
    validation, training = goal_table(results)
    assert validation == {
        "wish": "validation accuracy above 85 %",
        "baseline": "79.0 %: not met, in 0 of 2 replicates",
        "differential": "87.0 %: met, in 2 of 2 replicates",
    }
    assert training["differential"] == "90.0 %: met, in 2 of 2 replicates"
    assert row(results, "goal of the story")["differential"] == "met"


def test_the_verdict_is_one_sentence_with_its_interval(results):
    assert verdict(results) == (
        "Better: different rates raise the accuracy on the test images: differential − baseline is +8.0 points (95 % "
        "interval +2.0 to +14.0); a true difference of 9.0 points would have been shown about four times in five."
    )
    goal = goal_sentence(results)
    assert goal.startswith("The differential arm meets the goal in the mean, and 2 of 2 replicates do.")
    assert "(+2.0 to +14.0) in evaluation mode (95 % intervals over the seeds alone)" in goal


@pytest.mark.parametrize(("word", "says"), [("worse", "lower the accuracy"), ("no difference shown", "No difference")])
def test_each_verdict_has_its_words(results, word, says):
    results.evaluation["verdict"]["word"] = word
    assert says in verdict(results)


def test_one_seed_has_no_interval_and_says_so(results):
    alone = copy.deepcopy(results)
    del alone.evaluation["test"]["difference"]["seed_2"]
    for found in (alone.evaluation["verdict"], alone.evaluation["test"]["interval"]["accuracy"]):
        found.update(low=None, high=None, smallest_shown=None)
    assert verdict(alone).endswith("of one seed, which says nothing of the chance between seeds.")
    assert row(alone, "test accuracy, 95 % interval")["difference"] == "unknown"


def test_an_interval_that_says_nothing_says_so(results):
    """As that of three images."""
    results.evaluation["verdict"].update(word="no difference shown", low=-1.0, high=1.0, smallest_shown=4.7)
    assert verdict(results).endswith(
        "(95 % interval −100.0 to +100.0); so few images and seeds would show no difference, however large."
    )


def test_arms_that_are_the_same_everywhere_have_no_interval_and_it_says_why(results):
    results.evaluation["verdict"].update(word="no difference shown", estimate=0.0, low=None, smallest_shown=None)
    assert verdict(results).endswith("+0.0 points everywhere, which leaves no chance to reckon with.")


def test_a_change_of_a_metric_is_marked_as_better_or_worse():
    before = {"val_accuracy": 0.85, "val_loss": 0.4, "train_loss": 0.2, "gone": 1.0, "same": 1.0}
    after = {"val_accuracy": 0.80, "val_loss": 0.3, "train_loss": 0.1, "new": 2, "same": 1.0}
    assert metric_rows(before, after, {"val_accuracy": 0.06, "val_loss": 0.05}) == [
        ["val_accuracy", "0.85", "0.8", "−0.05", "🔻 worse, within a standard deviation of the seeds"],
        ["val_loss", "0.4", "0.3", "−0.1", "✅ better"],
        ["train_loss", "0.2", "0.1", "−0.1", ""],
        ["new", "", "2", "", ""],
        ["gone", "1", "", "", ""],
    ]


def test_parameters_that_changed_came_or_went_are_told():
    before, after = {"lr.head": 0.01, "lr.decay": None, "old": 1}, {"lr.head": 0.02, "lr.decay": None, "new": None}
    assert param_rows(before, after) == [["lr.head", "0.01", "0.02"], ["new", "", "null"], ["old", "1", ""]]


NAMES = ["plain", "</script><script>alert(1)</script>"]


def charts():
    curves = pd.DataFrame({"seed": [1, 1], "epoch": [1, 2], "train_accuracy": [0.5, 0.6], "val_accuracy": [0.5, 0.4]})
    rates = pd.DataFrame({"step": [1, 2], "layer_group": ["stem", "head"], "learning_rate": [0.1, 0.0]})
    bins = pd.DataFrame({"arm": "baseline", "bin": [8, 9], "samples": 3, "confidence": [0.6, 0.7], "accuracy": 0.5})
    return [
        learning_curves(dict.fromkeys(ARMS, curves), "train", "accuracy"),
        group_marks({arm: {"stem": 0.1, "head": 0.0} for arm in ARMS}, "learning rate"),
        rate_curves(rates, "baseline"),
        confusion_matrix(pd.DataFrame({"actual": NAMES, "predicted": NAMES}), NAMES, "baseline"),
        reliability_diagram(bins),
    ]


@pytest.mark.parametrize("number", range(5))
def test_charts_hold_no_script_and_name_no_other_file(number):
    chart = charts()[number]
    svg = as_svg(chart)
    assert svg.startswith("<svg")
    assert "<script" not in svg
    assert not [link for link in re.findall(r"https?://[^\"]*", svg) if not link.startswith("http://www.w3.org")]
    assert svg == as_svg(chart)
    specification = as_specification(chart, height=200)
    assert "<" not in specification
    assert specification == as_specification(chart, height=200)
    assert as_svg(side_by_side([chart, chart])).startswith("<svg")


def test_disagreements_come_with_most_seeds_first_and_no_more_than_are_shown():
    random = np.random.default_rng(0)
    images = [f"image-{number}" for number in range(30)]
    prepared = Prepared(
        random.integers(255, size=(30, 8, 8, 1), dtype=np.uint8),
        pd.DataFrame({"image": images, "label": 0, "class": "a", "stratum": "a", "part": "val"}),
    )
    table = pd.DataFrame({"seed": [1, 2, 3] * 30, "image": np.repeat(images, 3), "actual": "a", "predicted": "a"})
    other = table.copy()
    other.loc[(other["image"] == "image-7"), "predicted"] = "b"
    other.loc[(other["image"] == "image-3") & (other["seed"] == 2), "predicted"] = "b"
    found = find_disagreements({"baseline": table, "differential": other}, prepared)
    assert [(image.name, image.predicted["differential"]) for image in found] == [
        ("image-7", "b (3 of 3)"),
        ("image-3", "a (2 of 3), b (1 of 3)"),
    ]
    assert found[0].predicted["baseline"] == "a (3 of 3)"
    assert found[0].picture.startswith("data:image/png;base64,")
    everywhere = find_disagreements({"baseline": table, "differential": table.assign(predicted="b")}, prepared)
    assert len(everywhere) == SHOWN
