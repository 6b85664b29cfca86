"""The results of the experiment, as the stages left them under metrics/, as sentences and tables for people."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from stages.data.checks import CHECKS, describe_count
from stages.errors import UserError
from stages.metrics_files import (
    FEW,
    LARGEST,
    MIN_FOR_VERDICT,
    Evaluation,
    GoalMetric,
    Interval,
    PlannedInterval,
    PrepareMetrics,
    SplitMetrics,
    Summary,
    TrainingMetrics,
    Verdict,
    failure_bound,
    read_evaluation,
    read_prepare_metrics,
    read_split_metrics,
    read_training_metrics,
)
from stages.params import ARMS, Arm, Metric, Split

PAGE = Path("report/index.html")
MINUS = "−"
MIN_FOR_BOUND = 2
MILLION = 1e6
SMALLEST_P = 1e-6  # that metrics/evaluation.json can hold


@dataclass(frozen=True)
class Results:
    """Everything that the stages measured, as metrics/ has it: prepare, splits, both arms and evaluation."""

    prepare: PrepareMetrics
    splits: SplitMetrics
    training: dict[Arm, TrainingMetrics]
    evaluation: Evaluation


def load_results() -> Results:
    """Read what the stages measured.

    Raises:
        UserError: a stage has not run yet, or a file is not what a stage writes.
    """
    prepare, splits, training = read_prepare_metrics(), read_split_metrics(), read_training_metrics()
    if lost := [arm for arm in ARMS if training[arm].seeds.keys() <= training[arm].diverged.keys()]:
        raise UserError(f"lr: every replicate of the {lost[0]} arm diverged: lower its rates, then run `dvc repro`")
    return Results(prepare, splits, training, read_evaluation())


def checks_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each check of the images that found something."""
    return [
        {
            "check": check.replace("_", " "),
            "found": describe_count(check, found, results.prepare.near_duplicate_images),
            "description": CHECKS[check].description,
        }
        for check, found in results.prepare.checks.items()
        if found
    ]


def verdict_sentence(results: Results) -> str:
    """Return what the evidence says, with both settings by their rates, the interval, and the look that decided."""
    verdict, name = results.evaluation.verdict, METRIC_NAMES[results.evaluation.verdict.metric]
    baseline, differential = (_describe_rates(results.training[arm].learning_rates) for arm in ARMS)
    rates = f"rates {differential} (backbone / head) against {baseline}"
    decision = {
        "better": f"Better: {rates}, by test {name}",
        "worse": f"Worse: {rates}, by test {name}",
        "no difference shown": f"No difference shown in test {name}: {rates}",
        "unstable": f"Unstable: {failures_sentence(results)} Test {name}, {rates}",
    }[verdict.decision]
    measured = f"{decision}; differential − baseline is {signed_difference(verdict, verdict.metric)}"
    failed = "" if verdict.decision == "unstable" else f" {failures_sentence(results)}".rstrip()
    return f"{measured}{_what_chance_leaves_open(results)}.{_note_on_groups(verdict)}{failed}"


def next_sentence(results: Results) -> str:
    """Return which of the two settings to take, as far as the verdict goes, and what to type to find better ones."""
    baseline, differential = (_describe_rates(results.training[arm].learning_rates) for arm in ARMS)
    search = "`make search` looks for better rates, of both arms alike."
    failures, total = results.evaluation.failures, results.evaluation.replicates
    failed: list[str] = [arm for arm in ARMS if failures.of(arm)]
    if failed and (
        results.evaluation.verdict.decision == "unstable" or any(len(failures.of(arm)) == total for arm in ARMS)
    ):
        of_arms = "either arm" if len(failed) > 1 else f"the {failed[0]} arm"
        return f"First change the rates, or train longer, until no replicate of {of_arms} fails. {search}"
    more = (  # which it cannot say where nothing can be planned
        "`python -m stages.summary --plan` says what more replicates would tell; " if results.evaluation.plan else ""
    )
    if baseline == differential:
        return f"Both arms have the same rates, so there is nothing to choose between: set others under lr. {search}"
    return {
        "better": f"Of the two, take the differential rates, {differential} (backbone / head). {search}",
        "worse": f"Of the two, take the baseline's rates, {baseline} (backbone / head). {search}",
        "no difference shown": f"Neither setting is shown to be the better one. {more}{search}",
    }[results.evaluation.verdict.decision]


