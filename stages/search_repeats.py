"""Does tuning two rates beat tuning one? The winners of every independent search are trained again, and tested.

The trials of a study fall into search.repeats independent searches. Of each, the best of either arm by the objective is
trained on the main part with a fresh seed, as long as the main experiment trains, and scored on the test images, which
no search saw. The interval counts searches, seeds and test images. Writes metrics/search/STUDY/repeats.json.
"""

import argparse
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pandas as pd

from stages.data.batches import open_samples
from stages.data.splits import split_replicates
from stages.data.store import Prepared, open_prepared, write_splits
from stages.errors import run_cli
from stages.evaluation.comparison import Pool, ScoredReplicate, difference_sample
from stages.evaluation.images import image_units, majority_probabilities
from stages.evaluation.linearized import linearized
from stages.evaluation.metrics import Probabilities
from stages.evaluation.statistics import paired_interval
from stages.files import scratch_directory, significant, write_json
from stages.metrics_files import LARGEST
from stages.models.checkpoint import CHECKPOINTS, checkpoint_name, load_checkpoint
from stages.models.inference import predict_logits
from stages.models.predictions import probabilities_of
from stages.params import ARMS, Arm, Params, load_params
from stages.search_files import RepeatedSearch, RepeatsAnswer, Values, as_values, path_of, read_table
from stages.signals import Signals
from stages.training.experiment import Experiment, open_experiment
from stages.training.fingerprint import code_digests
from stages.training.finished import kept_replicates, trained_replicates
from stages.training.replicate import ReplicateJob
from stages.training.replicate_store import ReplicateStore
from stages.training.resume import clear_resume_states
from stages.training.trainer import ReplicateResult
from stages.tuning.curves import best_trial, searches
from stages.tuning.space import ranges_of, repeat_seeds, study_params, with_values
from stages.unchanged import check_same_run, check_unchanged

Winners = dict[int, dict[Arm, Values]]  # seed -> arm -> its parameters
Results = dict[tuple[Arm, int], ReplicateResult]


