"""What a change changed, for the reviewer of a pull request, as Markdown."""

import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import dvc.api
from dvc.exceptions import DvcException
from dvc.utils.flatten import flatten
from scipy import stats
from scmrepo.exceptions import SCMError

from stages.aggregate import Metrics
from stages.errors import UserError, first_line
from stages.files import METRICS, read_json
from stages.params import ARMS, PARAMS_FILE, Params
from stages.reporting.markdown import markdown_table
from stages.reporting.search_text import search_lines
from stages.reporting.tables import MINUS, Results, goal_sentence, verdict_sentence

Change: TypeAlias = tuple[float, float]  # the ends of its interval
REVIEW_METRICS = METRICS / "review.json"

# Which way is better. Test metrics are not among them: what is marked is tuned on.
HIGHER_IS_BETTER = {"val_accuracy": True, "val_loss": False}
MIN_REPLICATES = 2
MARKS_EXPLAINED = (
    "Validation metrics are marked by the 95 % interval of their change over replicates, paired where the seeds are "
    "the same; it takes the images as given, and no correction is made for two metrics. Test metrics carry no mark: "
    "what is marked is tuned on."
)
NO_REVISION = ("", "workspace")  # to DVC, both are what stands here
LEVEL = 0.95  # of the interval of a change, which decides its mark


def review_against(revision: str, results: Results, params: Params, picture: str | None = None) -> str:
    """Return the review of the workspace against a revision, as Markdown.

    Args:
        revision: a commit, branch, tag or experiment.
        results: of the workspace.
        params: of the workspace.
        picture: where the reader finds metrics/differences.svg; None shows none.

    Raises:
        UserError: it is no revision, or Git knows none of this name.
    """
    before_metrics, before_evaluation, before_params, before_training = _recorded(revision)
    arm, before_arm = params.review.arm, before_params.get("review.arm", params.review.arm)
    changes = {
        metric: interval_of_change(before_training.get(before_arm, {}), results.training[arm].seeds, metric)
        for metric in HIGHER_IS_BETTER
    }
    metrics = metric_rows(before_metrics, read_json(REVIEW_METRICS), changes)
    changed = param_rows(before_params, flatten(params.model_dump()))
    return "\n\n".join(
        [
            f"**{verdict_sentence(results)}**",
            *([f"![Difference of every test metric with its interval]({picture})"] if picture else []),
            goal_sentence(results),
            _before(revision, before_evaluation),
            *search_lines(),
            f"### Metrics of the arm `{arm}`, against {f'`{before_arm}` at ' if arm != before_arm else ''}`{revision}`",
            markdown_table(["metric", revision, "here", "change", ""], metrics) if metrics else "None differs.",
            MARKS_EXPLAINED,
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


def metric_rows(before: dict[str, Any], after: dict[str, Any], changes: dict[str, Change | None]) -> list[list[str]]:
    """Return a row for every metric that differs: its name, both values, the change, and what chance leaves of it.

    Args:
        before: content of metrics/review.json there.
        after: here.
        changes: interval of the change of each metric that may be marked; None where there is none.
    """
    rows = []
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        change = f"{new - old:+.4g}".replace("-", MINUS) if old is not None and new is not None else ""
        mark = _mark(name, changes[name]) if change and name in changes else ""
        rows.append([name, *("" if side is None else _shown(side) for side in (old, new)), change, mark])
    return rows


def _mark(metric: str, change: Change | None) -> str:
    if change is None:
        return "too few replicates to tell"
    low, high = change
    ends = f"{low:+.3g} to {high:+.3g}".replace("-", MINUS)
    if low <= 0 <= high:
        return f"within chance ({ends})"
    return f"{'improved' if (low > 0) == HIGHER_IS_BETTER[metric] else 'deteriorated'} ({ends})"


def interval_of_change(before: dict[str, Any], after: Mapping[int, Metrics], metric: str) -> Change | None:
    """Return the interval of the change of a metric over replicates, paired where both sides have the same seeds.

    Args:
        before: seed -> metrics there.
        after: here.
        metric: which.
    """
    old = {int(seed): of_seed[metric] for seed, of_seed in before.items() if metric in of_seed}
    new = {seed: of_seed[metric] for seed, of_seed in after.items()}
    if len(old) < MIN_REPLICATES or len(new) < MIN_REPLICATES:
        return None
    if old.keys() == new.keys():
        found = stats.ttest_rel([new[seed] for seed in new], [old[seed] for seed in new])
    else:
        found = stats.ttest_ind(list(new.values()), list(old.values()), equal_var=False)
    low, high = found.confidence_interval(LEVEL)
    return (float(low), float(high)) if math.isfinite(low + high) else None


def _before(revision: str, evaluation: dict[str, Any]) -> str:
    """Return what the decision and the goal were at a revision, which may be older than today's schema."""
    decision = evaluation.get("verdict", {}).get("decision", "no verdict")
    met = evaluation.get("goal", {}).get("differential", {}).get("met")
    return f"At `{revision}`: {decision}; the goal was {'met' if met else 'not met'} by the differential arm."


def _recorded(
    revision: str,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, dict[str, Any]]]:
    """Ask DVC for the review metrics, the evaluation, the parameters, and both arms' replicates of a revision."""
    if revision.strip() in NO_REVISION:
        raise UserError(f"--against: '{revision}' is no revision; give a commit, a branch, a tag or an experiment")
    try:
        metrics = dvc.api.metrics_show(str(REVIEW_METRICS), rev=revision)
        evaluation = dvc.api.metrics_show(str(METRICS / "evaluation.json"), rev=revision)
        before_params = dvc.api.params_show(str(PARAMS_FILE), rev=revision)
        training = {str(arm): dvc.api.metrics_show(str(METRICS / f"{arm}.json"), rev=revision) for arm in ARMS}
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"--against: '{revision}' cannot be read ({first_line(error)}); give a commit or a branch"
        ) from None
    return metrics, evaluation, flatten(before_params), {arm: of.get("seeds", {}) for arm, of in training.items()}


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