def arms_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each of the few numbers that stand on the first screen: `metric`, and each arm."""
    metric = results.evaluation.verdict.metric
    tested = {arm: results.evaluation.test.arm(arm) for arm in ARMS}
    training = {arm: _as_summary(results.training[arm]) for arm in ARMS}
    write = percent if SCALES[metric] == 100 else plain
    return [
        {"metric": "rates", **{arm: _describe_rates(results.training[arm].learning_rates) for arm in ARMS}},
        {"metric": "training", **{arm: percent(training[arm], "train_accuracy") for arm in ARMS}},
        {"metric": "validation", **{arm: percent(training[arm], "val_accuracy") for arm in ARMS}},
        {
            "metric": "test" if metric == "accuracy" else f"test {METRIC_NAMES[metric]}",
            **{arm: write(tested[arm], metric) for arm in ARMS},
        },
    ]


def rate_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each layer group, from input to head: its rate in each arm, before the schedule scales it."""
    rates = {arm: results.training[arm].learning_rates for arm in ARMS}
    return [
        {"layer group": group, **{arm: f"{rates[arm][group]:.3g}" if rates[arm][group] else "frozen" for arm in ARMS}}
        for group in rates["baseline"]
    ]


def _what_chance_leaves_open(results: Results) -> str:
    """Return the interval and the look, or why there is no interval."""
    verdict = results.evaluation.verdict
    if verdict.low is None or verdict.level is None:
        return f", without an interval: {verdict.reason}"
    ends = f" ({100 * verdict.level:.3g} % interval {interval(verdict, SCALES[verdict.metric])})"
    if verdict.reached_at:
        number = [look.replicates for look in verdict.looks].index(verdict.reached_at) + 1
        at = f", decided at look {number}, after {verdict.reached_at} replicates" if len(verdict.looks) > 1 else ""
        return f"{ends}{at}"
    smallest = verdict.minimum_detectable_difference
    if verdict.decision == "no difference shown" and smallest is not None:
        if smallest > LARGEST[verdict.metric]:
            return f"{ends}; so few data would show no difference, however large"
        size = f"{SCALES[verdict.metric] * smallest:.2g}{_unit(verdict.metric)}"
        return f"{ends}; a true difference of {size} would have been shown about four times in five"
    return ends


def _note_on_groups(verdict: Verdict) -> str:
    """Return how many groups there are, but where they are why there is no interval, which is said already."""
    if verdict.units == "images" or (verdict.reason and "groups" in verdict.reason):
        return ""
    units = f" The test images come in groups, an effective number of {verdict.effective_units:.0f}"
    if verdict.effective_units < MIN_FOR_VERDICT:
        return f"{units}: too few for a verdict, which needs {MIN_FOR_VERDICT}."
    return f"{units}: few, so take the interval with care." if verdict.effective_units < FEW else f"{units}."


def _replicates(number: int) -> str:
    return f"{number} replicate{'s' * (number != 1)}"


def describe_environment(environment: Mapping[str, str]) -> str:
    """Return processor, precision and versions that an arm was trained with, as metrics/ARM.json has them."""
    unnamed = ("processor", "precision")
    named = (value if name in unnamed else f"{name} {value}" for name, value in environment.items())
    return ", ".join(named) or "unknown"


