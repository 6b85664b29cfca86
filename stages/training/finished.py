"""Finished replicates: those that are kept from before, and then the others, as they are trained."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import NamedTuple

import torch

from stages.models.predictions import predictions_path
from stages.params import Params
from stages.progress import write_line
from stages.signals import Signals
from stages.training import ray_engine
from stages.training import workers as local_engine
from stages.training.experiment import Experiment
from stages.training.memory import estimate_memory
from stages.training.ray_engine import ResultOfOtherProcessor
from stages.training.replicate import ReplicateJob
from stages.training.replicate_progress import Afterwards, ReplicateBars, TimeLeft, finished_epochs
from stages.training.replicate_store import STORE, ReplicateStore
from stages.training.state import Epoch
from stages.training.trainer import ReplicateResult
from stages.training.workers import SharedRows, workers_message


class Engine(NamedTuple):
    """What trains replicates side by side.

    Attributes:
        count_workers: how many at a time.
        train_replicates: yields each when it has ended.
    """

    count_workers: Callable[[Params, int, float | None, torch.device], int]
    train_replicates: Callable[..., Generator[tuple[ReplicateJob, ReplicateResult]]]


ENGINES = {
    "local": Engine(
        lambda params, *rest: local_engine.count_workers(params.train, *rest), local_engine.train_replicates
    ),
    "ray": Engine(ray_engine.count_workers, ray_engine.train_replicates),
}

EpochsBySeed = Mapping[int, Sequence[Epoch]]


def kept_replicates(
    jobs: Sequence[ReplicateJob], store: ReplicateStore
) -> Generator[tuple[ReplicateJob, ReplicateResult]]:
    """Yield the replicates that are kept, with their files in their places."""
    for job in jobs:
        result = store.get(job.fingerprint, into=job.checkpoint.parent if job.checkpoint else None)
        if result:
            write_line(f"{job.label}: is in {STORE}/ from before")
            yield job, result


def trained_replicates(
    title: str,
    jobs: Sequence[ReplicateJob],
    ahead: Sequence[ReplicateJob],
    experiment: Experiment,
    store: ReplicateStore,
    signals: Signals,
    afterwards: Afterwards | None = None,
    look: Callable[[Callable[[], EpochsBySeed]], None] = lambda epochs_so_far: None,
    begin: Callable[[ReplicateJob], bool] = lambda job: True,
) -> Generator[tuple[ReplicateJob, ReplicateResult]]:
    """Train replicates, as many at a time as there are cores for, and keep each; yield it when it has ended.

    Args:
        title: of what they are, for people.
        jobs: what is waited for.
        ahead: what workers may begin that would stand idle.
        experiment: what all of them share.
        store: where they are kept.
        signals: of this process.
        afterwards: what is still done when they are trained; then the time that is left for all is told.
        look: is called again and again meanwhile, with a function that gives the epochs so far of what is waited for.
        begin: is called before a replicate is begun, and says whether it may be.
    """
    every, train = [*jobs, *ahead], experiment.params.train
    engine = ENGINES[train.engine]
    memory = estimate_memory(experiment.network, experiment.params, experiment.prepared.images, experiment.compute)
    workers = engine.count_workers(experiment.params, len(every), memory, experiment.compute.device)
    write_line(f"{title}: {len(jobs)} to train, by {workers_message(workers, train.threads, memory)}")
    shared = SharedRows(len(every), train.epochs)
    labels = [job.label for job in every]
    epochs, steps = train.epochs, experiment.steps_per_epoch
    left = TimeLeft(shared.rows, len(jobs), epochs * steps, afterwards) if afterwards else None
    bars = ReplicateBars(labels, len(jobs), epochs, steps, shared.rows, workers, left)

    def show() -> None:
        bars.show()
        look(lambda: {job.seed: finished_epochs(row) for job, row in zip(jobs, shared.rows, strict=False)})

    training = engine.train_replicates(every, len(jobs), workers, signals, shared, show, begin)
    with closing(bars), closing(training):
        for job, result in training:
            bars.tell_end()
            if is_kept(job, result):
                written = job.checkpoint if job.checkpoint and not result.diverged else None
                files = [written, predictions_path(written)] if written else []
                store.put(job.fingerprint, job.label, result, files)
            if job in jobs:
                yield job, result


def is_kept(job: ReplicateJob, result: ReplicateResult) -> bool:
    """Whether a replicate is what its fingerprint says: not given up before its last epoch, and of this processor."""
    is_pruned = not result.diverged and len(result.epochs) < job.params.train.epochs
    return not is_pruned and not isinstance(result, ResultOfOtherProcessor)
