"""Train every replicate of one arm from the prepared images, as many at a time as there are cores for.

Writes models/ARM/seed-N.safetensors, with the logits of training and validation images beside it, metrics/ARM.json,
and the curves of the metrics and of the rates, metrics/ARM_curves.csv and metrics/ARM_rates.csv.

A training that is interrupted, by Ctrl-C or by a kill, goes on when it is started again; until it is finished its state
lies in .resume/. Finished replicates are kept in .replicates/ under a digest of all that decides them, and are not
trained again. Workers that would stand idle begin replicates of the other arm, whose own stage goes on from there.
"""

import argparse
import math
import sys
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from stages.aggregate import summarize_replicates
from stages.data.store import Prepared
from stages.errors import UserError, run_cli
from stages.files import METRICS, atomic_directory, scratch_directory, write_csv, write_json
from stages.models.checkpoint import CHECKPOINTS, checkpoint_name
from stages.models.compute import set_up_compute, worker_limit
from stages.params import ARMS, Arm, LearningRates, Params, load_params
from stages.progress import LIVE, write_line
from stages.rates.policies import Plan, describe, final_learning_rates, key_of_rate
from stages.rates.schedules import lr_multipliers, rate_curves
from stages.signals import Interrupted, Signals
from stages.trained_with import trained_with
from stages.training.curves import LiveCurves, learning_curves
from stages.training.distributed import AgreedSignals, describe_processes, is_started_by_torchrun, joined
from stages.training.divergence import Divergence
from stages.training.experiment import Experiment, open_experiment
from stages.training.fingerprint import code_digests, describe_environment
from stages.training.finished import kept_replicates, trained_replicates
from stages.training.ray_engine import describe_processors
from stages.training.replicate import ReplicateJob, train_replicate
from stages.training.replicate_progress import Afterwards, ReplicateProgress
from stages.training.replicate_store import ReplicateStore
from stages.training.resume import ResumeState, clear_resume_states
from stages.training.trainer import ReplicateResult
from stages.unchanged import check_same_run, check_unchanged

STARTS_AFTER_TRAINING = 1.0  # evaluate and report start no workers, so each takes half as long as a training stage


def main() -> None:
    """Train the arm that the command names."""
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("arm", choices=ARMS, help="whose rates to train with")
    arm: Arm = parser.parse_args().arm
    code_digests()  # of the code as it was imported, before anything that takes time
    params, signals = load_params(), Signals()
    check_same_run(params, f"train_{arm}")
    if is_started_by_torchrun():
        train_in_processes(arm, params)
        return
    with signals.handled():
        train(arm, open_experiment(params, params.train.seeds), signals)


def train_in_processes(arm: Arm, params: Params) -> None:
    """Train an arm, one replicate after the other, each in all processes that torchrun has started.

    The first of them does what a single one does. Nothing is kept in .replicates/, where equal digests mean equal bytes
    and the number of processes is none of what the digest is of.
    """
    one_by_one = params.train.model_copy(update={"workers": 1})
    keep_none = params.replicate_store.model_copy(update={"max_gib": 0})
    params = params.model_copy(update={"train": one_by_one, "replicate_store": keep_none})
    device = set_up_compute(params.train).device
    with joined(device) as processes:
        signals = AgreedSignals(processes, device)
        experiment = open_experiment(params, params.train.seeds)
        try:
            with signals.handled():
                if processes.rank == 0:
                    train(arm, experiment, signals)
                else:
                    train_along(arm, experiment, signals)
        except Interrupted as interruption:
            if processes.rank == 0:
                print("interrupted; what was trained is kept: the same command goes on from there", file=sys.stderr)
            sys.exit(128 + interruption.number)


def train_along(arm: Arm, experiment: Experiment, signals: Signals) -> None:
    """Train every replicate with the first process, and write nothing."""
    for job in arm_jobs(arm, experiment, CHECKPOINTS / arm):
        result = train_replicate(job, ReplicateProgress(), signals)
        if result.diverged and experiment.params.train.on_divergence == "stop":  # which the first process tells
            return


