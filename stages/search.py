"""Tune both arms alike: draw equally many trials for each from the same prior, and train every one of them.

Writes metrics/search/STUDY/trials.csv, a row for each trial with the rates that it drew and what it came to on its
validation images. They are images of the search's own, with seeds of its own; no test image is opened.

A search that is interrupted goes on when it is started again. `--trials 8` trains the first eight of each arm, tells
what they say, and writes no file: the trials are kept, and count when the whole search is run.
"""

import argparse
import math
import time
from collections.abc import Mapping
from contextlib import closing

import pandas as pd

from stages.aggregate import mean_of
from stages.data.store import SEARCH_SPLITS_FILE
from stages.errors import UserError, run_cli
from stages.files import write_csv
from stages.params import Params, load_params, params_error
from stages.progress import write_line
from stages.search_files import path_of, read_search_splits
from stages.signals import Signals
from stages.training.experiment import Experiment, open_experiment
from stages.training.fingerprint import code_digests
from stages.training.finished import kept_replicates, trained_replicates
from stages.training.ray_engine import ResultOfOtherProcessor
from stages.training.replicate import ReplicateJob
from stages.training.replicate_store import ReplicateStore
from stages.training.resume import clear_resume_states
from stages.training.trainer import Pruning, ReplicateResult
from stages.tuning.draws import Scores, run_draws
from stages.tuning.records import TrialLog, TrialResult, trials_table
from stages.tuning.sharing import open_trials
from stages.tuning.space import (
    ARM_SPACES,
    Draw,
    search_arms,
    search_seeds,
    space_problems,
    study_params,
    with_values,
)
from stages.unchanged import check_same_run, check_unchanged

LOOK_EVERY = 2.0  # seconds, at what other searches have trained
Finished = dict[str, ReplicateResult]  # fingerprint -> what the replicate came to


