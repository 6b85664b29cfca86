"""The evidence that two arms differ: intervals that count every source of chance, and a verdict by a fixed rule.

A replicate draws its training images, its validation images and everything random in training; it is then scored on
test images, alone or in groups. Where all replicates share the test images, replicates and images are crossed, as
readers and cases are in studies of diagnostic imaging; with folds each replicate has its own. One formula holds for
both, and for whatever images a metric is of.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.optimize import brentq

from stages.metrics_files import MIN_FOR_VERDICT, Decision, Failures, Interval, Look, McNemar, PlannedInterval

ERROR = 0.05  # of all looks together
POWER = 0.8  # with which the smallest difference would be shown
PLAN_LEVEL = 0.8  # of the range of a planned half-width
MIN_FOR_INTERVAL = 5  # effective number of groups, or of images that stand alone
MIN_SCORED = 3  # groups in a replicate's own test part; of fewer, what they share with other replicates does not show
SMALLEST_SHARE = 1e-9  # of a covariance that is left; with a single unit nothing is

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """A metric's difference between two arms, replicate by replicate, and what each image adds to it.

    Attributes:
        estimates: (replicates,), of what one arm came to less what the other did.
        influences: (replicates, units), of each group, or image without one: what the replicate's estimate owes to it,
            as a deviation, so that a row adds up to 0; 0 where the replicate was not scored on it.
        scored: (replicates, units), whether it was.
        sizes: (units,), images.
        folds: so many replicates in a row were scored on other images each; 1 where all share them.
    """

    estimates: Values
    influences: Values
    scored: npt.NDArray[np.bool_]
    sizes: Values
    folds: int = 1

    @property
    def replicates(self) -> int:
        """How many there are."""
        return len(self.estimates)

    @property
    def effective_units(self) -> float:
        """Kish's effective number of units: as many of equal size would say as much."""
        total = float(self.sizes.sum())
        return total**2 / float((self.sizes**2).sum()) if total else 0.0

    def first(self, replicates: int) -> "Sample":
        """Return the first replicates alone."""
        met = self.scored[:replicates].any(axis=0)
        return replace(
            self,
            estimates=self.estimates[:replicates],
            influences=self.influences[:replicates, met],
            scored=self.scored[:replicates, met],
            sizes=self.sizes[met],
        )


def grouped(sample: Sample, units: npt.NDArray[np.intp]) -> Sample:
    """Add up what the images of one group owe; images that no replicate was scored on vanish.

    Args:
        sample: whose units are images.
        units: (images,), the number of each image's group; images without one have a number of their own.
    """
    met = sample.scored.any(axis=0)
    _, numbers = np.unique(units[met], return_inverse=True)
    count = int(numbers.max(initial=-1)) + 1

    def by_unit(rows: Values) -> Values:
        return np.stack([np.bincount(numbers, row[met], minlength=count) for row in rows])

    return replace(
        sample,
        influences=by_unit(sample.influences),
        scored=by_unit(sample.scored.astype(float)) > 0,
        sizes=np.bincount(numbers, minlength=count).astype(float),
    )


@dataclass(frozen=True)
class VarianceParts:
    """The two parts of the variance of a mean difference, and their degrees of freedom.

    Attributes:
        replicates: which training images, first weights and batches were drawn, with the images that each was scored
            on alone.
        images: which images, or groups of them, all replicates were scored on.
        freedom: of both parts.
    """

    replicates: float
    images: float
    freedom: tuple[float, float]

    @property
    def total(self) -> float:
        """The variance of the mean."""
        return self.replicates + self.images

    def quantile(self, level: float) -> float:
        """Return the quantile of t, weighted by the parts (Cochran and Cox, Experimental Designs, 1957)."""
        weights = np.array([self.replicates, self.images]) / self.total
        return float(weights @ stats.t.ppf((1 + level) / 2, self.freedom))


