"""What a search found, as sentences and tables for people."""

from collections.abc import Mapping, Sequence

from stages.metrics_files import Interval
from stages.params import HIGHER_IS_BETTER, METRIC_OF, Objective, SearchArm
from stages.reporting.tables import METRIC_NAMES, MINUS, SCALES, interval, points, signed_difference, value_text
from stages.search_files import (
    RULE_OF_THUMB,
    ArmTrials,
    CurvePoint,
    Curves,
    Edge,
    Estimate,
    RepeatsAnswer,
    SearchAnswer,
    Span,
    SurfaceAnswer,
    Trial,
    find_repeats,
    finished_studies,
    is_of_these_images,
    read_answer,
)

ARM_NAMES: dict[SearchArm, str] = {"baseline": "one rate", "differential": "two rates", "layer_decay": "layer decay"}
OBJECTIVES: dict[Objective, str] = {"val_loss": "validation loss", "val_accuracy": "validation accuracy"}


def recommendation(answer: SearchAnswer, repeats: RepeatsAnswer | None) -> str:
    """Return which rates to take: two where tuning two is shown to beat tuning one, else one."""
    two = shows_two(answer, repeats)
    arm: SearchArm = "differential" if two else "baseline"
    return f"Take {rates_of(answer.arms[arm].chosen)}: {_reason(repeats, two=two)}.{_what_to_expect(answer, arm)}"


def search_lines() -> list[str]:
    """Return a line for each search that has been run on the images that are prepared here."""
    found = {study: read_answer(study) for study in finished_studies()}
    return [
        f"Search {study}: {recommendation(answer, find_repeats(study))}"
        for study, answer in found.items()
        if is_of_these_images(answer)
    ]


def shows_two(answer: SearchAnswer, repeats: RepeatsAnswer | None) -> bool:
    """Whether tuning two rates is shown to beat tuning one: by independent searches, or without them by the curves."""
    found = repeats.interval if repeats else None
    if repeats and found and found.low is not None and found.high is not None:
        return found.low > 0 if HIGHER_IS_BETTER[repeats.metric] else found.high < 0
    return bool(answer.curves) and any(side > 0 for side in _shown_sides(answer, "differential"))


def _reason(repeats: RepeatsAnswer | None, two: bool) -> str:
    by = "by independent searches" if repeats and repeats.interval and repeats.interval.low is not None else ""
    by = by or "by the tuning curves"
    if two:
        return f"tuning two rates is shown to beat tuning one, {by}"
    return f"a second one is not shown to bring anything, {by}"


def _what_to_expect(answer: SearchAnswer, arm: SearchArm) -> str:
    surface = answer.surface
    if surface is None or arm not in surface.places:
        return ""
    expected = f" Expect {_percent(surface.places[arm].val_accuracy)} of validation accuracy"
    if arm == "baseline":
        return f"{expected}; anything from {_span(surface.uniform)} does as well."
    backbone, head = _span(surface.backbone), _span(surface.head)
    return f"{expected}; backbone rates from {backbone} with head rates from {head} do as well."


def statements(answer: SearchAnswer, repeats: RepeatsAnswer | None) -> list[str]:
    """Return everything else that the search says, most important first."""
    return [
        *([repeats_sentence(repeats)] if repeats else []),
        *curve_sentences(answer),
        *([thumb_sentence(answer.surface), ahead_sentence(answer.surface)] if answer.surface else []),
        *edge_sentences(answer),
        *failure_sentences(answer),
        conditions_sentence(answer),
    ]


def repeats_sentence(repeats: RepeatsAnswer) -> str:
    """Return whether tuning two rates beats tuning one."""
    count, found = len(repeats.searches), repeats.interval
    if not count:
        return (
            "Whether tuning two rates beats tuning one, a single search cannot say: set search.repeats to 5 or more, "
            "with 8 trials or more in each."
        )
    metric = f"test {METRIC_NAMES[repeats.metric]}"
    searches = f"In {count} independent searches of {repeats.trials} trials an arm"
    how = "the winners, trained anew with fresh seeds and tested on images that no search saw, differ"
    if found is None:
        return f"{searches}, the winners cannot be told apart: there is one search."
    by = f"by {signed_difference(found, repeats.metric)} of {metric} (two rates − one)"
    if found.low is None or found.level is None:
        return f"{searches}, {how} {by}, without an interval: {found.reason}."
    ends = f"{100 * found.level:.3g} % interval {interval(found, SCALES[repeats.metric])}, {repeats.tested:,} images"
    return f"{searches}, {how} {by}; {ends}."


