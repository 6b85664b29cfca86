"""The result of the experiment, as the stages left it under metrics/, as sentences and tables for people."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.data.checks import CHECKS
from stages.files import read_json
from stages.params import ARMS, Arm

METRICS, PAGE = Path("metrics"), Path("report/index.html")
MINUS = "−"


@dataclass(frozen=True)
class Results:
    """Everything that the stages measured.

    Attributes:
        prepare: content of metrics/prepare.json.
        training: arm -> content of metrics/ARM.json.
        evaluation: content of metrics/evaluation.json.
    """

    prepare: dict[str, Any]
    training: dict[Arm, dict[str, Any]]
    evaluation: dict[str, Any]


def load_results() -> Results:
    """Read what the stages measured.

    Raises:
        UserError: a stage has not run yet.
    """
    return Results(
        prepare=read_json(METRICS / "prepare.json"),
        training={arm: read_json(METRICS / f"{arm}.json") for arm in ARMS},
        evaluation=read_json(METRICS / "evaluation.json"),
    )


def checks_table(results: Results) -> list[dict[str, str]]:
    """Give a row for each check of the images that found something."""
    return [
        {"check": check.replace("_", " "), "found": f"{found:,}", "means": CHECKS[check].means}
        for check, found in results.prepare["checks"].items()
        if found
    ]


def verdict(results: Results) -> str:
    """Say in one sentence what the evidence says, with its interval."""
    found = results.evaluation["verdict"]
    says = {
        "better": "Better: different rates raise the accuracy on the test images",
        "worse": "Worse: different rates lower the accuracy on the test images",
        "no difference shown": "No difference shown between the arms' accuracy on the test images",
    }[found["word"]]
    measured = f"differential − baseline is {points(found['estimate'])} points"
    if found["low"] is None and replicates(results) == 1:
        return f"{says}: {measured}, of one seed, which says nothing of the chance between seeds.{left_out(results)}"
    if found["low"] is None:
        return f"{says}: {measured} everywhere, which leaves no chance to reckon with.{left_out(results)}"
    smallest = found["smallest_shown"]
    shown = (
        f"a true difference of {100 * smallest:.1f} points would have been shown about four times in five"
        if smallest <= 1
        else "so few images and seeds would show no difference, however large"
    )
    return f"{says}: {measured} (95 % interval {interval(found, 100)}); {shown}.{left_out(results)}"


def goal_sentence(results: Results) -> str:
    """Say whether the differential arm meets the story's goal, and in how many replicates."""
    goal = results.evaluation["goal"]["differential"]
    gap = results.evaluation["story"]["interval"]
    counted, evaluated = (gap[name] for name in ("overfitting_gap", "overfitting_gap_evaluated"))
    return (
        f"The differential arm {'meets' if goal['met'] else 'misses'} the goal in the mean, and "
        f"{goal['replicates_met']} of {replicates(results)} replicates do. Its overfitting gap differs from the "
        f"baseline's by {points(counted['estimate'])} points{_within(counted)} as the story counts, and by "
        f"{points(evaluated['estimate'])}{_within(evaluated)} in evaluation mode (95 % intervals over the seeds alone)."
    )


def goal_table(results: Results) -> list[dict[str, str]]:
    """Give the rows of the goal table: `wish`, and for each arm the value, whether it is met, and how often."""
    goal, seeds = results.evaluation["goal"], replicates(results)
    wishes = {
        "val_accuracy": f"validation accuracy above {100 * goal['val_accuracy_above']:g} %",
        "train_accuracy": f"training accuracy below {100 * goal['train_accuracy_below']:g} %",
    }

    def cell(half: dict[str, Any]) -> str:
        met = "met" if half["met"] else "not met"
        return f"{100 * half['value']:.1f} %: {met}, in {half['replicates_met']} of {seeds} replicates"

    return [{"wish": wish, **{arm: cell(goal[arm][figure]) for arm in ARMS}} for figure, wish in wishes.items()]


def result_table(results: Results) -> list[dict[str, str]]:
    """Give the rows of the result table: `figure`, each arm, and `difference`, paired by seed."""
    difference = results.evaluation["story"]["difference"]
    tested = results.evaluation["test"]
    return [
        {
            "figure": "rate of backbone / head",
            **{arm: _rates_in_words(results.training[arm]["learning_rates"]) for arm in ARMS},
            "difference": "",
        },
        *(
            {
                "figure": name,
                **{arm: write(results.training[arm], figure) for arm in ARMS},
                "difference": write(difference, figure, signed=True),
            }
            for name, figure, write in STORY_FIGURES
        ),
        *(
            {
                "figure": name,
                **{arm: write(tested[arm], figure) for arm in ARMS},
                "difference": write(tested["difference"], figure, signed=True),
            }
            for name, figure, write in TEST_FIGURES
        ),
        {
            "figure": "test accuracy, 95 % interval",
            **dict.fromkeys(ARMS, ""),
            "difference": _interval_cell(tested["interval"]["accuracy"], 100),
        },
        {
            "figure": "test loss, 95 % interval",
            **dict.fromkeys(ARMS, ""),
            "difference": _interval_cell(tested["interval"]["loss"], 1),
        },
        {
            "figure": "goal of the story",
            **{arm: "met" if results.evaluation["goal"][arm]["met"] else "not met" for arm in ARMS},
            "difference": "",
        },
        {
            "figure": "replicates that meet it",
            **{arm: f"{results.evaluation['goal'][arm]['replicates_met']} of {replicates(results)}" for arm in ARMS},
            "difference": "",
        },
    ]