def main() -> None:
    """Train and test the winners of one study."""
    parser = argparse.ArgumentParser(prog="python -m stages.search_repeats", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("study", help="one of search.studies in params.yaml, such as sgd")
    name: str = parser.parse_args().study
    code_digests()  # of the code as it was imported, before anything that takes time
    params, trials, signals = load_params(), read_table(name, "trials.csv"), Signals()
    check_same_run(params, "repeats", name)
    seeds = repeat_seeds(params)
    winners = find_winners(trials, seeds, name, params)
    with signals.handled(), scratch_directory(CHECKPOINTS / f"search-{name}") as folder:
        answer = repeat(winners, name, params, folder, signals) if winners else no_repeats(name, params)
    check_unchanged(params, "repeats", name)
    write_json(path_of(name, "repeats.json"), {}, exact=significant(answer.model_dump()))
    clear_resume_states(state_name(name))


def state_name(study: str) -> str:
    """Return what the names of the states of a study's winners begin with."""
    return f"search-{study}-repeats"


def find_winners(trials: pd.DataFrame, seeds: list[int], name: str, params: Params) -> Winners:
    """Return the best trial of either arm in every independent search, each with the seed to train them again."""
    study, search = params.search.study(name), params.search
    winners: Winners = {seed: {} for seed in seeds}
    for arm in ARMS:
        of_arm = trials[trials["arm"] == arm]
        for seed, one in zip(seeds, searches(of_arm, search.repeats), strict=False):
            best = one.iloc[best_trial(one, search.objective)]
            winners[seed][arm] = as_values(best, list(ranges_of(study, arm)))
    return winners


def no_repeats(name: str, params: Params) -> RepeatsAnswer:
    """Return the answer where there is one search, or fewer than there are folds."""
    return RepeatsAnswer(
        study=name,
        trials=params.search.trials // params.search.repeats,
        metric=params.evidence.metric,
        interval=None,
        tested=0,
        searches=[],
    )


def repeat(winners: Winners, name: str, params: Params, folder: Path, signals: Signals) -> RepeatsAnswer:
    """Train all winners on the main part, and compare them on its test images.

    Args:
        winners: of every search.
        name: of the study.
        params: of the experiment.
        folder: for the checkpoints.
        signals: of this process.
    """
    base, seeds = study_params(params, name), list(winners)
    data = params.data.model_copy(update={"part": "main"})
    splits_file = folder / "splits.csv"
    samples = open_prepared().samples
    write_splits(samples, *split_replicates(samples, data, seeds), splits_file)
    experiment = open_experiment(base, seeds, splits_file)
    jobs = {
        (arm, seed): winner_job(arm, seed, values, number, experiment, folder, state_name(name))
        for number, (seed, of_seed) in enumerate(winners.items(), start=1)
        for arm, values in of_seed.items()
    }
    results = train_winners(jobs, name, experiment, signals)
    replicates = {seed: experiment.prepared.of_replicate(experiment.splits[seed]) for seed in seeds}
    tested = {
        seed: ScoredReplicate(
            images.rows("test"),
            images.labels("test"),
            {arm: score_on_test(jobs[arm, seed], results[arm, seed], images, experiment) for arm in ARMS},
        )
        for seed, images in replicates.items()
    }
    metric = params.evidence.metric
    pool = Pool(image_units(experiment.prepared.samples), data.folds or 1)
    return RepeatsAnswer(
        study=name,
        trials=params.search.trials // params.search.repeats,
        metric=metric,
        interval=paired_interval(difference_sample(metric, tested, pool)).clipped(LARGEST[metric]),
        tested=int((experiment.splits == "test").any(axis=1).sum()),
        searches=[
            RepeatedSearch(
                seed=seed,
                values={str(arm): values for arm, values in winners[seed].items()},
                scores={
                    str(arm): float(linearized(metric, of_seed.labels, of_seed.probabilities[arm]).mean())
                    for arm in ARMS
                },
                diverged=[arm for arm in ARMS if results[arm, seed].diverged],
            )
            for seed, of_seed in tested.items()
        ],
    )


def winner_job(
    arm: Arm, seed: int, values: Mapping[str, float], number: int, experiment: Experiment, folder: Path, state: str
) -> ReplicateJob:
    """Return the training of one winner."""
    params = with_values(experiment.params, arm, values)
    plan = experiment.plan(arm, params)
    checkpoint = folder / arm / checkpoint_name(seed)
    checkpoint.parent.mkdir(exist_ok=True)
    return experiment.job(f"{arm}, search {number}", plan, seed, checkpoint, state=state, params=params)


def train_winners(
    jobs: Mapping[tuple[Arm, int], ReplicateJob], name: str, experiment: Experiment, signals: Signals
) -> Results:
    """Return what every winner came to, with its checkpoint in place."""
    store = ReplicateStore(experiment.params.replicate_store.max_gib)
    finished = {job.fingerprint: result for job, result in kept_replicates(list(jobs.values()), store)}
    if left := [job for job in jobs.values() if job.fingerprint not in finished]:
        title = f"winners of search {name}"
        with closing(trained_replicates(title, left, [], experiment, store, signals)) as trained:
            finished.update({job.fingerprint: result for job, result in trained})
    return {key: finished[job.fingerprint] for key, job in jobs.items()}


def score_on_test(
    job: ReplicateJob, result: ReplicateResult, images: Prepared, experiment: Experiment
) -> Probabilities:
    """Return a winner's probabilities (samples, classes) on the test images of its seed."""
    if result.diverged or job.checkpoint is None:
        return majority_probabilities(len(images.rows("test")), len(images.classes), images.majority_class)
    network = load_checkpoint(job.checkpoint).network
    samples = open_samples(images, ("test",), experiment.compute.device)["test"]
    probabilities: Probabilities = probabilities_of(predict_logits(network, samples, experiment.compute)).numpy()
    return probabilities


if __name__ == "__main__":
    run_cli(main)
