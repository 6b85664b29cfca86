"""The results of the experiment, as the stages left them under metrics/, as sentences and tables for people."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stages.data.checks import CHECKS
from stages.metrics_files import (
    Evaluation,
    GoalMetric,
    Interval,
    PrepareMetrics,
    Summary,
    TrainingMetrics,
    read_evaluation,
    read_prepare_metrics,
    read_training_metrics,
)
from stages.params import ARMS, Arm, Split

PAGE = Path("report/index.html")
MINUS = "−"


@dataclass(frozen=True)
class Results:
    """Everything that the stages measured: the content of metrics/prepare.json, ARM.json and evaluation.json."""

    prepare: PrepareMetrics
    training: dict[Arm, TrainingMetrics]
    evaluation: Evaluation


def load_results() -> Results:
    """Read what the stages measured.

    Raises:
        UserError: a stage has not run yet, or a file is not what a stage writes.
    """
    return Results(read_prepare_metrics(), read_training_metrics(), read_evaluation())


def checks_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each check of the images that found something."""
    return [
        {"check": check.replace("_", " "), "found": f"{found:,}", "description": CHECKS[check].description}
        for check, found in results.prepare.checks.items()
        if found
    ]


def verdict_sentence(results: Results) -> str:
    """Return in one sentence what the evidence says, with its interval."""
    verdict = results.evaluation.verdict
    decision = {
        "better": "Better: different rates raise the accuracy on the test images",
        "worse": "Worse: different rates lower the accuracy on the test images",
        "no difference shown": "No difference shown between the arms' accuracy on the test images",
    }[verdict.decision]
    measured = f"{decision}: differential − baseline is {points(verdict.estimate)} points"
    if verdict.low is None and results.evaluation.replicates == 1:
        return f"{measured}, of one seed, which says nothing of the chance between seeds.{exclusion_note(results)}"
    smallest = verdict.minimum_detectable_difference
    if verdict.low is None or smallest is None:
        return f"{measured} everywhere, which leaves no chance to reckon with.{exclusion_note(results)}"
    power = (
        f"a true difference of {100 * smallest:.1f} points would have been shown about four times in five"
        if smallest <= 1
        else "so few images and seeds would show no difference, however large"
    )
    return f"{measured} (95 % interval {interval(verdict, 100)}); {power}.{exclusion_note(results)}"


def goal_sentence(results: Results) -> str:
    """Return whether the differential arm meets the goal, how often, and how the overfitting gaps differ."""
    goal, total = results.evaluation.goal.differential, results.evaluation.replicates
    meeting = goal.replicates_meeting
    counted = results.evaluation.training.interval["overfitting_gap"]
    in_eval_mode = results.evaluation.eval_mode.interval["overfitting_gap"]
    return (
        f"The differential arm {'meets' if goal.met else 'does not meet'} the goal in the mean; {meeting} of {total} "
        f"replicates {'meets' if meeting == 1 else 'meet'} it. Its overfitting gap differs from the baseline's by "
        f"{points(counted.estimate)} points{_in_brackets(counted)} where training accuracy is counted while training, "
        f"and by {points(in_eval_mode.estimate)}{_in_brackets(in_eval_mode)} where it is measured in evaluation mode "
        f"(95 % intervals over the seeds alone)."
    )


def goal_table(results: Results) -> list[dict[str, str]]:
    """Return the rows of the goal table: `condition`, and for each arm the value, whether it is met, and how often."""
    goal, total = results.evaluation.goal, results.evaluation.replicates

    def cell(metric: GoalMetric) -> str:
        met = "met" if metric.met else "not met"
        return f"{100 * metric.value:.1f} %: {met}, in {metric.replicates_meeting} of {total} replicates"

    return [
        {
            "condition": f"validation accuracy above {100 * goal.val_accuracy_above:g} %",
            **{arm: cell(goal.arm(arm).val_accuracy) for arm in ARMS},
        },
        {
            "condition": f"training accuracy below {100 * goal.train_accuracy_below:g} %",
            **{arm: cell(goal.arm(arm).train_accuracy) for arm in ARMS},
        },
    ]


def result_table(results: Results) -> list[dict[str, str]]:
    """Return the rows of the result table: `metric`, each arm, and `difference`, paired by seed."""
    evaluation = results.evaluation
    training = {arm: _as_summary(results.training[arm]) for arm in ARMS}
    val = {arm: evaluation.val.arm(arm) for arm in ARMS}
    eval_mode = {arm: evaluation.eval_mode.arm(arm) for arm in ARMS}
    test = {arm: evaluation.test.arm(arm) for arm in ARMS}
    counted = evaluation.training.difference
    met = {arm: evaluation.goal.arm(arm) for arm in ARMS}
    return [
        {
            "metric": "rate of backbone / head",
            **{arm: _describe_rates(results.training[arm].learning_rates) for arm in ARMS},
            "difference": "",
        },
        _row("training accuracy", percent, "train_accuracy", training, counted),
        _row("validation accuracy", percent, "accuracy", val, evaluation.val.difference),
        _row("overfitting gap", percent, "overfitting_gap", training, counted),
        _row("gap in evaluation mode", percent, "overfitting_gap", eval_mode, evaluation.eval_mode.difference),
        _row("training loss", plain, "train_loss", training, counted),
        _row("validation loss", plain, "loss", val, evaluation.val.difference),
        *(
            _row(f"test {name}", write, metric, test, evaluation.test.difference)
            for name, metric, write in SPLIT_METRICS
        ),
        {
            "metric": "test accuracy, 95 % interval",
            **dict.fromkeys(ARMS, ""),
            "difference": _interval_cell(evaluation.test.interval["accuracy"], 100),
        },
        {
            "metric": "test loss, 95 % interval",
            **dict.fromkeys(ARMS, ""),
            "difference": _interval_cell(evaluation.test.interval["loss"], 1),
        },
        {"metric": "goal", **{arm: "met" if met[arm].met else "not met" for arm in ARMS}, "difference": ""},
        {
            "metric": "replicates meeting it",
            **{arm: f"{met[arm].replicates_meeting} of {evaluation.replicates}" for arm in ARMS},
            "difference": "",
        },
    ]


