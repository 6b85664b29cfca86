"""Measure how often the intervals cover the truth, in simulated experiments of which it is known.

Images are easy or hard for both arms and for each, and so are groups of them; replicates are lucky or not. A 95 %
interval should cover the truth in 95 % of experiments, and equal arms should be told apart in 5 % at most over all
looks.

    python -m benchmarks.interval_coverage
"""

import argparse
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy import stats

from stages.errors import run_cli
from stages.evaluation.statistics import Sample, grouped, paired_interval, take_looks
from stages.metrics_files import Interval
from stages.reporting.markdown import markdown_table

Values = npt.NDArray[np.float64]
Sizes = Literal["equal", "lognormal"]
COMMON_LUCK = 1.5  # of an image, for both arms
MAJORITY = 0.5  # accuracy of a replicate that takes all images for the same class


@dataclass(frozen=True)
class Setting:
    """One kind of experiment; luck is a standard deviation, on the scale on which that of one prediction is 1.

    Attributes:
        design: what the row is about.
        replicates: of each arm.
        images: on which it is tested; with folds over all replicates of a round.
        accuracy: of the baseline.
        effect: by which the differential arm finds everything easier.
        seed_luck: of a replicate.
        image_luck: of an image, for one arm.
        groups: of images; 0 where each stands alone.
        sizes: of groups.
        group_luck: of a group, for one arm.
        folds: so many replicates in a row are tested on other images each.
        loss: it is log loss that is compared, and no accuracy.
        confidence: by which the differential arm's logits are too large.
        collapses: the rate at which a replicate of the differential arm takes all images for the same class.
    """

    design: str
    replicates: int
    images: int
    accuracy: float = 0.85
    effect: float = 0.0
    seed_luck: float = 0.1
    image_luck: float = 0.5
    groups: int = 0
    sizes: Sizes = "equal"
    group_luck: float = 0.0
    folds: int = 1
    loss: bool = False
    confidence: float = 1.0
    collapses: float = 0.0

    @property
    def spread(self) -> float:
        """The standard deviation of one prediction's ease."""
        lucks = (COMMON_LUCK, self.image_luck, self.seed_luck, self.group_luck)
        return float(np.sqrt(1 + sum(luck**2 for luck in lucks)))

    @property
    def truth(self) -> float:
        """What differential − baseline comes to over all images and replicates."""
        average = stats.norm.ppf(self.accuracy)
        if not self.loss:
            living = float(stats.norm.cdf(average + self.effect / self.spread))
            return (1 - self.collapses) * living + self.collapses * MAJORITY - self.accuracy
        ease = self.spread * (average + stats.norm.ppf((np.arange(1e5) + 0.5) / 1e5))
        return float(np.mean(_loss(self.confidence * (ease + self.effect)) - _loss(ease)))

    def __str__(self) -> str:
        kind = f"{self.groups} groups, {self.sizes}, luck {self.group_luck:g}; " if self.groups else ""
        folds = f"{self.folds} folds; " if self.folds > 1 else ""
        return f"{self.design}; {kind}{folds}accuracy {self.accuracy:g}, seed luck {self.seed_luck:g}"


CROSSED = [
    Setting("crossed", replicates, images, accuracy, seed_luck=seed_luck)
    for accuracy, seed_luck, replicates, images in product((0.85, 0.98), (0.0, 0.2), (2, 3, 5, 10, 12), (50, 200, 756))
]
SIZES: tuple[Sizes, ...] = get_args(Sizes)
GROUPED = [
    Setting("groups", replicates, 200, groups=groups, sizes=sizes, group_luck=luck)
    for groups, sizes, luck, replicates in product((10, 20, 40), SIZES, (0.0, 0.5, 1.0), (3, 10))
]
FOLDED = [
    *(Setting("folds", rounds * 5, images, folds=5) for images, rounds in product((50, 200, 756), (1, 2, 4))),
    *(
        Setting("folds", rounds * 5, 200, groups=groups, group_luck=0.5, folds=5)
        for groups, rounds in product((20, 40), (1, 2, 4))
    ),
]
HARD = [
    *(
        Setting("log loss, one arm 4 times too sure", replicates, images, loss=True, confidence=4)
        for replicates, images in product((3, 5, 10), (50, 200, 756))
    ),
    *(
        Setting("one arm collapses 1 time in 5 (known to fail: no verdict)", replicates, 200, collapses=0.2)
        for replicates in (3, 5, 12)
    ),
]
LOOKS = [3, 6, 12]
LOOKED_AT = [
    Setting("looks", 12, images, seed_luck=seed_luck) for images, seed_luck in product((50, 756), (0.0, 0.2, 0.5))
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000, help="experiments for each row (default: 2000)")
    trials = parser.parse_args().trials
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        covered = list(workers.map(partial(coverage_row, trials), CROSSED + GROUPED + FOLDED + HARD))
        decided = list(workers.map(partial(looks_row, trials), LOOKED_AT))
    print(markdown_table(["setting", "replicates", "images", "has an interval", *METHODS], covered))
    print()
    print(markdown_table(["told apart falsely", "replicates", "images", "ours", "each at 95 %"], decided))


def coverage_row(trials: int, setting: Setting) -> list[str]:
    """Return how often each interval covers the truth, of the experiments that have one."""
    cells = [f"{100 * rate:.1f} %" if rate is not None else "" for rate in coverage(trials, setting)]
    return [str(setting), str(setting.replicates), str(setting.images), *cells]


