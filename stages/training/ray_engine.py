"""Replicates side by side as tasks of a Ray cluster, on this machine or on many; which node trains one changes no bit.

A task trains in the project's folder on its node and gives back what the replicate came to with the bytes of its
files, which are written here. Where a node or a worker dies, Ray begins its tasks again elsewhere; they go on from the
saved state where the new node sees it.
"""

import math
import os
import secrets
import shutil
import signal
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stages.data.store import IMAGES, PREPARED, SAMPLES, open_prepared, open_splits, replicate_checksums
from stages.data.store import verified_checksums as hash_prepared
from stages.errors import UserError, first_line
from stages.files import write_bytes
from stages.models.compute import set_up_compute
from stages.models.predictions import predictions_path
from stages.params import Params, Train
from stages.params import Ray as Settings
from stages.progress import write_line
from stages.signals import Interrupted, Signals
from stages.training import workers as local_engine
from stages.training.fingerprint import ENVIRONMENT, code_digests, describe_environment
from stages.training.replicate import ReplicateJob, train_replicate
from stages.training.replicate_progress import RUNNING, ReplicateProgress, Rows, row_length
from stages.training.resume import ResumeState
from stages.training.trainer import ReplicateResult
from stages.training.workers import LOOK_EVERY, SharedRows

SHIPPED = "shipped"  # ray.folder: code and data are sent to every node
MAX_RETRIES = 10  # of a replicate whose node or worker died
PROGRESS_EVERY = 0.5  # seconds, between two rows that a task sends
SAVING = 60  # seconds that interrupted tasks get to save their states
SMALLEST_SHARE = 0.0001  # of a GPU; Ray counts no smaller ones
NO_STATISTICS = {"RAY_USAGE_STATS_ENABLED": "0"}
# Of a cluster on this machine. The first has another name than its effect: off, a node's ports are on loopback alone.
ON_THIS_MACHINE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token", "RAY_worker_niceness": "0"}

Environment = dict[str, str]  # as `describe_environment` gives it


@dataclass(frozen=True)
class ResultOfOtherProcessor(ReplicateResult):
    """What a replicate came to on a processor whose last bits are others than those of the fingerprint.

    Attributes:
        processor: its description.
    """

    processor: str = ""


@dataclass(frozen=True)
class Site:
    """What a task needs to know of where it runs.

    Attributes:
        settings: the section `ray` of params.yaml.
        folder: the project's on every node; None where Ray has made it.
        code: digests of all code that decides.
        environment: that fingerprints are of.
    """

    settings: Settings
    folder: Path | None
    code: dict[str, str]
    environment: Environment


@dataclass(frozen=True)
class Trained:
    """What a task gives back.

    Attributes:
        result: what the replicate came to.
        files: name -> content, of the checkpoint and the logits.
        row: how far it is.
        processor: that trained it, described.
    """

    result: ReplicateResult
    files: dict[str, bytes]
    row: Rows
    processor: str


def is_installed() -> bool:
    """Whether there is Ray, which is not imported for the answer."""
    return find_spec("ray") is not None


