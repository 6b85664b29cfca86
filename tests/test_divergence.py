"""A loss that is not finite: the stage stops, or the replicate is recorded and the evidence says so."""

import json
import shutil

import pytest

from tests.conftest import TINY, clone_project, set_params

HOT = {"lr.uniform": 1e30}


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    project = clone_project(tmp_path_factory.mktemp("project"), {**TINY, "train.on_divergence": "record"})
    project.run("dvc", "repro")
    return project


@pytest.fixture
def project(reproduced, tmp_path):
    shutil.copytree(reproduced.folder, tmp_path / "clone", symlinks=True)
    return type(reproduced)(tmp_path / "clone")


def test_it_stops_the_stage_and_says_where_and_which_rate_to_lower(project):
    set_params(project.folder, {**HOT, "train.on_divergence": "stop"})
    done = project.stage("train", "baseline", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: lr: baseline, seed 1: the loss is not finite in epoch 1, step ")
    assert "weights had grown most: lower lr.uniform (the rates are stem 1e+30, " in done.stderr
    assert "set train.on_divergence to record" in done.stderr
    assert not (project.folder / ".unfinished").exists()


def test_the_key_that_gives_the_rate_is_named_however_it_is_given(project):
    set_params(project.folder, {"lr.groups": {"stage3": 1e30}, "train.on_divergence": "stop"})
    done = project.stage("train", "differential", check=False)
    assert "stage3's weights had grown most: lower lr.groups.stage3 (" in done.stderr


def test_an_arm_of_which_every_replicate_diverges_is_recorded_and_not_compared(project):
    set_params(project.folder, HOT)
    done = project.stage("train", "baseline")
    assert "baseline, seed 2: the loss is not finite" in done.stdout
    told = json.loads(project.read("metrics/baseline.json"))
    assert set(told) == {"learning_rates", "diverged"}
    assert set(told["diverged"]["seed_1"]) == {"epoch", "step", "group"}
    assert not (project.folder / ".unfinished").exists()
    done = project.stage("evaluate", check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: lr: no seed came to an end in both arms (diverged are baseline: 1, 2): lower the rates\n"
    )


def test_the_evidence_is_of_the_seeds_that_came_to_an_end_in_both_arms_and_says_so(project):
    """Seed 2 of the baseline as `train` records one that diverged."""
    metrics = project.folder / "metrics/baseline.json"
    told = json.loads(metrics.read_text())
    del told["seed_2"]
    told["mean"], told["std"] = told["seed_1"], dict.fromkeys(told["std"])
    metrics.write_text(json.dumps({**told, "diverged": {"seed_2": {"epoch": 1, "step": 3, "group": "stage3"}}}))
    (project.folder / "models/baseline/seed-2.safetensors").unlink()
    for stage in ("evaluate", "review", "report"):
        project.stage(stage)
    evaluation = json.loads(project.read("metrics/evaluation.json"))
    assert evaluation["diverged"] == {"baseline": [2]}
    for part in ("train", "val", "test"):
        assert set(evaluation[part]["difference"]) == {"mean", "std", "seed_1"}
    said = "The loss was not finite in baseline with seed 2: the arms are compared over the seeds that came to an end"
    for shown in (project.stage("summary").stdout, project.read("report/index.html").decode()):
        assert said in " ".join(shown.split())
