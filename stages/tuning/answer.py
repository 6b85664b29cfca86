"""What the trials of a study say: the best of each arm, the edges of the space, the curves, the surface."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from stages.errors import UserError
from stages.metrics_files import SplitMetrics
from stages.params import Objective, Params, SearchArm, SearchRange, Study
from stages.search_files import (
    RULE_OF_THUMB,
    ArmTrials,
    Chance,
    CurvePoint,
    Curves,
    Edge,
    Estimate,
    Place,
    SearchAnswer,
    Span,
    SurfaceAnswer,
    Trial,
    as_values,
    images_digest,
)
from stages.tuning.curves import (
    LEVEL,
    best_trial,
    curve_differences,
    is_maximized,
    level_of_each,
    reach,
    reach_of,
    scores_of,
    tuning_curves,
)
from stages.tuning.records import METRICS_OF_TRIAL
from stages.tuning.space import ranges_of, search_arms
from stages.tuning.surface import (
    COARSE_STEP,
    REGIONS,
    SIMULATIONS,
    STEP,
    Points,
    Surface,
    Values,
    best_regions,
    chance_ahead,
    chances_without_gain,
    fit_surface,
    grid,
    on_diagonal,
    plane_points,
    without_divergence,
)

CURVE_METRICS: tuple[Objective, ...] = ("val_loss", "val_accuracy")
SURFACE_METRICS = ("val_loss", "val_accuracy", "overfitting_gap")
PLANE_ARMS = ("baseline", "differential")
NO_POINTS: Points = np.empty((0, 2))
EDGE = 0.05  # of a range, at its end; 1 in 10 draws lies at one
MARGIN = 0.01  # of validation accuracy, by which two rates should be ahead
MIN_FOR_SURFACE = 12  # finished trials of both arms; of fewer, a surface says nothing
TAILS = [2.5, 97.5]  # percent


def answer_study(
    name: str, trials: pd.DataFrame, params: Params, splits: SplitMetrics, classes: int
) -> tuple[SearchAnswer, pd.DataFrame, pd.DataFrame]:
    """Return the answer of a study, its tuning curves, and its surface; both are empty where there is none.

    Args:
        name: of the study.
        trials: as trials.csv has them.
        params: of the search.
        splits: how many images a trial trains and validates on.
        classes: of the images.

    Raises:
        UserError: no trial of an arm came to its end.
    """
    study, search = params.search.study(name), params.search
    arms = {arm: trials[trials["arm"] == arm] for arm in search_arms(study)}
    for arm, of_arm in arms.items():
        if not (of_arm["state"] == "finished").any():
            raise UserError(f"search.studies.{name}: no trial of the {arm} arm came to its end: lower its rates")
    curves = pd.DataFrame(columns=["metric", "arm", "k", "low", "median", "high"])
    if search.sampler == "random":
        scores = {metric: {str(arm): scores_of(of, metric) for arm, of in arms.items()} for metric in CURVE_METRICS}
        each = [tuning_curves(scores[metric], metric).assign(metric=metric) for metric in CURVE_METRICS]
        curves = pd.concat(each)[list(curves)]
    plane, ranges = on_plane(trials), ranges_of(study, "differential")
    at = surface_grid(plane, ranges) if has_plane(ranges) else NO_POINTS
    surface, surfaces = pd.DataFrame(columns=["backbone", "head"]), {}
    if on_diagonal(at).any() and (plane["state"] == "finished").sum() >= MIN_FOR_SURFACE:
        surfaces = {metric: fit_metric(plane, metric, math.log(classes)) for metric in SURFACE_METRICS}
        surface = surface_table(surfaces, at, search.objective)
    expected = surfaces.get(search.objective)
    answers = {arm: arm_answer(of_arm, study, arm, search.objective, expected) for arm, of_arm in arms.items()}
    return (
        SearchAnswer(
            study=name,
            images=images_digest() or "",
            objective=search.objective,
            sampler=search.sampler,
            epochs=search.epochs or params.train.epochs,
            train=splits.train,
            val=splits.val,
            arms=answers,
            curves=curves_answer(curves[curves["metric"] == search.objective], len(arms["baseline"]))
            if len(curves)
            else None,
            surface=surface_answer(plane, surfaces, at, ranges, answers, search.objective) if surfaces else None,
        ),
        curves,
        surface,
    )


def arm_answer(
    trials: pd.DataFrame, study: Study, arm: SearchArm, objective: Objective, expected: Surface | None
) -> ArmTrials:
    """Return how many trials an arm had, its best, and the one to choose.

    Args:
        trials: of the arm.
        study: that drew them.
        arm: its name.
        objective: that decides.
        expected: its surface, of all trials; None where there is none.
    """
    best, ranges = best_trial(trials, objective), ranges_of(study, arm)
    is_on_plane = expected is not None and arm in PLANE_ARMS
    chosen = expected_best(trials, expected, objective) if expected is not None and is_on_plane else best
    return ArmTrials(
        trials=len(trials),
        diverged=int((trials["state"] == "diverged").sum()),
        pruned=int((trials["state"] == "pruned").sum()),
        best=_trial(trials.iloc[best], ranges),
        chosen=_trial(trials.iloc[chosen], ranges),
    )


def _trial(row: "pd.Series[Any]", ranges: Mapping[str, SearchRange]) -> Trial:
    values = as_values(row, list(ranges))
    metrics = as_values(row, list(METRICS_OF_TRIAL))
    return Trial(trial=int(row["trial"]), values=values, metrics=metrics, edges=find_edges(values, ranges))


def expected_best(trials: pd.DataFrame, expected: Surface, objective: Objective) -> int:
    """Return the position of the trial, of those that came to their end, where a surface expects the most."""
    finished = np.flatnonzero(trials["state"] == "finished")
    means = expected.predict(plane_points(trials.iloc[finished]))[0]
    return int(finished[means.argmax() if is_maximized(objective) else means.argmin()])


def find_edges(values: Mapping[str, float], ranges: Mapping[str, SearchRange]) -> list[Edge]:
    """Return the ends of the ranges that values lie at; of a share, its upper end is none where that is equality."""
    edges = []
    for name, found in ranges.items():
        value = values[name] / values[found.times] if found.times else values[name]
        low, high, at = (np.log(end) if found.log else end for end in (found.low, found.high, value))
        place = (at - low) / (high - low)
        if place < EDGE:
            edges.append(Edge(parameter=name, end="low", value=found.low))
        elif place > 1 - EDGE and not (found.times and found.high == 1):
            edges.append(Edge(parameter=name, end="high", value=found.high))
    return edges


def curves_answer(curves: pd.DataFrame, trials: int) -> Curves:
    """Return what the tuning curves say.

    Args:
        curves: of the objective, of all arms.
        trials: of each.
    """
    arms = list(curves["arm"].unique())
    reached = min(reach(curves[curves["arm"] == arm]) for arm in arms)
    differences = {arm: curve_differences(curves, arm, "baseline").head(reached) for arm in arms if arm != "baseline"}
    return Curves(
        level=LEVEL,
        reach=reached,
        reach_of_twice=reach_of(2 * trials, level_of_each(len(arms))),
        differences={
            arm: [CurvePoint.model_validate(row) for row in table.to_dict("records")]
            for arm, table in differences.items()
        },
    )


def has_plane(ranges: Mapping[str, SearchRange]) -> bool:
    """Whether pairs are drawn from the half of the plane that the diagonal bounds, on logarithmic axes."""
    head, share = ranges["lr.head"], ranges["lr.backbone"]
    return share.times == "lr.head" and share.high == 1 and share.log and head.log


def on_plane(trials: pd.DataFrame) -> pd.DataFrame:
    """Return the trials of the two arms that lie on the plane of backbone and head."""
    return trials[trials["arm"].isin(PLANE_ARMS)]


def surface_values(trials: pd.DataFrame, metric: str, guessing: float) -> Values:
    """Return a metric of trials for a surface: a loss is cut off at that of guessing, which what was given up has too.

    Args:
        trials: of both arms.
        metric: its name.
        guessing: the loss of equal probabilities.
    """
    values: Values = trials[metric].to_numpy(dtype=float)
    if metric == "val_loss":
        return np.fmin(values, guessing)
    return values


def fit_metric(trials: pd.DataFrame, metric: str, guessing: float) -> Surface:
    """Fit the surface of a metric to the trials that have it.

    Those that diverged have none: a stand-in for their loss would pull the surface down before the cliff.
    """
    used = trials[trials["state"].isin(["finished", "pruned"] if metric == "val_loss" else ["finished"])]
    return fit_surface(plane_points(used), surface_values(used, metric, guessing))


def surface_grid(trials: pd.DataFrame, ranges: Mapping[str, SearchRange], step: float = STEP) -> Points:
    """Return the points of the plane on which the surface is drawn: the space, without what diverges.

    Args:
        trials: of both arms, on the plane.
        ranges: of the differential arm.
        step: in powers of ten.
    """
    every = grid(ranges["lr.head"], ranges["lr.backbone"], step)
    return without_divergence(every, plane_points(trials[trials["state"] == "diverged"]))


def surface_table(surfaces: Mapping[str, Surface], at: Points, objective: Objective) -> pd.DataFrame:
    """Return the posterior of every metric on a grid, with the region that cannot be told from the best."""
    table = pd.DataFrame({"backbone": 10 ** at[:, 0], "head": 10 ** at[:, 1]})
    for metric, surface in surfaces.items():
        table[metric], table[f"{metric}_sd"] = surface.predict(at)
    region = best_regions(surfaces[objective].sample(at), is_maximized(objective))
    return table.assign(region=np.where(np.isfinite(region), region, np.nan))


def surface_answer(
    trials: pd.DataFrame,
    surfaces: Mapping[str, Surface],
    at: Points,
    ranges: Mapping[str, SearchRange],
    arms: Mapping[SearchArm, ArmTrials],
    objective: Objective,
) -> SurfaceAnswer:
    """Return what the surfaces say.

    Args:
        trials: of both arms, on the plane.
        surfaces: metric -> surface.
        at: grid.
        ranges: of the differential arm.
        arms: arm -> its trials.
        objective: that decides.
    """
    higher = is_maximized(objective)
    samples, diagonal = surfaces[objective].sample(at), on_diagonal(at)
    region = best_regions(samples, higher)
    uniform = np.full(len(at), np.inf)
    uniform[diagonal] = best_regions(samples[diagonal], higher)
    rates = 10**at
    accuracy = surfaces["val_accuracy"]
    return SurfaceAnswer(
        noise=accuracy.noise,
        ahead=chance_answer(accuracy, trials, surface_grid(trials, ranges, COARSE_STEP)),
        uniform=_span(rates[uniform <= max(REGIONS), 1]),
        backbone=_span(rates[region <= max(REGIONS), 0]),
        head=_span(rates[region <= max(REGIONS), 1]),
        places=places(accuracy, at, arms, ranges),
    )


def chance_answer(surface: Surface, trials: pd.DataFrame, at: Points) -> Chance:
    """Return whether two rates are ahead by `MARGIN`, beside what that comes to where they are not.

    Args:
        surface: of validation accuracy.
        trials: of both arms, on the plane.
        at: grid.
    """
    points = plane_points(trials[trials["state"] == "finished"])
    chance = chance_ahead(surface.sample(at), on_diagonal(at), MARGIN, higher_is_better=True)
    without = chances_without_gain(surface, points, at, MARGIN, higher_is_better=True)
    return Chance(
        margin=MARGIN,
        chance=chance,
        without_gain=float(without.mean()),
        as_high_without_gain=float((without >= chance).mean()),
        simulations=SIMULATIONS,
    )


def places(
    accuracy: Surface, at: Points, arms: Mapping[SearchArm, ArmTrials], ranges: Mapping[str, SearchRange]
) -> dict[str, Place]:
    """Return what accuracy to expect where the chosen trials lie, and of the rule of thumb.

    Args:
        accuracy: its surface.
        at: grid, on which the best is looked for.
        arms: arm -> its trials.
        ranges: of the differential arm.
    """
    head, share = ranges["lr.head"], ranges["lr.backbone"]
    uniform, pair = arms["baseline"].chosen.values["lr.uniform"], arms["differential"].chosen.values
    wanted = {
        "baseline": (uniform, uniform),
        "differential": (pair["lr.backbone"], pair["lr.head"]),
        "rule_of_thumb": RULE_OF_THUMB,
    }
    inside = {
        name: rates
        for name, rates in wanted.items()
        if head.low <= rates[1] <= head.high and share.low <= rates[0] / rates[1] <= share.high
    }
    points = np.log10(np.array(list(inside.values())))
    samples = accuracy.sample(np.concatenate([points, at]))
    expected = accuracy.predict(np.concatenate([points, at]))[0]
    top = samples[int(expected.argmax())]
    return {
        name: Place(
            backbone=rates[0], head=rates[1], val_accuracy=_estimate(of_place), behind_best=_estimate(top - of_place)
        )
        for (name, rates), of_place in zip(inside.items(), samples, strict=False)
    }


def _estimate(samples: Values) -> Estimate:
    low, high = np.percentile(samples, TAILS)
    return Estimate(mean=float(samples.mean()), low=float(low), high=float(high))


def _span(rates: Values) -> Span:
    return Span(low=float(rates.min()), high=float(rates.max()))