def train(arm: Arm, experiment: Experiment, signals: Signals) -> None:
    """Train an arm, or what an interrupted run has left of it, and write what it came to."""
    params, plan = experiment.params, experiment.plan(arm)
    with atomic_directory(CHECKPOINTS / arm) as folder:
        results = train_arm(arm, experiment, folder, signals)
        check_unchanged(params, f"train_{arm}")

    epochs, steps = params.train.epochs, experiment.steps_per_epoch
    rates = final_learning_rates(plan, epochs)
    curves = pd.DataFrame(rate_curves(plan, lr_multipliers(params.schedule, epochs, steps), steps))
    exact = {"learning_rates": rates, "trained_with": trained_with(params, arm, list(plan))}
    write_json(METRICS / f"{arm}.json", arm_metrics(results, experiment), exact=exact)
    write_csv(METRICS / f"{arm}_curves.csv", learning_curves({seed: result.epochs for seed, result in results.items()}))
    write_csv(METRICS / f"{arm}_rates.csv", curves, number="%.6g")
    never_unfrozen = [group for group, entry in plan.items() if entry.rate and not rates[group]]
    if never_unfrozen:
        print(f"{arm}: {epochs} epochs are too few to unfreeze {', '.join(never_unfrozen)}, which stayed frozen")
    clear_resume_states(arm)


def train_arm(arm: Arm, experiment: Experiment, folder: Path, signals: Signals) -> dict[int, ReplicateResult]:
    """Return what every replicate of an arm came to, by seed, with the checkpoints and logits in a folder.

    Raises:
        UserError: one diverged, and params.yaml says to stop.
    """
    params, jobs = experiment.params, arm_jobs(arm, experiment, folder)
    store = ReplicateStore(params.replicate_store.max_gib)
    results: dict[int, ReplicateResult] = {}
    with closing(finished_replicates(arm, jobs, experiment, store, signals)) as finished:
        for job, result in finished:
            if result.diverged:
                message = f"{job.label}: {divergence_message(arm, params.lr, job.plan, result.diverged)}"
                if params.train.on_divergence == "stop":
                    ResumeState(job.state).delete()  # there is nothing to go on with
                    raise UserError(
                        f"lr: {message}; or set train.on_divergence to record, and it counts as the majority class"
                    )
                write_line(message)
            else:
                last = result.epochs[-1]
                write_line(f"{job.label}: training {last.train.accuracy:.1%}, validation {last.val.accuracy:.1%}")
            results[job.seed] = result
    return {job.seed: results[job.seed] for job in jobs}


def finished_replicates(
    arm: Arm, jobs: list[ReplicateJob], experiment: Experiment, store: ReplicateStore, signals: Signals
) -> Generator[tuple[ReplicateJob, ReplicateResult]]:
    """Yield the replicates that are kept, and then the others as they are trained, which are kept from then on."""
    kept, curves = set(), LiveCurves(LIVE / f"{arm}_curves.csv", [job.seed for job in jobs])
    for job, result in kept_replicates(jobs, store):
        kept.add(job.fingerprint)
        curves.take(job.seed, result.epochs)
        yield job, result
    left = [job for job in jobs if job.fingerprint not in kept]
    if left:
        with scratch_directory(CHECKPOINTS / other_than(arm)) as scratch:
            alone = worker_limit(experiment.params.train) == 1  # then no worker stands idle to begin others
            missing = replicates_ahead(other_than(arm), jobs, experiment, store, scratch)
            ahead = [] if alone else missing
            afterwards = what_follows(arm, len(missing), len(jobs), store)
            training = trained_replicates(arm, left, ahead, experiment, store, signals, afterwards, curves.look)
            with closing(training) as trained:
                for job, result in trained:
                    curves.take(job.seed, result.epochs)
                    yield job, result