def variance_parts(sample: Sample) -> VarianceParts:
    """Estimate the variance of the mean over replicates.

    It is the variance between replicates over their number, plus the mean covariance of two replicates, which they
    owe to the images that both were scored on. With images that all share this is the analysis of variance of readers
    and cases (Dorfman, Berbaum and Metz 1992, as simplified by Hillis 2007, doi 10.1002/sim.2532). A group of unequal
    size counts as the jackknife has it (CV3; Cameron and Miller 2015).
    """
    replicates, units = sample.influences.shape
    sizes = sample.scored * sample.sizes  # (replicates, units)
    shares, counts = sizes / sizes.sum(1, keepdims=True), sample.scored.sum(1, keepdims=True)
    jackknife = np.divide(1 - 1 / counts, 1 - shares, out=np.ones_like(shares), where=shares < 1)
    influences = sample.influences * jackknife
    in_common = sample.scored.astype(float) @ sample.scored.T.astype(float)  # (replicates, replicates)
    each = np.diag(in_common)
    # Deviations from a replicate's own mean covary less than what they deviate by, the more so the fewer units it has.
    shrunk = 1 - 1 / each[:, None] - 1 / each[None, :] + in_common / np.outer(each, each)
    known = (in_common > 0) & (shrunk > SMALLEST_SHARE)
    covariances = np.divide(influences @ influences.T, shrunk, out=np.zeros_like(shrunk), where=known)
    own = float(np.trace(covariances)) / replicates
    pairs = replicates * (replicates - 1)
    shared = (float(covariances.sum()) - float(np.trace(covariances))) / pairs if pairs else 0.0
    between = float(sample.estimates.var(ddof=1)) if replicates > 1 else 0.0
    if not between:  # accuracies of few images tie by chance; what is left to go by
        between = max(own - shared, 0.0)
    return VarianceParts(between / replicates, max(shared, 0.0), (max(replicates - 1, 1), max(units - 1, 1)))


def paired_interval(sample: Sample, level: float = 1 - ERROR) -> Interval:
    """Return the mean difference over replicates, with an interval over replicates and images, or groups of them."""
    estimate = float(sample.estimates.mean())
    if sample.replicates < 2:
        return _without_interval(estimate, "one replicate says nothing of the chance between replicates")
    if sample.effective_units < MIN_FOR_INTERVAL:
        return _without_interval(
            estimate, f"an effective number of {sample.effective_units:.1f} groups is too few for an interval"
        )
    if sample.scored.sum(1).min() < MIN_SCORED:
        return _without_interval(estimate, f"a replicate is tested on fewer than {MIN_SCORED} groups; set fewer folds")
    parts = variance_parts(sample)
    if not parts.total:
        return _without_interval(estimate, "the difference is the same in every replicate and image")
    quantile, error = parts.quantile(level), math.sqrt(parts.total)
    # By the components, as a plan has it: few replicates that came out alike by luck would promise too much.
    _, shown = _expected(components(sample), sample.replicates, 1.0, len(sample.sizes), sample.folds, level)
    return Interval(
        estimate=estimate,
        low=estimate - quantile * error,
        high=estimate + quantile * error,
        level=level,
        minimum_detectable_difference=shown,
    )


def _shift(quantile: float, level: float) -> float:
    """Return the true difference, in standard errors, that is shown with `POWER`."""
    freedom = brentq(lambda candidate: stats.t.ppf((1 + level) / 2, candidate) - quantile, 0.3, 1e9)
    return float(brentq(lambda candidate: stats.nct.sf(quantile, freedom, candidate) - POWER, 0, 1e5))


def _without_interval(estimate: float, reason: str) -> Interval:
    return Interval(estimate=estimate, reason=reason)


def level_of_look(looks: list[int], number: int) -> float:
    """Return the level of the interval at a look: the error is shared among them as replicates are (Bonferroni)."""
    return 1 - ERROR * looks[number] / sum(looks)


def take_looks(sample: Sample, looks: list[int], higher_is_better: bool, largest: float = math.inf) -> list[Look]:
    """Return what each look decides that has been reached.

    All intervals cover the truth together in 95 % of experiments, so it may be decided at whichever comes first.

    Args:
        sample: of all replicates.
        looks: after how many one looks.
        higher_is_better: of the metric.
        largest: difference that the metric can have.
    """
    return [
        Look(replicates=replicates, interval=found, decision=decide(found, higher_is_better, of_look.effective_units))
        for number, replicates in enumerate(looks)
        if replicates <= sample.replicates
        for of_look in [sample.first(replicates)]
        for found in [paired_interval(of_look, level_of_look(looks, number)).clipped(largest)]
    ]


def decide(found: Interval, higher_is_better: bool, effective_units: float) -> Decision:
    """Return what an interval decides, by a rule fixed before anything is measured."""
    if found.low is None or found.high is None or effective_units < MIN_FOR_VERDICT:
        return "no difference shown"
    if found.low > 0:
        return "better" if higher_is_better else "worse"
    if found.high < 0:
        return "worse" if higher_is_better else "better"
    return "no difference shown"


