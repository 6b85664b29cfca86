"""Score every checkpoint on the test images, compare the arms on every split, and say what training changed inside.

Writes metrics/evaluation.json, the tables metrics/per_class.csv and metrics/reliability.csv, and
metrics/ARM_predictions.csv with every validation image. No other stage shows the test images to a network.
"""

import argparse
import math
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stages.aggregate import Metrics, summarize_replicates
from stages.data.batches import Samples, open_samples
from stages.data.store import Prepared, open_prepared, open_splits, replicate_checksums, verified_checksums
from stages.errors import UserError, run_cli
from stages.evaluation.cka import grams_of, linear_cka
from stages.evaluation.comparison import (
    BySeed,
    Pool,
    ScoredReplicate,
    check_goal,
    compare_eval_mode,
    compare_on_split,
    compare_training,
    difference_sample,
    gap_sample,
)
from stages.evaluation.images import image_units, majority_probabilities
from stages.evaluation.initial_features import initial_grams
from stages.evaluation.metrics import (
    Probabilities,
    classification_metrics,
    metrics_by_class,
    reliability,
    sample_losses,
)
from stages.evaluation.statistics import (
    POWER,
    is_unstable,
    level_of_look,
    paired_interval,
    plan_intervals,
    take_looks,
    variance_parts,
)
from stages.evaluation.weight_change import relative_weight_change
from stages.files import METRICS, write_csv, write_json
from stages.metrics_files import LARGEST, Decision, Failures, Look, TrainingMetrics, read_training_metrics
from stages.models.checkpoint import CHECKPOINTS, checkpoint_name, load_checkpoint
from stages.models.compute import set_up_compute, worker_limit
from stages.models.inference import predict_logits
from stages.models.network import Network, build_network
from stages.models.predictions import load_predictions, probabilities_of
from stages.params import ARMS, HIGHER_IS_BETTER, Arm, Evidence, Metric, Params, Split, load_params
from stages.progress import with_progress
from stages.trained_with import trained_with
from stages.unchanged import check_same_run, check_unchanged

SCORED: tuple[Split, ...] = ("train", "val", "test")
# Images on which features are compared; at a time; and as few as make an estimate.
COMPARED_IMAGES, COMPARED_BATCH, SMALLEST_BATCH = 128, 64, 4
PLANNED_REPLICATES = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30, 50, 100)
PLANNED_IMAGES = (1.0, 2.0, 4.0)  # times those that were tested


@dataclass(frozen=True)
class Score:
    """What one checkpoint came to.

    Attributes:
        probabilities: split -> (samples, classes).
        weight_change: layer group -> relative change of its weights; None where the replicate diverged.
        cka: layer group -> similarity of its features; likewise.
    """

    probabilities: dict[Split, Probabilities]
    weight_change: Metrics | None = None
    cka: Metrics | None = None


Scores = dict[tuple[Arm, int], Score]
ByReplicate = dict[int, Prepared]


def main() -> None:
    """Evaluate both arms."""
    argparse.ArgumentParser(prog="python -m stages.evaluate", description=__doc__).parse_args()
    params, training = load_params(), read_training_metrics()
    check_same_run(params, "evaluate")
    check_trained_alike(training, params)
    check_finished(training)
    checksums, prepared = verified_checksums(), open_prepared()
    splits = open_splits(prepared, params.train.seeds)
    replicates = {seed: prepared.of_replicate(splits[seed]) for seed in params.train.seeds}
    data = {seed: replicate_checksums(checksums, splits[seed]) for seed in params.train.seeds}
    scores = score_checkpoints(replicates, training, params, data)
    scored: dict[Split, BySeed] = {
        split: {
            seed: ScoredReplicate(
                images.rows(split),
                images.labels(split),
                {arm: scores[arm, seed].probabilities[split] for arm in ARMS},
            )
            for seed, images in replicates.items()
        }
        for split in SCORED
    }
    content = evaluate(scores, scored, training, replicates, params)
    check_unchanged(params, "evaluate")
    write_json(METRICS / "evaluation.json", content)
    write_tables(scored, prepared)


