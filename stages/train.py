"""Train every replicate of one arm from the prepared images.

Writes models/ARM/seed-N.safetensors, metrics/ARM.json, and the curves of the metrics and of the rates,
metrics/ARM_curves.csv and metrics/ARM_rates.csv. A training that is interrupted, by Ctrl-C or by a kill, goes on when
it is started again; until it is finished its state lies in .resume/.
"""

import argparse
from dataclasses import asdict
from typing import Any

import pandas as pd

from stages.aggregate import summarize_replicates
from stages.data.batches import open_samples
from stages.data.store import Prepared, open_prepared, verified_checksums
from stages.errors import UserError, run_cli
from stages.files import METRICS, atomic_directory, write_csv, write_json
from stages.models.checkpoint import CHECKPOINTS, Description, checkpoint_name, save_checkpoint
from stages.models.compute import report_out_of_memory, set_up_compute
from stages.models.network import Network, build_network, check_image_size
from stages.params import ARMS, Arm, LearningRates, Model, Params, load_params
from stages.progress import progress_bar
from stages.rates.policies import Plan, describe, final_learning_rates, key_of_rate, plan_rates
from stages.rates.schedules import lr_multipliers, rate_curves
from stages.signals import Signals
from stages.training.divergence import Divergence
from stages.training.replicate_progress import ReplicateProgress
from stages.training.resume import ResumeState, clear_resume_states, fingerprint, resume_path
from stages.training.state import TrainingState
from stages.training.trainer import ReplicateResult, Trainer, count_steps


def main() -> None:
    """Train the arm that the command names."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.add_argument("arm", choices=ARMS, help="whose rates to train with")
    arm: Arm = parser.parse_args().arm
    params, signals = load_params(), Signals()
    with signals.handled(), report_out_of_memory(params.train):
        train(arm, params, signals)


def train(arm: Arm, params: Params, signals: Signals) -> None:
    """Train every replicate of an arm, or what an interrupted run has left of them."""
    compute = set_up_compute(params.train)
    checksums = verified_checksums()
    prepared = open_prepared()
    samples = open_samples(prepared, ("train", "val"), compute.device)

    seeds, epochs = params.train.seeds, params.train.epochs
    steps_per_epoch = count_steps(params.train, samples["train"])
    multipliers = lr_multipliers(params.schedule, epochs, steps_per_epoch)
    results: dict[int, ReplicateResult] = {}
    with (
        atomic_directory(CHECKPOINTS / arm) as folder,
        progress_bar(len(seeds) * len(multipliers), unit=" steps") as bar,
    ):
        for seed in seeds:
            label = f"{arm}, seed {seed}"
            network = build_network(params.model, len(prepared.classes), seed)
            check_image_size(network, params.model, prepared.image_size, prepared.channels)
            plan = plan_rates(arm, params.lr, list(network.groups), epochs)
            path = resume_path(f"{arm}-seed-{seed}", fingerprint(params, plan, seed, network.module, checksums))
            resume_state = ResumeState(path, params.resume.save_every_minutes)
            progress = ReplicateProgress(label, epochs, bar)
            trainer = Trainer(
                network, plan, seed, params, multipliers, samples, compute, resume_state, signals, progress
            )
            if trainer.state.is_resumed:
                bar.write(f"{label}: {resume_message(trainer.state, epochs)}")
            result = results[seed] = trainer.fit()
            if result.diverged:
                message = f"{label}: {divergence_message(arm, params.lr, plan, result.diverged)}"
                if params.train.on_divergence == "stop":
                    resume_state.delete()  # there is nothing to go on with
                    raise UserError(f"lr: {message}; or set train.on_divergence to record, and go on without this seed")
                bar.write(message)
                continue
            save_checkpoint(folder / checkpoint_name(seed), network, describe_network(network, params.model, prepared))
            last = result.epochs[-1]
            bar.write(f"{label}: training {last.train.accuracy:.1%}, validation {last.val.accuracy:.1%}")

    rates = final_learning_rates(plan, epochs)
    write_json(METRICS / f"{arm}.json", arm_metrics(results), exact={"learning_rates": rates})
    write_csv(METRICS / f"{arm}_curves.csv", learning_curves(results))
    write_csv(
        METRICS / f"{arm}_rates.csv", pd.DataFrame(rate_curves(plan, multipliers, steps_per_epoch)), number="%.6g"
    )
    never_unfrozen = [group for group, entry in plan.items() if entry.rate and not rates[group]]
    if never_unfrozen:
        print(f"{arm}: {epochs} epochs are too few to unfreeze {', '.join(never_unfrozen)}, which stayed frozen")
    clear_resume_states(arm)


def resume_message(state: TrainingState, epochs: int) -> str:
    """Return from where a replicate goes on that an earlier run has begun, for people."""
    if state.epoch > epochs or state.diverged:
        return "was trained before"
    return f"goes on in epoch {state.epoch}, after {state.running.steps} steps"


def divergence_message(arm: Arm, rates: LearningRates, plan: Plan, found: Divergence) -> str:
    """Return where the loss stopped being finite, with which rates, and which of them to lower, for people."""
    message = f"the loss is not finite {found.describe()}"
    if found.group is None:
        return f"{message}, before any weight had changed: look at model.weights and train.precision"
    return (
        f"{message}; {found.group}'s weights had grown most: lower {key_of_rate(arm, rates, found.group)} (the rates "
        f"are {describe(plan)})"
    )


def arm_metrics(results: dict[int, ReplicateResult]) -> dict[str, Any]:
    """Return the metrics over the replicates that came to an end, and where the others diverged."""
    finished = {seed: final_metrics(result) for seed, result in results.items() if not result.diverged}
    diverged = {str(seed): asdict(result.diverged) for seed, result in results.items() if result.diverged}
    return {**(summarize_replicates(finished) if finished else {}), **({"diverged": diverged} if diverged else {})}


def describe_network(network: Network, model: Model, prepared: Prepared) -> Description:
    """Return all that a checkpoint needs to predict without params.yaml and without the data."""
    return Description(
        library=model.library,
        name=model.name,
        classes=tuple(prepared.classes),
        image_size=prepared.image_size,
        channels=prepared.channels,
        mean=network.preprocessing.mean,
        std=network.preprocessing.std,
        layer_groups=network.groups,
    )


def final_metrics(result: ReplicateResult) -> dict[str, float]:
    """Return the metrics of the last epoch: of training while the network still learns, of validation after it."""
    last = result.epochs[-1]
    return {
        "train_accuracy": last.train.accuracy,
        "train_loss": last.train.loss,
        "val_accuracy": last.val.accuracy,
        "val_loss": last.val.loss,
        "overfitting_gap": last.train.accuracy - last.val.accuracy,
    }


def learning_curves(results: dict[int, ReplicateResult]) -> pd.DataFrame:
    """Return the metrics of every epoch, a row for each seed and epoch."""
    return pd.DataFrame(
        [
            (seed, number, epoch.train.accuracy, epoch.train.loss, epoch.val.accuracy, epoch.val.loss)
            for seed, result in results.items()
            for number, epoch in enumerate(result.epochs, start=1)
        ],
        columns=["seed", "epoch", "train_accuracy", "train_loss", "val_accuracy", "val_loss"],
    )


if __name__ == "__main__":
    run_cli(main)
