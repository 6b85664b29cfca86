"""The arms side by side: each over its replicates, and the difference, paired by seed."""

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

    def met(figures: Figures) -> dict[str, bool]:
        return {
            "val_accuracy_met": figures["val_accuracy"] > goal.val_accuracy_above,
            "train_accuracy_met": figures["train_accuracy"] < goal.train_accuracy_below,
        }

    return {
        "met": all(met(mean).values()),
        **met(mean),
        "replicates_met": sum(all(met(figures).values()) for figures in replicates),
    }