def check_trained_alike(training: Mapping[Arm, TrainingMetrics], params: Params) -> None:
    """Check that both arms were trained with what params.yaml has, and so with the same of what they share.

    Raises:
        UserError: one was trained with others.
    """
    for arm in ARMS:
        now = trained_with(params, arm, list(training[arm].learning_rates))
        recorded = training[arm].trained_with or now  # which older files do not have
        if others := [section for section in now if recorded.get(section) != now[section]]:
            raise UserError(
                f"{METRICS / f'{arm}.json'}: this arm was trained with another `{', '.join(others)}` than params.yaml "
                f"has: run `dvc repro --force --single-item train_{arm}`, then `dvc repro`"
            )


def check_finished(training: Mapping[Arm, TrainingMetrics]) -> None:
    """Check that each arm has a replicate that came to its end.

    Raises:
        UserError: one has none, so there is nothing to compare.
    """
    for arm in ARMS:
        if training[arm].seeds.keys() <= training[arm].diverged.keys():
            raise UserError(
                f"lr: every replicate of the {arm} arm diverged, so there is nothing to compare: lower its rates"
            )


def score_checkpoints(
    replicates: ByReplicate,
    training: Mapping[Arm, TrainingMetrics],
    params: Params,
    checksums: Mapping[int, Mapping[str, str]],
) -> Scores:
    """Score the checkpoints of both arms on every split, and compare them with the weights that they began with.

    What training has written of the training and validation images is taken as it is; the test images are shown here.
    Several checkpoints are scored at a time, each on a thread of its own. What diverged has no checkpoint: it counts as
    the majority class.

    Args:
        replicates: seed -> the images with its splits.
        training: content of metrics/ARM.json, by arm.
        params: of the experiment.
        checksums: seed -> of the images and its splits.
    """
    compute = set_up_compute(params.train)
    tested = {seed: open_samples(images, ("test",), compute.device)["test"] for seed, images in replicates.items()}
    classes = len(next(iter(replicates.values())).classes)
    compared = compared_batches(replicates, compute.device)
    building = threading.Lock()  # networks draw their first weights from torch's one generator

    def first_network(seed: int) -> Network:
        return build_network(params.model, classes, seed)

    grams = initial_grams(((seed, first_network(seed)) for seed in replicates), compared, compute)

    def score(arm: Arm, seed: int) -> Score:
        if seed in training[arm].diverged:
            return Score(without_network(replicates[seed]))
        path = CHECKPOINTS / arm / checkpoint_name(seed)
        with building:
            trained, first = load_checkpoint(path).network, first_network(seed)
        weight_change = relative_weight_change(first.module, trained.module, trained.groups)
        cka = linear_cka(grams[seed], grams_of(trained, compared, compute))
        logits = {**load_predictions(path, checksums[seed]), "test": predict_logits(trained, tested[seed], compute)}
        return Score({split: probabilities_of(logits[split]).numpy() for split in SCORED}, weight_change, cka)

    pairs = [(arm, seed) for arm in ARMS for seed in replicates]
    threads = 1 if compute.device.type == "cuda" else min(worker_limit(params.train), len(pairs))
    with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, params.train.threads)) as pool:
        scored = pool.map(score, *zip(*pairs, strict=True))
        shown = with_progress(scored, "evaluating", unit=" checkpoints", total=len(pairs))
        return dict(zip(pairs, shown, strict=True))


def without_network(images: Prepared) -> dict[Split, Probabilities]:
    """Return the probabilities of every split of a replicate that diverged."""
    sizes = {split: len(images.rows(split)) for split in SCORED}
    classes, majority = len(images.classes), images.majority_class
    return {split: majority_probabilities(size, classes, majority) for split, size in sizes.items()}


