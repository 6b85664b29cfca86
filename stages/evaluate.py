"""Score every checkpoint on validation and test, compare the arms, hold them against the goal.

Writes metrics/evaluation.json, and metrics/ARM_predictions.csv with every validation image.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.data.batches import open_samples
from stages.data.store import Prepared, open_prepared
from stages.errors import run
from stages.evaluation.comparison import difference, figures_by_seed, judge_goal
from stages.evaluation.metrics import classification_metrics
from stages.evaluation.movement import relative_movement
from stages.files import read_json, write_csv, write_json
from stages.models.checkpoint import load_checkpoint
from stages.models.compute import set_up_compute
from stages.models.inference import predict_probabilities
from stages.models.network import build_network
from stages.params import ARMS, Arm, Part, load_params
from stages.progress import each
from stages.spread import Figures, over_replicates

CHECKPOINTS, METRICS = Path("models"), Path("metrics")
SCORED: tuple[Part, ...] = ("val", "test")


def main() -> None:
    """Evaluate both arms."""
    argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__).parse_args()
    params = load_params()
    training = {arm: read_json(METRICS / f"{arm}.json") for arm in ARMS}
    compute = set_up_compute(params.train)
    prepared = open_prepared()
    samples = open_samples(prepared, SCORED, compute.device)

    figures: dict[Part, dict[Arm, dict[int, Figures]]] = {part: {arm: {} for arm in ARMS} for part in SCORED}
    movement: dict[Arm, dict[int, Figures]] = {arm: {} for arm in ARMS}
    predictions: dict[Arm, list[pd.DataFrame]] = {arm: [] for arm in ARMS}

    replicates = [(arm, seed) for arm in ARMS for seed in params.train.seeds]
    for arm, seed in each(replicates, what="evaluating", unit=" checkpoints"):
        trained = load_checkpoint(CHECKPOINTS / arm / f"seed-{seed}.safetensors").network
        first = build_network(params.model, len(prepared.classes), seed)
        movement[arm][seed] = relative_movement(first.module, trained.module, first.groups)

        trained.module.to(compute.device)
        for part in SCORED:
            probabilities = predict_probabilities(trained, samples[part], compute).numpy()
            figures[part][arm][seed] = classification_metrics(prepared.labels(part), probabilities)
            if part == "val":
                predictions[arm].append(predictions_table(prepared, part, seed, probabilities))

    in_training = {arm: figures_by_seed(training[arm]) for arm in ARMS}
    goal = {arm: judge_goal(params.goal, training[arm]["mean"], list(in_training[arm].values())) for arm in ARMS}
    write_json(
        METRICS / "evaluation.json",
        {
            "goal": {**params.goal.model_dump(), **goal},
            "story": {"difference": over_replicates(difference(in_training["baseline"], in_training["differential"]))},
            **{part: compare(figures[part]) for part in SCORED},
            "movement": {arm: over_replicates(movement[arm]) for arm in ARMS},
        },
    )
    for arm in ARMS:
        write_csv(METRICS / f"{arm}_predictions.csv", pd.concat(predictions[arm]))


def compare(figures: dict[Arm, dict[int, Figures]]) -> dict[str, Any]:
    """Give each arm over its replicates, then the difference."""
    paired = difference(figures["baseline"], figures["differential"])
    return {**{arm: over_replicates(figures[arm]) for arm in ARMS}, "difference": over_replicates(paired)}


def predictions_table(
    prepared: Prepared, part: Part, seed: int, probabilities: npt.NDArray[np.float64]
) -> pd.DataFrame:
    """Give the actual and the predicted class of every image of a part."""
    samples = prepared.samples.iloc[prepared.rows(part)]
    predicted = [prepared.classes[label] for label in probabilities.argmax(1)]
    return pd.DataFrame({"seed": seed, "image": samples["image"], "actual": samples["class"], "predicted": predicted})


if __name__ == "__main__":
    run(main)
