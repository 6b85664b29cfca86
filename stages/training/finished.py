"""Finished replicates: those that are kept from before, and then the others, as they are trained."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing

from stages.models.predictions import predictions_path
from stages.progress import write_line
from stages.signals import Signals
from stages.training.experiment import Experiment
from stages.training.memory import estimate_memory
from stages.training.replicate import ReplicateJob
from stages.training.replicate_progress import Afterwards, ReplicateBars, TimeLeft, finished_epochs
from stages.training.replicate_store import STORE, ReplicateStore
from stages.training.state import Epoch
from stages.training.trainer import ReplicateResult
from stages.training.workers import SharedRows, count_workers, train_replicates, workers_message

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
    """
    every, train = [*jobs, *ahead], experiment.params.train
    memory = estimate_memory(experiment.network, experiment.params, experiment.prepared.images, experiment.compute)
    workers = count_workers(train, len(every), memory, experiment.compute.device)
    write_line(f"{title}: {len(jobs)} to train, by {workers_message(workers, train.threads, memory)}")
    shared = SharedRows(len(every), train.epochs)
    labels = [job.label for job in every]
    epochs, steps = train.epochs, experiment.steps_per_epoch
    left = TimeLeft(shared.rows, len(jobs), epochs * steps, afterwards) if afterwards else None
    bars = ReplicateBars(labels, len(jobs), epochs, steps, shared.rows, workers, left)

    def show() -> None:
        bars.show()
        look(lambda: {job.seed: finished_epochs(row) for job, row in zip(jobs, shared.rows, strict=False)})

    training = train_replicates(every, len(jobs), workers, signals, shared, show)
    with closing(bars), closing(training):
        for job, result in training:
            bars.tell_end()
            if not is_pruned(job, result):
                written = job.checkpoint if job.checkpoint and not result.diverged else None
                files = [written, predictions_path(written)] if written else []
                store.put(job.fingerprint, job.label, result, files)
            if job in jobs:
                yield job, result


def is_pruned(job: ReplicateJob, result: ReplicateResult) -> bool:
    """Whether a replicate was given up before its last epoch."""
    return not result.diverged and len(result.epochs) < job.params.train.epochs