def main() -> None:
    """Run the trials of one study."""
    parser = argparse.ArgumentParser(prog="python -m stages.search", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("study", help="one of search.studies in params.yaml, such as sgd")
    parser.add_argument("--trials", type=int, help="train the first so many of each arm, and write no file")
    options = parser.parse_args()
    code_digests()  # of the code as it was imported, before anything that takes time
    params, signals = load_params(), Signals()
    check_same_run(params, "trials", options.study)
    if problems := space_problems(params):
        raise params_error(problems)
    trials = params.search.trials if options.trials is None else options.trials
    if not 2 <= trials <= params.search.trials:
        raise UserError(f"--trials: should be between 2 and search.trials, which is {params.search.trials}")
    base = study_params(params, options.study, params.search.epochs)
    experiment = open_experiment(base, search_seeds(params), SEARCH_SPLITS_FILE)
    with signals.handled():
        results = run_search(options.study, trials, experiment, signals)
    table = trials_table(results)
    clear_resume_states(state_name(options.study))
    if trials == params.search.trials:
        check_unchanged(params, "trials", options.study)
        write_csv(path_of(options.study, "trials.csv"), table, number="%.6g")
    else:
        tell_first_look(options.study, table, experiment)


def tell_first_look(name: str, trials: pd.DataFrame, experiment: Experiment) -> None:
    """Print what the first trials say."""
    from stages.reporting.terminal import print_search  # which the stage itself does not need
    from stages.tuning.answer import answer_study

    splits, classes = read_search_splits(), len(experiment.prepared.classes)
    print_search(answer_study(name, trials, experiment.params, splits, classes)[0], None)


def run_search(name: str, trials: int, experiment: Experiment, signals: Signals) -> list[TrialResult]:
    """Train the first trials of every arm of a study, or what an interrupted run has left of them."""
    params = experiment.params
    study, search = params.search.study(name), params.search
    store = ReplicateStore(params.replicate_store.max_gib)
    every: list[TrialResult] = []
    with closing(open_trials(search.storage, name, search_arms(study), search.objective)) as log:

        def run(draws: list[Draw]) -> Scores:
            found = run_round(name, draws, log, store, experiment, signals)
            every.extend(found.values())
            return {(draw.arm, draw.number): score(found[draw.label], params) for draw in draws}

        run_draws(params, study, search_arms(study), trials, run)
    return every


def run_round(
    name: str, draws: list[Draw], log: TrialLog, store: ReplicateStore, experiment: Experiment, signals: Signals
) -> dict[str, TrialResult]:
    """Train the trials of a round that are neither known nor another search's, and wait for those.

    Args:
        name: of the study.
        draws: of all trials of the round.
        log: of what is known of them.
        store: of finished replicates.
        experiment: what all of them share.
        signals: of this process.

    Returns:
        Label of each trial -> what it came to.
    """
    study = experiment.params.search.study(name)
    in_turn = sorted(draws, key=lambda draw: draw.number)  # so that both arms have equally many, whenever it ends
    jobs = {draw.label: trial_jobs(draw, name, experiment) for draw in in_turn}
    deciding = {label: decided_by(of_draw) for label, of_draw in jobs.items()}
    draw_of = {job.fingerprint: draw for draw in in_turn for job in jobs[draw.label]}
    found: dict[str, TrialResult] = {}
    finished: Finished = {}

    def take(draw: Draw) -> None:
        of_draw = jobs[draw.label]
        known = log.known(draw, deciding[draw.label])
        if known is None and all(job.fingerprint in finished for job in of_draw):
            known = trial_result(draw, of_draw, finished)
            if not any(isinstance(finished[job.fingerprint], ResultOfOtherProcessor) for job in of_draw):
                log.add(known, deciding[draw.label], study)
            for job in of_draw:  # but leave the folder, which a worker may be about to write into
                job.state.unlink(missing_ok=True)
        if known:
            found[draw.label] = known
            write_line(describe(known))

    def take_all() -> list[Draw]:
        for draw in in_turn:
            if draw.label not in found:
                take(draw)
        return [draw for draw in in_turn if draw.label not in found]

    def begin(job: ReplicateJob) -> bool:
        draw = draw_of[job.fingerprint]
        return log.claim(draw, deciding[draw.label], study)

    missing = [job for draw in take_all() for job in jobs[draw.label]]
    finished.update({job.fingerprint: result for job, result in kept_replicates(missing, store)})
    is_waiting = False
    while left := take_all():
        log.free_dead()
        free = [draw for draw in left if log.is_free(draw, deciding[draw.label])]
        to_train = [job for draw in free for job in jobs[draw.label] if job.fingerprint not in finished]
        if to_train:
            training = trained_replicates(f"search {name}", to_train, [], experiment, store, signals, begin=begin)
            with closing(training) as trained:
                for job, result in trained:
                    finished[job.fingerprint] = result
                    if draw_of[job.fingerprint].label not in found:
                        take(draw_of[job.fingerprint])
        else:
            if not is_waiting:
                write_line(
                    f"search {name}: {len(left)} are trained by other searches on this storage: waiting for them"
                )
            is_waiting = True
            time.sleep(LOOK_EVERY)
    return found


def state_name(study: str) -> str:
    """Return what the names of the states of a study's trials begin with."""
    return f"search-{study}"


def trial_jobs(draw: Draw, study: str, experiment: Experiment) -> list[ReplicateJob]:
    """Return the replicates of a trial, whose networks nobody will ask for."""
    params = with_values(experiment.params, draw.arm, draw.values)
    plan = experiment.plan(ARM_SPACES[draw.arm].trains_as, params)
    pruning, guessing = params.search.pruning, math.log(len(experiment.prepared.classes))
    return [
        experiment.job(
            draw.label,
            plan,
            seed,
            None,
            state=state_name(study),
            params=params,
            pruning=Pruning(pruning.after_epoch, pruning.loss_above * guessing) if pruning else None,
        )
        for seed in draw.seeds
    ]


def decided_by(jobs: list[ReplicateJob]) -> list[str]:
    """Return all that decides what a trial comes to: its replicates, and when they are given up."""
    return [*(job.fingerprint for job in jobs), *{repr(job.pruning) for job in jobs if job.pruning}]


def trial_result(draw: Draw, jobs: list[ReplicateJob], finished: Mapping[str, ReplicateResult]) -> TrialResult:
    """Return what a trial came to from what its replicates did."""
    results = [finished[job.fingerprint] for job in jobs]
    given_up = [is_given_up(job, result) for job, result in zip(jobs, results, strict=True)]
    if any(result.diverged and not gone for result, gone in zip(results, given_up, strict=True)):
        return TrialResult(draw, "diverged", {})
    if any(given_up):
        return TrialResult(draw, "pruned", {})
    return TrialResult(draw, "finished", mean_of([trial_metrics(result) for result in results]))


def is_given_up(job: ReplicateJob, result: ReplicateResult) -> bool:
    """Whether a replicate was given up before its last epoch, or would have been, were it not kept from before."""
    if job.pruning is None:
        return False
    counted = result.epochs[job.pruning.after - 1 : job.params.train.epochs - 1]
    return any(epoch.val.loss > job.pruning.val_loss_above for epoch in counted)


def trial_metrics(result: ReplicateResult) -> dict[str, float]:
    """Return the metrics of a replicate's last epoch."""
    last = result.epochs[-1]
    return {
        "val_loss": last.val.loss,
        "val_accuracy": last.val.accuracy,
        "train_loss": last.train.loss,
        "train_accuracy": last.train.accuracy,
        "overfitting_gap": last.train.accuracy - last.val.accuracy,
    }


def score(result: TrialResult, params: Params) -> float:
    """Return what a sampler minimizes; a trial without metrics has the worst."""
    sign = 1 if params.search.objective == "val_loss" else -1
    return sign * result.metrics[params.search.objective] if result.metrics else math.inf


def describe(result: TrialResult) -> str:
    """Return what a trial tried and came to, for people."""
    values = ", ".join(f"{name} {value:g}" for name, value in result.draw.values.items())
    if result.state != "finished":
        return f"{result.draw.label}: {values}: {result.state}"
    accuracy, loss = result.metrics["val_accuracy"], result.metrics["val_loss"]
    return f"{result.draw.label}: {values}: validation {accuracy:.1%}, loss {loss:.3f}"


if __name__ == "__main__":
    run_cli(main)
