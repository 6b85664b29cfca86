"""Train every replicate of one arm from the prepared images.

Writes models/ARM/seed-N.safetensors, metrics/ARM.json, and the curves of the story's figures and of the rates,
metrics/ARM_curves.csv and metrics/ARM_rates.csv.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from stages.data.batches import open_samples
from stages.data.store import Prepared, open_prepared
from stages.errors import run
from stages.files import whole_directory, write_csv, write_json
from stages.models.checkpoint import Description, save_checkpoint
from stages.models.compute import set_up_compute
from stages.models.network import Network, build_network, refuse_unfit_images
from stages.params import ARMS, Arm, Model, load_params
from stages.progress import Bar, steps
from stages.rates.policies import plan_rates, rates_reached
from stages.rates.schedules import rate_curves, scales
from stages.spread import over_replicates
from stages.training.loop import Score
from stages.training.replicate import Replicate, steps_per_epoch, train_replicate

CHECKPOINTS, METRICS = Path("models"), Path("metrics")


def main() -> None:
    """Train the arm that the command names."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("arm", choices=ARMS, help="whose rates to train with")
    arm: Arm = parser.parse_args().arm
    params = load_params()
    compute = set_up_compute(params.train)

    prepared = open_prepared()
    samples = open_samples(prepared, ("train", "val"), compute.device)

    replicates: dict[int, Replicate] = {}
    of_epoch = steps_per_epoch(params.train, samples["train"])
    scale = scales(params.schedule, params.train.epochs, of_epoch)
    total = len(params.train.seeds) * len(scale)
    with whole_directory(CHECKPOINTS / arm) as folder, steps(total, unit=" steps") as bar:
        for seed in params.train.seeds:
            network = build_network(params.model, len(prepared.classes), seed)
            refuse_unfit_images(network, params.model, prepared.image_size, prepared.channels)
            plan = plan_rates(arm, params.lr, list(network.groups))

            show = partial(show_step, bar, f"{arm}, seed {seed}", params.train.epochs)
            replicates[seed] = train_replicate(network, plan, seed, params, samples, compute, on_step=show)
            description = describe_network(network, params.model, prepared)
            save_checkpoint(folder / f"seed-{seed}.safetensors", network, description)
            last = replicates[seed].epochs[-1]
            bar.write(f"{arm}, seed {seed}: training {last.train.accuracy:.1%}, validation {last.val.accuracy:.1%}")

    figures = over_replicates({seed: last_figures(replicate) for seed, replicate in replicates.items()})
    rates = rates_reached(plan, params.train.epochs)
    write_json(METRICS / f"{arm}.json", figures, exact={"learning_rates": rates})
    waiting = [group for group, entry in plan.items() if entry.rate and not rates[group]]
    if waiting:
        print(f"{arm}: {params.train.epochs} epochs are too few to unfreeze {', '.join(waiting)}, which stayed frozen")
    write_csv(METRICS / f"{arm}_curves.csv", learning_curves(replicates))
    write_csv(METRICS / f"{arm}_rates.csv", pd.DataFrame(rate_curves(plan, scale, of_epoch)), number="%.6g")


def show_step(bar: Bar, replicate: str, epochs: int, epoch: int, score: Score | None) -> None:
    """Move the bar by one step."""
    bar.set_description(f"{replicate}, epoch {epoch} of {epochs}", refresh=False)
    if score:
        bar.set_postfix(loss=f"{score.loss:.3f}", accuracy=f"{score.accuracy:.1%}", refresh=False)
    bar.update()


def describe_network(network: Network, model: Model, prepared: Prepared) -> Description:
    """Say all that a checkpoint needs to predict without params.yaml and without the data."""
    return Description(
        library=model.library,
        name=model.name,
        classes=tuple(prepared.classes),
        image_size=prepared.image_size,
        channels=prepared.channels,
        mean=network.preprocessing.mean,
        std=network.preprocessing.std,
    )


def last_figures(replicate: Replicate) -> dict[str, float]:
    """Give the story's figures of the last epoch, then those of the training images in evaluation mode.

    The story counts training figures while the network still learns, and validation figures in evaluation mode.
    """
    last = replicate.epochs[-1]
    return {
        "train_accuracy": last.train.accuracy,
        "train_loss": last.train.loss,
        "val_accuracy": last.val.accuracy,
        "val_loss": last.val.loss,
        "overfitting_gap": last.train.accuracy - last.val.accuracy,
        "train_accuracy_evaluated": replicate.train.accuracy,
        "train_loss_evaluated": replicate.train.loss,
        "overfitting_gap_evaluated": replicate.train.accuracy - last.val.accuracy,
    }


def learning_curves(replicates: dict[int, Replicate]) -> pd.DataFrame:
    """Give the story's figures of every epoch, a row for each seed and epoch."""
    return pd.DataFrame(
        {
            "seed": seed,
            "epoch": number,
            "train_accuracy": epoch.train.accuracy,
            "train_loss": epoch.train.loss,
            "val_accuracy": epoch.val.accuracy,
            "val_loss": epoch.val.loss,
        }
        for seed, replicate in replicates.items()
        for number, epoch in enumerate(replicate.epochs, start=1)
    )


if __name__ == "__main__":
    run(main)
