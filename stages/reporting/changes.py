"""What a change changed, for the reviewer of a pull request, as Markdown."""

from typing import Any

import dvc.api
from dvc.exceptions import DvcException
from dvc.utils.flatten import flatten
from scmrepo.exceptions import SCMError

from stages.errors import UserError, first_line
from stages.files import METRICS, read_json
from stages.params import PARAMS_FILE, Arm, Params
from stages.reporting.markdown import markdown_table
from stages.reporting.tables import MINUS, Results, goal_sentence, verdict_sentence

REVIEW_METRICS = METRICS / "review.json"

# Which way is better; of a metric that is not listed neither is.
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
    "replicates_meeting_goal": True,
}


def review_against(revision: str, results: Results, params: Params) -> str:
    """Return the review of the workspace against a revision, as Markdown.

    Args:
        revision: a commit, branch, tag or experiment.
        results: of the workspace.
        params: of the workspace.

    Raises:
        UserError: Git knows no such revision.
    """
    before_metrics, before_evaluation, before_params = _recorded(revision)
    arm, before_arm = params.review.arm, before_params.get("review.arm", params.review.arm)
    metrics = metric_rows(before_metrics, read_json(REVIEW_METRICS), standard_deviations(results, arm))
    changed = param_rows(before_params, flatten(params.model_dump()))
    return "\n\n".join(
        [
            f"**{verdict_sentence(results)}**",
            goal_sentence(results),
            _before(revision, before_evaluation),
            f"### Metrics of the arm `{arm}`, against {f'`{before_arm}` at ' if arm != before_arm else ''}`{revision}`",
            markdown_table(["metric", revision, "here", "change", ""], metrics) if metrics else "None differs.",
            "### Parameters",
            markdown_table(["parameter", revision, "here"], changed) if changed else "None differs.",
        ]
    )


def param_rows(before: dict[str, Any], after: dict[str, Any]) -> list[list[str]]:
    """Return a row for every parameter that differs, is new, or has gone: its dotted name and both values."""
    absent = object()
    return [
        [name, *("" if side.get(name, absent) is absent else _shown(side[name]) for side in (before, after))]
        for name in dict.fromkeys([*after, *before])
        if before.get(name, absent) != after.get(name, absent)
    ]


def metric_rows(before: dict[str, Any], after: dict[str, Any], spread: dict[str, float | None]) -> list[list[str]]:
    """Return a row for every metric that differs: its name, both values, the change, and whether that is better.

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


def standard_deviations(results: Results, arm: Arm) -> dict[str, float | None]:
    """Return the standard deviation of every review metric over the seeds."""
    evaluation = results.evaluation
    return {
        **(results.training[arm].std or {}),
        **{f"{metric}_eval_mode": std for metric, std in evaluation.eval_mode.arm(arm).std.items()},
        **{f"train_{metric}_eval_mode": std for metric, std in evaluation.train.arm(arm).std.items()},
        **{f"test_{metric}": std for metric, std in evaluation.test.arm(arm).std.items()},
    }


def _before(revision: str, evaluation: dict[str, Any]) -> str:
    """Return what the decision and the goal were at a revision, which may be older than today's schema."""
    decision = evaluation.get("verdict", {}).get("decision", "no verdict")
    met = evaluation.get("goal", {}).get("differential", {}).get("met")
    return f"At `{revision}`: {decision}; the goal was {'met' if met else 'not met'} by the differential arm."


def _recorded(revision: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Ask DVC for the review metrics, the evaluation and the parameters of a revision."""
    try:
        metrics = dvc.api.metrics_show(str(REVIEW_METRICS), rev=revision)
        evaluation = dvc.api.metrics_show(str(METRICS / "evaluation.json"), rev=revision)
        params = dvc.api.params_show(str(PARAMS_FILE), rev=revision)
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"--against: {revision} cannot be read ({first_line(error)}); give a commit or a branch"
        ) from None
    return metrics, evaluation, flatten(params)


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