def failures_sentence(results: Results) -> str:
    """Return how many replicates of each arm failed; nothing where none did."""
    failures, total = results.evaluation.failures, results.evaluation.replicates
    if not any(failures.of(arm) for arm in ARMS):
        return ""
    told = []
    for arm in ARMS:
        kinds = [
            f"{kind} with {'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
            for kind, seeds in failures.arm(arm).model_dump().items()
            if seeds
        ]
        counted = f"{len(failures.of(arm))} of {_replicates(total)} of the {arm} arm failed"
        told.append(f"{counted} ({'; '.join(kinds)})" if kinds else counted)
    counts_as = " A replicate that diverged counts as the majority class, with a loss of ln C."
    return f"{', '.join(told)}.{counts_as if _some_diverged(results) else ''}"


def seeds_with_checkpoints(results: Results) -> str:
    """Return over which seeds means go that need a network trained to its end: one that diverged has none."""
    return "the seeds that did not diverge" if _some_diverged(results) else "the seeds"


def _some_diverged(results: Results) -> bool:
    return any(results.evaluation.failures.arm(arm).diverged for arm in ARMS)


def guessing_sentence(results: Results) -> str:
    """Return which arms are no better than guessing by their validation loss; nothing where both are."""
    guessing = math.log(len(results.prepare.classes))
    losses = {arm: results.evaluation.val.arm(arm).mean["loss"] for arm in ARMS}  # the one that the tables show
    # What six digits do not tell apart is as good as guessing, and no worse.
    worse = {arm: loss for arm, loss in losses.items() if float(f"{loss:.6g}") > float(f"{guessing:.6g}")}
    if not worse:
        return ""
    digits = next(n for n in range(3, 7) if all(f"{loss:.{n}g}" != f"{guessing:.{n}g}" for loss in worse.values()))
    told = " and ".join(f"{loss:.{digits}g} in the {arm} arm" for arm, loss in worse.items())
    return (
        f"The validation loss is {told}, where guessing has {guessing:.{digits}g} (ln C): an arm that is worse "
        f"than that has rates that are too high, or has not trained for long enough, whatever the verdict says."
    )


def conditions_sentence(results: Results) -> str:
    """Return what the interval counts, and what it cannot."""
    splits, verdict = results.splits, results.evaluation.verdict
    drawn = "each replicate its own test images" if splits.folds else f"the same {splits.test:,} test images"
    groups = "groups of them" if verdict.units == "groups" else "as if each were drawn by itself"
    failed = (
        ""
        if any(results.evaluation.failures.of(arm) for arm in ARMS) or results.evaluation.replicates < MIN_FOR_BOUND
        else f" No replicate failed, which leaves a rate of failures up to "
        f"{100 * failure_bound(results.evaluation.replicates):.0f} % open."
    )
    if verdict.low is None:
        return (
            f"The verdict has no interval, so it counts no chance: neither of the replicates' first weights, batches "
            f"and images, nor of which test images there were.{failed}"
        )
    tuned = " Whether either arm would do better with rates of its own choice, it does not say."
    return (
        f"The interval counts what each replicate drew: its training images where it draws its own, first weights and "
        f"batches ({drawn}), and which test images there were, {groups}. It cannot count other pools of images, data "
        f"sets, networks or lengths of training: the verdict is about these rates on this pool.{failed}{tuned}"
    )


def near_duplicates_sentence(results: Results) -> str:
    """Return the difference without test images that look like training images; nothing where there are none."""
    verdict = results.evaluation.verdict
    if not verdict.near_duplicates:
        return ""
    beside = (
        f"{verdict.near_duplicates:.3g} test images (in a replicate, on average) look almost like one it trained or "
    )
    apart = verdict.without_near_duplicates
    if apart is None:
        return f"{beside}validated on; without them a class would be missing."
    scale, name = SCALES[verdict.metric], METRIC_NAMES[verdict.metric]
    ends = f"without an interval: {apart.reason}" if apart.low is None else interval(apart, scale)
    arms = ", ".join(f"{arm} {value_text(value, verdict.metric)}" for arm, value in apart.arms.items())
    return (
        f"{beside}validated on; without them test {name} is {arms}, and the difference "
        f"{signed_difference(apart, verdict.metric)} ({ends})."
    )


