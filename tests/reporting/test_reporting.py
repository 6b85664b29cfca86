import re

import numpy as np
import pandas as pd
import pytest

from stages.aggregate import summarize_replicates
from stages.data.store import Prepared
from stages.evaluation.comparison import check_goal, compare_eval_mode, compare_training, summarize_arms
from stages.metrics_files import Evaluation, PrepareMetrics, TrainingMetrics
from stages.params import ARMS, SPLITS, Goal
from stages.reporting.changes import metric_rows, param_rows
from stages.reporting.charts import (
    as_specification,
    as_svg,
    confusion_matrix,
    group_marks,
    learning_curves,
    range_tests,
    rate_curves,
    reliability_diagram,
    side_by_side,
)
from stages.reporting.disagreements import MAX_SHOWN, find_disagreements
from stages.reporting.markdown import markdown_table
from stages.reporting.tables import Results, goal_sentence, goal_table, result_table, verdict_sentence

TRAINED = {
    "baseline": {
        1: {"train_accuracy": 0.95, "val_accuracy": 0.78, "train_loss": 0.15, "val_loss": 0.45},
        2: {"train_accuracy": 0.97, "val_accuracy": 0.80, "train_loss": 0.13, "val_loss": 0.43},
    },
    "differential": {
        1: {"train_accuracy": 0.90, "val_accuracy": 0.87, "train_loss": 0.25, "val_loss": 0.35},
        2: {"train_accuracy": 0.90, "val_accuracy": 0.86, "train_loss": 0.25, "val_loss": 0.35},
    },
}
RATES = {"baseline": {"stem": 0.01, "head": 0.01}, "differential": {"stem": 0.0001, "head": 0.01}}
OTHER_METRICS = ["balanced_accuracy", "macro_f1", "roc_auc", "brier", "calibration_error"]
INTERVAL = {"estimate": 0.08, "low": 0.02, "high": 0.14, "minimum_detectable_difference": 0.09}


def build_results(seeds=(1, 2), **verdict):
    """The results of a small experiment with these seeds; what is said of its verdict takes the place of `better`."""
    trained = {
        arm: {
            seed: {**row, "overfitting_gap": row["train_accuracy"] - row["val_accuracy"]}
            for seed, row in TRAINED[arm].items()
            if seed in seeds
        }
        for arm in ARMS
    }
    training = {arm: TrainingMetrics(learning_rates=RATES[arm], **summarize_replicates(trained[arm])) for arm in ARMS}

    def on_split(split):
        accuracy, loss = ("train_accuracy", "train_loss") if split == "train" else ("val_accuracy", "val_loss")
        metrics = {
            arm: {
                seed: {"accuracy": row[accuracy], "loss": row[loss], **dict.fromkeys(OTHER_METRICS, 0.8)}
                for seed, row in trained[arm].items()
            }
            for arm in ARMS
        }
        test = {"baseline_only_correct": 3, "differential_only_correct": 5, "p_value": 0.7}
        interval = {**INTERVAL, **{key: value for key, value in verdict.items() if key != "decision"}}
        return {
            **summarize_arms(metrics),
            "interval": {"accuracy": interval, "loss": INTERVAL},
            "mcnemar": {str(seed): test for seed in seeds},
        }

    splits = {split: on_split(split) for split in SPLITS}
    goal = Goal(val_accuracy_above=0.85, train_accuracy_below=0.92)
    by_group = {arm: summarize_replicates({seed: {"stem": 0.1, "head": 0.2} for seed in seeds}) for arm in ARMS}
    evaluation = {
        "verdict": {
            "decision": "better",
            "metric": "accuracy on test",
            "level": 0.95,
            "power": 0.8,
            **INTERVAL,
            **verdict,
        },
        "goal": {**goal.model_dump(), **{arm: check_goal(goal, training[arm]) for arm in ARMS}},
        "training": compare_training(training, list(seeds)),
        "eval_mode": compare_eval_mode(splits["train"], splits["val"]),
        **splits,
        "relative_weight_change": by_group,
        "linear_cka": by_group,
    }
    counts = {"images": 30, "classes": {"good": 20, "bad": 10}}
    prepare = {"images": 90, "skipped": 0, "unassigned": 0, "image_size": 32, "channels": 1, "checks": {}}
    return Results(
        prepare=PrepareMetrics(**prepare, **dict.fromkeys(SPLITS, counts)),
        training=training,
        evaluation=Evaluation.model_validate(evaluation),
    )


