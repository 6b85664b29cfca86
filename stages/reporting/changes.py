"""What a change changed, for the reviewer of a pull request, as Markdown."""

from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from scmrepo.exceptions import SCMError

from stages.errors import UserError, first_line
from stages.files import read_json
from stages.params import PARAMS_FILE, Arm, load_params
from stages.reporting.results import METRICS, MINUS, Results, goal_sentence, load_results, verdict

REVIEWED = METRICS / "review.json"

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
    "replicates_that_met_the_goal": True,
}


def review_against(revision: str) -> str:
    """Give the review of the workspace against a revision, as Markdown.

    Raises:
        UserError: Git knows no such revision.
    """
    results, params = load_results(), load_params()
    before_metrics, before_evaluation, before_params = _recorded(revision)
    arm, before_arm = params.review.arm, before_params.get("review.arm", params.review.arm)
    metrics = metric_rows(before_metrics, read_json(REVIEWED), spreads(results, arm))
    changed = param_rows(before_params, _flat(params.model_dump()))
    return "\n\n".join(
        [
            f"**{verdict(results)}**",
            goal_sentence(results),
            _before(revision, before_evaluation),
            f"### Metrics of the arm `{arm}`, against {f'`{before_arm}` at ' if arm != before_arm else ''}`{revision}`",
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


def metric_rows(before: dict[str, Any], after: dict[str, Any], spread: dict[str, float | None]) -> list[list[str]]:
    """Give a row for every metric that differs: its name, both values, the change, and whether that is better.

    Args:
        before: content of metrics/review.json there.
        after: here.
        spread: standard deviation of each metric over the seeds here.
    """
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
                if abs(new - old) <= (spread.get(name) or 0.0):
                    mark += ", within a standard deviation of the seeds"
        rows.append([name, *("" if side is None else _shown(side) for side in (old, new)), change, mark])
    return rows


def spreads(results: Results, arm: Arm) -> dict[str, float | None]:
    """Give the standard deviation of every review metric over the seeds."""
    tested = results.evaluation["test"][arm]["std"]
    return {**results.training[arm]["std"], **{f"test_{figure}": value for figure, value in tested.items()}}


def _before(revision: str, evaluation: dict[str, Any]) -> str:
    """Say what the verdict and the goal were there."""
    word = evaluation.get("verdict", {}).get("word", "no verdict")
    met = evaluation.get("goal", {}).get("differential", {}).get("met")
    return f"At `{revision}`: {word}; the goal was {'met' if met else 'not met'} by the differential arm."


def _recorded(revision: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Ask DVC for the review metrics, the evaluation and the parameters of a revision."""
    try:
        metrics = dvc.api.metrics_show(str(REVIEWED), rev=revision)
        evaluation = dvc.api.metrics_show(str(METRICS / "evaluation.json"), rev=revision)
        params = dvc.api.params_show(str(PARAMS_FILE), rev=revision)
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"--against: {revision} cannot be read ({first_line(error)}); give a commit or a branch"
        ) from None
    return metrics, evaluation, _flat(params)


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
