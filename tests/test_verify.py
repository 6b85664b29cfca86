"""The experiment run again in a clone of its own."""

import json
import os
import subprocess
import sys

import pytest

from stages.params import load_params
from stages.verify import clone_revision
from tests.conftest import REAL_NETWORK, TINY, clone_project, one_line_of, set_params
from tests.data.bad_images import picture


@pytest.mark.slow
def test_on_the_same_machine_everything_is_identical_and_nothing_is_touched(project):
    before = project.fingerprints("metrics", "models", "data", ".dvc/cache")
    (project.folder / "params.yaml").write_text("someone is at work here\n")
    told = json.loads(project.stage("verify", "--json").stdout)
    assert told["outcome"] == "identical"
    assert told["checkpoints_identical"]
    assert len(told["metrics"]) > 100
    assert project.fingerprints("metrics", "models", "data", ".dvc/cache") == before
    assert project.read("params.yaml") == b"someone is at work here\n"


@pytest.mark.slow
def test_what_was_not_measured_by_the_committed_code_is_found_out(project):
    """Someone has improved a metric by hand, beyond what any accuracy can be."""
    metrics = project.folder / "metrics/evaluation.json"
    content = json.loads(metrics.read_text())
    content["test"]["differential"]["mean"]["accuracy"] = 99.9
    metrics.write_text(json.dumps(content, indent=2))
    project.commit("A better result")
    done = project.stage("verify", check=False)
    assert done.returncode == 1
    assert done.stdout.startswith("evaluation.json: test.differential.mean.accuracy: 99.9 committed, ")
    assert done.stderr.splitlines()[-1].startswith("error: the experiment came out differently: look for ")


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


def test_a_path_that_leads_out_of_the_repository_is_followed_from_there_and_links_in_it_stay_links(tmp_path):
    (tmp_path / "repository/imgs").mkdir(parents=True)
    (tmp_path / "keep").mkdir()
    (tmp_path / "repository/imgs/link.jpg").symlink_to("0.jpg")
    project = clone_project(tmp_path / "repository", {**TINY, "data.path": "../keep"})
    clones = [tmp_path / "repository/.dvc/tmp" / name for name in "ab"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project.folder)
        clone_revision("HEAD", clones[0])
        set_params(project.folder, {"data.path": "imgs"})
        project.run("git", "add", "--all")
        project.run("git", "commit", "--quiet", "--message", "With a link that Git has")
        clone_revision("HEAD", clones[1])
    assert load_params(clones[0] / "params.yaml").data.path == str(tmp_path / "keep")
    assert (clones[1] / "imgs/link.jpg").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keep", "repository"]
    assert {path.name for path in (project.folder / ".dvc/tmp").iterdir() if path.name != "btime"} <= {"a", "b"}


def test_a_revision_that_is_none_is_refused(project, run_stage):
    done = run_stage(project, "verify", "no-such-branch", check=False)
    assert one_line_of(done).startswith("error: REV: Git knows no revision no-such-branch: give a commit")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_the_number_of_cores_changes_no_bit(project):
    """Two threads on one core, and on as many as there are, with the committed network."""
    set_params(project.folder, {**REAL_NETWORK, "train.seeds": [1], "train.threads": 2})
    one_core = {min(os.sched_getaffinity(0))}
    results = []
    for cores in (os.sched_getaffinity(0), one_core):
        subprocess.run(
            [sys.executable, "-m", "stages.train", "baseline"],
            cwd=project.folder, check=True, preexec_fn=lambda cores=cores: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        results.append(project.fingerprints("models/baseline", "metrics"))
    assert results[0] == results[1]
