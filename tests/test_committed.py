"""What is committed is what the committed code gives, and the README says nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, Project


def printed(*command: str) -> str:
    environment_bin = Path(sys.executable).parent
    program = [str(environment_bin / command[0]), *command[1:]]
    return subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def readme():
    return (ROOT / "README.md").read_text()


def test_the_lock_belongs_to_the_committed_code_and_parameters(tmp_path):
    """In a clone that has no data yet, DVC finds nothing to run again."""
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    clone = Project(tmp_path / "clone")
    done = clone.run("dvc", "repro", "--dry", "--allow-missing")
    assert "Running stage" not in done.stdout
    assert clone.run("git", "status", "--porcelain").stdout == ""


def test_a_clone_that_has_no_data_compares_the_arms_at_once(tmp_path):
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    clone = Project(tmp_path / "clone")
    clone.run("git", "config", "user.name", "Test")
    clone.run("git", "config", "user.email", "test@example.com")
    done = clone.run("make", "compare", "-o", ".venv/ready")
    assert "val_accuracy" in done.stdout
    assert "stages.train" not in done.stdout


def test_the_readmes_result_is_the_committed_one(readme):
    assert printed("python", "-m", "stages.summary", "--markdown").strip() in readme


def test_the_readmes_search_is_the_recorded_one(readme):
    assert printed("python", "-m", "benchmarks.search_rates", "--table").strip() in readme


def test_the_readme_shows_pictures_and_files_that_exist(readme):
    links = [part.split(")")[0] for part in readme.split("](")[1:]]
    local = [link for link in links if "://" not in link and not link.startswith("#")]
    assert local
    assert not [link for link in local if not (ROOT / link).exists()]


def test_the_workflow_is_sound():
    assert printed("actionlint") == ""
