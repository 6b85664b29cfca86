"""Score every checkpoint on validation and test, compare the arms, hold them against the goal.

Writes metrics/evaluation.json, and metrics/ARM_predictions.csv with every validation image.
"""

import argparse
from pathlib import Path

import pandas as pd

from stages.data.batches import open_samples
from stages.data.splits import Part
from stages.data.store import open_prepared
from stages.errors import run
from stages.evaluation.comparison import difference, figures_by_seed, judge_goal
from stages.evaluation.metrics import classification_metrics
from stages.evaluation.movement import relative_movement
from stages.files import read_json, write_csv, write_json
from stages.models.checkpoint import load_checkpoint
from stages.models.compute import set_up_compute
from stages.models.inference import predict_probabilities
from stages.models.network import build_network
from stages.params import ARMS, Arm, load_params
from stages.progress import each
from stages.spread import Figures, over_replicates

CHECKPOINTS, METRICS = Path("models"), Path("metrics")


def main() -> None:
    """Evaluate both arms."""
    argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__).parse_args()
    params = load_params()
    training = {arm: read_json(METRICS / f"{arm}.json") for arm in ARMS}
    compute = set_up_compute(params.train)
    prepared = open_prepared()

    val: dict[Arm, dict[int, Figures]] = {arm: {} for arm in ARMS}
    test: dict[Arm, dict[int, Figures]] = {arm: {} for arm in ARMS}
    movement: dict[Arm, dict[int, Figures]] = {arm: {} for arm in ARMS}
    predictions: dict[Arm, list[pd.DataFrame]] = {arm: [] for arm in ARMS}

    parts: list[tuple[Part, dict[Arm, dict[int, Figures]]]] = [("val", val), ("test", test)]
    replicates = [(arm, seed) for arm in ARMS for seed in params.train.seeds]
    for arm, seed in each(replicates, what="evaluating", unit=" checkpoints"):
        trained = load_checkpoint(CHECKPOINTS / arm / f"seed-{seed}.safetensors").network
        first = build_network(params.model, len(prepared.classes), seed)
        movement[arm][seed] = relative_movement(first.module, trained.module, trained.groups)

        trained.module.to(compute.device)
        for part, figures in parts:
            samples = open_samples(prepared, part, compute.device)
            probabilities = predict_probabilities(trained, samples, compute).numpy()
            figures[arm][seed] = classification_metrics(prepared.labels(part), probabilities)
            if part == "val":
                chosen = [prepared.classes[label] for label in probabilities.argmax(1)]
                rows = prepared.samples.iloc[prepared.rows(part)]
                predictions[arm].append(
                    pd.DataFrame({"seed": seed, "image": rows["image"], "actual": rows["class"], "predicted": chosen})
                )

    story = {arm: figures_by_seed(training[arm]) for arm in ARMS}
    write_json(
        METRICS / "evaluation.json",
        {
            "goal": {arm: judge_goal(params.goal, training[arm]["mean"], list(story[arm].values())) for arm in ARMS},
            "story": {"difference": over_replicates(difference(story["baseline"], story["differential"]))},
            **{
                part: {
                    **{arm: over_replicates(figures[arm]) for arm in ARMS},
                    "difference": over_replicates(difference(figures["baseline"], figures["differential"])),
                }
                for part, figures in parts
            },
            "movement": {arm: over_replicates(movement[arm]) for arm in ARMS},
        },
    )
    for arm in ARMS:
        write_csv(METRICS / f"{arm}_predictions.csv", pd.concat(predictions[arm]))


if __name__ == "__main__":
    run(main)
