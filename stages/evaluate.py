"""Score every checkpoint on the test images, compare the arms on every split, and say what training changed inside.

Writes metrics/evaluation.json, the tables metrics/per_class.csv and metrics/reliability.csv, and
metrics/ARM_predictions.csv with every validation image. No other stage shows the test images to a network.
"""

import argparse
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from stages.aggregate import Metrics, summarize_replicates
from stages.data.batches import Samples, open_samples
from stages.data.store import Prepared, open_prepared, verified_checksums
from stages.errors import UserError, run_cli
from stages.evaluation.cka import grams_of, linear_cka
from stages.evaluation.comparison import check_goal, compare_eval_mode, compare_on_split, compare_training
from stages.evaluation.initial_features import initial_grams
from stages.evaluation.metrics import Probabilities, metrics_by_class, reliability
from stages.evaluation.statistics import LEVEL, POWER, decide
from stages.evaluation.weight_change import relative_weight_change
from stages.files import METRICS, write_csv, write_json
from stages.metrics_files import Interval, TrainingMetrics, read_training_metrics
from stages.models.checkpoint import CHECKPOINTS, checkpoint_name, load_checkpoint
from stages.models.compute import set_up_compute, worker_limit
from stages.models.inference import predict_logits
from stages.models.network import Network, build_network
from stages.models.predictions import load_predictions, probabilities_of
from stages.params import ARMS, Arm, Goal, Params, Split, load_params
from stages.progress import with_progress

SCORED: tuple[Split, ...] = ("train", "val", "test")
# Validation images on which features are compared; at a time; and as few as make an estimate.
COMPARED_IMAGES, COMPARED_BATCH, SMALLEST_BATCH = 128, 64, 4

ByReplicate = dict[Arm, dict[int, Probabilities]]


@dataclass(frozen=True)
class Score:
    """What one checkpoint came to.

    Attributes:
        probabilities: split -> (samples, classes).
        weight_change: layer group -> relative change of its weights.
        cka: layer group -> similarity of its features.
    """

    probabilities: dict[Split, Probabilities]
    weight_change: Metrics
    cka: Metrics


def main() -> None:
    """Evaluate both arms."""
    argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__).parse_args()
    params, training = load_params(), read_training_metrics()
    seeds = paired_seeds(params.train.seeds, training)
    checksums = verified_checksums()
    prepared = open_prepared()
    scores = score_checkpoints(seeds, params, prepared, checksums)
    probabilities: dict[Split, ByReplicate] = {
        split: {arm: {seed: scores[arm, seed].probabilities[split] for seed in seeds} for arm in ARMS}
        for split in SCORED
    }
    write_json(METRICS / "evaluation.json", evaluate(scores, probabilities, seeds, training, prepared, params.goal))
    write_tables(probabilities, prepared)


def paired_seeds(seeds: list[int], training: Mapping[Arm, TrainingMetrics]) -> list[int]:
    """Return the seeds that came to an end in both arms.

    Raises:
        UserError: there is none, so there is nothing to compare.
    """
    paired = [seed for seed in seeds if all(seed in training[arm].seeds for arm in ARMS)]
    if not paired:
        diverged = "; ".join(
            f"{arm}: {', '.join(map(str, of_arm))}" for arm, of_arm in diverged_seeds(training).items()
        )
        raise UserError(f"lr: no seed came to an end in both arms (diverged are {diverged}): lower the rates")
    return paired


def diverged_seeds(training: Mapping[Arm, TrainingMetrics]) -> dict[Arm, list[int]]:
    """Return the seeds whose replicates diverged, of the arms that have any."""
    return {arm: list(training[arm].diverged) for arm in ARMS if training[arm].diverged}


def score_checkpoints(
    seeds: list[int], params: Params, prepared: Prepared, checksums: Mapping[str, str]
) -> dict[tuple[Arm, int], Score]:
    """Score the checkpoints of both arms on every split, and compare them with the weights that they began with.

    What training has written of the training and validation images is taken as it is; the test images are shown here.
    Several checkpoints are scored at a time, each on a thread of its own.
    """
    compute = set_up_compute(params.train)
    samples = open_samples(prepared, ("val", "test"), compute.device)
    compared = compared_batches(samples["val"])
    building = threading.Lock()  # networks draw their first weights from torch's one generator

    def first_network(seed: int) -> Network:
        return build_network(params.model, len(prepared.classes), seed)

    grams = initial_grams(((seed, first_network(seed)) for seed in seeds), compared, compute)

    def score(arm: Arm, seed: int) -> Score:
        path = CHECKPOINTS / arm / checkpoint_name(seed)
        with building:
            trained, first = load_checkpoint(path).network, first_network(seed)
        weight_change = relative_weight_change(first.module, trained.module, trained.groups)
        cka = linear_cka(grams[seed], grams_of(trained, compared, compute))
        logits = {**load_predictions(path, checksums), "test": predict_logits(trained, samples["test"], compute)}
        return Score({split: probabilities_of(logits[split]).numpy() for split in SCORED}, weight_change, cka)

    replicates = [(arm, seed) for arm in ARMS for seed in seeds]
    threads = 1 if compute.device.type == "cuda" else min(worker_limit(params.train), len(replicates))
    with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, params.train.threads)) as pool:
        scored = pool.map(score, *zip(*replicates, strict=True))
        shown = with_progress(scored, "evaluating", unit=" checkpoints", total=len(replicates))
        return dict(zip(replicates, shown, strict=True))


