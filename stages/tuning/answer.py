"""What the trials of a study say: the best of each arm, the edges of the space, the curves, the surface."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from stages.errors import UserError
from stages.metrics_files import SplitMetrics
from stages.params import Objective, Params, SearchArm, SearchRange, Study
from stages.search_files import (
    ArmTrials,
    BestTrial,
    Chance,
    CurvePoint,
    Curves,
    Edge,
    Estimate,
    Place,
    SearchAnswer,
    Span,
    SurfaceAnswer,
    as_values,
    images_digest,
)
from stages.tuning.curves import (
    HIGHER_IS_BETTER,
    LEVEL,
    best_trial,
    curve_differences,
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
)

CURVE_METRICS: tuple[Objective, ...] = ("val_loss", "val_accuracy")
SURFACE_METRICS = ("val_loss", "val_accuracy", "overfitting_gap")
EDGE = 0.05  # of a range, at its end; 1 in 10 draws lies at one
RULE_OF_THUMB = (0.0001, 0.01)  # backbone and head, which people copy
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
    study, search = params.search.studies[name], params.search
    arms = {arm: trials[trials["arm"] == arm] for arm in search_arms(study)}
    for arm, of_arm in arms.items():
        if not (of_arm["state"] == "finished").any():
            raise UserError(f"search.studies.{name}: no trial of the {arm} arm came to its end: lower its rates")
    answers = {arm: arm_answer(of_arm, study, arm, search.objective) for arm, of_arm in arms.items()}
    best = {arm: answer.best for arm, answer in answers.items()}
    curves = pd.DataFrame(columns=["metric", "arm", "k", "low", "median", "high"])
    if search.sampler == "random":
        scores = {metric: {str(arm): scores_of(of, metric) for arm, of in arms.items()} for metric in CURVE_METRICS}
        each = [tuning_curves(scores[metric], metric).assign(metric=metric) for metric in CURVE_METRICS]
        curves = pd.concat(each)[list(curves)]
    plane = on_plane(trials)
    surface, surfaces = pd.DataFrame(columns=["backbone", "head"]), {}
    if has_plane(ranges_of(study, "differential")) and (plane["state"] == "finished").sum() >= MIN_FOR_SURFACE:
        surfaces = {metric: fit_metric(plane, metric, math.log(classes)) for metric in SURFACE_METRICS}
        ranges = ranges_of(study, "differential")
        surface = surface_table(surfaces, grid(ranges["lr.head"], ranges["lr.backbone"]), search.objective)
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
            surface=surface_answer(plane, surfaces, ranges_of(study, "differential"), best, search.objective)
            if surfaces
            else None,
        ),
        curves,
        surface,
    )


def arm_answer(trials: pd.DataFrame, study: Study, arm: SearchArm, objective: Objective) -> ArmTrials:
    """Return how many trials an arm had, and its best."""
    best = trials.iloc[best_trial(trials, objective)]
    values = as_values(best, list(ranges_of(study, arm)))
    return ArmTrials(
        trials=len(trials),
        diverged=int((trials["state"] == "diverged").sum()),
        pruned=int((trials["state"] == "pruned").sum()),
        best=BestTrial(
            trial=int(best["trial"]),
            values=values,
            metrics=as_values(best, list(METRICS_OF_TRIAL)),
            edges=find_edges(values, ranges_of(study, arm)),
        ),
    )


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
    level = 1 - (1 - LEVEL) / len(arms)
    reached = min(reach(curves[curves["arm"] == arm]) for arm in arms)
    differences = {arm: curve_differences(curves, arm, "baseline").head(reached) for arm in arms if arm != "baseline"}
    return Curves(
        level=LEVEL,
        reach=reached,
        reach_of_twice=reach_of(2 * trials, level),
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
    return trials[trials["arm"].isin(["baseline", "differential"])]


def surface_values(trials: pd.DataFrame, metric: str, guessing: float) -> Values:
    """Return a metric of trials for a surface: a loss is cut off at that of guessing, which a failed trial has too.

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
    """Fit the surface of a metric; of others than the loss, to the trials that came to their end."""
    used = trials if metric == "val_loss" else trials[trials["state"] == "finished"]
    return fit_surface(plane_points(used), surface_values(used, metric, guessing))


def surface_table(surfaces: Mapping[str, Surface], at: Points, objective: Objective) -> pd.DataFrame:
    """Return the posterior of every metric on a grid, with the region that cannot be told from the best."""
    table = pd.DataFrame({"backbone": 10 ** at[:, 0], "head": 10 ** at[:, 1]})
    for metric, surface in surfaces.items():
        table[metric], table[f"{metric}_sd"] = surface.predict(at)
    region = best_regions(surfaces[objective].sample(at), HIGHER_IS_BETTER[objective])
    return table.assign(region=np.where(np.isfinite(region), region, np.nan))


def surface_answer(
    trials: pd.DataFrame,
    surfaces: Mapping[str, Surface],
    ranges: Mapping[str, SearchRange],
    best: Mapping[SearchArm, BestTrial],
    objective: Objective,
) -> SurfaceAnswer:
    """Return what the surfaces say.

    Args:
        trials: of both arms, on the plane.
        surfaces: metric -> surface.
        ranges: of the differential arm.
        best: arm -> its best trial.
        objective: that chose them.
    """
    head, share = ranges["lr.head"], ranges["lr.backbone"]
    at, higher = grid(head, share), HIGHER_IS_BETTER[objective]
    samples, diagonal = surfaces[objective].sample(at), on_diagonal(at)
    region = best_regions(samples, higher)
    uniform = np.full(len(at), np.inf)
    uniform[diagonal] = best_regions(samples[diagonal], higher)
    rates = 10**at
    accuracy = surfaces["val_accuracy"]
    return SurfaceAnswer(
        noise=accuracy.noise,
        ahead=chance_answer(accuracy, plane_points(trials[trials["state"] == "finished"]), head, share),
        uniform=_span(rates[uniform <= max(REGIONS), 1]),
        backbone=_span(rates[region <= max(REGIONS), 0]),
        head=_span(rates[region <= max(REGIONS), 1]),
        places=places(accuracy, at, best, head, share),
    )


def chance_answer(surface: Surface, points: Points, head: SearchRange, share: SearchRange) -> Chance:
    """Return whether two rates are ahead by `MARGIN`, beside what that comes to where they are not."""
    coarse = grid(head, share, COARSE_STEP)
    chance = chance_ahead(surface.sample(coarse), on_diagonal(coarse), MARGIN, higher_is_better=True)
    without = chances_without_gain(surface, points, coarse, MARGIN, higher_is_better=True)
    return Chance(
        margin=MARGIN,
        chance=chance,
        without_gain=float(without.mean()),
        as_high_without_gain=float((without >= chance).mean()),
        simulations=SIMULATIONS,
    )


def places(
    accuracy: Surface, at: Points, best: Mapping[SearchArm, BestTrial], head: SearchRange, share: SearchRange
) -> dict[str, Place]:
    """Return what accuracy to expect where the best trials lie, and of the rule of thumb."""
    uniform, pair = best["baseline"].values["lr.uniform"], best["differential"].values
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