def looks_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each look that has been reached."""
    verdict = results.evaluation.verdict
    return [
        {
            "replicates": str(look.replicates),
            "level": "" if look.interval.level is None else f"{100 * look.interval.level:.2f} %",
            "difference": signed_difference(look.interval, verdict.metric),
            "interval": _interval_cell(look.interval, SCALES[verdict.metric]),
            "decision": look.decision,
        }
        for look in verdict.looks
    ]


def looks_sentence(results: Results) -> str:
    """Return why the looks decide otherwise than the verdict; nothing where they do not."""
    if results.evaluation.verdict.decision != "unstable":
        return ""
    return (
        "Each look decides on the difference alone. Because some replicates failed and others did not, the verdict is "
        "unstable, whatever the looks decide."
    )


def plan_table(results: Results) -> list[dict[str, str]]:
    """Return a row for each number of replicates: the half-width to expect, and what would be shown, with ranges."""
    metric = results.evaluation.verdict.metric
    by_replicates: dict[int, list[PlannedInterval]] = {}
    for planned in results.evaluation.plan:
        by_replicates.setdefault(planned.replicates, []).append(planned)
    return [
        {
            "replicates": str(replicates),
            **{f"{planned.images:,} images": _half_width(planned, metric) for planned in by_images},
            f"shown with {by_images[0].images:,}": _shown(by_images[0], metric),
        }
        for replicates, by_images in by_replicates.items()
    ]


def _half_width(planned: PlannedInterval, metric: Metric) -> str:
    widths = (planned.half_width_low, planned.half_width, planned.half_width_high)
    # An interval of all that is possible is as wide as one can be.
    low, middle, high = (_plain_number(min(width, LARGEST[metric]), metric) for width in widths)
    return f"±{middle} ({low} to {high})"


def _shown(planned: PlannedInterval, metric: Metric) -> str:
    """Return the difference that would be shown; "none" stands for one that is larger than the metric can have."""
    low, middle, high = (
        _plain_number(one, metric) if one <= LARGEST[metric] else "none"
        for one in (planned.shown_low, planned.shown, planned.shown_high)
    )
    return middle if low == high else f"{middle} ({low} to {high})"


def plan_sentence(results: Results) -> str:
    """Return what is to be known of the table of the plan: what its ranges leave out, and what "none" means there."""
    metric, plan = results.evaluation.verdict.metric, results.evaluation.plan
    told = []
    if any(planned.half_width_low == planned.half_width_high for planned in plan):
        told.append(
            "Where both ends of a range are equal, the replicates differed less than their test images alone would "
            "make them differ. Then the images alone are counted, and how uncertain that is the range does not show."
        )
    if any(planned.shown_high > LARGEST[metric] for planned in plan):
        told.append(f'Where it says "none", no difference that test {METRIC_NAMES[metric]} can have would be shown.')
    return " ".join(told)


def _plain_number(value: float, metric: Metric) -> str:
    return f"{SCALES[metric] * value:.{1 if SCALES[metric] == 100 else 3}f}"


def replicates_for(results: Results, difference: float) -> str:
    """Return how many replicates would show a true difference four times in five, for people.

    Args:
        results: of what has been measured.
        difference: in points, or in the metric's own unit.

    Raises:
        UserError: no two arms can differ by so much.
    """
    metric = results.evaluation.verdict.metric
    wanted, most = difference / SCALES[metric], LARGEST[metric]
    if wanted > most:
        raise UserError(
            f"--replicates-for: test {METRIC_NAMES[metric]} cannot differ by more than "
            f"{SCALES[metric] * most:g}{_unit(metric)}: give a smaller difference"
        )
    said = f"a true difference of {difference:g}{_unit(metric)} in test {METRIC_NAMES[metric]}"
    if not results.evaluation.plan:
        return f"{results.evaluation.verdict.reason}: nothing can be planned from it"
    images = results.evaluation.plan[0].images
    rows = [planned for planned in results.evaluation.plan if planned.images == images]
    bounds = [
        next((planned.replicates for planned in rows if getattr(planned, which) <= wanted), None)
        for which in ("shown_low", "shown", "shown_high")
    ]
    if bounds[1] is None:
        floor = _plain_number(rows[-1].shown, metric) if rows[-1].shown <= most else "none"
        return (
            f"{said} is not shown by {rows[-1].replicates} replicates either, which show {floor}: with {images:,} test "
            f"images that is about the least; more test images would help"
        )
    low, high = bounds[0], f"{bounds[2]}" if bounds[2] else f"more than {rows[-1].replicates}"
    return f"{said} is shown four times in five by about {bounds[1]} replicates (range {low} to {high})"


def environment_sentence(results: Results) -> str:
    """Return that the arms were trained with other processors or versions; nothing where they were not."""
    baseline, differential = (results.training[arm].environment for arm in ARMS)
    other = [name for name in {**baseline, **differential} if baseline.get(name) != differential.get(name)]
    if not other:
        return ""
    named = "; ".join(
        f"{name}: {baseline.get(name, 'unknown')} and {differential.get(name, 'unknown')}" for name in other
    )
    return (
        f"The arms were not trained alike ({named}; baseline's first): part of their difference is due to that"
        f"{_due_to_environment(results)}. `dvc repro --force` trains both here."
    )


def _due_to_environment(results: Results) -> str:
    """Return how much another processor or version may do to a mean; nothing where one replicate tells no spread."""
    metric, replicates = results.evaluation.verdict.metric, results.evaluation.replicates
    spread = results.evaluation.test.baseline.std[metric]
    if not spread:
        return ""
    return (
        f", about as much as other seeds would do: the baseline's replicates have a standard deviation of "
        f"{_plain_number(spread, metric)}{_unit(metric)}, the mean of {replicates} moves by "
        f"{_plain_number(spread / math.sqrt(replicates), metric)}"
    )


def goal_sentence(results: Results) -> str:
    """Return whether the differential arm meets the goal, how often, and how the overfitting gaps differ."""
    goal, total = results.evaluation.goal.differential, results.evaluation.replicates
    meeting = goal.replicates_meeting
    counted = results.evaluation.training.interval["overfitting_gap"]
    in_eval_mode = results.evaluation.eval_mode.interval["overfitting_gap"]
    return (
        f"The differential arm {'meets' if goal.met else 'does not meet'} the goal in the mean; "
        f"{_meeting(meeting, total)}. Its overfitting gap less the baseline's is "
        f"{points(counted.estimate)} points{_in_brackets(counted)} where training accuracy is counted while training, "
        f"and {points(in_eval_mode.estimate)}{_in_brackets(in_eval_mode)} where it is measured in evaluation mode "
        f"({_note_on_intervals([counted, in_eval_mode])})."
    )


def _meeting(meeting: int, total: int) -> str:
    return f"{meeting} of {_replicates(total)} {'meets' if 1 in {meeting, total} else 'meet'} it"


def _note_on_intervals(found: list[Interval]) -> str:
    """Return whose intervals stand there, and why some have none."""
    reasons = list(dict.fromkeys(one.reason for one in found if one.low is None))
    none = (
        [f"{'no interval' if len(reasons) == 1 else 'no intervals'}: {'; '.join(map(str, reasons))}"] if reasons else []
    )
    some = ["95 % intervals, not the verdict's"] if any(one.low is not None for one in found) else []
    return "; ".join([*some, *none])


def goal_table(results: Results) -> list[dict[str, str]]:
    """Return the rows of the goal table: `condition`, and for each arm the value, whether it is met, and how often."""
    goal, total = results.evaluation.goal, results.evaluation.replicates

    def cell(metric: GoalMetric) -> str:
        met, meeting = "met" if metric.met else "not met", metric.replicates_meeting
        return f"{100 * metric.value:.1f} %: {met} in the mean; {_meeting(meeting, total)}"

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
        *(
            {
                "metric": f"test {METRIC_NAMES[metric]}, 95 % interval",
                **dict.fromkeys(ARMS, ""),
                "difference": _interval_cell(evaluation.test.interval[metric], SCALES[metric]),
            }
            for metric in METRIC_NAMES
        ),
        {
            "metric": "replicates that failed",
            **{arm: f"{len(evaluation.failures.of(arm))} of {evaluation.replicates}" for arm in ARMS},
            "difference": "",
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
            "p": f"{test.p_value:.2g}" if test.p_value >= SMALLEST_P else f"< {SMALLEST_P:g}",
        }
        for split, title in SPLIT_TITLES.items()
        if split != "train"
        for seed, test in results.evaluation.split(split).mcnemar.items()
    ]


def averaged_over(results: Results) -> str:
    """Return what the metrics are averages of."""
    seeds = results.evaluation.replicates
    return (
        f"Mean ± standard deviation over {seeds} replicates" if seeds > 1 else "Of one replicate: the spread is unknown"
    )


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
    return Summary(mean=training.mean, std=training.std, seeds=training.seeds)


def _interval_cell(found: Interval, scale: float) -> str:
    return "unknown" if found.low is None else interval(found, scale)


def value_text(value: float, metric: Metric) -> str:
    """Return a metric's value with its unit."""
    return f"{100 * value:.1f} %" if SCALES[metric] == 100 else f"{value:.3f}"


