"""docs/commands.md says what the commands say, and exit codes are as it says."""

import importlib.util
import re

import pytest

from tests.conftest import ROOT, Project, clone_project, set_params

TARGETS = re.findall(r"^\.PHONY: (.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)[0].split()


@pytest.fixture
def commands():
    """docs/commands.py, which writes the page."""
    spec = importlib.util.spec_from_file_location("commands", ROOT / "docs/commands.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_says_what_they_say(commands):
    """Mend it with `python docs/commands.py`. Versions of Python break lines elsewhere."""
    assert (ROOT / "docs/commands.md").read_text().split() == commands.page().split()


def test_every_command_is_on_the_page(commands):
    with_options = {path.stem for path in ROOT.glob("stages/*.py") if "argparse.ArgumentParser(" in path.read_text()}
    listed = [name for names in commands.GROUPS.values() for name in names]
    assert sorted(listed) == sorted({name.replace("explain_params", "params") for name in with_options})


def test_make_help_shows_every_target():
    shown = Project(ROOT).run("make", "help").stdout
    assert sorted(re.findall(r"^make ([a-z0-9-]+) +\S", shown, re.MULTILINE)) == sorted(TARGETS)
    assert set(TARGETS) == set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_exit_codes_are_as_the_page_says(tmp_path):
    project = clone_project(tmp_path, {})
    assert project.stage("check_params").returncode == 0
    set_params(project.folder, {"lr.head": -1})
    assert project.stage("check_params", check=False).returncode == 1
    assert project.stage("check_params", "--unknown", check=False).returncode == 2
    assert project.run("dvc", "repro", "check_params", check=False).returncode == 255
    assert project.run("make", "repro", "-o", ".venv/ready", check=False).returncode == 2


def test_make_experiments_hides_no_column_where_there_is_no_terminal_and_says_how_to_see_all(tmp_path, monkeypatch):
    """With a `dvc` that says how wide it may write."""
    monkeypatch.delenv("COLUMNS", raising=False)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/ready").touch()
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    (tmp_path / ".venv/bin/dvc").write_text('#!/bin/sh\necho "$1 $2 in ${COLUMNS:-its own} columns"\n')
    (tmp_path / ".venv/bin/dvc").chmod(0o755)
    make = ("make", "-o", ".venv/ready", "experiments")
    piped = Project(tmp_path).run(*make).stdout
    monkeypatch.chdir(tmp_path)
    at_terminal = Project(tmp_path).run_at_a_terminal(*make)
    assert "exp show in 10000 columns" in piped
    assert "exp show in its own columns" in at_terminal
    for shown in (piped, at_terminal):
        assert "Every column: `dvc exp show --csv`." in shown