def row(results, metric):
    return next(row for row in result_table(results) if row["metric"] == metric)


def test_the_table_says_mean_and_spread_and_the_paired_difference():
    results = build_results()
    assert row(results, "training accuracy") == {
        "metric": "training accuracy",
        "baseline": "96.0 ± 1.4 %",
        "differential": "90.0 ± 0.0 %",
        "difference": "−6.0 ± 1.4",
    }
    assert row(results, "validation loss")["difference"] == "−0.090 ± 0.014"
    assert row(results, "gap in evaluation mode")["baseline"] == "17.0 ± 0.0 %"
    assert row(results, "test accuracy, 95 % interval")["difference"] == "+2.0 to +14.0"
    assert row(results, "test loss, 95 % interval")["difference"] == "+0.020 to +0.140"


def test_the_table_says_the_rates_that_were_trained_with():
    rates = row(build_results(), "rate of backbone / head")
    assert (rates["baseline"], rates["differential"]) == ("0.01 / 0.01", "0.0001 / 0.01")


def test_the_goal_has_its_thresholds_values_and_replicates():
    validation, training = goal_table(build_results())
    assert validation == {
        "condition": "validation accuracy above 85 %",
        "baseline": "79.0 %: not met, in 0 of 2 replicates",
        "differential": "86.5 %: met, in 2 of 2 replicates",
    }
    assert training["differential"] == "90.0 %: met, in 2 of 2 replicates"
    assert row(build_results(), "goal")["differential"] == "met"
    assert row(build_results(), "replicates meeting it")["baseline"] == "0 of 2"


def test_the_verdict_is_one_sentence_with_its_interval():
    assert verdict_sentence(build_results()) == (
        "Better: different rates raise the accuracy on the test images: differential − baseline is +8.0 points (95 % "
        "interval +2.0 to +14.0); a true difference of 9.0 points would have been shown about four times in five."
    )


def test_the_goal_sentence_says_who_meets_it_and_both_gaps():
    assert goal_sentence(build_results()).startswith(
        "The differential arm meets the goal in the mean; 2 of 2 replicates meet it. Its overfitting gap differs from "
        "the baseline's by −13.5 points ("
    )
    assert "training accuracy is counted while training, and by −13.5 (" in goal_sentence(build_results())


@pytest.mark.parametrize(
    ("met", "meeting", "says"),
    [
        (True, 2, "meets the goal in the mean; 2 of 2 replicates meet it."),
        (True, 1, "meets the goal in the mean; 1 of 2 replicates meets it."),
        (True, 0, "meets the goal in the mean; 0 of 2 replicates meet it."),
        (False, 1, "does not meet the goal in the mean; 1 of 2 replicates meets it."),
        (False, 0, "does not meet the goal in the mean; 0 of 2 replicates meet it."),
    ],
)
def test_the_goal_sentence_is_true_whatever_the_numbers(met, meeting, says):
    results = build_results()
    goal = results.evaluation.goal
    arm = goal.differential.model_copy(update={"met": met, "replicates_meeting": meeting})
    evaluation = results.evaluation.model_copy(update={"goal": goal.model_copy(update={"differential": arm})})
    assert f"The differential arm {says}" in goal_sentence(Results(results.prepare, results.training, evaluation))


@pytest.mark.parametrize(
    ("decision", "says"), [("worse", "lower the accuracy"), ("no difference shown", "No difference")]
)
def test_each_decision_has_its_words(decision, says):
    assert says in verdict_sentence(build_results(decision=decision))