def compared_batches(replicates: ByReplicate, device: torch.device) -> list[Tensor]:
    """Return the pixels of images that some replicate validates on, in batches, without a rest too small to compare."""
    rows = np.unique(np.concatenate([images.rows("val") for images in replicates.values()]))
    evenly = rows[np.linspace(0, len(rows) - 1, min(COMPARED_IMAGES, len(rows))).round().astype(int)]
    first = next(iter(replicates.values()))
    samples = open_samples(first, ("val",), device)["val"]
    few = Samples(samples.pixels, torch.from_numpy(evenly).to(samples.rows.device), torch.zeros(len(evenly)).to(device))
    return [pixels for pixels, _ in few.batches(COMPARED_BATCH) if len(pixels) >= SMALLEST_BATCH]


def evaluate(
    scores: Scores,
    scored: Mapping[Split, BySeed],
    training: Mapping[Arm, TrainingMetrics],
    replicates: ByReplicate,
    params: Params,
) -> dict[str, Any]:
    """Return the content of metrics/evaluation.json."""
    first = next(iter(replicates.values()))
    pool = Pool(image_units(first.samples), params.data.folds or 1)
    compared = {
        split: compare_on_split(scored[split], Pool(pool.units) if split != "test" else pool) for split in SCORED
    }
    gap = gap_sample(scored["train"], scored["val"], pool)
    failures = find_failures(scored["test"], training)
    ended = {arm: [seed for seed in replicates if scores[arm, seed].cka is not None] for arm in ARMS}
    return {
        **weigh_evidence(scored["test"], pool, failures, replicates, params.evidence),
        "failures": failures.model_dump(),
        "goal": {**params.goal.model_dump(), **{arm: check_goal(params.goal, training[arm]) for arm in ARMS}},
        "training": compare_training(training, gap),
        "eval_mode": compare_eval_mode(compared["train"], compared["val"], gap),
        **{str(split): of_split for split, of_split in compared.items()},
        "relative_weight_change": {
            arm: summarize_replicates({seed: scores[arm, seed].weight_change or {} for seed in ended[arm]})
            for arm in ARMS
        },
        "linear_cka": {
            arm: summarize_replicates({seed: scores[arm, seed].cka or {} for seed in ended[arm]}) for arm in ARMS
        },
    }


def find_failures(tested: BySeed, training: Mapping[Arm, TrainingMetrics]) -> Failures:
    """Find the replicates whose loss was not finite, and those that take every test image for the same class."""
    return Failures.model_validate(
        {
            arm: {
                "diverged": list(training[arm].diverged),
                "collapsed": [
                    seed
                    for seed, of_seed in tested.items()
                    if seed not in training[arm].diverged and len(np.unique(of_seed.probabilities[arm].argmax(1))) == 1
                ],
            }
            for arm in ARMS
        }
    )


def weigh_evidence(
    tested: BySeed, pool: Pool, failures: Failures, replicates: ByReplicate, evidence: Evidence
) -> dict[str, Any]:
    """Return the verdict, and what more replicates and images would bring."""
    sample = difference_sample(evidence.metric, tested, pool)
    looks = evidence.looks or [sample.replicates]
    largest = LARGEST[evidence.metric]
    taken = take_looks(sample, looks, HIGHER_IS_BETTER[evidence.metric], largest)
    level, last = level_of_look(looks, len(taken) - 1), taken[-1].interval
    decided = next((look for look in taken if look.decision != "no difference shown"), None)
    unstable = is_unstable(failures, sample.replicates)
    parts = variance_parts(sample)
    apart, average = without_near_duplicates(tested, replicates)
    return {
        "verdict": {
            "decision": decision(decided, unstable=unstable),
            "metric": evidence.metric,
            "power": POWER,
            **last.model_dump(),
            "looks": [look.model_dump(exclude_none=True) for look in taken],
            "reached_at": decided.replicates if decided and not unstable else None,
            "units": "groups" if len(sample.sizes) < sample.sizes.sum() else "images",
            "effective_units": sample.effective_units,
            "standard_errors": {"replicates": math.sqrt(parts.replicates), "images": math.sqrt(parts.images)},
            "near_duplicates": average,
            "without_near_duplicates": {
                **paired_interval(difference_sample(evidence.metric, apart, pool), level).clipped(largest).model_dump(),
                "arms": mean_of_arms(evidence.metric, apart),
            }
            if average and apart
            else None,
        },
        "plan": [
            planned.model_dump()
            for planned in plan_intervals(sample, planned_replicates(sample.folds), list(PLANNED_IMAGES), level)
        ]
        if last.low is not None
        else [],
    }


