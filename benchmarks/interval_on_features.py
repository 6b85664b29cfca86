"""Measure how often the intervals cover the truth on real images, where the truth is known.

The features that the pretrained network has of the solar cells are the population. Each experiment draws a small set of
them, trains heads as the pipeline does its replicates, and takes the interval; the truth is what many more replicates
of the same set come to. It is taken on the images outside the set and on those that were tested, so weighted that the
tested ones stand as far from it by chance as from a population without end. Groups are clusters of features, drawn
whole. A/A: both arms have one rate, and other batches, so that there is no difference to find.

    python -m benchmarks.interval_on_features
"""

import argparse
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from torch import Tensor

from stages.data.store import open_prepared
from stages.errors import run_cli
from stages.evaluation.comparison import Pool, ScoredReplicate, difference_sample
from stages.evaluation.statistics import paired_interval
from stages.files import write_csv
from stages.models.network import build_network
from stages.params import HIGHER_IS_BETTER, Metric, load_params
from stages.prepare import prepare
from stages.reporting.markdown import markdown_table

RESULTS = Path("benchmarks/interval_on_features.csv")
COMPONENTS, GROUPS = 64, 300  # of the features; clusters of the population
EPOCHS, BATCH, MOMENTUM = 3, 32, 0.9
RATES = (0.1, 1.0)  # of the two arms; heads on features this small need more than the network's own
TRAINED = 0.8  # of what the test part leaves; the rest stands for validation
TEST = 0.4  # of the images, where the test part is cut once
TRUE_REPLICATES, FOLDS = 60, 5

Rows = npt.NDArray[np.intp]
Outcome = tuple[float | None, float | None, float]


@dataclass(frozen=True)
class Population:
    """All images: features (images, COMPONENTS + 1), the last of them 1; labels and clusters (images,)."""

    features: Tensor
    labels: npt.NDArray[np.int64]
    clusters: npt.NDArray[np.intp]


@dataclass(frozen=True)
class Setting:
    """One kind of experiment; with folds, five."""

    design: str
    images: int
    replicates: int
    metric: Metric
    same: bool


MEASURED: list[tuple[Metric, bool]] = [("accuracy", True), ("accuracy", False), ("loss", False)]
SETTINGS = [
    Setting(design, images, replicates, metric, same)
    for design, images, replicates in [
        *product(("fixed",), (100, 250, 700), (3, 10)),
        *product(("groups",), (700,), (3, 10)),
        *product(("folds",), (100, 250, 700), (5, 10)),
    ]
    for metric, same in MEASURED
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=200, help="experiments for each row (default: 200)")
    parser.add_argument("--table", action="store_true", help="print what was measured as Markdown, and measure nothing")
    options = parser.parse_args()
    if options.table:
        print(results_table(pd.read_csv(RESULTS)))
        return
    population = find_population()
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        measure = partial(measured, population, options.trials)
        rows = []
        for row in workers.map(measure, SETTINGS):
            rows.append(row)
            print(*row.values(), flush=True)
    write_csv(RESULTS, pd.DataFrame(rows))


def find_population(image_size: int = 128) -> Population:
    """Show the pretrained network every solar cell."""
    params = load_params()
    data = params.data.model_copy(update={"image_size": image_size})
    with tempfile.TemporaryDirectory() as folder:
        prepare(data, Path(folder) / "prepared")
        images = open_prepared(Path(folder) / "prepared")
        network = build_network(params.model, len(images.classes), seed=0)
        captured: list[Tensor] = []
        layer = network.module.get_submodule(network.groups["head"][0].rpartition(".")[0])
        layer.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0]))
        network.module.eval()
        with torch.inference_mode():
            for pixels in torch.split(torch.from_numpy(np.array(images.images)), 64):
                network.logits(pixels)
    features = PCA(COMPONENTS, whiten=True, random_state=0).fit_transform(torch.cat(captured).numpy()) / COMPONENTS**0.5
    clusters = KMeans(GROUPS, n_init=1, random_state=0).fit_predict(features)
    with_bias = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    labels = images.samples["label"].to_numpy(dtype=np.int64, copy=True)
    return Population(torch.from_numpy(with_bias.astype(np.float32)), labels, clusters)


