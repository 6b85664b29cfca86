"""What a change changed, for the reviewer of a pull request, as Markdown."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from stages.files import read_json
from stages.metrics_files import Decision, Interval
from stages.params import ARMS, Arm
from stages.reporting.markdown import markdown_table
from stages.reporting.provenance import read_output_digests
from stages.reporting.revision import DATA, REVIEW_METRICS, Revision
from stages.reporting.search_text import search_lines
from stages.reporting.tables import (
    MINUS,
    Results,
    environment_sentence,
    goal_sentence,
    points,
    verdict_sentence,
)

Judged: TypeAlias = Mapping[str, tuple[Interval, Decision]]  # metric -> interval of its change, and what it decides

MARKS: dict[Decision, str] = {"better": "improved", "worse": "deteriorated", "no difference shown": "within chance"}
MARKS_EXPLAINED = (
    "Validation metrics are marked by the rule of the verdict: the 95 % interval of their change, paired by replicate "
    "and image, counts both; no correction is made for two metrics. Test metrics carry no mark: what is marked is "
    "tuned on."
)
# What both arms read of params.yaml, and so decides an arm whose own rates are the same.
SHARED = ("data.", "model.", "optimizer.", "schedule.", "train.")


def review_against(
    before: Revision,
    results: Results,
    written: Mapping[str, Any],
    differs: list[str],
    judged: Judged,
    picture: str | None = None,
) -> str:
    """Return the review of the workspace against a revision, as Markdown.

    Args:
        before: the revision.
        results: of the workspace.
        written: params.yaml of the workspace, by dotted names.
        differs: why the two cannot be compared; nothing where they can.
        judged: the metrics that are marked.
        picture: where the reader finds metrics/differences.svg; None shows none.
    """
    arm: Arm = written["review.arm"]
    before_arm = before.reviewed_arm(arm)
    metrics = metric_rows(before.metrics, read_json(REVIEW_METRICS), judged)
    changed = param_rows(before.params, written)
    sentences = [
        not_comparable_sentence(before.name, differs),
        retrained_sentence(before, results, written) if differs else "",
        f"**{verdict_sentence(results)}**",
        f"![Difference of every test metric with its interval]({picture})" if picture else "",
        environment_sentence(results),
        goal_sentence(results),
        _before(before),
        *search_lines(),
        f"### Metrics of the arm `{arm}`, against {f'`{before_arm}` at ' if arm != before_arm else ''}`{before.name}`",
        markdown_table(["metric", before.name, "here", "change", ""], metrics) if metrics else "None differs.",
        MARKS_EXPLAINED if judged and metrics else "",
        "### Parameters",
        markdown_table(["parameter", before.name, "here"], changed) if changed else "None differs.",
    ]
    return "\n\n".join(sentence for sentence in sentences if sentence)


def not_comparable_sentence(revision: str, differs: list[str]) -> str:
    """Return that metrics cannot be held against those of a revision, and why; nothing where they can."""
    return f"**Not comparable with `{revision}`, so nothing is marked: {'; '.join(differs)}.**" if differs else ""


def retrained_sentence(before: Revision, results: Results, params: Mapping[str, Any]) -> str:
    """Return how far the arms moved whose settings and images are the same: so much the machine alone explains."""
    if any(before.params.get(name) != value for name, value in params.items() if name.startswith(SHARED)):
        return ""
    digests = read_output_digests()
    if any(before.digests.get(output) != digests.get(output) for output in DATA):
        return ""
    same = [
        arm
        for arm in ARMS
        if before.environment(arm) and before.training[arm]["learning_rates"] == results.training[arm].learning_rates
    ]
    moved = [
        f"{points(results.training[arm].mean['val_accuracy'] - before.training[arm]['mean']['val_accuracy'])} points "
        f"of validation accuracy in the {arm} arm"
        for arm in same
    ]
    return f"With the same settings and images, that alone explains {' and '.join(moved)}." if moved else ""


def param_rows(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[list[str]]:
    """Return a row for every parameter that differs, is new, or has gone: its dotted name and both values."""
    absent = object()
    return [
        [name, *("" if side.get(name, absent) is absent else _shown(side[name]) for side in (before, after))]
        for name in dict.fromkeys([*after, *before])
        if before.get(name, absent) != after.get(name, absent)
    ]


def metric_rows(before: dict[str, Any], after: dict[str, Any], judged: Judged) -> list[list[str]]:
    """Return a row for every metric that differs: its name, both values, the change, and what chance leaves of it.

    Args:
        before: content of metrics/review.json there.
        after: here.
        judged: the metrics that are marked.
    """
    rows = []
    for name in dict.fromkeys([*after, *before]):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        change = f"{new - old:+.4g}".replace("-", MINUS) if old is not None and new is not None else ""
        mark = _mark(*judged[name]) if name in judged else ""
        rows.append([name, *("" if side is None else _shown(side) for side in (old, new)), change, mark])
    return rows


def _mark(found: Interval, decision: Decision) -> str:
    if found.low is None or found.high is None:
        return f"cannot be told: {found.reason}"
    return f"{MARKS[decision]} ({found.low:+.3g} to {found.high:+.3g})".replace("-", MINUS)


def _before(before: Revision) -> str:
    """Return what the decision and the goal were at a revision, which may be older than today's schema."""
    decision = before.evaluation.get("verdict", {}).get("decision", "no verdict")
    met = before.evaluation.get("goal", {}).get("differential", {}).get("met")
    return f"At `{before.name}`: {decision}; the goal was {'met' if met else 'not met'} by the differential arm."


def _shown(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "null" if value is None else str(value)