def mean_of_arms(metric: Metric, replicates: BySeed) -> dict[Arm, float]:
    """Return a metric of each arm, as the mean over replicates."""
    return {
        arm: float(
            np.mean([classification_metrics(of.labels, of.probabilities[arm])[metric] for of in replicates.values()])
        )
        for arm in ARMS
    }


def decision(decided: Look | None, unstable: bool) -> Decision:
    """Return the verdict in a word."""
    return "unstable" if unstable else decided.decision if decided else "no difference shown"


def planned_replicates(folds: int) -> list[int]:
    """Return numbers of replicates to plan for; with folds, of whole rounds."""
    return sorted({max(-(-number // folds) * folds, 2) for number in PLANNED_REPLICATES})


def without_near_duplicates(tested: BySeed, replicates: ByReplicate) -> tuple[dict[int, ScoredReplicate], float]:
    """Return the replicates without test images that look almost like one they trained or validated on.

    Returns:
        Them, or none where a class would be missing; and how many images of a replicate that leaves out, on average.
    """
    kept, left_out, lacks_class = {}, [], False
    for seed, of_seed in tested.items():
        samples = replicates[seed].samples
        seen = set(samples.loc[samples["split"].isin(["train", "val"]), "near_duplicates"]) - {""}
        is_apart = ~samples["near_duplicates"].iloc[of_seed.rows].isin(seen).to_numpy()
        kept[seed] = of_seed.part(is_apart)
        left_out.append(int((~is_apart).sum()))
        lacks_class |= len(np.unique(kept[seed].labels)) < len(np.unique(of_seed.labels))
    return {} if lacks_class else kept, float(np.mean(left_out))


def write_tables(scored: Mapping[Split, BySeed], prepared: Prepared) -> None:
    """Write what is too long for JSON: metrics by class, reliability, and every validation image."""
    val = scored["val"]
    by_class = [
        stack_replicates(
            of_split, lambda of, arm: metrics_by_class(of.labels, of.probabilities[arm], prepared.classes)
        ).assign(split=split)
        for split, of_split in scored.items()
    ]
    table = pd.concat(by_class)
    write_csv(METRICS / "per_class.csv", table[["split", *table.columns.drop("split")]])
    by_bin = stack_replicates(val, lambda of, arm: reliability(of.labels, of.probabilities[arm]))
    write_csv(METRICS / "reliability.csv", by_bin)
    for arm in ARMS:
        write_csv(METRICS / f"{arm}_predictions.csv", predictions_table(prepared, val, arm))


def stack_replicates(replicates: BySeed, table: Callable[[ScoredReplicate, Arm], pd.DataFrame]) -> pd.DataFrame:
    """Return the tables of all replicates as one, with the columns `arm` and `seed` before their own."""
    return pd.concat(
        pd.concat({(arm, seed): table(of_seed, arm)}, names=["arm", "seed"]).reset_index(level=["arm", "seed"])
        for arm in ARMS
        for seed, of_seed in replicates.items()
    )


def predictions_table(prepared: Prepared, replicates: BySeed, arm: Arm) -> pd.DataFrame:
    """Return of every image of a split its actual and its predicted class, the latter's probability, and the loss."""
    classes = prepared.classes
    return pd.concat(
        pd.DataFrame(
            {
                "seed": seed,
                "image": prepared.samples["image"].iloc[of_seed.rows],
                "actual": prepared.samples["class"].iloc[of_seed.rows],
                "predicted": [classes[label] for label in of_seed.probabilities[arm].argmax(1)],
                "confidence": of_seed.probabilities[arm].max(1),
                "loss": sample_losses(of_seed.labels, of_seed.probabilities[arm]),
            }
        )
        for seed, of_seed in replicates.items()
    )


if __name__ == "__main__":
    run_cli(main)
