"""Train every replicate of one arm from the prepared images.

Writes models/ARM/seed-N.safetensors, metrics/ARM.json, and the curves of the story's figures and of the rates,
metrics/ARM_curves.csv and metrics/ARM_rates.csv. A training that is interrupted, by Ctrl-C or by a kill, goes on when
it is started again; until it is finished its state lies in .unfinished/.
"""

import argparse
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from stages.data.batches import open_samples
from stages.data.store import Prepared, open_prepared, verified_checksums
from stages.errors import UserError, run
from stages.files import whole_directory, write_csv, write_json
from stages.models.checkpoint import Description, save_checkpoint
from stages.models.compute import memory_told, set_up_compute
from stages.models.network import Network, build_network, refuse_unfit_images
from stages.params import ARMS, Arm, Model, Params, Rates, load_params
from stages.progress import Bar, steps
from stages.rates.policies import Plan, in_words, key_of_rate, plan_rates, rates_reached
from stages.rates.schedules import rate_curves, scales
from stages.signals import Signals
from stages.spread import over_replicates
from stages.training.divergence import Divergence
from stages.training.loop import Score
from stages.training.progress import Progress
from stages.training.replicate import Replicate, Training, steps_per_epoch
from stages.training.unfinished import Keeper, fingerprint, forget_all, state_file

CHECKPOINTS, METRICS = Path("models"), Path("metrics")


def main() -> None:
    """Train the arm that the command names."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("arm", choices=ARMS, help="whose rates to train with")
    arm: Arm = parser.parse_args().arm
    params, signals = load_params(), Signals()
    with signals.caught(), memory_told(params.train):
        train(arm, params, signals)


def train(arm: Arm, params: Params, signals: Signals) -> None:
    """Train every replicate of an arm, or what an interrupted run has left of them."""
    compute = set_up_compute(params.train)
    checksums = verified_checksums()
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
            state = state_file(f"{arm}-seed-{seed}", fingerprint(params, plan, seed, network.module, checksums))
            keeper = Keeper(state, params.unfinished.save_every)
            show = partial(show_step, bar, f"{arm}, seed {seed}", params.train.epochs)
            training = Training(network, plan, seed, params, samples, compute, keeper, signals)
            if training.progress.begun:
                bar.write(f"{arm}, seed {seed}: {told_progress(training.progress, params.train.epochs)}")
            replicate = training.run(show)
            replicates[seed] = replicate
            if replicate.diverged:
                words = f"{arm}, seed {seed}: {told_divergence(arm, params.lr, plan, replicate.diverged)}"
                if params.train.on_divergence == "stop":
                    keeper.forget()  # there is nothing to go on with
                    raise UserError(f"lr: {words}; or set train.on_divergence to record, and go on without this seed")
                bar.write(words)
                continue
            save_checkpoint(
                folder / f"seed-{seed}.safetensors", network, describe_network(network, params.model, prepared)
            )
            last = replicate.epochs[-1]
            bar.write(f"{arm}, seed {seed}: training {last.train.accuracy:.1%}, validation {last.val.accuracy:.1%}")

    rates = rates_reached(plan, params.train.epochs)
    write_json(METRICS / f"{arm}.json", figures_of_arm(replicates), exact={"learning_rates": rates})
    waiting = [group for group, entry in plan.items() if entry.rate and not rates[group]]
    if waiting:
        print(f"{arm}: {params.train.epochs} epochs are too few to unfreeze {', '.join(waiting)}, which stayed frozen")
    write_csv(METRICS / f"{arm}_curves.csv", learning_curves(replicates))
    write_csv(METRICS / f"{arm}_rates.csv", pd.DataFrame(rate_curves(plan, scale, of_epoch)), number="%.6g")
    forget_all(arm)


def told_progress(progress: Progress, epochs: int) -> str:
    """Say from where a replicate goes on that an earlier run has begun."""
    if progress.evaluated or progress.diverged:
        return "was trained before"
    if progress.epoch > epochs:
        return "goes on after its last epoch"
    return f"goes on in epoch {progress.epoch}, after {progress.tally.steps} steps"


def told_divergence(arm: Arm, rates: Rates, plan: Plan, found: Divergence) -> str:
    """Say where the loss stopped being finite, with which rates, and which of them to lower."""
    says = f"the loss is not finite {found.in_words()}"
    if found.group is None:
        return f"{says}, before any weight had moved: look at model.weights and train.precision"
    return (
        f"{says}; {found.group}'s weights had grown most: lower {key_of_rate(arm, rates, found.group)} (the rates are "
        f"{in_words(plan)})"
    )


def figures_of_arm(replicates: dict[int, Replicate]) -> dict[str, Any]:
    """Give the figures over the replicates that came to an end, and where the others diverged."""
    finished = {seed: last_figures(replicate) for seed, replicate in replicates.items() if not replicate.diverged}
    diverged = {f"seed_{seed}": asdict(found) for seed, each in replicates.items() if (found := each.diverged)}
    return {**(over_replicates(finished) if finished else {}), **({"diverged": diverged} if diverged else {})}


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
        "train_accuracy_evaluated": replicate.evaluated.accuracy,
        "train_loss_evaluated": replicate.evaluated.loss,
        "overfitting_gap_evaluated": replicate.evaluated.accuracy - last.val.accuracy,
    }


def learning_curves(replicates: dict[int, Replicate]) -> pd.DataFrame:
    """Give the story's figures of every epoch, a row for each seed and epoch."""
    return pd.DataFrame(
        [
            (seed, number, epoch.train.accuracy, epoch.train.loss, epoch.val.accuracy, epoch.val.loss)
            for seed, replicate in replicates.items()
            for number, epoch in enumerate(replicate.epochs, start=1)
        ],
        columns=["seed", "epoch", "train_accuracy", "train_loss", "val_accuracy", "val_loss"],
    )


if __name__ == "__main__":
    run(main)
