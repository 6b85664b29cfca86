"""The arms side by side: each over its replicates, and the difference, paired by seed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from stages.aggregate import Metrics, summarize_replicates
from stages.evaluation.linearized import LINEARIZED, linearized
from stages.evaluation.metrics import Labels, Probabilities, classification_metrics
from stages.evaluation.statistics import Sample, grouped, mcnemar, paired_interval
from stages.metrics_files import LARGEST, LARGEST_GAP, TrainingMetrics
from stages.params import ARMS, Arm, Goal, Metric

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class ScoredReplicate:
    """One pair of replicates, scored on the same images.

    Attributes:
        rows: (samples,), positions of the images among all.
        labels: (samples,).
        probabilities: arm -> (samples, classes).
    """

    rows: Rows
    labels: Labels
    probabilities: Mapping[Arm, Probabilities]

    def part(self, chosen: npt.NDArray[np.bool_]) -> "ScoredReplicate":
        """Return it on some of its images."""
        return ScoredReplicate(
            self.rows[chosen], self.labels[chosen], {arm: of_arm[chosen] for arm, of_arm in self.probabilities.items()}
        )


@dataclass(frozen=True)
class Pool:
    """All images, of which replicates are scored on some.

    Attributes:
        units: (images,), the number of each image's group; images without one have a number of their own.
        folds: so many replicates in a row are tested on other images each; 1 where all share them.
    """

    units: npt.NDArray[np.intp]
    folds: int = 1


BySeed = Mapping[int, ScoredReplicate]


def difference_sample(metric: Metric, replicates: BySeed, pool: Pool) -> Sample:
    """Return a metric's difference between the arms in every replicate, and what each image, or group, adds to it."""
    return grouped(_on_all_images(metric, replicates, pool), pool.units)


def gap_sample(train: BySeed, val: BySeed, pool: Pool) -> Sample:
    """Return the difference of the overfitting gaps, training − validation accuracy, as `difference_sample` does."""
    of_train, of_val = (_on_all_images("accuracy", replicates, Pool(pool.units)) for replicates in (train, val))
    sample = replace(
        of_train,
        estimates=of_train.estimates - of_val.estimates,
        influences=of_train.influences - of_val.influences,
        scored=of_train.scored | of_val.scored,
    )
    return grouped(sample, pool.units)


def _on_all_images(metric: Metric, replicates: BySeed, pool: Pool) -> Sample:
    """Return a metric's difference in every replicate, and what each image adds, scored or not."""
    images = len(pool.units)
    estimates, influences = np.empty(len(replicates)), np.zeros((len(replicates), images))
    scored = np.zeros(influences.shape, dtype=bool)
    for place, of_seed in enumerate(replicates.values()):
        values = {arm: linearized(metric, of_seed.labels, of_seed.probabilities[arm]) for arm in ARMS}
        difference = values["differential"] - values["baseline"]
        estimates[place] = difference.mean()
        influences[place, of_seed.rows] = (difference - difference.mean()) / len(difference)
        scored[place, of_seed.rows] = True
    return Sample(estimates, influences, scored, np.ones(images), pool.folds)


def paired_difference(baseline: Mapping[int, Metrics], differential: Mapping[int, Metrics]) -> dict[int, Metrics]:
    """Return differential − baseline for every seed: they began with the same weights and saw the same batches."""
    return {
        seed: {metric: value - baseline[seed][metric] for metric, value in metrics.items()}
        for seed, metrics in differential.items()
    }


def compare_on_split(replicates: BySeed, pool: Pool) -> dict[str, Any]:
    """Return each arm over its replicates, the difference by seed, its intervals, and McNemar's test of every seed.

    Args:
        replicates: seed -> both arms, scored on the images of one split.
        pool: of which these are some.
    """
    metrics: dict[Arm, dict[int, Metrics]] = {
        arm: {seed: classification_metrics(of.labels, of.probabilities[arm]) for seed, of in replicates.items()}
        for arm in ARMS
    }
    intervals = {
        metric: paired_interval(difference_sample(metric, replicates, pool)).clipped(LARGEST[metric])
        for metric in LINEARIZED
    }
    return {
        **summarize_arms(metrics),
        "interval": {metric: found.model_dump(exclude_none=True) for metric, found in intervals.items()},
        "mcnemar": {
            str(seed): mcnemar(*(of.probabilities[arm].argmax(1) == of.labels for arm in ARMS)).model_dump()
            for seed, of in replicates.items()
        },
    }


def summarize_arms(metrics: Mapping[Arm, Mapping[int, Metrics]]) -> dict[str, Any]:
    """Return the summary of each arm over its replicates, and that of the difference by seed."""
    return {
        **{arm: summarize_replicates(metrics[arm]) for arm in ARMS},
        "difference": summarize_replicates(paired_difference(metrics["baseline"], metrics["differential"])),
    }


def compare_training(training: Mapping[Arm, TrainingMetrics], in_eval_mode: Sample) -> dict[str, Any]:
    """Return the differences of what stands nowhere else: of metrics as they were counted while the network learnt.

    Args:
        training: content of metrics/ARM.json, by arm.
        in_eval_mode: the gap's, whose images stand in for those met while training: what each of them added to an
            accuracy that was counted on the way is not known.
    """
    counted = ("train_accuracy", "train_loss", "overfitting_gap")
    metrics = {
        arm: {seed: {name: of_seed[name] for name in counted} for seed, of_seed in training[arm].seeds.items()}
        for arm in ARMS
    }
    difference = paired_difference(metrics["baseline"], metrics["differential"])
    gaps = np.array([of_seed["overfitting_gap"] for of_seed in difference.values()])
    sample = replace(in_eval_mode, estimates=gaps)
    return {
        "difference": summarize_replicates(difference),
        "interval": {"overfitting_gap": paired_interval(sample).clipped(LARGEST_GAP).model_dump(exclude_none=True)},
    }


def compare_eval_mode(train: Mapping[str, Any], val: Mapping[str, Any], sample: Sample) -> dict[str, Any]:
    """Return the comparison of the overfitting gap with both accuracies measured in evaluation mode.

    Args:
        train: what `compare_on_split` says of the training images.
        val: of the validation images.
        sample: of `gap_sample`.
    """
    gaps: dict[Arm, dict[int, Metrics]] = {
        arm: {
            int(seed): {"overfitting_gap": metrics["accuracy"] - val[arm]["seeds"][seed]["accuracy"]}
            for seed, metrics in train[arm]["seeds"].items()
        }
        for arm in ARMS
    }
    interval = paired_interval(sample).clipped(LARGEST_GAP).model_dump(exclude_none=True)
    return {**summarize_arms(gaps), "interval": {"overfitting_gap": interval}}


def check_goal(goal: Goal, training: TrainingMetrics) -> dict[str, Any]:
    """Check what training measured against the goal, in the mean and in each replicate.

    Args:
        goal: the section of params.yaml.
        training: content of metrics/ARM.json.
    """
    mean, replicates = training.mean, list(training.seeds.values())
    conditions: dict[str, Callable[[Metrics], bool]] = {
        "val_accuracy": lambda metrics: metrics["val_accuracy"] > goal.val_accuracy_above,
        "train_accuracy": lambda metrics: metrics["train_accuracy"] < goal.train_accuracy_below,
    }
    return {
        "met": all(meets(mean) for meets in conditions.values()),
        "replicates_meeting": sum(all(meets(metrics) for meets in conditions.values()) for metrics in replicates),
        **{
            metric: {"value": mean[metric], "met": meets(mean), "replicates_meeting": sum(map(meets, replicates))}
            for metric, meets in conditions.items()
        },
    }
