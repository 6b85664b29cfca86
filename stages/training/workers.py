"""Replicates side by side, each in a process of its own; which process, and beside how many, changes no bit."""

import math
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for_end
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from stages.errors import UserError
from stages.models.compute import worker_limit
from stages.params import Train
from stages.signals import Interrupted, Signals
from stages.training.fingerprint import code_digests
from stages.training.memory import GIB
from stages.training.replicate import ReplicateJob, train_replicate
from stages.training.replicate_progress import ReplicateProgress, Rows, row_length
from stages.training.trainer import ReplicateResult

LOOK_EVERY = 0.2  # seconds, at how far the workers have come
CGROUP = Path("/sys/fs/cgroup")  # where Linux shows a container its limits
CONTEXT = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA, nor OpenMP where its parent did


def count_workers(train: Train, replicates: int, bytes_each: float | None, device: torch.device) -> int:
    """Return how many replicates to train at a time.

    Args:
        train: the section of params.yaml; `workers: auto` takes as many as there are cores for, and memory.
        replicates: that there are.
        bytes_each: which a training takes on its device, as far as that is known.
        device: where they are trained.
    """
    capacity: float = math.inf
    if train.workers == "auto" and bytes_each:
        free = free_memory(device)
        capacity = len(free) * (min(free) // bytes_each)  # workers are dealt out in turn, so the fullest device counts
    return int(max(1, min(replicates, worker_limit(train), capacity)))


def free_memory(device: torch.device) -> list[float]:
    """Return the bytes that are free on each device of a kind, or that a container's limit leaves."""
    if device.type == "cuda":
        return [float(torch.cuda.mem_get_info(number)[0]) for number in range(torch.cuda.device_count())]
    free = float(psutil.virtual_memory().available)
    try:
        limit, used = ((CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
    except OSError:  # no container, or another system
        return [free]
    return [free if limit == "max" else min(free, float(limit) - float(used))]


def workers_message(workers: int, threads: int, bytes_each: float | None) -> str:
    """Return what so many workers will take, for people."""
    each = f"{workers} workers, each" if workers > 1 else "1 worker"
    memory = f" and about {bytes_each / GIB:.1f} GiB of memory" if bytes_each else ""
    return f"{each} with {threads} thread{'s' if threads > 1 else ''}{memory}"


def train_replicates(
    jobs: Sequence[ReplicateJob],
    wanted: int,
    workers: int,
    signals: Signals,
    shared_rows: "SharedRows",
    show: Callable[[], None],
    begin: Callable[[ReplicateJob], bool] = lambda job: True,
) -> Generator[tuple[ReplicateJob, ReplicateResult]]:
    """Train replicates, as many at a time as there are workers.

    Args:
        jobs: in the order in which they are begun.
        wanted: how many of them, from the first on, are waited for. The others only use workers that would stand idle:
            when the last of the wanted ones has ended, those that have not are interrupted, and their states stay.
        workers: one trains in this process, more in processes of their own.
        signals: of this process.
        shared_rows: how far each replicate is.
        show: is called whenever they may have changed.
        begin: is called before a replicate is begun, and says whether it may be.

    Yields:
        Each replicate when it has ended.

    Raises:
        UserError: what a worker has raised, or one was killed. The others are then interrupted, and their states stay.
    """
    if workers == 1:
        for number, job in enumerate(jobs[:wanted]):
            if begin(job):
                yield job, train_replicate(job, ReplicateProgress(shared_rows.rows[number], show), signals)
        return
    pool = ProcessPoolExecutor(workers, CONTEXT, _init_worker, (shared_rows, code_digests()))
    queue = deque(enumerate(jobs))
    futures: dict[Future[ReplicateResult], ReplicateJob] = {}
    waiting: set[Future[ReplicateResult]] = set()

    def begin_next() -> None:
        """Give each idle worker the next replicate that may be begun."""
        with signals.deferred(), blocked(signal.SIGINT):
            while queue and len(futures) < workers:
                number, job = queue.popleft()
                if begin(job):
                    future = pool.submit(_train, number, job)
                    futures[future] = job
                    waiting.update([future] if number < wanted else [])

    try:
        with interrupted_at_the_end(pool, signals):
            begin_next()
            while waiting:
                with signals.deferred():  # a signal within would leave locks of the pool behind
                    ended, _ = wait(futures, timeout=LOOK_EVERY, return_when=FIRST_COMPLETED)
                show()
                finished = [(futures.pop(future), future, future.exception()) for future in ended]
                begin_next()
                for job, future, error in finished:
                    if future in waiting or error is None or isinstance(error, BrokenProcessPool):
                        waiting.discard(future)
                        yield job, future.result()
    except BrokenProcessPool:
        raise UserError(
            "train.workers: a worker was killed, as the system does where memory runs out; what was trained is kept: "
            "run it again, with fewer workers or a smaller train.batch_size"
        ) from None


@contextmanager
def interrupted_at_the_end(pool: ProcessPoolExecutor, signals: Signals) -> Iterator[None]:
    """At the end of the block, interrupt what a pool's workers still do, and wait until they have saved its state."""
    try:
        yield
    finally:
        with signals.deferred():
            for worker in multiprocessing.active_children():
                worker.terminate()
            pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def blocked(number: signal.Signals) -> Iterator[None]:
    """Block a signal for the processes that are started here, until `_init_worker` has said what it means to them."""
    if hasattr(signal, "pthread_sigmask"):  # Windows has none
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    else:
        yield


class SharedRows:
    """How far each replicate is, in memory that processes share."""

    def __init__(self, replicates: int, epochs: int) -> None:
        """Make a row for each replicate of so many epochs."""
        self._columns = row_length(epochs)
        self._memory = CONTEXT.RawArray("d", replicates * self._columns)
        self._workers = CONTEXT.Value("i", 0)

    @property
    def rows(self) -> Rows:
        """The rows (replicates, row_length(epochs)) themselves, no copy."""
        return np.frombuffer(self._memory, dtype=np.float64).reshape(-1, self._columns)

    def next_worker(self) -> int:
        """Return the number of one worker more; the first is 0."""
        with self._workers.get_lock():
            self._workers.value += 1
            return int(self._workers.value) - 1


_shared: dict[str, Any] = {}  # what this worker was started with


def _init_worker(rows: SharedRows, code: dict[str, str]) -> None:
    """Begin a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # while it is idle; its parent hears it too, and sends SIGTERM
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _shared.update(rows=rows, code=code, number=rows.next_worker())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent:
        wait_for_end([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def _train(number: int, job: ReplicateJob) -> ReplicateResult:
    """Train a replicate in a worker.

    Raises:
        UserError: the code is no longer what the parent runs.
    """
    if code_digests() != _shared["code"]:
        raise UserError("stages/ was changed while the training began: run it again")
    if job.params.train.device != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(_shared["number"] % torch.cuda.device_count())
    signals = Signals()
    try:
        with signals.handled():
            return train_replicate(job, ReplicateProgress(_shared["rows"].rows[number]), signals)
    except Interrupted as interruption:
        # The state is saved. A worker that went on would wait for a queue whose lock another may have died with.
        os._exit(128 + interruption.number)
    except Exception as error:
        if signals.arrived:  # it could not be saved, and nobody waits for this answer
            print(f"error: {job.label}: its state is not saved: {error}", file=sys.stderr, flush=True)
            os._exit(1)
        raise
