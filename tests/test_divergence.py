"""A loss that is not finite: the stage stops, or the replicate is recorded and the evidence says so."""

import json

import pytest

from tests.conftest import one_line_of, set_params

HOT = {"lr.uniform": 1e30}


def test_it_stops_the_stage_and_says_where_and_which_rate_to_lower(project, run_stage):
    set_params(project.folder, HOT)
    line = one_line_of(run_stage(project, "train", "baseline", check=False))
    assert line.startswith("error: lr: baseline, seed 1: the loss is not finite in epoch 1, step ")
    assert "weights had grown most: lower lr.uniform (the rates are stem 1e+30, " in line
    assert "set train.on_divergence to record" in line
    assert not (project.folder / ".resume").exists()


def test_the_key_that_gives_the_rate_is_named_however_it_is_given(project, run_stage):
    set_params(project.folder, {"lr.groups": {"stage3": 1e30}})
    done = run_stage(project, "train", "differential", check=False)
    one_line_of(done, "stage3's weights had grown most: lower lr.groups.stage3 (")


def test_an_arm_of_which_every_replicate_diverges_is_recorded_and_not_compared(project, run_stage):
    set_params(project.folder, {**HOT, "train.on_divergence": "record"})
    done = run_stage(project, "train", "baseline")
    assert "baseline, seed 2: the loss is not finite" in done.stdout
    metrics = project.read_json("metrics/baseline.json")
    assert set(metrics) == {"learning_rates", "diverged"}
    assert set(metrics["diverged"]["1"]) == {"epoch", "step", "group"}
    assert not (project.folder / ".resume").exists()
    assert one_line_of(run_stage(project, "evaluate", check=False)) == (
        "error: lr: no seed came to an end in both arms (diverged are baseline: 1, 2): lower the rates"
    )


@pytest.fixture
def one_diverged(project, run_stage):
    """Seed 2 of the baseline as `train` records one that diverged, evaluated, reviewed and reported."""
    path = project.folder / "metrics/baseline.json"
    metrics = json.loads(path.read_text())
    del metrics["seeds"]["2"]
    metrics["mean"], metrics["std"] = metrics["seeds"]["1"], dict.fromkeys(metrics["std"])
    path.write_text(json.dumps({**metrics, "diverged": {"2": {"epoch": 1, "step": 3, "group": "stage3"}}}))
    (project.folder / "models/baseline/seed-2.safetensors").unlink()
    for stage in ("evaluate", "review", "report"):
        run_stage(project, stage)
    return project


def test_the_evidence_is_of_the_seeds_that_came_to_an_end_in_both_arms_and_says_so(one_diverged, run_stage):
    evaluation = one_diverged.read_json("metrics/evaluation.json")
    assert evaluation["diverged"] == {"baseline": [2]}
    for split in ("train", "val", "test"):
        assert set(evaluation[split]["difference"]["seeds"]) == {"1"}
    said = "The loss was not finite in baseline with seed 2: the arms are compared over the seeds that came to an end"
    for shown in (run_stage(one_diverged, "summary").stdout, one_diverged.read("report/index.html").decode()):
        assert said in " ".join(shown.split())
