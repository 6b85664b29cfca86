"""Try pairs of learning rates on the development part, whose images and seeds are never reported.

Every setting trains each seed; a row for each is appended to a CSV file. All else is as params.yaml says, but for what
--set changes. What stands in the file already is not run again: move the file away before you search anew.

    python -m benchmarks.search_rates --rates 0.01 0.01 --rates 0.003 0.01 --set train.epochs=6
"""

import argparse
import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import yaml

from stages.data.batches import open_samples
from stages.data.splits import split_replicates
from stages.data.store import open_prepared
from stages.errors import run_cli
from stages.files import write_csv
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import Params, Policy, check_schema, load_params
from stages.prepare import prepare
from stages.rates.policies import plan_policy
from stages.rates.schedules import lr_multipliers
from stages.reporting.markdown import markdown_table
from stages.training.trainer import Trainer, count_steps

RESULTS = Path("benchmarks/rate_search.csv")
SETTING = ["changed", "backbone", "head"]
FIRST_SEED = 101  # those of the reported experiment are below
FRACTIONS = {"train": 0.79, "val": 0.2, "test": 0.01}  # of the development part; nothing is tested on it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs=2, action="append", default=[], help="of backbone and head")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another parameter, as YAML")
    parser.add_argument("--seeds", type=int, default=6, help="replicates of each setting (default: 6)")
    parser.add_argument("--table", action="store_true", help="print what has been tried as Markdown, and try nothing")
    options = parser.parse_args()
    if options.table:
        print(results_table(pd.read_csv(RESULTS, keep_default_na=False)))
        return
    params = development_params(options.set)
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as workers:
        prepared = Path(folder) / "prepared"
        prepare(params.data, prepared)
        trials = [
            Trial(params, prepared, backbone, head, FIRST_SEED + number)
            for number in range(options.seeds)
            for backbone, head in options.rates
            if not is_known(options.set, backbone, head, FIRST_SEED + number)
        ]
        for trial, metrics in zip(trials, workers.map(train, trials), strict=True):
            append({**dict(zip(SETTING, (" ".join(options.set), trial.backbone, trial.head), strict=True)), **metrics})
            print(trial.backbone, trial.head, *metrics.values(), flush=True)


def development_params(changes: list[str]) -> Params:
    """Return params.yaml with changes, for the development part alone."""
    content = load_params().model_dump()
    for change in changes:
        key, _, value = change.partition("=")
        *sections, last = key.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[last] = yaml.safe_load(value)
    content["data"].update(part="development", split=FRACTIONS, folds=None)
    content["evidence"]["looks"] = None
    return check_schema(content)


@dataclass(frozen=True)
class Trial:
    """One replicate to train."""

    params: Params
    prepared: Path
    backbone: float
    head: float
    seed: int


def train(trial: Trial) -> dict[str, float]:
    """Train a replicate, and return the metrics of its last epoch."""
    params, seed = trial.params, trial.seed
    compute = set_up_compute(params.train)
    images = open_prepared(trial.prepared)
    _, splits = split_replicates(images.samples, params.data, [seed])
    samples = open_samples(images.of_replicate(splits[seed]), ("train", "val"), compute.device)
    network = build_network(params.model, len(images.classes), seed)
    plan = plan_policy(Policy(backbone=trial.backbone, head=trial.head), list(network.groups))
    multipliers = lr_multipliers(params.schedule, params.train.epochs, count_steps(params.train, samples["train"]))
    result = Trainer(network, plan, seed, params, multipliers, samples, compute).fit()
    if result.diverged:
        return {"seed": seed, "train_accuracy": float("nan"), "val_accuracy": float("nan"), "val_loss": float("nan")}
    last = result.epochs[-1]
    return {
        "seed": seed,
        "train_accuracy": last.train.accuracy,
        "val_accuracy": last.val.accuracy,
        "val_loss": last.val.loss,
    }


def recorded() -> pd.DataFrame:
    """Return what has been tried."""
    if not RESULTS.exists():
        return pd.DataFrame(columns=[*SETTING, "seed"])
    return pd.read_csv(RESULTS, keep_default_na=False)


def is_known(changes: list[str], backbone: float, head: float, seed: int) -> bool:
    """Whether a trial stands in the file."""
    setting = pd.Series({"changed": " ".join(changes), "backbone": backbone, "head": head, "seed": seed})
    return bool((recorded()[[*SETTING, "seed"]] == setting).all(axis=1).any())


def append(row: dict[str, object]) -> None:
    """Add a row to the file."""
    write_csv(RESULTS, pd.concat([recorded(), pd.DataFrame([row])], ignore_index=True))


def results_table(results: pd.DataFrame) -> str:
    """Return mean ± standard deviation over the seeds of every setting, as Markdown."""
    rows = []
    for (changed, backbone, head), trained in results.groupby(SETTING, sort=False):
        accuracies = [
            f"{100 * trained[metric].astype(float).mean():.1f} ± {100 * trained[metric].astype(float).std():.1f} %"
            for metric in ("train_accuracy", "val_accuracy")
        ]
        loss = f"{trained['val_loss'].astype(float).mean():.3f}"
        rows.append([str(changed), f"{backbone:g}", f"{head:g}", f"{len(trained)}", *accuracies, loss])
    headers = ["changed", "backbone rate", "head rate", "seeds", "training", "validation", "validation loss"]
    return markdown_table(headers, rows)


if __name__ == "__main__":
    run_cli(main)