def count_workers(params: Params, replicates: int, bytes_each: float | None, device: torch.device) -> int:
    """Return how many replicates to train at a time: on this machine as without Ray, on a cluster as many as it takes.

    Args:
        params: of which the sections train and ray are read.
        replicates: that there are.
        bytes_each: which a training takes on its device, as far as that is known.
        device: where they are trained.
    """
    here = local_engine.count_workers(params.train, replicates, bytes_each, device)
    if params.ray.address is None or params.train.workers != "auto":
        return here
    per_gpu = max(1, here // torch.cuda.device_count()) if device.type == "cuda" else 1
    return max(1, min(replicates, _places(_connect(params, workers=0), _resources(params.train, device, per_gpu))))


def train_replicates(
    jobs: Sequence[ReplicateJob],
    wanted: int,
    workers: int,
    signals: Signals,
    shared_rows: SharedRows,
    show: Callable[[], None],
    begin: Callable[[ReplicateJob], bool] = lambda job: True,
) -> Generator[tuple[ReplicateJob, ReplicateResult]]:
    """Train replicates as tasks of Ray, as many at a time as there are workers.

    Args:
        jobs: in the order in which they are begun.
        wanted: how many of them, from the first on, are waited for; see the local engine.
        workers: the most at a time.
        signals: of this process.
        shared_rows: how far each replicate is.
        show: is called whenever they may have changed.
        begin: is called before a replicate is begun, and says whether it may be.

    Yields:
        Each replicate when it has ended; a `ResultOfOtherProcessor` where params.yaml lets such processors train.

    Raises:
        UserError: there is no Ray, no cluster, or a node has other code, data, versions or another processor; or what
            a task has raised. The others are then interrupted, and their states stay.
    """
    params = jobs[0].params
    compute = set_up_compute(params.train)
    site = Site(params.ray, _folder_on_nodes(params.ray), code_digests(), describe_environment(compute))
    per_gpu = math.ceil(workers / max(1, torch.cuda.device_count()))
    resources = _resources(params.train, compute.device, per_gpu)
    with _translated_errors(params.ray), _session(params, jobs, workers, signals) as ray:
        with signals.deferred():
            _check_nodes(ray, site, params.train, resources)
            queue = _rows_queue(ray)
        task = ray.remote(max_retries=MAX_RETRIES, **resources)(_train)
        left, running, waiting = deque(enumerate(jobs)), dict[Any, int](), set[int]()

        def begin_next() -> None:
            """Submit as many tasks as there are workers for, of replicates that may be begun."""
            while left and len(running) < workers:
                number, job = left.popleft()
                if begin(job):
                    running[task.remote(site, number, job, queue)] = number
                    waiting.update([number] if number < wanted else [])

        with _interrupted_at_the_end(ray, running, signals):
            with signals.deferred():
                begin_next()
            while waiting:
                with signals.deferred():
                    ended, _ = ray.wait(list(running), timeout=LOOK_EVERY)
                    for number, row in queue.get_nowait_batch(queue.qsize()):
                        shared_rows.rows[number] = row
                show()
                finished = [(reference, running.pop(reference)) for reference in ended]
                with signals.deferred():
                    begin_next()
                for reference, number in finished:
                    with signals.deferred():
                        trained = _outcome(ray, reference, needed=number in waiting)
                        if trained is None:
                            continue
                        waiting.discard(number)
                        shared_rows.rows[number] = trained.row
                        _write_files(jobs[number], trained.files)
                    yield jobs[number], _result(trained, site)


def describe_processors(environment: Environment, results: Sequence[ReplicateResult]) -> Environment:
    """Return an environment that says which processors trained replicates beside its own, and how many."""
    others = Counter(result.processor for result in results if isinstance(result, ResultOfOtherProcessor))
    if not others:
        return environment
    counted = "; ".join(f"{name} ({number} of {len(results)} replicates)" for name, number in sorted(others.items()))
    return {**environment, "processor": f"mixed: {environment['processor']}; {counted}"}


# Here, where the command runs.


def _ray(settings: Settings) -> Any:
    """Import Ray, which reads its settings from the environment when it is first imported.

    Raises:
        UserError: it is not installed.
    """
    os.environ.update(NO_STATISTICS)
    if settings.address is None:
        os.environ.update(ON_THIS_MACHINE)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    try:
        import ray
        import ray.util.queue
        import ray.util.scheduling_strategies
    except ImportError:
        raise UserError("train.engine: ray is missing: pip install -r requirements-ray.txt") from None
    return ray


def _connect(params: Params, workers: int, temporary: Path | None = None, working_dir: Path | None = None) -> Any:
    """Return Ray, connected to the cluster of params.yaml or to one that is started on this machine.

    Args:
        params: of which the sections train and ray are read.
        workers: for which a cluster on this machine has cores.
        temporary: where a cluster on this machine keeps its sockets and logs.
        working_dir: what is sent to every node.
    """
    ray, settings = _ray(params.ray), params.ray
    if ray.is_initialized():
        return ray
    passed_on = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    folder = _folder_on_nodes(settings)
    path = {"PYTHONPATH": str(folder)} if folder else {}
    sent = {"working_dir": str(working_dir)} if working_dir else {}
    place: dict[str, Any] = {"address": settings.address}
    if settings.address is None:
        place = {
            "address": "local",
            "num_cpus": workers * params.train.threads,
            "include_dashboard": False,
            "_node_ip_address": "127.0.0.1",
            "_temp_dir": str(temporary),
        }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(
            **place, runtime_env={"env_vars": passed_on | path, **sent}, log_to_driver=False, logging_level="ERROR"
        )
    finally:
        for number, handler in handlers.items():  # Ray has put one of its own for SIGTERM
            signal.signal(number, handler)
    return ray


@contextmanager
def _session(params: Params, jobs: Sequence[ReplicateJob], workers: int, signals: Signals) -> Iterator[Any]:
    """Connect to a cluster, or start one, and leave nothing of that behind."""
    with ExitStack() as stack:
        with signals.deferred():
            temporary = Path(stack.enter_context(_short_temporary_folder()))
            shipped = _copy_to_ship(jobs, temporary / SHIPPED) if params.ray.folder == SHIPPED else None
            ray = _ray(params.ray)
            if shipped:
                ray.shutdown()  # of the connection that has counted the workers: what is sent is said at its beginning
            stack.callback(ray.shutdown)
            _connect(params, workers, temporary, shipped)
        try:
            yield ray
        finally:
            with signals.deferred():
                stack.close()


def _short_temporary_folder() -> Any:
    """Return a folder whose path leaves room for the names of sockets, of which systems take some 100 characters."""
    return tempfile.TemporaryDirectory(
        prefix="ray-", dir="/tmp" if os.name == "posix" else None, ignore_cleanup_errors=True
    )


def _folder_on_nodes(settings: Settings) -> Path | None:
    return None if settings.folder == SHIPPED else Path(settings.folder or Path.cwd())


def _copy_to_ship(jobs: Sequence[ReplicateJob], folder: Path) -> Path:
    """Copy what tasks need, and nothing else of the project's folder, which may hold secrets, into another."""
    shutil.copytree("stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PREPARED, folder / PREPARED)
    weights = (Path(job.params.model.weights) for job in jobs)
    for path in {
        *(job.splits for job in jobs),
        *(file for file in weights if file.is_file() and not file.is_absolute()),
    }:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / path)
    return folder


def _resources(train: Train, device: torch.device, per_gpu: int) -> dict[str, float]:
    """Return what a task takes of its node."""
    if device.type != "cuda":
        return {"num_cpus": train.threads}
    share = max(SMALLEST_SHARE, math.floor(1 / per_gpu / SMALLEST_SHARE) * SMALLEST_SHARE)
    return {"num_cpus": 0, "num_gpus": share}


def _places(ray: Any, resources: Mapping[str, float]) -> int:
    """Return how many tasks the nodes of a cluster have room for at a time."""
    name, each = ("GPU", resources["num_gpus"]) if "num_gpus" in resources else ("CPU", resources["num_cpus"])
    return sum(int(node["Resources"].get(name, 0) / each) for node in _alive(ray))


def _alive(ray: Any) -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def _on_node(ray: Any, node_id: str) -> dict[str, Any]:
    strategies = ray.util.scheduling_strategies
    return {"num_cpus": 0, "scheduling_strategy": strategies.NodeAffinitySchedulingStrategy(node_id, soft=False)}


def _rows_queue(ray: Any) -> Any:
    """Return a queue for (number of a replicate, its row), on the node that this process is connected to."""
    return ray.util.queue.Queue(actor_options=_on_node(ray, ray.get_runtime_context().get_node_id()))


def _check_nodes(ray: Any, site: Site, train: Train, resources: Mapping[str, float]) -> None:
    """Check that every node that can train has this code, these versions, and this processor unless they may be mixed.

    Raises:
        UserError: one has not.
    """
    kind = "GPU" if "num_gpus" in resources else "CPU"
    names = {node["NodeID"]: node["NodeName"] for node in _alive(ray) if node["Resources"].get(kind)}
    least = {"num_gpus": SMALLEST_SHARE} if kind == "GPU" else {}
    probe = ray.remote(_probe)
    asked = {node: probe.options(**_on_node(ray, node), **least).remote(site, train) for node in names}
    found = {}
    for node, reference in asked.items():
        try:
            found[names[node]] = _get(ray, reference)
        except ray.exceptions.RayError:
            if node in {alive["NodeID"] for alive in _alive(ray)}:
                raise
            # It has died meanwhile; whichever takes its place is asked by its first task.
    for name, environment in found.items():
        _check_versions(environment, site.environment, name)
    others = {
        name: found[name]["processor"] for name in found if found[name]["processor"] != site.environment["processor"]
    }
    if others and not site.settings.mix_processors:
        raise UserError(_other_processors_message(others, site.environment["processor"]))
    if others:
        write_line(
            f"warning: processors are mixed: {_listed(others)}, here {site.environment['processor']}; what the others "
            f"train differs in its last bits, is said in metrics/, and is not kept for later"
        )


def _check_versions(there: Environment, here: Environment, node: str) -> None:
    """Check that a node differs in its processor at most.

    Raises:
        UserError: it differs in more.
    """
    other = [
        f"{name} {there[name]}, here {here[name]}" for name in here if name != "processor" and there[name] != here[name]
    ]
    if other:
        raise UserError(
            f"ray.address: node {node} has {'; '.join(other)}: set it up as this machine is, with requirements.txt"
        )


def _other_processors_message(others: Mapping[str, str], here: str) -> str:
    return (
        f"ray.mix_processors: {_listed(others)}, but here is {here}, and the last bits of results would differ: use "
        f"nodes like this one, or set ray.mix_processors: true"
    )


def _listed(processors: Mapping[str, str]) -> str:
    return ", ".join(f"node {node} has {processor}" for node, processor in processors.items())


@contextmanager
def _interrupted_at_the_end(ray: Any, running: dict[Any, int], signals: Signals) -> Iterator[None]:
    """At the end of the block, interrupt the tasks that still run, and wait until they have saved their states."""
    try:
        yield
    finally:
        with signals.deferred():
            left = list(running)
            for force in (False, True):
                for reference in left:
                    ray.cancel(reference, force=force)
                if left:
                    _, left = ray.wait(left, num_returns=len(left), timeout=SAVING)


def _outcome(ray: Any, reference: Any, needed: bool) -> Trained | None:
    """Return what a task has given back; None where it failed and nobody waits for it."""
    try:
        trained: Trained = _get(ray, reference)
    except Exception:
        if needed:
            raise
        return None
    return trained


def _get(ray: Any, reference: Any) -> Any:
    """Return what a task has given back, or raise what it has raised."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # which shows the traceback of its node
        raise (error.cause if isinstance(error.cause, Exception) else error) from None


def _write_files(job: ReplicateJob, files: Mapping[str, bytes]) -> None:
    """Write the files of a replicate into their places, under the names that they have here."""
    for path in _files_of(job):
        if path.name in files:
            write_bytes(path, files[path.name])


def _files_of(job: ReplicateJob) -> list[Path]:
    return [job.checkpoint, predictions_path(job.checkpoint)] if job.checkpoint else []


def _result(trained: Trained, site: Site) -> ReplicateResult:
    if trained.processor == site.environment["processor"]:
        return trained.result
    return ResultOfOtherProcessor(trained.result.epochs, trained.result.diverged, trained.processor)


@contextmanager
def _translated_errors(settings: Settings) -> Iterator[None]:
    """Say in one line what Ray cannot do.

    Raises:
        UserError: Ray has no cluster, or has lost it.
    """
    ray = _ray(settings)
    try:
        yield
    except ConnectionError as error:
        raise UserError(
            f"ray.address: no cluster answers at {settings.address} ({first_line(error)}): start one with `ray start "
            f"--head`, or set null for one on this machine"
        ) from None
    except ray.exceptions.RayError as error:
        raise UserError(
            f"train.engine: ray has lost a task ({first_line(error)}); what was trained is kept: run it again"
        ) from None


# There, in a task on a node.


def _probe(site: Site, train: Train) -> Environment:
    """Return what a node trains with.

    Raises:
        UserError: it has other code.
    """
    _enter(site)
    return describe_environment(set_up_compute(train))


def _train(site: Site, number: int, job: ReplicateJob, queue: Any) -> Trained:
    """Train a replicate on this node.

    Raises:
        UserError: the node has other code, data, versions, or a processor that may not train.
    """
    _enter(site)
    environment = describe_environment(set_up_compute(job.params.train))
    _check_versions(environment, site.environment, os.uname().nodename)
    if environment["processor"] != site.environment["processor"] and not site.settings.mix_processors:
        raise UserError(
            _other_processors_message({os.uname().nodename: environment["processor"]}, site.environment["processor"])
        )
    _check_data(job)
    row, signals = np.zeros(row_length(job.params.train.epochs)), Signals()
    try:
        with tempfile.TemporaryDirectory() as folder, signals.handled():
            here = replace(job, checkpoint=Path(folder) / job.checkpoint.name if job.checkpoint else None)
            result = train_replicate(here, ReplicateProgress(row, _sender(number, row, queue)), signals)
            files = {path.name: path.read_bytes() for path in _files_of(here) if path.exists()}
    except Interrupted as interruption:
        if interruption.number == signal.SIGTERM:  # the node goes: Ray begins it again on another
            os._exit(128 + signal.SIGTERM)
        raise KeyboardInterrupt from None  # by which Ray knows a task that it has cancelled
    if site.settings.folder is not None:  # nobody else clears the states of a clone
        ResumeState(job.state).delete()
    return Trained(result, files, row, environment["processor"])


def _enter(site: Site) -> None:
    """Go into the project's folder on this node.

    Raises:
        UserError: there is none, or it has other code.
    """
    node = os.uname().nodename
    if site.folder:
        try:
            os.chdir(site.folder)
        except OSError as error:
            raise UserError(
                f"ray.folder: {site.folder}: {error.strerror} on node {node}: clone it there, or set shipped"
            ) from None
    if code_digests() != site.code:
        raise UserError(
            f"ray.folder: node {node} has other code under stages/: check the same commit out there, then run it again"
        )


def _check_data(job: ReplicateJob) -> None:
    """Check that the images and splits of this node are those of a job.

    Raises:
        UserError: they are others, or missing.
    """
    prepared = open_prepared()
    found = replicate_checksums(
        _checksums(Path.cwd(), _stamp()), open_splits(prepared, [job.seed], job.splits)[job.seed]
    )
    if found != job.checksums:
        raise UserError(
            f"ray.folder: node {os.uname().nodename} has other images or splits in {Path.cwd()}: `dvc pull` them "
            f"there, or set shipped"
        )


def _stamp() -> tuple[int, ...]:
    """Return when the prepared files were written."""
    return tuple((PREPARED / name).stat().st_mtime_ns for name in (IMAGES, SAMPLES))


@cache
def _checksums(folder: Path, stamp: tuple[int, ...]) -> dict[str, str]:
    """Return the checksums of the prepared data in a folder, whose bytes a process reads once."""
    return hash_prepared()


def _sender(number: int, row: Rows, queue: Any) -> Callable[[], None]:
    """Return what sends a replicate's row: when it begins or ends, and meanwhile now and then."""
    sent_at, was_running = -math.inf, 0.0

    def send() -> None:
        nonlocal sent_at, was_running
        if row[RUNNING] != was_running or time.monotonic() - sent_at >= PROGRESS_EVERY:
            queue.actor.put_nowait.remote((number, row.copy()))
            sent_at, was_running = time.monotonic(), row[RUNNING]

    return send