def arm_jobs(arm: Arm, experiment: Experiment, folder: Path) -> list[ReplicateJob]:
    """Return the replicates of an arm, whose checkpoints go into a folder."""
    plan = experiment.plan(arm)
    return [
        experiment.job(f"{arm}, seed {seed}", plan, seed, folder / checkpoint_name(seed), state=arm)
        for seed in experiment.params.train.seeds
    ]


def other_than(arm: Arm) -> Arm:
    """Return the other arm."""
    (other,) = (name for name in ARMS if name != arm)
    return other


def replicates_ahead(
    arm: Arm, jobs: list[ReplicateJob], experiment: Experiment, store: ReplicateStore, folder: Path
) -> list[ReplicateJob]:
    """Return the replicates of an arm that its own stage would have to train, which idle workers may begin."""
    try:
        theirs = arm_jobs(arm, experiment, folder)
    except UserError:  # which its own stage tells
        return []
    known = {job.fingerprint for job in jobs}
    return [job for job in theirs if job.fingerprint not in known and job.fingerprint not in store]


def what_follows(arm: Arm, missing: int, replicates: int, store: ReplicateStore) -> Afterwards:
    """Return what the pipeline does when an arm is trained.

    Args:
        arm: that is trained.
        missing: replicates of the other arm that are not in the store.
        replicates: of each arm.
        store: knows what is trained, as DVC begins with either arm; one that keeps none leaves it to a guess.
    """
    trained = missing if store.keeps_any or arm == ARMS[0] else 0
    return Afterwards(trained, evaluated=len(ARMS) * replicates, starts=STARTS_AFTER_TRAINING + (trained > 0))


def divergence_message(arm: Arm, rates: LearningRates, plan: Plan, found: Divergence) -> str:
    """Return where the loss stopped being finite, with which rates, and which of them to lower, for people."""
    message = f"the loss is not finite {found.describe()}"
    if found.group is None:
        return f"{message}, before any weight had changed: look at model.weights and train.precision"
    return (
        f"{message}; {found.group}'s weights had grown most: lower {key_of_rate(arm, rates, found.group)} (the rates "
        f"are {describe(plan)})"
    )


def arm_metrics(results: dict[int, ReplicateResult], experiment: Experiment) -> dict[str, Any]:
    """Return the metrics over all replicates, and where some diverged."""
    by_seed = {
        seed: majority_metrics(experiment.prepared.of_replicate(experiment.splits[seed]))
        if result.diverged
        else final_metrics(result)
        for seed, result in results.items()
    }
    diverged = {str(seed): asdict(result.diverged) for seed, result in results.items() if result.diverged}
    return {
        "environment": {
            **describe_processors(describe_environment(experiment.compute), list(results.values())),
            **describe_processes(experiment.params.train),
        },
        **summarize_replicates(by_seed),
        **({"diverged": diverged} if diverged else {}),
    }


def final_metrics(result: ReplicateResult) -> dict[str, float]:
    """Return the metrics of the last epoch: of training while the network still learns, of validation after it."""
    last = result.epochs[-1]
    return _with_gap(last.train.accuracy, last.train.loss, last.val.accuracy, last.val.loss)


def majority_metrics(prepared: Prepared) -> dict[str, float]:
    """Return the metrics of a replicate that diverged: the majority class, and all classes equally probable."""
    loss = math.log(len(prepared.classes))
    train, val = (float((prepared.labels(split) == prepared.majority_class).mean()) for split in ("train", "val"))
    return _with_gap(train, loss, val, loss)


def _with_gap(train_accuracy: float, train_loss: float, val_accuracy: float, val_loss: float) -> dict[str, float]:
    return {
        "train_accuracy": train_accuracy,
        "train_loss": train_loss,
        "val_accuracy": val_accuracy,
        "val_loss": val_loss,
        "overfitting_gap": train_accuracy - val_accuracy,
    }


if __name__ == "__main__":
    run_cli(main)