UNKNOWN = {"low": None, "high": None, "minimum_detectable_difference": None}


def test_one_seed_has_no_interval_and_says_so():
    alone = build_results(seeds=[1], decision="no difference shown", **UNKNOWN)
    assert verdict_sentence(alone).endswith("of one seed, which says nothing of the chance between seeds.")
    assert row(alone, "test accuracy, 95 % interval")["difference"] == "unknown"
    assert row(alone, "test accuracy")["baseline"] == "78.0 %"


def test_an_interval_that_says_nothing_says_so():
    """As that of three images."""
    useless = {"low": -1.0, "high": 1.0, "minimum_detectable_difference": 4.7}
    assert verdict_sentence(build_results(decision="no difference shown", **useless)).endswith(
        "(95 % interval −100.0 to +100.0); so few images and seeds would show no difference, however large."
    )


def test_arms_that_are_the_same_everywhere_have_no_interval_and_it_says_why():
    same = build_results(decision="no difference shown", estimate=0.0, **UNKNOWN)
    assert verdict_sentence(same).endswith("+0.0 points everywhere, which leaves no chance to reckon with.")


def test_diverged_replicates_are_named_in_the_verdict():
    results = build_results()
    evaluation = results.evaluation.model_copy(update={"diverged": {"baseline": [3, 5]}})
    assert "The loss was not finite in baseline with seed 3, 5: the arms are compared over" in verdict_sentence(
        Results(results.prepare, results.training, evaluation)
    )


def test_a_table_in_markdown_keeps_what_it_is_given_and_escapes_bars():
    assert markdown_table(["", "a|b"], [["x|y", "0.010"]]).splitlines() == [
        r"|      |   a\|b |",
        r"|:-----|-------:|",
        r"| x\|y |  0.010 |",
    ]


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


def test_parameters_that_changed_came_or_went_have_a_row():
    before, after = (
        {"lr.head": 0.01, "lr.layer_decay": None, "old": 1},
        {"lr.head": 0.02, "lr.layer_decay": None, "new": None},
    )
    assert param_rows(before, after) == [["lr.head", "0.01", "0.02"], ["new", "", "null"], ["old", "1", ""]]


NAMES = ["plain", "</script><script>alert(1)</script>"]


def charts():
    curves = pd.DataFrame({"seed": [1, 1], "epoch": [1, 2], "train_accuracy": [0.5, 0.6], "val_accuracy": [0.5, 0.4]})
    rates = pd.DataFrame({"step": [1, 2], "layer_group": ["stem", "head"], "learning_rate": [0.1, 0.0]})
    tests = pd.DataFrame({"part": ["head", "all"], "learning_rate": [0.01, 0.1], "smoothed_loss": [0.5, 0.4]})
    bins = pd.DataFrame({"arm": "baseline", "bin": [8, 9], "samples": 3, "confidence": [0.6, 0.7], "accuracy": 0.5})
    return [
        learning_curves(dict.fromkeys(ARMS, curves), "train", "accuracy"),
        group_marks({arm: {"stem": 0.1, "head": 0.0} for arm in ARMS}, "learning rate"),
        rate_curves(rates, "baseline"),
        confusion_matrix(pd.DataFrame({"actual": NAMES, "predicted": NAMES}), NAMES, "baseline"),
        reliability_diagram(bins),
        range_tests(tests, {"head": 0.01}),
    ]


def test_a_thousand_classes_draw_the_pairs_that_occur_and_no_million():
    names = [f"class {number:03}" for number in range(1000)]
    chart = confusion_matrix(pd.DataFrame({"actual": names, "predicted": names[::-1]}), names, "baseline")
    assert as_svg(chart).count("<path") < 3000
    assert len(chart.data) == 1000


@pytest.mark.parametrize("number", range(6))
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
        pd.DataFrame({"image": images, "label": 0, "class": "a", "stratum": "a", "split": "val"}),
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
    assert len(everywhere) == MAX_SHOWN
