"""Training that is killed, stopped, or started twice, under the real commands."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from stages.data.batches import batch_sizes
from stages.data.store import open_prepared, open_splits
from tests.conftest import (
    PATIENCE,
    ROOT,
    TINY,
    Project,
    build_once,
    clone_project,
    environment_of_user,
    wait_for_end_of_group,
)

pytestmark = pytest.mark.slow

# Two replicates of so many epochs that they take a while, and a state after every step.
SEEDS, EPOCHS = [1, 2], 40
LONG = {**TINY, "train.seeds": SEEDS, "train.epochs": EPOCHS, "resume.save_every_minutes": 1e-9}


@pytest.fixture
def project(tmp_path_factory, tmp_path):
    """A copy of a clone that has been trained undisturbed, and committed."""

    def train(folder):
        project = clone_project(folder, LONG)
        project.run("dvc", "repro", "train_baseline", "train_differential")
        project.commit("Its results")

    return Project(build_once(tmp_path_factory, "trained-undisturbed", train)).copy_to(tmp_path / "clone")


def results(project):
    return project.fingerprints("models", "metrics")


def start(project, *command, shell=None):
    """Start a command in a process group of its own, as a terminal does; DVC runs its stages by a shell."""
    environment = {**environment_of_user(), **({"SHELL": shell} if shell else {})}
    return subprocess.Popen(
        command, cwd=project.folder, env=environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for_state(project, arm="baseline"):
    """Wait until the training of an arm, or of one of its replicates, has left a state."""
    for _ in range(100 * PATIENCE):
        if list(project.folder.glob(f".resume/{arm}-*.state")):
            return
        time.sleep(0.01)
    pytest.fail("no state was saved in time")


def test_training_that_is_killed_at_any_moment_comes_to_the_same_bytes(project, monkeypatch):
    """More than twenty times: before the first save, in a save, between replicates, while metrics are written."""
    files = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in results(project).items()
        if name.startswith(("models/differential/", "metrics/differential"))
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/kill_training.py"), "differential", "22"],
        cwd=project.folder, env={**os.environ, "PYTHONPATH": str(project.folder)}, input=json.dumps(files),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["kills"] >= 20
    assert told["ends"] >= 1
    monkeypatch.chdir(project.folder)
    splits = open_splits(open_prepared(), SEEDS)
    of_a_run = EPOCHS * sum(
        len(batch_sizes(int((splits[seed] == "train").sum()), LONG["train.batch_size"])) for seed in SEEDS
    )
    # A kill costs the step whose state it keeps from the disk, and no more.
    assert told["ends"] * of_a_run <= told["steps"] <= told["ends"] * of_a_run + told["kills"]
    assert {"at a random time", "before fsync 1", "before replace 1", "before replace 9"} <= set(told["moments"])


def test_dvc_repro_goes_on_after_a_kill_and_trains_no_finished_replicate_again(project):
    before = results(project)
    running = start(project, "dvc", "repro", "--force", "--no-run-cache", "train_baseline")
    wait_for_state(project, "baseline-seed-2")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()

    done = project.run("dvc", "repro", "--force", "--no-run-cache", "train_baseline")
    assert "baseline, seed 1: was trained before" in done.stdout
    assert "baseline, seed 2: goes on in epoch " in done.stdout
    assert results(project) == before
    assert not (project.folder / ".resume").exists()
    assert project.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_and_leaves_with_a_line(project, name):
    before = results(project)
    number = signal.Signals[name]
    running = start(project, sys.executable, "-m", "stages.train", "baseline")
    wait_for_state(project)
    os.killpg(running.pid, number)
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 128 + number
    assert errors.splitlines()[-1] == "interrupted; what was trained is kept: `dvc repro` goes on from there"
    assert "Traceback" not in errors
    assert list(project.folder.glob(".resume/baseline-*.state"))
    assert "baseline, seed 1: goes on in epoch " in project.stage("train", "baseline").stdout
    assert results(project) == before


def test_ctrl_c_under_dvc_leaves_a_state_that_the_next_repro_takes_up(project):
    before = results(project)
    running = start(project, "dvc", "repro", "--force", "--no-run-cache", "train_baseline")
    wait_for_state(project)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0
    assert "`dvc repro` goes on from there" in errors
    done = project.run("dvc", "repro", "--force", "--no-run-cache", "train_baseline")
    assert "baseline, seed 1: goes on in epoch " in done.stdout
    assert results(project) == before


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_a_training_whose_dvc_was_killed_saves_and_ends(project, shell):
    """Else it would go on by itself, and overwrite what a later run has made. Some shells stay between the two."""
    before = results(project)
    running = start(project, "dvc", "repro", "--force", "--no-run-cache", "train_baseline", shell=shell)
    wait_for_state(project)
    running.kill()
    running.communicate()
    wait_for_end_of_group(running.pid)
    assert list(project.folder.glob(".resume/baseline-*.state"))
    done = project.run("dvc", "repro", "--force", "--no-run-cache", "train_baseline")
    assert "baseline, seed 1: goes on in epoch " in done.stdout or "baseline, seed 1: was trained before" in done.stdout
    assert results(project) == before


def test_a_second_run_in_the_same_workspace_is_told_that_it_is_one(project):
    running = start(project, "dvc", "repro", "--force", "--no-run-cache", "train_baseline")
    wait_for_state(project)
    second = project.run("dvc", "repro", "--force", "train_baseline", check=False)
    running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    assert second.returncode != 0
    assert "is busy" in second.stderr or "lock" in second.stderr.lower()
