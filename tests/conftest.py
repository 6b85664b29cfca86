"""Parts that tests share: a temporary clone of the project, a tiny experiment, a few real images."""

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from ruamel.yaml import YAML

# A machine that is busy is no fault of the code.
settings.register_profile("unhurried", deadline=None)
settings.register_profile("nightly", deadline=None, max_examples=1500)  # `make fuzz`
settings.load_profile("unhurried")

ROOT = Path(__file__).parent.parent

# One thread a test: two workers share two cores, and idle OpenMP threads would spin against each other.
os.environ["OMP_NUM_THREADS"] = "1"

# Real images, real weights, seconds.
TINY = {
    "data.image_size": 32,
    "data.split": {"train": 0.03, "val": 0.02, "test": 0.02},
    "train.epochs": 1,
    "train.batch_size": 16,
    "train.seeds": [1, 2],
    "train.threads": 1,
    "lr.uniform": 0.01,
    "lr.backbone": 0.0001,
    "lr.head": 0.01,
}


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


class Project:
    """A clone of the project in a folder of its own, and the commands that a user types there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        if check and done.returncode:
            pytest.fail(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        return done

    def run_at_a_terminal(self, *command: str) -> str:
        """Run a command at a terminal 120 columns wide; give all that it showed."""
        program, terminal = pty.fork()
        if program == 0:
            os.chdir(self.folder)
            os.execvp(command[0], command)
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
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "tests/")) and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / name)
    set_params(folder, changes)
    project = Project(folder)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.com")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "The project, tiny")
    return project


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


@pytest.fixture
def clone(tmp_path: Path) -> Callable[..., Project]:
    """Give a function that clones the project with changed parameters, on top of the tiny experiment."""
    return lambda changes=None: clone_project(tmp_path, {**TINY, **(changes or {})})


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
