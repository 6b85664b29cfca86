"""Replicates side by side: the same bytes by however many workers, and every stop as with one."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from stages.training import workers as workers_module
from stages.training.memory import GIB
from stages.training.workers import count_workers, workers_message
from tests.conftest import PATIENCE, one_line_of, set_params
from tests.training.conftest import outputs, with_params

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def by_one(reproduced, tmp_path_factory):
    """The baseline of three seeds by one worker, in this experiment."""
    project = reproduced.copy_to(tmp_path_factory.mktemp("by-one") / "clone")
    set_params(project.folder, {"train.seeds": [1, 2, 3]})
    project.stage("split")
    project.stage("train", "baseline")
    return project


@pytest.fixture
def project(by_one, tmp_path):
    """A copy of it, with two workers."""
    copy = by_one.copy_to(tmp_path / "clone")
    set_params(copy.folder, {"train.workers": 2})
    return copy


@pytest.mark.parametrize("workers", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_any_number_of_workers_gives_the_same_bytes(project, workers):
    before = outputs(project)
    set_params(project.folder, {"train.workers": workers})
    done = project.stage("train", "baseline")
    assert f"baseline: 3 to train, by {workers} workers, each with 1 thread and about " in done.stdout
    assert outputs(project) == before
    assert done.stderr == ""


def test_idle_workers_begin_the_other_arm_which_goes_on_from_there(project):
    """Four workers for two replicates: the others train those of the differential arm."""
    wanted = {
        name: digest
        for name, digest in project.fingerprints("models", "metrics").items()
        if name.startswith(("models/differential", "metrics/differential"))
    }
    set_params(project.folder, {"train.seeds": [1, 2], "train.workers": 4})
    project.stage("train", "baseline")
    assert all(path.name.startswith("differential-") for path in project.folder.glob(".resume/*.state"))
    set_params(project.folder, {"train.workers": 1})
    project.stage("train", "differential")
    assert not list(project.folder.glob(".resume/differential-*"))
    found = project.fingerprints("models", "metrics")
    assert {name: found[name] for name in wanted} == wanted


def test_a_replicate_that_diverges_in_a_worker_stops_the_stage_with_one_line(project):
    set_params(project.folder, {"lr.uniform": 1e30})
    before = outputs(project)
    one_line_of(project.stage("train", "baseline", check=False), "lr: baseline, seed ", "lower lr.uniform")
    assert outputs(project) == before
    set_params(project.folder, {"train.on_divergence": "record"})
    done = project.stage("train", "baseline")
    assert done.stdout.count("the loss is not finite") == 3
    assert set(project.read_json("metrics/baseline.json")["diverged"]) == {"1", "2", "3"}


def test_what_a_worker_cannot_do_is_told_once(project):
    """Here that the code is no longer what the parent began with."""
    code = (
        "import sys, stages.train as t, stages.training.workers as w\n"
        "w.code_digests = lambda: {'loop.py': 'another'}\n"
        "sys.argv = ['train', 'baseline']\n"
        "from stages.errors import run_cli\n"
        "run_cli(t.main)\n"
    )
    (project.folder / "run.py").write_text(f"if __name__ == '__main__':\n    {code.replace(chr(10), chr(10) + '    ')}")
    done = project.run(sys.executable, "run.py", check=False)
    assert one_line_of(done) == "error: stages/ was changed while the training began: run it again"


# Long enough to be stopped within, with a state after every step.
LONG = {"train.epochs": 20, "resume.save_every_minutes": 1e-9}


def start(project):
    environment = {**os.environ, "PYTHONPATH": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.train", "baseline"], cwd=project.folder, env=environment, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_states(project, number=2):
    for _ in range(100 * PATIENCE):
        if len(list(project.folder.glob(".resume/baseline-*.state"))) >= number:
            return
        time.sleep(0.01)
    pytest.fail("no states were saved in time")


def workers_of(process):
    """The processes that train, which are not those that Python keeps for itself."""
    children = psutil.Process(process.pid).children(recursive=True)
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def started_with_workers(project):
    """Start the training, and wait until its workers have saved states; return its process and theirs."""
    running = start(project)
    wait_for_states(project)
    return running, workers_of(running)


def wait_for_the_end_of(processes):
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
    assert not alive


@pytest.fixture(scope="module")
def long_by_one(by_one, tmp_path_factory):
    project = by_one.copy_to(tmp_path_factory.mktemp("long") / "clone")
    set_params(project.folder, LONG)
    project.stage("train", "baseline")
    return project


@pytest.fixture
def long_project(long_by_one, tmp_path):
    copy = long_by_one.copy_to(tmp_path / "clone")
    set_params(copy.folder, {"train.workers": 2})
    return copy


def goes_on(project, before):
    """Whether the next run goes on in both states, and comes to the same bytes."""
    assert len(list(project.folder.glob(".resume/baseline-*.state"))) >= 2
    done = project.stage("train", "baseline")
    assert done.stdout.count("goes on in epoch") >= 1
    assert outputs(project) == before
    assert not list(project.folder.glob(".resume/baseline-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "whom"), [("SIGTERM", "the parent"), ("SIGINT", "the whole group, as a terminal does")]
)
def test_a_signal_saves_the_state_of_every_worker(long_project, name, whom):
    before, number = outputs(long_project), signal.Signals[name]
    running, workers = started_with_workers(long_project)
    assert len(workers) == 2
    if whom == "the parent":
        running.send_signal(number)
    else:
        os.killpg(running.pid, number)
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 128 + number
    assert errors == "interrupted; what was trained is kept: `dvc repro` goes on from there\n"
    wait_for_the_end_of(workers)
    goes_on(long_project, before)


@pytest.mark.slow
def test_a_killed_worker_is_told_in_one_line_and_the_others_save(long_project):
    """As where the system has no memory left."""
    before = outputs(long_project)
    running, workers = started_with_workers(long_project)
    workers[0].kill()
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    assert errors.startswith("error: train.workers: a worker was killed, as the system does where memory runs out; ")
    assert len(errors.splitlines()) == 1
    wait_for_the_end_of(workers)
    goes_on(long_project, before)


@pytest.mark.slow
def test_workers_whose_parent_was_killed_save_and_end(long_project):
    before = outputs(long_project)
    running, workers = started_with_workers(long_project)
    running.kill()
    running.communicate()
    wait_for_the_end_of(workers)
    goes_on(long_project, before)


@pytest.mark.parametrize(
    ("changes", "cores", "bytes_each", "free", "wanted"),
    [
        ({}, 8, GIB, 100 * GIB, 6),  # no more than replicates
        ({}, 4, GIB, 100 * GIB, 4),  # nor than cores
        ({"threads": 2}, 4, GIB, 100 * GIB, 2),
        ({"threads": 8}, 4, GIB, 100 * GIB, 1),
        ({}, 4, GIB, 3.5 * GIB, 3),  # nor than there is memory for
        ({}, 4, GIB, 0.5 * GIB, 1),
        ({}, 4, None, 0, 4),
        ({"workers": 5}, 4, GIB, 0.5 * GIB, 5),  # a number is taken at its word
        ({"workers": 9}, 4, GIB, 100 * GIB, 6),
    ],
)
def test_as_many_workers_as_there_are_cores_and_memory_for(
    params, monkeypatch, changes, cores, bytes_each, free, wanted
):
    monkeypatch.setattr("stages.models.compute.joblib.cpu_count", lambda: cores)
    monkeypatch.setattr(workers_module, "free_memory", lambda device: [float(free)])
    changed = with_params(params, "train", **{"workers": "auto", "threads": 1, **changes}).train
    assert count_workers(changed, 6, bytes_each, CPU) == wanted


def test_several_gpus_get_as_many_each_as_the_fullest_has_room_for(params, monkeypatch):
    monkeypatch.setattr("stages.models.compute.joblib.cpu_count", lambda: 64)
    monkeypatch.setattr(workers_module, "free_memory", lambda device: [5 * GIB, 3 * GIB])
    train = with_params(params, "train", workers="auto", threads=1).train
    assert count_workers(train, 20, 2 * GIB, torch.device("cuda")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((2, 1, 1.94 * GIB), "2 workers, each with 1 thread and about 1.9 GiB of memory"),
        ((1, 4, 1.94 * GIB), "1 worker with 4 threads and about 1.9 GiB of memory"),
        ((2, 1, None), "2 workers, each with 1 thread"),
    ],
)
def test_the_message_says_what_they_take(arguments, message):
    assert workers_message(*arguments) == message


@pytest.mark.slow
def test_a_terminal_shows_a_bar_for_each_worker_and_one_for_the_whole(long_project):
    shown = long_project.run_at_a_terminal(sys.executable, "-m", "stages.train", "baseline")
    for seed in (1, 2, 3):
        assert f"baseline, seed {seed}, epoch " in shown
        assert f"baseline, seed {seed}: training " in shown
    assert " steps/s" in shown  # of the whole, with the time that is left
    assert "loss=" in shown
    assert "Traceback" not in shown