def split_tables(results: Results) -> dict[str, list[dict[str, str]]]:
    """Return, for each split, a row for each metric and arm: mean and spread, then each replicate."""
    return {
        title: [
            {
                "metric": name,
                "arm": arm,
                "mean": write(results.evaluation.split(split).arm(arm), metric),
                "each": ", ".join(
                    _single(metrics[metric], write)
                    for metrics in results.evaluation.split(split).arm(arm).seeds.values()
                ),
            }
            for name, metric, write in SPLIT_METRICS
            for arm in ARMS
        ]
        for split, title in SPLIT_TITLES.items()
    }


def group_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each layer group and arm: its rate, how far its weights and its features changed."""
    weight_change, cka = results.evaluation.relative_weight_change, results.evaluation.linear_cka
    return [
        {
            "group": group,
            "arm": arm,
            "rate": f"{results.training[arm].learning_rates[group]:.3g}",
            "weight_change": plain(weight_change.arm(arm), group),
            "cka": plain(cka.arm(arm), group),
        }
        for group in weight_change.baseline.mean
        for arm in ARMS
    ]


def mcnemar_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each split and seed: the images that one arm alone gets right, and McNemar's exact test."""
    return [
        {
            "split": title,
            "seed": str(seed),
            "baseline_only": str(test.baseline_only_correct),
            "differential_only": str(test.differential_only_correct),
            "p": f"{test.p_value:.2g}",
        }
        for split, title in SPLIT_TITLES.items()
        if split != "train"
        for seed, test in results.evaluation.split(split).mcnemar.items()
    ]


def exclusion_note(results: Results) -> str:
    """Return which replicates diverged, and what the comparison is of then; nothing where none did."""
    diverged = results.evaluation.diverged
    if not diverged:
        return ""
    named = " and ".join(f"{arm} with seed {', '.join(map(str, seeds))}" for arm, seeds in diverged.items())
    return (
        f" The loss was not finite in {named}: the arms are compared over the seeds that came to an end in both, and "
        f"an arm's training metrics are of all its own."
    )


def averaged_over(results: Results) -> str:
    """Return what the metrics are averages of."""
    seeds = results.evaluation.replicates
    return f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "Of one seed, so the spread is unknown"


def percent(summary: Summary, metric: str, signed: bool = False) -> str:
    """Return a fraction's mean and standard deviation in percent; of a difference in points, with its sign."""
    return _with_spread(summary, metric, 100, 1, "" if signed else " %", signed)


def plain(summary: Summary, metric: str, signed: bool = False) -> str:
    """Return a metric's mean and standard deviation."""
    return _with_spread(summary, metric, 1, 3, "", signed)


def points(fraction: float) -> str:
    """Return a difference of fractions in points, with its sign."""
    return f"{round(100 * fraction, 1) + 0.0:+.1f}".replace("-", MINUS)


def interval(found: Interval, scale: float) -> str:
    """Return the ends of an interval that has some, with their signs."""
    digits = 1 if scale == 100 else 3
    ends = (found.low or 0.0, found.high or 0.0)
    return " to ".join(f"{scale * end:+.{digits}f}".replace("-", MINUS) for end in ends)


Write = Callable[..., str]


def _row(name: str, write: Write, metric: str, by_arm: dict[Arm, Summary], difference: Summary) -> dict[str, str]:
    return {
        "metric": name,
        **{arm: write(by_arm[arm], metric) for arm in ARMS},
        "difference": write(difference, metric, signed=True),
    }


def _as_summary(training: TrainingMetrics) -> Summary:
    return Summary(mean=training.mean or {}, std=training.std or {}, seeds=training.seeds)


def _interval_cell(found: Interval, scale: float) -> str:
    return "unknown" if found.low is None else interval(found, scale)


def _in_brackets(found: Interval) -> str:
    return "" if found.low is None else f" ({interval(found, 100)})"


def _describe_rates(rates: dict[str, float]) -> str:
    *backbone, head = rates.values()
    lowest, highest = f"{min(backbone):.2g}", f"{max(backbone):.2g}"
    return f"{lowest} … {highest} / {head:.2g}" if lowest != highest else f"{highest} / {head:.2g}"


def _single(value: float, write: Write) -> str:
    return f"{100 * value:.1f} %" if write is percent else f"{value:.3f}"


def _with_spread(summary: Summary, metric: str, scale: float, digits: int, unit: str, signed: bool) -> str:
    mean, std = round(summary.mean[metric] * scale, digits) + 0.0, summary.std[metric]  # never −0
    sign = "+" if signed else ""
    text = f"{mean:{sign}.{digits}f}" + ("" if std is None else f" ± {std * scale:.{digits}f}") + unit
    return text.replace("-", MINUS)


SPLIT_TITLES: dict[Split, str] = {"train": "training images", "val": "validation images", "test": "test images"}
SPLIT_METRICS: list[tuple[str, str, Write]] = [
    ("accuracy", "accuracy", percent),
    ("balanced accuracy", "balanced_accuracy", percent),
    ("macro F1", "macro_f1", percent),
    ("ROC AUC", "roc_auc", plain),
    ("loss", "loss", plain),
    ("Brier score", "brier", plain),
    ("calibration error", "calibration_error", percent),
]