def curve_sentences(answer: SearchAnswer) -> list[str]:
    """Return what the tuning curves show, and how far they reach."""
    curves = answer.curves
    if curves is None:
        return [f"There are no tuning curves: their bands need independent draws, and {answer.sampler} makes none."]
    if not curves.reach:
        return [f"The bands are open for every number of trials; twice as many would reach {_trials(curves)}."]
    told = [
        _curve_sentence(answer, arm, found) for arm, found in curves.differences.items() if arm != "baseline" and found
    ]
    trials = next(iter(answer.arms.values())).trials
    return [
        *told,
        f"Beyond k = {curves.reach} the bands of {trials} trials are open; {2 * trials} would reach {_trials(curves)}.",
    ]


def _trials(curves: Curves) -> str:
    return f"k = {curves.reach_of_twice}" if curves.reach_of_twice else "no further"


def _shown_sides(answer: SearchAnswer, arm: SearchArm) -> list[int]:
    """Return for each k whether the band shows an arm ahead of the baseline (1), behind (-1), or neither (0)."""
    found = answer.curves.differences.get(arm, []) if answer.curves else []
    return [_side(point, answer.objective) for point in found]


def _side(point: CurvePoint, objective: Objective) -> int:
    if point.low is None or point.high is None or point.low <= 0 <= point.high:
        return 0
    return 1 if (point.low > 0) == HIGHER_IS_BETTER[METRIC_OF[objective]] else -1


def _curve_sentence(answer: SearchAnswer, arm: SearchArm, found: Sequence[CurvePoint]) -> str:
    name, last, sides = ARM_NAMES[arm], found[-1], _shown_sides(answer, arm)
    shown = [point.k for point, side in zip(found, sides, strict=True) if side]
    metric = METRIC_OF[answer.objective]
    difference = Interval(estimate=last.difference, low=last.low, high=last.high)
    value = f"{signed_difference(difference, metric)} ({interval(difference, SCALES[metric])})"
    trials = f"{last.k} trials" if last.k > 1 else "one trial"
    at_last = f"the best of {trials} differs by {value} in {OBJECTIVES[answer.objective]}"
    if not shown:
        never = f"For no number of trials up to {last.k} is tuning {name} shown to be ahead of one, or behind it"
        return f"{never}: {at_last}."
    ahead = "ahead of" if sides[shown[0] - 1] > 0 else "behind"
    ks = f"k = {shown[0]}" if len(shown) == 1 else f"k = {shown[0]} to {shown[-1]}"
    return f"With the best of {ks} trials, tuning {name} is shown to be {ahead} tuning one; {at_last}."


def thumb_sentence(surface: SurfaceAnswer) -> str:
    """Return what the rule of thumb would cost."""
    place = surface.places.get("rule_of_thumb")
    if place is None:
        backbone, head = RULE_OF_THUMB
        return f"The rule of thumb, {backbone:g} / {head:g}, lies outside of the space that was searched."
    behind = place.behind_best
    rates = f"{place.backbone:g} / {place.head:g}"
    return (
        f"The rule of thumb ({rates}) is {100 * behind.mean:.1f} points of validation accuracy behind the best of the "
        f"surface ({_range(behind, 100)})."
    )


def ahead_sentence(surface: SurfaceAnswer) -> str:
    """Return what the surface says of two rates against one, beside what it says where there is no gain."""
    ahead = surface.ahead
    return (
        f"On the surface, two rates are ahead of one by {100 * ahead.margin:.2g} point of validation accuracy or more "
        f"with a probability of {ahead.chance:.2f}. In {ahead.simulations} simulated searches without any gain it was "
        f"{ahead.without_gain:.2f} on average, and as high in {100 * ahead.as_high_without_gain:.0f} % of them: it "
        f"decides nothing."
    )


def edge_sentences(answer: SearchAnswer) -> list[str]:
    """Return where a chosen trial lies at the edge of the space."""
    chosen = {arm: found.chosen for arm, found in answer.arms.items()}
    return [_edge_sentence(arm, edge, trial) for arm, trial in chosen.items() for edge in trial.edges]


