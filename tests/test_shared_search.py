"""Searches on many machines that share a PostgreSQL server: real ones, one of them killed in the middle of a trial."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from stages.tuning.records import is_known
from tests.conftest import PATIENCE, Project, build_once, clone_project, one_line_of, set_params
from tests.postgres import needs_postgres
from tests.test_search import LONG, SEARCH, TRIALS

pytestmark = [pytest.mark.slow, needs_postgres]

# With a grace period of seconds, after which a test takes a search for dead.
SCRIPT = """
import sys
from stages.tuning import storage
storage.HEARTBEAT, storage.GRACE = 1, 20
from stages import search
from stages.errors import run_cli
sys.argv = ["stages/search.py", "sgd"]
run_cli(search.main)
"""


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The search by one process, whose trials are in a file; only read."""

    def build(folder):
        project = clone_project(folder, {**SEARCH, **LONG})
        for command in (("prepare",), ("split", "--search"), ("search", "sgd")):
            project.stage(*command)

    return Project(build_once(tmp_path_factory, "searched-alone", build))


@pytest.fixture
def machines(alone, database, tmp_path):
    """Two clones that have not searched yet, as on two machines."""
    clones = [alone.copy_to(tmp_path / name) for name in ("one", "two")]
    for clone in clones:
        shutil.rmtree(clone.folder / ".search")
        shutil.rmtree(clone.folder / "metrics/search/sgd")
        set_params(clone.folder, {"search.storage": database})
    return clones


def start(project):
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=project.folder, env=environment, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def trials_of(database):
    """All records of all arms, as Optuna's own tools see them."""
    return [
        trial
        for name in optuna.get_all_study_names(database)
        for trial in optuna.load_study(study_name=name, storage=database).trials
    ]


def kill_in_the_middle_of_a_trial(running, other, database):
    """Kill a search while it has a trial, which shows where both stand still and as many trials are running."""
    until = time.monotonic() + 600
    while time.monotonic() < until:
        for process in (running, other):
            os.killpg(process.pid, signal.SIGSTOP)
        states = [trial.state.name for trial in trials_of(database)]
        if states.count("RUNNING") == 2 and states.count("COMPLETE"):
            os.killpg(running.pid, signal.SIGKILL)
            os.killpg(other.pid, signal.SIGCONT)
            return
        for process in (running, other):
            assert process.poll() is None, process.stdout.read()
            os.killpg(process.pid, signal.SIGCONT)
        time.sleep(0.3)
    pytest.fail("they never trained side by side")


def test_a_killed_search_loses_and_doubles_no_trial_and_no_password_is_left_anywhere(
    alone, machines, postgres, database
):
    killed, survivor = map(start, machines)
    command_lines = b""
    try:
        kill_in_the_middle_of_a_trial(killed, survivor, database)
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command_lines += file.read_bytes()
            except OSError:  # it has ended meanwhile
                continue
        said = killed.communicate(timeout=PATIENCE)[0] + survivor.communicate(timeout=PATIENCE)[0]
    finally:
        for process in (killed, survivor):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    assert survivor.returncode == 0, said
    assert machines[1].read(TRIALS) == alone.read(TRIALS)
    trials = trials_of(database)
    known = [trial for trial in trials if is_known(trial)]
    numbers = [(tuple(trial.user_attrs["values"]), trial.user_attrs["number"]) for trial in known]
    assert len(numbers) == len(set(numbers)) == 8
    given_up = [trial for trial in trials if trial not in known]  # the killed one's, and where both offered one at once
    assert {trial.state.name for trial in given_up} == {"FAIL"}
    for lost in given_up:
        assert [trial.user_attrs["fingerprints"] for trial in known].count(lost.user_attrs["fingerprints"]) == 1
    again = start(machines[0])
    said += again.communicate(timeout=PATIENCE)[0]
    assert again.returncode == 0
    assert machines[0].read(TRIALS) == alone.read(TRIALS)
    assert sum(line.count(" to train") for line in said.splitlines()) >= 2
    assert postgres.password not in said
    assert postgres.password.encode() not in command_lines
    for machine in machines:
        files = [file for file in machine.folder.rglob("*") if file.is_file() and not file.is_symlink()]
        assert not [file for file in files if postgres.password.encode() in file.read_bytes()]


def test_a_server_that_is_gone_and_a_wrong_password_are_one_line(machines, database, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "wr0ng")
    line = one_line_of(machines[0].stage("search", "sgd", check=False), "search.storage: Optuna cannot open it (")
    assert "wr0ng" not in line
    set_params(machines[0].folder, {"search.storage": "postgresql+psycopg://nobody@127.0.0.1:1/trials"})
    one_line_of(machines[0].stage("search", "sgd", check=False), "Connection refused")