def measured(population: Population, trials: int, setting: Setting) -> dict[str, object]:
    """Return how often the interval covers the truth, and how wide it is."""
    torch.set_num_threads(1)
    random = np.random.default_rng([setting.images, setting.replicates, len(setting.design), setting.same])
    outcomes = [experiment(population, setting, random) for _ in range(trials)]
    truths = np.array([truth for _, _, truth in outcomes])
    low, high = np.array([(np.nan, np.nan) if low is None else (low, high) for low, high, _ in outcomes]).T
    has_interval = np.isfinite(low)
    everywhere = float(truths.mean())
    return {
        "design": setting.design,
        "images": setting.images,
        "replicates": setting.replicates,
        "metric": setting.metric,
        "same rate": setting.same,
        "trials": trials,
        "with an interval": float(has_interval.mean()),
        "covered": float(((low <= truths) & (truths <= high))[has_interval].mean()),
        "covered over pools": float(((low <= everywhere) & (everywhere <= high))[has_interval].mean()),
        "decided": float(((low > 0) | (high < 0)).mean()),
        "half-width": float(((high - low) / 2)[has_interval].mean()),
        "true difference": everywhere,
    }


def experiment(population: Population, setting: Setting, random: np.random.Generator) -> Outcome:
    """Return the ends of the interval of one experiment, None where there is none, and the truth."""
    drawn, test_parts, pools = draw(population, setting, random)
    trained = np.stack([some(pool, random) for pool in pools])
    more = np.stack([some(pools[number % len(pools)], random) for number in range(TRUE_REPLICATES)])
    probabilities = train_arms(population, np.concatenate([trained, more]), setting.same, random)

    outside = np.setdiff1d(np.arange(len(population.labels)), drawn)
    place = np.full(len(population.labels), -1)
    place[drawn] = np.arange(len(drawn))
    tested = {
        number: ScoredReplicate(
            place[rows],
            population.labels[rows],
            {"baseline": probabilities[0, number, rows], "differential": probabilities[1, number, rows]},
        )
        for number, rows in enumerate(test_parts)
    }
    units = population.clusters[drawn] if setting.design == "groups" else np.arange(len(drawn))
    found = paired_interval(
        difference_sample(setting.metric, tested, Pool(units, FOLDS if setting.design == "folds" else 1))
    )
    values = sample_differences(population, setting.metric, probabilities[:, len(pools) :])
    held_out = np.zeros(values.shape, dtype=bool)
    for number in range(TRUE_REPLICATES):
        held_out[number, test_parts[number % len(pools)]] = True
    ever: npt.NDArray[np.bool_] = np.any(held_out, axis=0)
    expected_of_tested = float((values * held_out).sum(0)[ever].sum() / held_out.sum(0)[ever].sum())
    expected_outside = float(values[:, outside].mean())
    groups = population.clusters if setting.design == "groups" else np.arange(len(ever))
    tested_units, other_units = len(set(groups[ever])), len(set(groups[outside]))
    weight = 1 - float(np.sqrt(other_units / (tested_units + other_units)))
    return found.low, found.high, weight * expected_of_tested + (1 - weight) * expected_outside


