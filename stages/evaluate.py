"""Score every checkpoint on every part, compare the arms, hold them against the goal, and say what changed.

Writes metrics/evaluation.json, the tables metrics/per_class.csv and metrics/reliability.csv, and
metrics/ARM_predictions.csv with every validation image. No other stage opens the test images.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.data.batches import Samples, open_samples
from stages.data.store import Prepared, open_prepared, verified_checksums
from stages.errors import UserError, run
from stages.evaluation.comparison import difference, figures_by_seed, judge_goal
from stages.evaluation.evidence import LEVEL, POWER, Interval, crossed_interval, judge, mcnemar, seeds_interval
from stages.evaluation.metrics import (
    Labels,
    Probabilities,
    classification_metrics,
    metrics_by_class,
    reliability,
    sample_losses,
)
from stages.evaluation.movement import relative_movement
from stages.evaluation.similarity import feature_similarity
from stages.files import read_json, write_csv, write_json
from stages.models.checkpoint import load_checkpoint
from stages.models.compute import set_up_compute
from stages.models.inference import predict_probabilities
from stages.models.network import build_network
from stages.params import ARMS, Arm, Part, load_params
from stages.progress import each
from stages.spread import Figures, over_replicates

CHECKPOINTS, METRICS = Path("models"), Path("metrics")
SCORED: tuple[Part, ...] = ("train", "val", "test")
# Validation images on which features are compared; at a time; and as few as make an estimate.
COMPARED_IMAGES, COMPARED_BATCH, SMALLEST_BATCH = 128, 64, 4

Scores = dict[Arm, dict[int, Probabilities]]


def main() -> None:
    """Evaluate both arms."""
    argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__).parse_args()
    params = load_params()
    training = {arm: read_json(METRICS / f"{arm}.json") for arm in ARMS}
    compute = set_up_compute(params.train)
    verified_checksums()
    prepared = open_prepared()
    samples = open_samples(prepared, SCORED, compute.device)

    scores: dict[Part, Scores] = {part: {arm: {} for arm in ARMS} for part in SCORED}
    movement: dict[Arm, dict[int, Figures]] = {arm: {} for arm in ARMS}
    similarity: dict[Arm, dict[int, Figures]] = {arm: {} for arm in ARMS}
    in_training = {arm: figures_by_seed(training[arm]) for arm in ARMS}
    seeds = [seed for seed in params.train.seeds if all(seed in in_training[arm] for arm in ARMS)]
    refuse_no_pairs(seeds, training)
    replicates = [(arm, seed) for arm in ARMS for seed in seeds]
    for arm, seed in each(replicates, what="evaluating", unit=" checkpoints"):
        trained = load_checkpoint(CHECKPOINTS / arm / f"seed-{seed}.safetensors").network
        first = build_network(params.model, len(prepared.classes), seed)
        # The checkpoint's layers by the names that params.yaml cuts them into now.
        movement[arm][seed] = relative_movement(first.module, trained.module, first.groups)
        similarity[arm][seed] = feature_similarity(
            first, replace(trained, groups=first.groups), compared_batches(samples["val"]), compute
        )
        trained.module.to(compute.device)
        for part in SCORED:
            scores[part][arm][seed] = predict_probabilities(trained, samples[part], compute).numpy()

    story = difference(*({seed: in_training[arm][seed] for seed in seeds} for arm in ARMS))
    compared = {part: compare(prepared.labels(part), scores[part]) for part in SCORED}
    accuracy = compared["test"]["interval"]["accuracy"]
    write_json(
        METRICS / "evaluation.json",
        {
            "verdict": {
                "word": judge(Interval(**accuracy)),
                "of": "accuracy on test",
                "level": LEVEL,
                "power": POWER,
                **accuracy,
            },
            **({"diverged": diverged} if (diverged := diverged_seeds(training)) else {}),
            "goal": {
                **params.goal.model_dump(),
                **{
                    arm: judge_goal(params.goal, training[arm]["mean"], list(in_training[arm].values())) for arm in ARMS
                },
            },
            "story": {
                "difference": over_replicates(story),
                "interval": {
                    figure: seeds_interval(np.array([figures[figure] for figures in story.values()])).as_dict()
                    for figure in ("overfitting_gap", "overfitting_gap_evaluated")
                },
            },
            "train": compared["train"],
            "val": compared["val"],
            "test": compared["test"],
            "movement": {arm: over_replicates(movement[arm]) for arm in ARMS},
            "similarity": {arm: over_replicates(similarity[arm]) for arm in ARMS},
        },
    )
    write_csv(METRICS / "per_class.csv", pd.concat(per_class_table(prepared, part, scores[part]) for part in SCORED))
    validation = prepared.labels("val")
    write_csv(
        METRICS / "reliability.csv", of_every_replicate(scores["val"], lambda given: reliability(validation, given))
    )
    for arm in ARMS:
        write_csv(METRICS / f"{arm}_predictions.csv", predictions_table(prepared, "val", scores["val"][arm]))


def diverged_seeds(training: Mapping[Arm, dict[str, Any]]) -> dict[str, list[int]]:
    """Give the seeds whose replicates diverged, of the arms that have any."""
    return {
        arm: [int(key.removeprefix("seed_")) for key in training[arm]["diverged"]]
        for arm in ARMS
        if "diverged" in training[arm]
    }


def refuse_no_pairs(seeds: list[int], training: Mapping[Arm, dict[str, Any]]) -> None:
    """Stop where no seed came to an end in both arms.

    Raises:
        UserError: there is nothing to compare.
    """
    if not seeds:
        diverged = "; ".join(
            f"{arm}: {', '.join(map(str, of_arm))}" for arm, of_arm in diverged_seeds(training).items()
        )
        raise UserError(f"lr: no seed came to an end in both arms (diverged are {diverged}): lower the rates")


def compared_batches(samples: Samples) -> list[Tensor]:
    """Give the pixels of images from all over a part, batch by batch, without a rest that is too small to compare."""
    evenly = torch.linspace(0, len(samples) - 1, min(COMPARED_IMAGES, len(samples))).round().long()
    few = Samples(samples.pixels, samples.rows[evenly], samples.labels[evenly])
    return [pixels for pixels, _ in few.batches(COMPARED_BATCH) if len(pixels) >= SMALLEST_BATCH]


def compare(labels: Labels, scores: Scores) -> dict[str, Any]:
    """Give each arm over its replicates, the difference by seed, its intervals, and McNemar's test of every seed."""
    figures = {
        arm: {seed: classification_metrics(labels, given) for seed, given in of_arm.items()}
        for arm, of_arm in scores.items()
    }
    # (seeds, samples)
    right = {arm: np.stack([given.argmax(1) == labels for given in of_arm.values()]) for arm, of_arm in scores.items()}
    loss = {
        arm: np.stack([sample_losses(labels, given) for given in of_arm.values()]) for arm, of_arm in scores.items()
    }
    return {
        **{arm: over_replicates(figures[arm]) for arm in ARMS},
        "difference": over_replicates(difference(figures["baseline"], figures["differential"])),
        "interval": {
            "accuracy": crossed_interval(right["differential"].astype(float) - right["baseline"]).within(1).as_dict(),
            "loss": crossed_interval(loss["differential"] - loss["baseline"]).as_dict(),
        },
        "mcnemar": {
            f"seed_{seed}": mcnemar(of_baseline, of_differential)
            for seed, of_baseline, of_differential in zip(
                scores["baseline"], right["baseline"], right["differential"], strict=True
            )
        },
    }