def signed_difference(found: Interval, metric: Metric) -> str:
    """Return an estimate with its sign and unit."""
    if SCALES[metric] == 100:
        return f"{points(found.estimate)} points"
    return f"{found.estimate + 0.0:+.3f}".replace("-", MINUS)


def _unit(metric: Metric) -> str:
    return " points" if SCALES[metric] == 100 else ""


def _in_brackets(found: Interval) -> str:
    return "" if found.low is None else f" ({interval(found, 100)})"


def _describe_rates(rates: dict[str, float]) -> str:
    *backbone, head = rates.values()
    lowest, highest = f"{min(backbone):.2g}", f"{max(backbone):.2g}"
    return f"{lowest} … {highest} / {head:.2g}" if lowest != highest else f"{highest} / {head:.2g}"


def _single(value: float, write: Write) -> str:
    return f"{100 * value:.1f} %" if write is percent else _fixed(value, 3)


def _with_spread(summary: Summary, metric: str, scale: float, digits: int, unit: str, signed: bool) -> str:
    mean, std = round(summary.mean[metric] * scale, digits) + 0.0, summary.std[metric]  # never −0
    sign = "+" if signed else ""
    text = _fixed(mean, digits, sign) + ("" if std is None else f" ± {_fixed(std * scale, digits)}") + unit
    return text.replace("-", MINUS)


def _fixed(value: float, digits: int, sign: str = "") -> str:
    """Return a number with so many decimals; from a million on its three first digits, as weights that blew up have."""
    return f"{value:{sign}.{digits}f}" if abs(value) < MILLION else f"{value:{sign}.3g}"


METRIC_NAMES: dict[Metric, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC AUC",
    "loss": "loss",
    "brier": "Brier score",
}
# To points where a metric is shown in percent.
SCALES: dict[Metric, float] = {
    "accuracy": 100,
    "balanced_accuracy": 100,
    "macro_f1": 100,
    "roc_auc": 1,
    "loss": 1,
    "brier": 1,
}
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