def compared_batches(samples: Samples) -> list[Tensor]:
    """Return the pixels of images from all over a split, in batches, without a rest that is too small to compare."""
    evenly = torch.linspace(0, len(samples) - 1, min(COMPARED_IMAGES, len(samples))).round().long()
    few = Samples(samples.pixels, samples.rows[evenly], samples.labels[evenly])
    return [pixels for pixels, _ in few.batches(COMPARED_BATCH) if len(pixels) >= SMALLEST_BATCH]


def evaluate(
    scores: Mapping[tuple[Arm, int], Score],
    probabilities: Mapping[Split, ByReplicate],
    seeds: list[int],
    training: Mapping[Arm, TrainingMetrics],
    prepared: Prepared,
    goal: Goal,
) -> dict[str, Any]:
    """Return the content of metrics/evaluation.json."""
    compared = {split: compare_on_split(prepared.labels(split), probabilities[split]) for split in SCORED}
    accuracy = Interval(**compared["test"]["interval"]["accuracy"])
    diverged = diverged_seeds(training)
    return {
        "verdict": {
            "decision": decide(accuracy),
            "metric": "accuracy on test",
            "level": LEVEL,
            "power": POWER,
            **accuracy.model_dump(),
        },
        **({"diverged": diverged} if diverged else {}),
        "goal": {**goal.model_dump(), **{arm: check_goal(goal, training[arm]) for arm in ARMS}},
        "training": compare_training(training, seeds),
        "eval_mode": compare_eval_mode(compared["train"], compared["val"]),
        **{str(split): of_split for split, of_split in compared.items()},
        "relative_weight_change": {
            arm: summarize_replicates({seed: scores[arm, seed].weight_change for seed in seeds}) for arm in ARMS
        },
        "linear_cka": {arm: summarize_replicates({seed: scores[arm, seed].cka for seed in seeds}) for arm in ARMS},
    }


def write_tables(probabilities: Mapping[Split, ByReplicate], prepared: Prepared) -> None:
    """Write what is too long for JSON: metrics by class, reliability, and every validation image."""
    val_labels, val = prepared.labels("val"), probabilities["val"]
    write_csv(
        METRICS / "per_class.csv",
        pd.concat(per_class_table(prepared, split, by_replicate) for split, by_replicate in probabilities.items()),
    )
    write_csv(METRICS / "reliability.csv", stack_replicates(val, lambda of_one: reliability(val_labels, of_one)))
    for arm in ARMS:
        write_csv(METRICS / f"{arm}_predictions.csv", predictions_table(prepared, "val", val[arm]))


def stack_replicates(by_replicate: ByReplicate, table: Callable[[Probabilities], pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of all replicates as one, with the columns `arm` and `seed` before their own."""
    return pd.concat(
        pd.concat({(arm, seed): table(of_one)}, names=["arm", "seed"]).reset_index(level=["arm", "seed"])
        for arm, by_seed in by_replicate.items()
        for seed, of_one in by_seed.items()
    )


def per_class_table(prepared: Prepared, split: Split, by_replicate: ByReplicate) -> pd.DataFrame:
    """Return precision, recall and F1 of every class, replicate by replicate."""
    labels = prepared.labels(split)
    table = stack_replicates(by_replicate, lambda of_one: metrics_by_class(labels, of_one, prepared.classes))
    table.insert(0, "split", split)
    return table


def predictions_table(prepared: Prepared, split: Split, by_seed: dict[int, Probabilities]) -> pd.DataFrame:
    """Return the actual and the predicted class of every image of a split, and the probability of the predicted one."""
    samples, classes = prepared.samples.iloc[prepared.rows(split)], prepared.classes
    return pd.concat(
        pd.DataFrame(
            {
                "seed": seed,
                "image": samples["image"],
                "actual": samples["class"],
                "predicted": [classes[label] for label in of_one.argmax(1)],
                "confidence": of_one.max(1),
            }
        )
        for seed, of_one in by_seed.items()
    )


if __name__ == "__main__":
    run_cli(main)