def part_tables(results: Results) -> dict[str, list[dict[str, str]]]:
    """Give, for each part, a row for each metric and arm: mean and spread, then each replicate."""
    return {
        name: [
            {
                "metric": metric,
                "arm": arm,
                "mean": write(scores[arm], figure),
                "each": ", ".join(_one(value[figure], write) for key, value in scores[arm].items() if "seed_" in key),
            }
            for metric, figure, write in METRICS_OF_A_PART
            for arm in ARMS
        ]
        for name, scores in ((name, results.evaluation[part]) for part, name in PARTS_IN_WORDS.items())
    }


def group_table(results: Results) -> list[dict[str, str]]:
    """Give a row for each layer group: its rate, how far it moved, and how alike its features stayed, in each arm."""
    moved, alike = results.evaluation["movement"], results.evaluation["similarity"]
    return [
        {
            "group": group,
            "arm": arm,
            "rate": f"{results.training[arm]['learning_rates'][group]:.3g}",
            "moved": plain(moved[arm], group),
            "alike": plain(alike[arm], group),
        }
        for group in moved["baseline"]["mean"]
        for arm in ARMS
    ]


def mcnemar_table(results: Results) -> list[dict[str, str]]:
    """Give a row for each part and seed: the images that one arm alone gets right, and McNemar's exact test."""
    return [
        {
            "part": name,
            "seed": seed.removeprefix("seed_"),
            "only_baseline": str(found["only_baseline_right"]),
            "only_differential": str(found["only_differential_right"]),
            "p": f"{found['p_value']:.2g}",
        }
        for part, name in PARTS_IN_WORDS.items()
        if part != "train"
        for seed, found in results.evaluation[part]["mcnemar"].items()
    ]


def replicates(results: Results) -> int:
    """Seeds that came to an end in both arms."""
    return sum(key.startswith("seed_") for key in results.evaluation["test"]["difference"])


def left_out(results: Results) -> str:
    """Say which replicates diverged, and what the comparison is of then; nothing where none did."""
    diverged = results.evaluation.get("diverged", {})
    if not diverged:
        return ""
    named = " and ".join(f"{arm} with seed {', '.join(map(str, seeds))}" for arm, seeds in diverged.items())
    return (
        f" The loss was not finite in {named}: the arms are compared over the seeds that came to an end in both, and "
        f"an arm's training figures are of all its own."
    )


def averaged_over(results: Results) -> str:
    """Say what the figures are averages of."""
    seeds = replicates(results)
    return f"Mean ± standard deviation over {seeds} seeds" if seeds > 1 else "Of one seed, so the spread is unknown"


def percent(over_seeds: dict[str, Any], figure: str, signed: bool = False) -> str:
    """Say a fraction's mean and standard deviation in percent; a difference in points, with its sign."""
    return _with_spread(over_seeds, figure, 100, 1, "" if signed else " %", signed)


def plain(over_seeds: dict[str, Any], figure: str, signed: bool = False) -> str:
    """Say a figure's mean and standard deviation."""
    return _with_spread(over_seeds, figure, 1, 3, "", signed)


def points(fraction: float) -> str:
    """Say a difference of fractions in points, with its sign."""
    return f"{round(100 * fraction, 1) + 0.0:+.1f}".replace("-", MINUS)


def interval(found: dict[str, Any], scale: float) -> str:
    """Say the ends of an interval, with their signs."""
    digits = 1 if scale == 100 else 3
    return " to ".join(f"{scale * found[end]:+.{digits}f}".replace("-", MINUS) for end in ("low", "high"))


def _interval_cell(found: dict[str, Any], scale: float) -> str:
    return "unknown" if found["low"] is None else interval(found, scale)


def _within(found: dict[str, Any]) -> str:
    return "" if found["low"] is None else f" ({interval(found, 100)})"


def _rates_in_words(rates: dict[str, float]) -> str:
    *backbone, head = rates.values()
    lowest, highest = f"{min(backbone):.2g}", f"{max(backbone):.2g}"
    return f"{lowest} … {highest} / {head:.2g}" if lowest != highest else f"{highest} / {head:.2g}"


def _one(value: float, write: Callable[..., str]) -> str:
    return f"{100 * value:.1f} %" if write is percent else f"{value:.3f}"


def _with_spread(over_seeds: dict[str, Any], figure: str, scale: float, digits: int, unit: str, signed: bool) -> str:
    mean, std = round(over_seeds["mean"][figure] * scale, digits) + 0.0, over_seeds["std"][figure]  # never −0
    sign = "+" if signed else ""
    said = f"{mean:{sign}.{digits}f}" + ("" if std is None else f" ± {std * scale:.{digits}f}") + unit
    return said.replace("-", MINUS)


STORY_FIGURES: list[tuple[str, str, Callable[..., str]]] = [
    ("training accuracy", "train_accuracy", percent),
    ("validation accuracy", "val_accuracy", percent),
    ("overfitting gap", "overfitting_gap", percent),
    ("gap in evaluation mode", "overfitting_gap_evaluated", percent),
    ("training loss", "train_loss", plain),
    ("validation loss", "val_loss", plain),
]
PARTS_IN_WORDS = {"train": "training images", "val": "validation images", "test": "test images"}
METRICS_OF_A_PART: list[tuple[str, str, Callable[..., str]]] = [
    ("accuracy", "accuracy", percent),
    ("balanced accuracy", "balanced_accuracy", percent),
    ("macro F1", "macro_f1", percent),
    ("ROC AUC", "roc_auc", plain),
    ("loss", "loss", plain),
    ("Brier score", "brier", plain),
    ("calibration error", "calibration_error", percent),
]
TEST_FIGURES = [(f"test {metric}", figure, write) for metric, figure, write in METRICS_OF_A_PART]