def is_unstable(failures: Failures, replicates: int) -> bool:
    """Whether some replicates of an arm failed and others did not: then few replicates tell little of how often."""
    return any(0 < len(failed) < replicates for failed in (failures.of("baseline"), failures.of("differential")))


def plan_intervals(sample: Sample, replicates: list[int], images: list[float], level: float) -> list[PlannedInterval]:
    """Return the half-width to expect of more replicates and of more test images, each with its uncertainty.

    The range is that of the variance between replicates, a chi-square interval at `PLAN_LEVEL`: few tell little of it.

    Args:
        sample: what has been measured, of two replicates at least.
        replicates: numbers of them.
        images: numbers of test images, as multiples of what has been measured.
        level: of the intervals.
    """
    freedom = sample.replicates - 1
    tails = stats.chi2.ppf([(1 + PLAN_LEVEL) / 2, (1 - PLAN_LEVEL) / 2], freedom)
    parts = [components(sample, factor) for factor in (1.0, *(freedom / tails))]
    units = len(sample.sizes)
    planned = []
    for times in images:
        for number in replicates:
            expected = [_expected(of, number, times, units, sample.folds, level) for of in parts]
            (width, shown), (width_low, shown_low), (width_high, shown_high) = expected
            planned.append(
                PlannedInterval(
                    replicates=number,
                    images=round(times * float(sample.sizes.sum())),
                    half_width=width,
                    half_width_low=width_low,
                    half_width_high=width_high,
                    shown=shown,
                    shown_low=shown_low,
                    shown_high=shown_high,
                )
            )
    return planned


@dataclass(frozen=True)
class Components:
    """The variance of one replicate's estimate, taken apart.

    Attributes:
        replicates: of the training draw and all that is random in training.
        scored: of the images that one replicate is scored on.
        images: of all images, if every replicate were scored on them.
    """

    replicates: float
    scored: float
    images: float


def components(sample: Sample, factor: float = 1.0) -> Components:
    """Take the variance of a replicate's estimate apart.

    One round of folds cannot tell what is due to an image from what is due to it in one replicate; there `images` is
    the most that it can be.

    Args:
        sample: of two replicates at least.
        factor: by which the variance between replicates is larger than it came out.
    """
    found = variance_parts(sample)
    scored = float((sample.influences**2).sum()) / sample.replicates
    rounds = sample.replicates / sample.folds
    images = found.images / _share(rounds, sample.folds) if rounds > 1 else scored / sample.folds
    between = factor * found.replicates * sample.replicates
    return Components(max(between + found.images - scored, 0.0), scored, min(images, scored))


def _share(rounds: float, folds: int) -> float:
    """Return the share of the variance of all images that two replicates of so many rounds have in common."""
    return (rounds - 1) * folds / (rounds * folds - 1) if folds > 1 else 1.0


def _expected(
    parts: Components, replicates: int, times: float, units: int, folds: int, level: float
) -> tuple[float, float]:
    """Return the half-width to expect, and the true difference that would be shown with `POWER`."""
    shared = parts.images / times * _share(replicates / folds, folds)
    between = parts.replicates + max(parts.scored / times - shared, 0.0)
    variance = VarianceParts(between / replicates, shared, (replicates - 1, max(times * units - 1, 1)))
    if not variance.total:
        return 0.0, 0.0
    quantile, error = variance.quantile(level), math.sqrt(variance.total)
    return quantile * error, _shift(quantile, level) * error


def mcnemar(baseline_correct: npt.NDArray[np.bool_], differential_correct: npt.NDArray[np.bool_]) -> McNemar:
    """Return how many samples one arm alone gets right, and McNemar's exact test of whether they are as many.

    It concerns one pair of networks, and says nothing of other replicates.

    Args:
        baseline_correct: (samples,), whether the baseline's replicate of one seed is right.
        differential_correct: likewise.
    """
    baseline_only = int((baseline_correct & ~differential_correct).sum())
    differential_only = int((differential_correct & ~baseline_correct).sum())
    discordant = baseline_only + differential_only
    return McNemar(
        baseline_only_correct=baseline_only,
        differential_only_correct=differential_only,
        p_value=float(stats.binomtest(differential_only, discordant).pvalue) if discordant else 1.0,
    )
