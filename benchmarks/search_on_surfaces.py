"""Measure what a search finds, and how often its curves and its surface are right, on surfaces that are known.

Nothing is trained: a trial's validation accuracy and loss are those of a formula at the rates that it drew, and noise.
Draws, curves, best trials, surfaces and intervals come from the code of the pipeline.

    OMP_NUM_THREADS=1 python -m benchmarks.search_on_surfaces
"""

import argparse
import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import optuna
import pandas as pd
from scipy import stats

from benchmarks.interval_coverage import COMMON_LUCK, Setting, covers, draw_folds, sample_of
from stages.errors import run_cli
from stages.evaluation.statistics import paired_interval
from stages.metrics_files import Interval
from stages.params import Objective, Params, SearchArm, SearchRange, load_params
from stages.reporting.markdown import markdown_table
from stages.search_files import Chance
from stages.tuning import curves, surface
from stages.tuning.answer import MIN_FOR_SURFACE, chance_answer, expected_best, fit_metric, surface_grid, surface_table
from stages.tuning.curves import best_trial, curve_differences, is_maximized, scores_of, tuning_curves
from stages.tuning.draws import Scores, run_draws
from stages.tuning.records import TrialResult, trials_table
from stages.tuning.space import Draw, ranges_of

Values = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]
STUDY = "sgd"
ARMS: tuple[SearchArm, SearchArm] = ("baseline", "differential")
OBJECTIVE: Objective = "val_loss"  # that of params.yaml
TRIALS = (8, 32, 48)  # of each arm: the first look, the fewest that the bands need, the default
MEASURED: dict[Objective, tuple[int, ...]] = {OBJECTIVE: TRIALS, "val_accuracy": TRIALS[-1:]}  # of the curves
IMAGES = 300  # that a trial is validated on
ACCURACY_NOISE = 0.022  # standard deviation of a trial's validation accuracy
LOSS_NOISE = 0.025  # of its loss, and the correlation of both: about what trainings at the same rates differ by
NOISE_CORRELATION = -0.75
TOP, FLOOR = 0.88, 0.5  # the best accuracy of a surface, and that of guessing between two classes
LOSS_AT_TOP, LOSS_SLOPE = 0.3, 1.6  # the loss at the best accuracy, and by how much it grows as accuracy falls to 0
GUESSING = math.log(2)
WITHIN = 0.005  # of the best accuracy: as good as the best
CELLS = 400  # of the prior along each rate, where a true curve is computed
REPEATS, TESTED = 6, 1489  # independent searches of the trials of the default, and test images
LUCK = Setting("repeats", REPEATS, TESTED, seed_luck=0.1)  # of images for one arm, and of training anew
WINNERS = 200_000  # simulated searches, for the true difference of the two procedures


@dataclass(frozen=True)
class KnownSurface:
    """Validation accuracy over the rates of backbone and head, all in powers of ten: flat, and falling off outside.

    Attributes:
        name: for people.
        backbone: the best rate.
        head: likewise.
        steepness: of the backbone's rate and of the head's, what a power of ten from the best costs, growing with its
            square.
        flat: how far from the best nothing is lost, likewise.
        cliff: the backbone's rate above which a trial diverges.
        of_pairs: accuracy that any pair of different rates has and no single rate.
    """

    name: str
    backbone: float = -2.25
    head: float = -2.25
    steepness: tuple[float, float] = (0.04, 0.04)
    flat: tuple[float, float] = (0.0, 0.0)
    cliff: float = math.inf
    of_pairs: float = 0.0

    def diverges(self, backbone: Values, head: Values) -> Booleans:
        """Whether a trial comes to no metrics."""
        return (backbone > self.cliff + 1e-9) & np.isfinite(head)

    def accuracy(self, backbone: Values, head: Values) -> Values:
        """Return the expected accuracy; that of guessing where a trial diverges."""
        lost = np.zeros(len(head))
        for rates, best, steep, flat in zip(
            (backbone, head), (self.backbone, self.head), self.steepness, self.flat, strict=True
        ):
            lost += steep * np.maximum(np.abs(rates - best) - flat, 0) ** 2
        found = np.maximum(TOP - lost + self.of_pairs * (backbone < head), FLOOR)
        return np.where(self.diverges(backbone, head), FLOOR, found)