def coverage(trials: int, setting: Setting) -> list[float | None]:
    """Return how often there is an interval, and how often that of each of `METHODS` covers the truth."""
    random, truth = np.random.default_rng(0), setting.truth
    found, covered = 0, dict.fromkeys(METHODS, 0)
    for _ in range(trials):
        sample = experiment(setting, random)
        intervals = {name: interval(sample) for name, interval in METHODS.items()}
        if intervals["ours"].low is None:
            continue
        found += 1
        for name, interval in intervals.items():
            covered[name] += covers(interval, truth)
    has_groups = {"images as if independent": setting.groups > 0}
    return [
        found / trials,
        *(covered[name] / found if found and has_groups.get(name, True) else None for name in METHODS),
    ]


def looks_row(trials: int, setting: Setting) -> list[str]:
    """Return how often one of the looks tells equal arms apart: with the error shared among them, and without."""
    random, shared, unshared = np.random.default_rng(0), 0, 0
    for _ in range(trials):
        sample = grouped(*experiment(setting, random))
        shared += any(look.decision != "no difference shown" for look in take_looks(sample, LOOKS, True))
        unshared += not all(covers(paired_interval(sample.first(look)), 0) for look in LOOKS)
    rates = [f"{100 * told_apart / trials:.1f} %" for told_apart in (shared, unshared)]
    return [str(setting), "3, 6, 12", str(setting.images), *rates]


Experiment = tuple[Sample, npt.NDArray[np.intp]]  # whose units are images, and the group of each


def experiment(setting: Setting, random: np.random.Generator) -> Experiment:
    """Return a simulated experiment."""
    units = draw_groups(setting, random)
    common = random.normal(0, COMMON_LUCK, setting.images)
    baseline, differential = (
        setting.spread * stats.norm.ppf(setting.accuracy)
        + effect
        + common
        + random.normal(0, setting.image_luck, setting.images)
        + random.normal(0, setting.group_luck, setting.images)[units]
        + random.normal(0, setting.seed_luck, (setting.replicates, 1))
        + random.normal(0, 1, (setting.replicates, setting.images))
        for effect in (0.0, setting.effect)
    )
    if setting.loss:
        differences = _loss(setting.confidence * differential) - _loss(baseline)
    else:
        majority = random.random(setting.images) < MAJORITY
        collapsed = random.random((setting.replicates, 1)) < setting.collapses
        differences = np.where(collapsed, majority, differential > 0).astype(float) - (baseline > 0)
    return sample_of(differences, draw_folds(setting, units, random), setting.folds), units


def sample_of(differences: Values, scored: npt.NDArray[np.bool_], folds: int = 1) -> Sample:
    """Return the sample of a metric that is a mean over the images that a replicate is scored on.

    Args:
        differences: (replicates, images).
        scored: likewise, which of them.
        folds: so many replicates in a row are scored on other images each.
    """
    counts = scored.sum(1, keepdims=True)
    estimates = (differences * scored).sum(1, keepdims=True) / counts
    return Sample(
        estimates[:, 0], (differences - estimates) * scored / counts, scored, np.ones(len(differences.T)), folds
    )


def draw_groups(setting: Setting, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """Return the number of each image's group."""
    if not setting.groups:
        return np.arange(setting.images)
    sizes = random.lognormal(0, 1, setting.groups) if setting.sizes == "lognormal" else np.ones(setting.groups)
    ends = np.round(setting.images * sizes.cumsum() / sizes.sum())
    return np.searchsorted(ends, np.arange(setting.images), side="right")


def draw_folds(setting: Setting, units: npt.NDArray[np.intp], random: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Return which images each replicate is scored on, (replicates, images); a group is never torn."""
    places = np.arange(units.max() + 1) % setting.folds
    rounds = [random.permutation(places)[units] for _ in range(setting.replicates // setting.folds)]
    return np.concatenate([[of_round == fold for fold in range(setting.folds)] for of_round in rounds])


def ours(drawn: Experiment) -> Interval:
    """Return the interval that `evaluate` gives."""
    return paired_interval(grouped(*drawn))


def over_replicates(drawn: Experiment) -> Interval:
    """Return Student's interval over the replicates, as if the images were all there are."""
    of = drawn[0].estimates
    margin = stats.t.ppf(0.975, len(of) - 1) * of.std(ddof=1) / np.sqrt(len(of))
    return Interval(estimate=of.mean(), low=of.mean() - margin, high=of.mean() + margin)


def without_groups(drawn: Experiment) -> Interval:
    """Return ours of images as if each were drawn by itself."""
    return paired_interval(drawn[0])


def covers(interval: Interval, truth: float) -> bool:
    """Whether an interval does; without ends it is the estimate alone."""
    low, high = (interval.estimate if end is None else end for end in (interval.low, interval.high))
    return low <= truth <= high


def _loss(logits: Values) -> Values:
    losses: Values = np.logaddexp(0, -logits)
    return losses


METHODS: dict[str, Callable[[Experiment], Interval]] = {
    "ours": ours,
    "t over replicates": over_replicates,
    "images as if independent": without_groups,
}


if __name__ == "__main__":
    run_cli(main)
