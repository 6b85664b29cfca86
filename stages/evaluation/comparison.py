"""The arms side by side: each over its replicates, and the difference, paired by seed."""

from collections.abc import Callable
from typing import Any

from stages.params import Goal
from stages.spread import Figures


def difference(baseline: dict[int, Figures], differential: dict[int, Figures]) -> dict[int, Figures]:
    """Give differential − baseline for every seed: they began with the same weights and saw the same batches."""
    return {
        seed: {figure: value - baseline[seed][figure] for figure, value in figures.items()}
        for seed, figures in differential.items()
    }


def figures_by_seed(training: dict[str, Any]) -> dict[int, Figures]:
    """Give the figures of each replicate from the content of metrics/ARM.json."""
    return {int(key.removeprefix("seed_")): figures for key, figures in training.items() if key.startswith("seed_")}


def judge_goal(goal: Goal, mean: Figures, replicates: list[Figures]) -> dict[str, Any]:
    """Hold what `train` measured against the story's goal, in the mean and in each replicate.

    Args:
        goal: the section of params.yaml.
        mean: the figures of one arm, over its replicates.
        replicates: the figures of each.
    """
    halves: dict[str, Callable[[Figures], bool]] = {
        "val_accuracy": lambda figures: figures["val_accuracy"] > goal.val_accuracy_above,
        "train_accuracy": lambda figures: figures["train_accuracy"] < goal.train_accuracy_below,
    }
    return {
        "met": all(half(mean) for half in halves.values()),
        "replicates_met": sum(all(half(figures) for half in halves.values()) for figures in replicates),
        **{
            figure: {"value": mean[figure], "met": half(mean), "replicates_met": sum(map(half, replicates))}
            for figure, half in halves.items()
        },
    }