RIDGE = KnownSurface("ridge: the head's rate alone matters", head=-2, steepness=(0, 0.04))
PLATEAU = KnownSurface("plateau: two powers of ten wide", backbone=-3, head=-2.25, flat=(1, 0.75))
CLIFF = KnownSurface("cliff: the best lies at it, beyond it trials diverge", backbone=-1.5, head=-1.5, cliff=-2)
GAIN = KnownSurface("gain: a second rate brings 3 points", backbone=-3, head=-1.75, steepness=(0.0384, 0.0384))
NO_GAIN = KnownSurface("no gain: the best lies on the diagonal")
OFFSET = KnownSurface("offset: any pair is 3 points ahead, else flat", steepness=(0, 0), of_pairs=0.03)
SURFACES = (RIDGE, PLATEAU, CLIFF, GAIN, NO_GAIN)


@dataclass(frozen=True)
class Sizes:
    """How much is simulated.

    Attributes:
        searches: for each row about curves, best trials and repeats.
        chosen: searches for each row about the trial that is chosen.
        regions: searches for each row about the region of the best.
        chances: searches for each row about the chance of being ahead.
        without_gain: searches that the pipeline itself simulates for each of these (in the pipeline `SIMULATIONS`).
    """

    searches: int = 1000
    chosen: int = 60
    regions: int = 50
    chances: int = 40
    without_gain: int = 40