def of_every_replicate(scores: Scores, table: Callable[[Probabilities], pd.DataFrame]) -> pd.DataFrame:
    """Give one table for all replicates, with the columns `arm` and `seed` before its own."""
    return pd.concat(
        pd.concat({(arm, seed): table(given)}, names=["arm", "seed"]).reset_index(level=["arm", "seed"])
        for arm, of_arm in scores.items()
        for seed, given in of_arm.items()
    )


def per_class_table(prepared: Prepared, part: Part, scores: Scores) -> pd.DataFrame:
    """Give precision, recall and F1 of every class, replicate by replicate."""
    labels = prepared.labels(part)
    table = of_every_replicate(scores, lambda given: metrics_by_class(labels, given, prepared.classes))
    table.insert(0, "part", part)
    return table


def predictions_table(prepared: Prepared, part: Part, of_arm: dict[int, Probabilities]) -> pd.DataFrame:
    """Give the actual and the predicted class of every image of a part, and the probability of the predicted one."""
    samples = prepared.samples.iloc[prepared.rows(part)]
    return pd.concat(
        pd.DataFrame(
            {
                "seed": seed,
                "image": samples["image"],
                "actual": samples["class"],
                "predicted": [prepared.classes[label] for label in given.argmax(1)],
                "confidence": given.max(1),
            }
        )
        for seed, given in of_arm.items()
    )


if __name__ == "__main__":
    run(main)
