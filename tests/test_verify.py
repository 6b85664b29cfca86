"""The experiment run again in a clone of its own."""

import json
import os
import subprocess
import sys

import pytest

from stages.verify import clone_revision
from tests.conftest import TINY, clone_project
from tests.data.bad_images import picture


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = clone_project(tmp_path_factory.mktemp("project"), {**TINY, "train.seeds": [1]})
    project.run("dvc", "repro")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "Its results")
    return project


def test_on_the_same_machine_everything_is_identical_and_nothing_is_touched(project):
    before = project.fingerprints("metrics", "models", "data", ".dvc/cache")
    (project.folder / "params.yaml").write_text("someone is at work here\n")
    told = json.loads(project.stage("verify", "--json").stdout)
    project.run("git", "checkout", "--quiet", "params.yaml")
    assert told["verdict"] == "identical"
    assert told["checkpoints_identical"]
    assert len(told["figures"]) > 100
    assert project.fingerprints("metrics", "models", "data", ".dvc/cache") == before


def test_what_was_not_measured_by_the_committed_code_is_found_out(project):
    """Someone has improved a figure by hand."""
    metrics = project.folder / "metrics/evaluation.json"
    content = json.loads(metrics.read_text())
    content["test"]["differential"]["mean"]["accuracy"] = 0.999
    metrics.write_text(json.dumps(content, indent=2))
    project.run("git", "commit", "--quiet", "--all", "--message", "A better result")
    done = project.stage("verify", check=False)
    project.run("git", "reset", "--quiet", "--hard", "HEAD~1")
    assert done.returncode == 1
    assert done.stdout.startswith("evaluation.json: test.differential.mean.accuracy: 0.999 committed, 0.")
    assert done.stderr.splitlines()[-1] == "error: the experiment came out differently"


def test_ones_own_images_come_along_and_what_git_has_of_them_stays(tmp_path):
    """Pictures of which Git has some; and a params.yaml with a key that is no longer known."""
    photographs = tmp_path / "data/raw/photographs"
    for label in range(2):
        (photographs / f"class-{label}").mkdir(parents=True)
        for number in range(20):
            picture(100 * label + number).save(photographs / f"class-{label}" / f"{number}.png")
    own = {"data.source": "folder", "data.path": "data/raw/photographs", "train.seeds": [1]}
    project = clone_project(tmp_path, {**TINY, **own, "data.split": {"train": 0.5, "val": 0.25, "test": 0.25}})
    project.run("git", "add", "--force", "data/raw/photographs/class-0/0.png")
    project.run("git", "commit", "--quiet", "--message", "One of them")
    clone = tmp_path / "clone"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        (photographs / "class-0/0.png").write_bytes(b"changed since")
        params = (tmp_path / "params.yaml").read_text()
        (tmp_path / "params.yaml").write_text(params.replace("\ndata:\n", "\ndata:\n  of_old: 1\n"))
        project.run("git", "commit", "--quiet", "--message", "An older schema", "params.yaml")
        clone_revision("HEAD", clone)
    brought = clone / "data/raw/photographs"
    assert {path.name for path in brought.glob("class-1/*")} == {f"{number}.png" for number in range(20)}
    assert (brought / "class-1/7.png").samefile(photographs / "class-1/7.png")
    assert (brought / "class-0/0.png").read_bytes().startswith(b"\x89PNG")


def test_a_revision_that_is_none_is_refused(project):
    done = project.stage("verify", "no-such-branch", check=False)
    assert done.returncode == 1
    assert done.stderr == "error: Git knows no revision no-such-branch\n"


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_the_number_of_cores_changes_no_bit(tmp_path):
    """Two threads on one core, and on as many as there are."""
    project = clone_project(tmp_path, {**TINY, "train.seeds": [1], "train.threads": 2})
    project.run("dvc", "repro", "train_baseline")
    before = project.fingerprints("models/baseline", "metrics")
    one_core = {min(os.sched_getaffinity(0))}
    subprocess.run(
        [sys.executable, "-m", "stages.train", "baseline"],
        cwd=project.folder, check=True, preexec_fn=lambda: os.sched_setaffinity(0, one_core),
    )  # fmt: skip
    assert project.fingerprints("models/baseline", "metrics") == before
