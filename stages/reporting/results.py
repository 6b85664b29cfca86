"""The result of the experiment, as the stages left it under metrics/, and as a table for people."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def result_table(results: Results) -> list[dict[str, str]]:
    """Give the rows of the result table: `figure`, each arm, and `difference`, paired by seed."""
    difference = results.evaluation["story"]["difference"]
    tested = results.evaluation["test"]
    return [
        {
            "figure": "learning rate of backbone / head",
            **{arm: _rates_in_words(results.training[arm]["learning_rates"]) for arm in ARMS},
            "difference": "",
        },
        *(
            {
                "figure": name,
                **{arm: write(results.training[arm], figure) for arm in ARMS},
                "difference": write(difference, figure, signed=True),
            }
            for name, figure, write in FIGURES
        ),
        {
            "figure": "test accuracy",
            **{arm: percent(tested[arm], "accuracy") for arm in ARMS},
            "difference": percent(tested["difference"], "accuracy", signed=True),
        },
        *(
            {
                "figure": wish,
                **{arm: "met" if results.evaluation["goal"][arm][key] else "not met" for arm in ARMS},
                "difference": "",
            }
            for key, wish in goal_in_words(results.evaluation["goal"]).items()
        ),
        {
            "figure": "replicates that meet both",
            **{arm: f"{results.evaluation['goal'][arm]['replicates_met']} of {replicates(results)}" for arm in ARMS},
            "difference": "",
        },
    ]


def goal_in_words(goal: dict[str, Any]) -> dict[str, str]:
    """Name the two halves of the goal under the keys that tell whether they are met."""
    return {
        "val_accuracy_met": f"goal: validation accuracy above {100 * goal['val_accuracy_above']:g} %",
        "train_accuracy_met": f"goal: training accuracy below {100 * goal['train_accuracy_below']:g} %",
    }


def verdict(results: Results) -> str:
    """Say in one sentence what the differential arm changed, and how far the replicates agree."""
    difference = results.evaluation["story"]["difference"]
    pairs = [figures for key, figures in difference.items() if key.startswith("seed_")]
    better = sum(figures["val_accuracy"] > 0 for figures in pairs)
    narrower = sum(figures["overfitting_gap"] < 0 for figures in pairs)
    met = results.evaluation["goal"]["differential"]["met"]
    return (
        f"The differential arm {'meets' if met else 'misses'} the goal. Against the baseline it validates "
        f"{percent(difference, 'val_accuracy', signed=True)} points (better in {better} of {len(pairs)} seeds), "
        f"and its overfitting gap differs by {percent(difference, 'overfitting_gap', signed=True)} points "
        f"(narrower in {narrower} of {len(pairs)})."
    )


def replicates(results: Results) -> int:
    """Seeds for each arm."""
    return sum(key.startswith("seed_") for key in results.training["baseline"])


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


def _rates_in_words(rates: dict[str, float]) -> str:
    *backbone, head = rates.values()
    lowest, highest = f"{min(backbone):.2g}", f"{max(backbone):.2g}"
    return f"{lowest} … {highest} / {head:.2g}" if lowest != highest else f"{highest} / {head:.2g}"


def _with_spread(over_seeds: dict[str, Any], figure: str, scale: float, digits: int, unit: str, signed: bool) -> str:
    mean, std = round(over_seeds["mean"][figure] * scale, digits) + 0.0, over_seeds["std"][figure]  # never −0
    sign = "+" if signed else ""
    said = f"{mean:{sign}.{digits}f}" + ("" if std is None else f" ± {std * scale:.{digits}f}") + unit
    return said.replace("-", MINUS)


FIGURES: list[tuple[str, str, Callable[..., str]]] = [
    ("training accuracy", "train_accuracy", percent),
    ("validation accuracy", "val_accuracy", percent),
    ("overfitting gap", "overfitting_gap", percent),
    ("training loss", "train_loss", plain),
    ("validation loss", "val_loss", plain),
]
