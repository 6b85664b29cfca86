"""What a change changed, for the reviewer of a pull request, as Markdown."""

from pathlib import Path
from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from scmrepo.exceptions import SCMError

from stages.errors import UserError, first_line
from stages.files import read_json
from stages.params import PARAMS_FILE, load_params
from stages.reporting.results import MINUS, goal_sentence, load_results, verdict

REVIEWED = Path("metrics/review.json")

# Which way is better; of a figure that is not listed neither is.
HIGHER_IS_BETTER = {
    "val_accuracy": True,
    "test_accuracy": True,
    "test_balanced_accuracy": True,
    "test_macro_f1": True,
    "test_roc_auc": True,
    "val_loss": False,
    "test_loss": False,
    "test_brier": False,
    "test_calibration_error": False,
    "overfitting_gap": False,
    "overfitting_gap_evaluated": False,
    "replicates_that_met_the_goal": True,
}


def review_against(revision: str) -> str:
    """Give the review of the workspace against a revision, as Markdown.

    Raises:
        UserError: Git knows no such revision.
    """
    results, params = load_results(), load_params()
    before_metrics, before_params = _recorded(revision)
    metrics = metric_rows(before_metrics, read_json(REVIEWED))
    changed = param_rows(before_params, _flat(params.model_dump()))
    return "\n\n".join(
        [
            f"**{verdict(results)}**",
            goal_sentence(results),
            f"### Metrics of the arm `{params.review.arm}`, against `{revision}`",
            _table(["metric", revision, "here", "change", ""], metrics) if metrics else "None differs.",
            "### Parameters",
            _table(["parameter", revision, "here"], changed) if changed else "None differs.",
        ]
    )


def param_rows(before: dict[str, Any], after: dict[str, Any]) -> list[list[str]]:
    """Give a row for every parameter that differs, is new, or has gone: its dotted name and both values."""
    absent = object()
    return [
        [name, *("" if side.get(name, absent) is absent else _shown(side[name]) for side in (before, after))]
        for name in dict.fromkeys([*after, *before])
        if before.get(name, absent) != after.get(name, absent)
    ]


def metric_rows(before: dict[str, Any], after: dict[str, Any]) -> list[list[str]]:
    """Give a row for every metric that differs: its name, both values, the change, and whether that is better."""
    rows = []
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        change, mark = "", ""
        if old is not None and new is not None:
            change = f"{new - old:+.4g}".replace("-", MINUS)
            if name in HIGHER_IS_BETTER:
                mark = "✅ better" if (new > old) == HIGHER_IS_BETTER[name] else "🔻 worse"
        rows.append([name, *("" if side is None else _shown(side) for side in (old, new)), change, mark])
    return rows


def _recorded(revision: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Ask DVC for the review metrics and the parameters of a revision."""
    try:
        metrics = dvc.api.metrics_show(str(REVIEWED), rev=revision)
        params = dvc.api.params_show(str(PARAMS_FILE), rev=revision)
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"--against: {revision} cannot be read ({first_line(error)}); give a commit or a branch"
        ) from None
    return metrics, _flat(params)


def _flat(sections: dict[str, Any], place: str = "") -> dict[str, Any]:
    """Give nested keys as dotted ones."""
    flat: dict[str, Any] = {}
    for key, value in sections.items():
        if isinstance(value, dict) and value:
            flat |= _flat(value, f"{place}{key}.")
        else:
            flat[f"{place}{key}"] = value
    return flat


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    return "\n".join([line(columns), line(["---"] + ["---:"] * (len(columns) - 1)), *map(line, rows)])