QUICK = Sizes(searches=40, chosen=5, regions=4, chances=3, without_gain=20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few searches of each kind, to see that it runs")
    parser.add_argument("--searches", type=int, help=f"for each row about curves (default: {Sizes().searches})")
    options = parser.parse_args()
    sizes = QUICK if options.quick else Sizes()
    if options.searches:
        sizes = replace(sizes, searches=options.searches)
    for title, headers, rows in tables(sizes):
        print(f"## {title}\n\n{markdown_table(headers, rows)}\n", flush=True)


Table = tuple[str, list[str], list[list[str]]]  # title, headers, rows


def tables(sizes: Sizes) -> Iterator[Table]:
    """Yield what is printed."""
    cases = [
        (known, objective, trials)
        for known in (*SURFACES, OFFSET)
        for objective, of_objective in MEASURED.items()
        for trials in of_objective
    ]
    found = {case: [curve_outcome(*case, number) for number in range(sizes.searches)] for case in cases}
    yield (
        "Tuning curves: do the bands of both arms contain the true curves, for all k at once?",
        ["surface", "objective", "trials", "both contained", "baseline", "differential"],
        [[*case_cells(*case), *covered_cells(outcomes)] for case, outcomes in found.items()],
    )
    yield (
        "Differences of the curves: differential − baseline, at any k where both bands are finite",
        ["surface", "objective", "trials", "largest k", "true at k = 1", "true at largest k", *SHOWN],
        [[*case_cells(*case), *difference_cells(*case, outcomes)] for case, outcomes in found.items()],
    )
    yield (
        "Best trials: points of true accuracy below the best that the arm can have",
        ["surface", "trials", *(f"{arm}, {of}" for arm in ARMS for of in ("median", "95th percentile"))],
        [regret_row(known, trials, sizes.searches) for known in SURFACES for trials in TRIALS],
    )
    yield (
        f"Chosen trials, where the surface of {TRIALS[-1]} trials an arm expects the most: points below the best, too",
        ["surface", "arm", *(f"{of}, {at}" for at in ("median", "95th percentile") for of in CHOICES), *COMPARED],
        [row for known in SURFACES for row in chosen_rows(known, TRIALS[-1], sizes.chosen)],
    )
    yield (
        "The 90 % region of the surface: does it contain the best?",
        ["surface", "trials", "has a surface", "the best point", "a point within 0.5 points", "percent of the plane"],
        [region_row(known, trials, sizes.regions) for known in SURFACES for trials in TRIALS],
    )
    yield (
        "The chance that two rates are ahead by a point of accuracy",
        ["surface", "trials", "true gain", "chance", "without gain", "as high without gain in less than 5 %"],
        [chance_row(known, trials, sizes) for known in (RIDGE, PLATEAU, NO_GAIN, GAIN) for trials in TRIALS[1:]],
    )
    yield (
        f"Repeats: {REPEATS} searches of {TRIALS[-1] // REPEATS} trials an arm, their winners tested on "
        f"{TESTED:,} images",
        ["surface", "folds", "true difference", "contained", "shown ahead", "shown behind", "one search, six seeds"],
        [repeats_row(known, folds, sizes.searches) for known in SURFACES for folds in (1, 3)],
    )


# Searches.


@functools.cache
def search_params() -> Params:
    """Return params.yaml, which says the space."""
    return load_params()


def search_ranges() -> tuple[SearchRange, SearchRange]:
    """Return the ranges of the head's rate and of the backbone's as a share of it."""
    ranges = pair_ranges()
    return ranges["lr.head"], ranges["lr.backbone"]


def pair_ranges() -> dict[str, SearchRange]:
    """Return the ranges of the differential arm."""
    return ranges_of(search_params().search.studies[STUDY], "differential")


@functools.cache
def draws_of(number: int) -> list[Draw]:
    """Return what a search draws, whose number is its seed."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    params = search_params()
    seeded = params.model_copy(
        update={"search": params.search.model_copy(update={"seed": number, "sampler": "random"})}
    )
    drawn: list[Draw] = []

    def run(draws: list[Draw]) -> Scores:
        drawn.extend(draws)
        return {(draw.arm, draw.number): 0.0 for draw in draws}

    run_draws(seeded, params.search.studies[STUDY], ARMS, max(TRIALS), run)
    return drawn


@functools.lru_cache(1000)
def search(known: KnownSurface, number: int) -> pd.DataFrame:
    """Return the trials of a simulated search, as trials.csv has them; the first are those of a shorter one."""
    draws, random = draws_of(number), np.random.default_rng(number)
    backbone, head = np.log10([rates_of(draw) for draw in draws]).T
    noise = random.multivariate_normal([0, 0], noise_covariance(), len(draws))
    expected, diverged = known.accuracy(backbone, head), known.diverges(backbone, head)
    accuracy, loss = counted(expected + noise[:, 0]), loss_at(expected) + noise[:, 1]
    return trials_table(
        [
            TrialResult(draw, "diverged", {})
            if failed
            else TrialResult(draw, "finished", {"val_accuracy": of_accuracy, "val_loss": of_loss})
            for draw, failed, of_accuracy, of_loss in zip(draws, diverged, accuracy, loss, strict=True)
        ]
    )


def rates_of(draw: Draw) -> tuple[float, float]:
    """Return the rates of backbone and head that a draw means."""
    if draw.arm == "baseline":
        return draw.values["lr.uniform"], draw.values["lr.uniform"]
    return draw.values["lr.backbone"], draw.values["lr.head"]


def noise_covariance() -> Values:
    """Return the covariance of a trial's accuracy and loss around what is expected of it."""
    both = NOISE_CORRELATION * ACCURACY_NOISE * LOSS_NOISE
    return np.array([[ACCURACY_NOISE**2, both], [both, LOSS_NOISE**2]])


def counted(accuracy: Values) -> Values:
    """Return accuracies as those of `IMAGES` images are."""
    return np.round(accuracy * IMAGES) / IMAGES


def loss_at(accuracy: Values) -> Values:
    """Return the loss that goes with an accuracy."""
    return LOSS_AT_TOP + LOSS_SLOPE * (TOP - accuracy)


def first_trials(trials: pd.DataFrame, size: int) -> pd.DataFrame:
    """Return the first trials of each arm."""
    return trials[trials["trial"] <= size]


# Tuning curves.


@functools.cache
def prior(known: KnownSurface, arm: SearchArm) -> tuple[Values, Values, float]:
    """Return the accuracies that an arm's draws can have, the probability of each, and that of diverging."""
    of_head, of_share = search_ranges()
    cells = CELLS**2 if arm == "baseline" else CELLS
    places = (np.arange(cells) + 0.5) / cells
    heads, shares = (np.log10(of.low) + places * np.log10(of.high / of.low) for of in (of_head, of_share))
    if arm == "baseline":
        backbone = head = heads
    else:
        head, backbone = (grid.ravel() for grid in np.broadcast_arrays(heads[:, None], heads[:, None] + shares))
    diverged = known.diverges(backbone, head)
    values, counts = np.unique(known.accuracy(backbone, head)[~diverged].round(4), return_counts=True)
    return values, counts / len(head), float(diverged.mean())


@functools.cache
def true_curve(known: KnownSurface, arm: SearchArm, objective: Objective) -> Values:
    """Return the median of the best of k trials, for k from 1 on, from the distribution of a trial's score."""
    expected, weights, diverged = prior(known, arm)
    halves = 0.5 ** (1 / np.arange(1, max(TRIALS) + 1))  # what a trial is below, so that k of them are in 1 of 2 cases
    if objective == "val_accuracy":  # by steps of one image, from the worst on, which is a trial that diverged
        scores = np.arange(2 * IMAGES) / IMAGES
        below = stats.norm.cdf((scores[:, None] + 0.5 / IMAGES - expected) / ACCURACY_NOISE) @ weights + diverged
        found: Values = np.where(halves <= diverged, -np.inf, scores[np.searchsorted(below, halves)])
        return found
    scores = np.linspace(-0.2, 1.5, 2000)
    below = stats.norm.cdf((scores[:, None] - loss_at(expected)) / LOSS_NOISE) @ weights
    return np.interp(1 - halves, below, scores, right=np.inf)


@dataclass(frozen=True)
class CurveOutcome:
    """What the curves of one search came to.

    Attributes:
        covered: arm -> whether its band contains the true curve, at every k.
        reach: the largest k up to which both bands are finite.
        ahead: whether the differential arm is shown to be better somewhere.
        behind: whether it is shown to be worse somewhere.
        missed: whether the band of the difference misses the true difference somewhere.
    """

    covered: dict[SearchArm, bool]
    reach: int
    ahead: bool
    behind: bool
    missed: bool


def curve_outcome(known: KnownSurface, objective: Objective, trials: int, number: int) -> CurveOutcome:
    """Compare the curves of one search with the true ones; what a band does not reach, it contains."""
    table = first_trials(search(known, number), trials)
    scores = {str(arm): scores_of(table[table["arm"] == arm], objective) for arm in ARMS}
    drawn = tuning_curves(scores, objective)
    truth = {arm: true_curve(known, arm, objective)[:trials] for arm in ARMS}
    finite = curve_differences(drawn, "differential", "baseline").dropna(subset=["low", "high"])
    true_differences = (truth["differential"] - truth["baseline"])[finite["k"] - 1]
    up, down = bool((finite["low"] > 0).any()), bool((finite["high"] < 0).any())
    higher = is_maximized(objective)
    return CurveOutcome(
        covered={arm: contains(drawn[drawn["arm"] == arm], truth[arm]) for arm in ARMS},
        reach=int(finite["k"].max()) if len(finite) else 0,
        ahead=up if higher else down,
        behind=down if higher else up,
        missed=not contains(finite, true_differences),
    )


def contains(band: pd.DataFrame, truth: Values) -> bool:
    """Whether a band contains a curve everywhere; where it has no end, it is endless."""
    low, high = band["low"].fillna(-np.inf).to_numpy(), band["high"].fillna(np.inf).to_numpy()
    return bool(((low <= truth) & (truth <= high)).all())


# The best trials and the surface.


@functools.cache
def best_accuracy(known: KnownSurface, arm: SearchArm) -> float:
    """Return the best true accuracy that an arm can have."""
    at = surface.grid(*search_ranges(), step=0.01)
    if arm == "baseline":
        at = at[surface.on_diagonal(at)]
    return float(known.accuracy(*at.T).max())


def regrets(known: KnownSurface, trials: int, arm: SearchArm, searches: int) -> Values:
    """Return how far the true accuracy of the best trial is below the best of the arm, in every search."""
    best = []
    for number in range(searches):
        table = first_trials(search(known, number), trials)
        of_arm = table[table["arm"] == arm]
        best.append(of_arm.iloc[best_trial(of_arm, OBJECTIVE)])
    return best_accuracy(known, arm) - true_accuracies(known, best)


def chosen_regrets(known: KnownSurface, trials: int, searches: int) -> dict[SearchArm, Values]:
    """Return how far the true accuracy of the chosen trial of each arm is below the best of the arm."""
    chosen: dict[SearchArm, list[pd.Series[Any]]] = {arm: [] for arm in ARMS}
    for number in range(searches):
        table = first_trials(search(known, number), trials)
        expected = fit_metric(table, OBJECTIVE, GUESSING)
        for arm, of_arm in ((arm, table[table["arm"] == arm]) for arm in ARMS):
            chosen[arm].append(of_arm.iloc[expected_best(of_arm, expected, OBJECTIVE)])
    return {arm: best_accuracy(known, arm) - true_accuracies(known, chosen[arm]) for arm in ARMS}


def true_accuracies(known: KnownSurface, trials: "Sequence[pd.Series[Any]]") -> Values:
    """Return the expected accuracies at the rates of some trials."""
    return known.accuracy(*surface.plane_points(pd.DataFrame(trials)).T)


@dataclass(frozen=True)
class RegionOutcome:
    """What the region of the best came to in one search.

    Attributes:
        exact: whether a point of the grid that is truly the best is inside.
        near: whether one that is as good as the best is.
        share: of the plane, with what diverges, that is inside.
    """

    exact: bool
    near: bool
    share: float


def region_outcome(known: KnownSurface, trials: int, number: int) -> RegionOutcome | None:
    """Compare the region of one search with the true surface; None where too few trials came to their end."""
    table = first_trials(search(known, number), trials)
    if (table["state"] == "finished").sum() < MIN_FOR_SURFACE:
        return None
    every, at = surface.grid(*search_ranges()), surface_grid(table, pair_ranges())
    fitted = surface_table({OBJECTIVE: fit_metric(table, OBJECTIVE, GUESSING)}, at, OBJECTIVE)
    inside, accuracy = fitted["region"].notna().to_numpy(), known.accuracy(*at.T)
    short = known.accuracy(*every.T).max() - accuracy
    share = float(inside.sum() / len(every))
    return RegionOutcome(bool(inside[short < 1e-9].any()), bool(inside[short <= WITHIN].any()), share)


def chance(known: KnownSurface, trials: int, number: int, without_gain: int) -> Chance:
    """Return what the pipeline says of the chance that two rates are ahead by a point."""
    table = first_trials(search(known, number), trials)
    coarse = surface_grid(table, pair_ranges(), surface.COARSE_STEP)
    with mock.patch.object(surface, "SIMULATIONS", without_gain):
        fitted = fit_metric(table, "val_accuracy", GUESSING)
        return chance_answer(fitted, table, coarse)


# Repeats.


@functools.cache
def true_difference(known: KnownSurface, trials: int) -> float:
    """Return the expected accuracy of the differential arm's winner less that of the baseline's."""
    random, of = np.random.default_rng(0), {}
    of_head, of_share = search_ranges()
    for arm in ARMS:
        head, share = (
            random.uniform(np.log10(each.low), np.log10(each.high), WINNERS * trials) for each in (of_head, of_share)
        )
        backbone = head if arm == "baseline" else head + share
        expected = known.accuracy(backbone, head)
        loss = loss_at(expected) + random.normal(0, LOSS_NOISE, len(expected))
        loss[known.diverges(backbone, head)] = np.inf
        best = loss.reshape(WINNERS, trials).argmin(axis=1)
        of[arm] = expected.reshape(WINNERS, trials)[np.arange(WINNERS), best].mean()
    return float(of["differential"] - of["baseline"])


@functools.lru_cache(1000)
def winners(known: KnownSurface, number: int) -> dict[SearchArm, Values]:
    """Return the true accuracies of the best trials of all independent searches."""
    table, found = search(known, number), {}
    for arm in ARMS:
        searches = curves.searches(table[table["arm"] == arm], REPEATS)
        found[arm] = true_accuracies(known, [one.iloc[best_trial(one, OBJECTIVE)] for one in searches])
    return found


def tested(accuracies: dict[SearchArm, Values], folds: int, random: np.random.Generator) -> Interval:
    """Train winners again and test them: images are easy or hard for both arms and for each, trainings lucky or not.

    Args:
        accuracies: arm -> the true accuracy of each of its winners.
        folds: so many winners in a row are tested on other images each.
        random: of images and trainings.
    """
    common = random.normal(0, COMMON_LUCK, TESTED)
    right = {
        arm: LUCK.spread * stats.norm.ppf(accuracies[arm])[:, None]
        + common
        + random.normal(0, LUCK.image_luck, TESTED)
        + random.normal(0, LUCK.seed_luck, (REPEATS, 1))
        + random.normal(0, 1, (REPEATS, TESTED))
        > 0
        for arm in ARMS
    }
    differences = right["differential"].astype(float) - right["baseline"]
    setting = Setting("repeats", REPEATS, TESTED, folds=folds)
    return paired_interval(sample_of(differences, draw_folds(setting, np.arange(TESTED), random), folds))


def repeats_intervals(known: KnownSurface, folds: int, searches: int) -> tuple[list[Interval], list[Interval]]:
    """Return the intervals of independent searches, and of a single search whose winners are trained as often."""
    independent, single = [], []
    for number in range(searches):
        random, found = np.random.default_rng((number, 1)), winners(known, number)
        independent.append(tested(found, folds, random))
        single.append(tested({arm: np.repeat(found[arm][:1], REPEATS) for arm in ARMS}, folds, random))
    return independent, single


# Rows.

CHOICES, COMPARED = ("best", "chosen"), ["chosen − best, mean", "best loses more", "chosen loses more"]
SHOWN = ["shown ahead", "shown behind", "true difference missed"]


def rate(outcomes: Sequence[bool]) -> str:
    """Return how often something was so, with the standard error of the simulation, which no rate of 0 makes 0."""
    count, total = sum(outcomes), len(outcomes)
    if not total:
        return ""
    near = (count + 1) / (total + 2)
    return f"{100 * count / total:.1f} ± {100 * math.sqrt(near * (1 - near) / total):.1f} %"


def average(values: Sequence[float] | Values, factor: float = 1.0) -> str:
    """Return a mean with its standard error."""
    if len(values) < 2:
        return ""
    return f"{factor * np.mean(values):.2f} ± {factor * np.std(values, ddof=1) / math.sqrt(len(values)):.2f}"


def percentile(values: Values, percent: float) -> str:
    """Return a percentile in points, with its standard error over resampled searches."""
    random = np.random.default_rng(0)
    resampled = np.percentile(values[random.integers(0, len(values), (200, len(values)))], percent, axis=1)
    return f"{100 * np.percentile(values, percent):.2f} ± {100 * resampled.std(ddof=1):.2f}"


def case_cells(known: KnownSurface, objective: Objective, trials: int) -> list[str]:
    return [known.name, objective, str(trials)]


def covered_cells(outcomes: Sequence[CurveOutcome]) -> list[str]:
    """Return how often the bands contain the true curves."""
    return [
        rate([all(outcome.covered.values()) for outcome in outcomes]),
        *(rate([outcome.covered[arm] for outcome in outcomes]) for arm in ARMS),
    ]


def difference_cells(
    known: KnownSurface, objective: Objective, trials: int, outcomes: Sequence[CurveOutcome]
) -> list[str]:
    """Return how often the bands of the difference exclude 0, and how often the truth."""
    differential, baseline = (true_curve(known, arm, objective) for arm in reversed(ARMS))
    difference = differential - baseline
    reach = max(outcome.reach for outcome in outcomes)
    if not reach:
        return ["none", f"{difference[0]:+.3f}", "", "", "", ""]
    return [
        str(reach),
        f"{difference[0]:+.3f}",
        f"{difference[reach - 1]:+.3f}",
        rate([outcome.ahead for outcome in outcomes]),
        rate([outcome.behind for outcome in outcomes]),
        rate([outcome.missed for outcome in outcomes]),
    ]


def regret_row(known: KnownSurface, trials: int, searches: int) -> list[str]:
    """Return how much the best trials of both arms lose."""
    found = [regrets(known, trials, arm, searches) for arm in ARMS]
    return [known.name, str(trials), *(percentile(of_arm, percent) for of_arm in found for percent in (50, 95))]


def chosen_rows(known: KnownSurface, trials: int, searches: int) -> list[list[str]]:
    """Return for each arm how much the best trial loses and how much the chosen one, in the same searches."""
    rows, of_chosen = [], chosen_regrets(known, trials, searches)
    for arm, chosen in of_chosen.items():
        best = regrets(known, trials, arm, searches)
        lost = [percentile(values, percent) for percent in (50, 95) for values in (best, chosen)]
        more = [rate(list(difference > 1e-9)) for difference in (best - chosen, chosen - best)]
        rows.append([known.name, arm, *lost, average(chosen - best, 100), *more])
    return rows


def region_row(known: KnownSurface, trials: int, searches: int) -> list[str]:
    """Return how often the region contains the best."""
    outcomes = [region_outcome(known, trials, number) for number in range(searches)]
    found = [outcome for outcome in outcomes if outcome]
    return [
        known.name,
        str(trials),
        f"{len(found)} of {searches}",
        rate([outcome.exact for outcome in found]),
        rate([outcome.near for outcome in found]),
        average([outcome.share for outcome in found], 100),
    ]


def chance_row(known: KnownSurface, trials: int, sizes: Sizes) -> list[str]:
    """Return what the chance of being ahead comes to, and how often it is higher than without a gain."""
    found = [chance(known, trials, number, sizes.without_gain) for number in range(sizes.chances)]
    gain = best_accuracy(known, "differential") - best_accuracy(known, "baseline")
    return [
        known.name,
        str(trials),
        f"{100 * gain:.1f}",
        average([of.chance for of in found]),
        average([of.without_gain for of in found]),
        rate([of.as_high_without_gain < 0.05 for of in found]),
    ]


def repeats_row(known: KnownSurface, folds: int, searches: int) -> list[str]:
    """Return how often the interval of repeated searches contains the difference of the procedures."""
    truth = true_difference(known, TRIALS[-1] // REPEATS)
    independent, single = repeats_intervals(known, folds, searches)
    return [
        known.name,
        str(folds),
        f"{round(100 * truth, 2) + 0.0:+.2f}",
        rate([covers(interval, truth) for interval in independent]),
        rate([(interval.low or 0) > 0 for interval in independent]),
        rate([(interval.high or 0) < 0 for interval in independent]),
        rate([covers(interval, truth) for interval in single]),
    ]


if __name__ == "__main__":
    run_cli(main)
