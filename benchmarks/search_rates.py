"""Try several settings of the learning rates, image size and number of training images, on validation alone.

Each setting trains every seed of params.yaml with one setting and appends a row for each to a CSV file. The test
split of these settings is never opened; with other fractions, images of another setting's test split are in training
and validation. A setting that stands in the file already is not run again: move the file away before you
search with another network, another length of training or other images.

    python -m benchmarks.search_rates --train 0.5 --uniform 0.01 0.003 --pair 0.0001 0.01 --pair 0.001 0.01
"""

import argparse
import tempfile
import time
from pathlib import Path

import pandas as pd

from stages.data.batches import open_samples
from stages.data.store import open_prepared
from stages.errors import run_cli
from stages.files import write_csv
from stages.models.compute import Compute, set_up_compute
from stages.models.inference import predict_logits
from stages.models.network import build_network
from stages.params import Params, Policy, check_schema, load_params
from stages.prepare import prepare
from stages.rates.policies import plan_policy
from stages.rates.schedules import lr_multipliers
from stages.reporting.markdown import markdown_table
from stages.training.loop import metrics_of
from stages.training.trainer import Trainer, count_steps

RESULTS = Path("benchmarks/rate_search.csv")
SETTING = ["image_size", "train_images", "arm", "backbone", "head", "optimizer"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image-size", type=int, default=None, help="pixels (default: params.yaml's)")
    parser.add_argument("--train", type=float, default=None, help="fraction for training; the rest is halved")
    parser.add_argument("--uniform", type=float, nargs="*", default=[], help="uniform rates to try")
    parser.add_argument("--pair", type=float, nargs=2, action="append", default=[], help="a backbone and a head rate")
    parser.add_argument("--optimizer", choices=["sgd", "adam", "adamw"], default=None, help="(default: params.yaml's)")
    parser.add_argument("--table", action="store_true", help="print what has been tried as Markdown, and try nothing")
    options = parser.parse_args()
    if options.table:
        print(results_table(pd.read_csv(RESULTS)))
        return

    content = load_params().model_dump()
    if options.train is not None:
        rest = (1 - options.train) / 2
        content["data"]["split"] = {"train": options.train, "val": rest, "test": rest}
    content["data"]["image_size"] = options.image_size or content["data"]["image_size"]
    content["optimizer"]["name"] = options.optimizer or content["optimizer"]["name"]
    params = check_schema(content)

    compute = set_up_compute(params.train)
    with tempfile.TemporaryDirectory() as folder:
        prepare(params.data, Path(folder) / "prepared")
        for rate in options.uniform:
            try_rates(params, rate, rate, Path(folder), compute)
        for backbone, head in options.pair:
            try_rates(params, backbone, head, Path(folder), compute)


def try_rates(params: Params, backbone: float, head: float, folder: Path, compute: Compute) -> None:
    """Train every seed with these rates; keep the metrics of the last epoch."""
    prepared = open_prepared(folder / "prepared")
    samples = open_samples(prepared, ("train", "val"), compute.device)
    arm = "uniform" if backbone == head else "differential"
    setting = dict(
        zip(
            SETTING,
            (prepared.image_size, len(samples["train"]), arm, backbone, head, params.optimizer.name),
            strict=True,
        )
    )
    for seed in params.train.seeds:
        done = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=[*SETTING, "seed"])
        if (done[[*SETTING, "seed"]] == pd.Series({**setting, "seed": seed})).all(axis=1).any():
            continue
        started = time.perf_counter()
        network = build_network(params.model, len(prepared.classes), seed)
        plan = plan_policy(Policy(backbone=backbone, head=head), list(network.groups))
        steps_per_epoch = count_steps(params.train, samples["train"])
        multipliers = lr_multipliers(params.schedule, params.train.epochs, steps_per_epoch)
        result = Trainer(network, plan, seed, params, multipliers, samples, compute).fit()
        if result.diverged:
            print(*setting.values(), f"seed {seed}: diverged {result.diverged.describe()}", flush=True)
            continue
        last = result.epochs[-1]
        row = {
            **setting,
            "seed": seed,
            "train_accuracy": last.train.accuracy,
            "train_loss": last.train.loss,
            "val_accuracy": last.val.accuracy,
            "val_loss": last.val.loss,
            "train_accuracy_eval_mode": metrics_of(
                predict_logits(network, samples["train"], compute), samples["train"].labels
            ).accuracy,
        }
        write_csv(RESULTS, pd.concat([done, pd.DataFrame([row])], ignore_index=True))
        metrics = f"training {last.train.accuracy:.1%}, validation {last.val.accuracy:.1%}"
        print(*setting.values(), f"seed {seed}: {metrics}, {time.perf_counter() - started:.0f} s", flush=True)


def results_table(results: pd.DataFrame) -> str:
    """Return mean ± standard deviation over the seeds of every setting, as Markdown."""
    rows = []
    for setting, trained in results.groupby(SETTING, sort=False):
        size, images, _, backbone, head, optimizer = setting
        cells = [f"{size}", f"{images:,}", f"{optimizer}", f"{backbone:g}", f"{head:g}"]
        for metric in ("train_accuracy", "val_accuracy"):
            spread = f" ± {100 * trained[metric].std():.1f}" if len(trained) > 1 else ""
            cells.append(f"{100 * trained[metric].mean():.1f}{spread} %")
        rows.append([*cells, ", ".join(f"{100 * value:.1f}" for value in trained["val_accuracy"])])
    headers = ["image size", "training images", "optimizer", "backbone rate", "head rate", "training", "validation"]
    return markdown_table([*headers, "each seed"], rows)


if __name__ == "__main__":
    run_cli(main)
