"""The arms side by side: each over its replicates, and the difference, paired by seed."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stages.aggregate import Metrics, summarize_replicates
from stages.evaluation.metrics import Labels, Probabilities, classification_metrics, sample_losses
from stages.evaluation.statistics import crossed_random_effects_interval, mcnemar, t_interval
from stages.metrics_files import Interval, TrainingMetrics
from stages.params import ARMS, Arm, Goal


def paired_difference(baseline: Mapping[int, Metrics], differential: Mapping[int, Metrics]) -> dict[int, Metrics]:
    """Return differential − baseline for every seed: they began with the same weights and saw the same batches."""
    return {
        seed: {metric: value - baseline[seed][metric] for metric, value in metrics.items()}
        for seed, metrics in differential.items()
    }


def compare_on_split(labels: Labels, scores: Mapping[Arm, Mapping[int, Probabilities]]) -> dict[str, Any]:
    """Return each arm over its replicates, the difference by seed, its intervals, and McNemar's test of every seed.

    Args:
        labels: (samples,), of one split.
        scores: arm -> seed -> probabilities (samples, classes); the same seeds in both arms.
    """
    metrics = {
        arm: {seed: classification_metrics(labels, probabilities) for seed, probabilities in by_seed.items()}
        for arm, by_seed in scores.items()
    }
    # (seeds, samples)
    correct = {
        arm: np.stack([probabilities.argmax(1) == labels for probabilities in by_seed.values()])
        for arm, by_seed in scores.items()
    }
    losses = {
        arm: np.stack([sample_losses(labels, probabilities) for probabilities in by_seed.values()])
        for arm, by_seed in scores.items()
    }
    accuracy = crossed_random_effects_interval(correct["differential"].astype(float) - correct["baseline"]).clipped(1)
    loss = crossed_random_effects_interval(losses["differential"] - losses["baseline"])
    return {
        **summarize_arms(metrics),
        "interval": {"accuracy": accuracy.model_dump(), "loss": loss.model_dump()},
        "mcnemar": {
            str(seed): mcnemar(correct["baseline"][row], correct["differential"][row]).model_dump()
            for row, seed in enumerate(scores["baseline"])
        },
    }


def summarize_arms(metrics: Mapping[Arm, Mapping[int, Metrics]]) -> dict[str, Any]:
    """Return the summary of each arm over its replicates, and that of the difference by seed."""
    return {
        **{arm: summarize_replicates(metrics[arm]) for arm in ARMS},
        "difference": summarize_replicates(paired_difference(metrics["baseline"], metrics["differential"])),
    }


def compare_training(training: Mapping[Arm, TrainingMetrics], seeds: list[int]) -> dict[str, Any]:
    """Return the differences of what stands nowhere else: of metrics as they were counted while the network learnt.

    Args:
        training: content of metrics/ARM.json, by arm.
        seeds: that came to an end in both arms.
    """
    counted = ("train_accuracy", "train_loss", "overfitting_gap")
    metrics = {
        arm: {seed: {name: training[arm].seeds[seed][name] for name in counted} for seed in seeds} for arm in ARMS
    }
    difference = paired_difference(metrics["baseline"], metrics["differential"])
    return {"difference": summarize_replicates(difference), "interval": {"overfitting_gap": _gap_interval(difference)}}


def compare_eval_mode(train: Mapping[str, Any], val: Mapping[str, Any]) -> dict[str, Any]:
    """Return the comparison of the overfitting gap with both accuracies measured in evaluation mode.

    Args:
        train: what `compare_on_split` says of the training images.
        val: of the validation images.
    """
    gaps: dict[Arm, dict[int, Metrics]] = {
        arm: {
            int(seed): {"overfitting_gap": metrics["accuracy"] - val[arm]["seeds"][seed]["accuracy"]}
            for seed, metrics in train[arm]["seeds"].items()
        }
        for arm in ARMS
    }
    interval = _gap_interval(paired_difference(gaps["baseline"], gaps["differential"]))
    return {**summarize_arms(gaps), "interval": {"overfitting_gap": interval}}


def _gap_interval(difference: Mapping[int, Metrics]) -> dict[str, Any]:
    """Return the interval of the difference of overfitting gaps, over the seeds alone."""
    found: Interval = t_interval(np.array([metrics["overfitting_gap"] for metrics in difference.values()]))
    return found.model_dump()


def check_goal(goal: Goal, training: TrainingMetrics) -> dict[str, Any]:
    """Check what training measured against the goal, in the mean and in each replicate.

    Args:
        goal: the section of params.yaml.
        training: content of metrics/ARM.json, with at least one replicate that came to an end.
    """
    mean, replicates = training.mean or {}, list(training.seeds.values())
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