def draw(population: Population, setting: Setting, random: np.random.Generator) -> tuple[Rows, list[Rows], list[Rows]]:
    """Return the images of an experiment, and for each replicate its test images and what it may train on."""
    count = len(population.labels)
    if setting.design == "groups":
        order = random.permutation(GROUPS)
        sizes = np.bincount(population.clusters, minlength=GROUPS)[order].cumsum()
        chosen = order[: max(int(np.searchsorted(sizes, setting.images)) + 1, 12)]
        cut = max(int(len(chosen) * TEST), 6)
        test, pool = (np.flatnonzero(np.isin(population.clusters, part)) for part in (chosen[:cut], chosen[cut:]))
        return np.sort(np.concatenate([test, pool])), [test] * setting.replicates, [pool] * setting.replicates
    drawn = random.permutation(count)[: setting.images]
    if setting.design == "fixed":
        test, pool = np.split(drawn, [int(TEST * setting.images)])
        return drawn, [test] * setting.replicates, [pool] * setting.replicates
    tests = [
        fold for _ in range(setting.replicates // FOLDS) for fold in np.array_split(random.permutation(drawn), FOLDS)
    ]
    smallest = min(len(drawn) - len(test) for test in tests)
    return drawn, tests, [random.permutation(np.setdiff1d(drawn, test))[:smallest] for test in tests]


def some(pool: Rows, random: np.random.Generator) -> Rows:
    """Draw the training images of a replicate."""
    return random.permutation(pool)[: int(TRAINED * len(pool))]


def train_arms(population: Population, rows: Rows, same: bool, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Train heads by SGD, all replicates at once: both arms from the same first weights, in the same order.

    Args:
        population: all images.
        rows: (replicates, images), what each trains on.
        same: one rate for both arms, and another order.
        random: draws first weights and orders.

    Returns:
        (2, replicates, images of the population, classes).
    """
    labels = torch.nn.functional.one_hot(torch.from_numpy(population.labels), 2).float()
    weights = torch.from_numpy(random.normal(0, 0.1, (len(rows), COMPONENTS + 1, 2)).astype(np.float32))
    orders = [list(batches(rows, random))] * 2 if not same else [list(batches(rows, random)) for _ in range(2)]
    probabilities = []
    for rate, order in zip((RATES[0], RATES[0] if same else RATES[1]), orders, strict=True):
        trained, speed = weights.clone(), torch.zeros_like(weights)
        for chosen in order:
            inputs = population.features[chosen]
            error = (inputs @ trained).softmax(2) - labels[chosen]
            speed = MOMENTUM * speed + inputs.transpose(1, 2) @ error / chosen.shape[1]
            trained -= rate * speed
        probabilities.append((population.features @ trained).double().softmax(2).numpy())
    return np.stack(probabilities)


def batches(rows: Rows, random: np.random.Generator) -> Iterator[Tensor]:
    """Yield the batches of all epochs, (replicates, BATCH)."""
    for _ in range(EPOCHS):
        shuffled = torch.from_numpy(random.permuted(rows, axis=1))
        yield from torch.split(shuffled, BATCH, dim=1)


def sample_differences(
    population: Population, metric: Metric, probabilities: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (replicates, images of the population): what the second arm's metric has over the first arm's."""
    right = np.take_along_axis(probabilities, population.labels[None, None, :, None], axis=3)[..., 0]
    values = (right > 0.5) if HIGHER_IS_BETTER[metric] else -np.log(np.clip(right, np.finfo(float).eps, 1))
    difference: npt.NDArray[np.float64] = values[1].astype(float) - values[0]
    return difference


def results_table(results: pd.DataFrame) -> str:
    """Return what was measured as Markdown."""
    rows = [
        [
            row["design"],
            f"{row['images']}",
            f"{row['replicates']}",
            row["metric"] + (", A/A" if row["same rate"] else ""),
            f"{100 * row['covered']:.1f} %",
            f"{100 * row['covered over pools']:.1f} %",
            f"{100 * row['decided']:.1f} %",
            f"{100 * row['half-width']:.1f}" if row["metric"] == "accuracy" else f"{row['half-width']:.3f}",
        ]
        for _, row in results.iterrows()
    ]
    headers = ["design", "images", "replicates", "metric", "covers", "covers over pools", "decides", "half-width"]
    return markdown_table(headers, rows)


if __name__ == "__main__":
    run_cli(main)