def _edge_sentence(arm: SearchArm, edge: Edge, trial: Trial) -> str:
    chosen = f"What is chosen for {ARM_NAMES[arm]} has {edge.parameter} {trial.values[edge.parameter]:g}"
    if edge.parameter == "lr.backbone":
        return f"{chosen}, the {edge.end} end of its share of lr.head: widen it."
    return f"{chosen}, at the {edge.end} end of the space ({edge.value:g}): widen it."


def failure_sentences(answer: SearchAnswer) -> list[str]:
    """Return how many trials failed."""
    return [_failure_sentence(arm, found) for arm, found in answer.arms.items() if found.diverged or found.pruned]


def _failure_sentence(arm: SearchArm, found: ArmTrials) -> str:
    kinds = [f"{count} {kind}" for kind, count in (("diverged", found.diverged), ("given up", found.pruned)) if count]
    return f"Of {found.trials} trials of {ARM_NAMES[arm]}, {' and '.join(kinds)}; they count as the worst."


def conditions_sentence(answer: SearchAnswer) -> str:
    """Return how the trials were made, and what they cannot say."""
    found = next(iter(answer.arms.values()))
    return (
        f"{found.trials} trials of each arm ({answer.sampler}), each with a fresh seed, {answer.epochs} epochs, "
        f"on images that no test image is among (of the first trial {answer.train:,} training and {answer.val:,} "
        f"validation images); chosen by {OBJECTIVES[answer.objective]}. The best trials' own metrics flatter them. All "
        f"of it is about this network, these images and this length of training."
    )


def best_table(answer: SearchAnswer) -> list[dict[str, str]]:
    """Return a row for each arm: its best trial with its loss, what is chosen, and the accuracy to expect there."""
    rows = []
    for arm, found in answer.arms.items():
        place = answer.surface.places.get(arm) if answer.surface else None
        rows.append(
            {
                "arm": ARM_NAMES[arm],
                "best trial": _short(found.best.values),
                "loss": f"{found.best.metrics['val_loss']:.3f}",
                "chosen": _short(found.chosen.values),
                "expected": f"{_range(place.val_accuracy, 100)} %" if place else "",
            }
        )
    return rows


def searches_table(repeats: RepeatsAnswer | None) -> list[dict[str, str]]:
    """Return a row for each independent search: what its winners were, and came to on test images."""
    if repeats is None:
        return []
    metric = METRIC_NAMES[repeats.metric]
    return [
        {
            "search": str(number),
            "one rate": _short(search.values["baseline"]),
            "two rates": _short(search.values["differential"]),
            f"{metric}, one": value_text(search.scores["baseline"], repeats.metric),
            "two": value_text(search.scores["differential"], repeats.metric),
            "difference": _signed_score(search.scores["differential"] - search.scores["baseline"], repeats),
        }
        for number, search in enumerate(repeats.searches, start=1)
    ]


def rates_of(best: Trial) -> str:
    """Return the rates of a trial, backbone before head, and what else it drew."""
    return _values(best.values)


def _values(values: Mapping[str, float]) -> str:
    rest = [f"{name} {value:g}" for name, value in values.items() if not name.startswith("lr.")]
    return ", ".join([_rates(values), *rest])


def _short(values: Mapping[str, float]) -> str:
    """Return the drawn values alone, a pair with the backbone's first."""
    rest = [f"{name} {value:g}" for name, value in values.items() if not name.startswith("lr.")]
    first = values.get("lr.uniform", values.get("lr.backbone", values.get("lr.layer_decay", 0.0)))
    rates = f"{first:g}" if "lr.uniform" in values else f"{first:g} / {values['lr.head']:g}"
    return ", ".join([rates, *rest])


def _rates(values: Mapping[str, float]) -> str:
    if "lr.uniform" in values:
        return f"{values['lr.uniform']:g} for everything"
    if "lr.layer_decay" in values:
        return f"{values['lr.head']:g} for the head, × {values['lr.layer_decay']:g} a layer group below"
    return f"{values['lr.backbone']:g} / {values['lr.head']:g} (backbone / head)"


def _signed_score(value: float, repeats: RepeatsAnswer) -> str:
    return points(value) if SCALES[repeats.metric] == 100 else f"{value:+.3f}".replace("-", MINUS)


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:.1f} % ({_range(estimate, 100)})"


def _range(estimate: Estimate, scale: float) -> str:
    return f"{scale * estimate.low:.1f} to {scale * estimate.high:.1f}".replace("-", MINUS)


def _span(span: Span) -> str:
    return f"{span.low:.2g} to {span.high:.2g}"
