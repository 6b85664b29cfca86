"""The real pipeline under real DVC, run by the commands that a user types: what needs a whole run of its own."""

import json
import re
from statistics import geometric_mean

import pandas as pd
import pytest

from stages.params import load_params
from tests.conftest import REAL_NETWORK, ROOT, TINY, clone_project, set_params, stages_run
from tests.test_pipeline import ARMS, METRIC_NAMES

STAGES = ["check_params", "prepare", "split", "train_baseline", "train_differential", "evaluate", "review", "report"]
LITE0_GROUPS = ["stem", *(f"stage{number}" for number in range(1, 8)), "head"]


@pytest.mark.slow
def test_a_forced_rerun_gives_the_same_bytes(project):
    before = project.fingerprints("metrics", "models", "data")
    done = project.run("dvc", "repro", "--force", "--no-run-cache", *STAGES)
    assert sorted(stages_run(done.stdout)) == sorted(STAGES)
    assert project.fingerprints("metrics", "models", "data") == before


@pytest.mark.slow
def test_the_committed_network_and_its_weights_run_through_the_whole_flow(reproduced_with_real_network):
    """The network that params.yaml names, with its pretrained weights, from which the differential arm moves less."""
    project = reproduced_with_real_network
    evaluation = project.read_json("metrics/evaluation.json")
    changes = {arm: evaluation["relative_weight_change"][arm]["mean"] for arm in ARMS}
    assert list(changes["baseline"]) == LITE0_GROUPS
    assert min(min(of_arm.values()) for of_arm in changes.values()) > 0
    # Its backbone's rate is a hundredth. Measured with AVX-512 and AVX2: 14 to 200 times less in the geometric mean.
    ratios = [changes["baseline"][group] / changes["differential"][group] for group in LITE0_GROUPS[:-1]]
    assert geometric_mean(ratios) > 2


@pytest.mark.slow
def test_an_experiment_retrains_the_arm_whose_rates_it_changes_and_no_other(project, monkeypatch):
    done = project.run("dvc", "exp", "run", "-S", "+lr.groups.stage5=0.003", "-S", "lr.head=0.02")
    rerun = ["check_params", "evaluate", "report", "review", "train_differential"]
    assert sorted(stages_run(done.stdout)) == rerun
    rates = project.read_json("metrics/differential.json")["learning_rates"]
    assert (rates["stage5"], rates["head"]) == (0.003, 0.02)
    monkeypatch.setenv("COLUMNS", "100")
    shown = project.run("make", "-o", ".venv/ready", "experiments").stdout
    assert "…" not in shown  # where DVC cuts a cell
    assert " lr.head " in shown and "lr.groups.stage5" in shown


@pytest.mark.slow
def test_make_compare_shows_both_arms_as_they_stand_and_leaves_the_workspace_as_it_was(project):
    """After an experiment that is not committed, before one that has not run, and once more; nothing is trained."""
    (project.folder / "README.md").write_text("something that the user was writing\n")
    project.run("dvc", "exp", "run", "-S", "lr.head=0.02")
    losses = [project.read_json(f"metrics/{arm}.json")["mean"]["val_loss"] for arm in ARMS]
    not_run = {"train_differential", "evaluate", "review"}
    # The second time there are experiments of these names already.
    for changes, waiting in [({}, set()), ({}, set()), ({"lr.head": 0.03, "review.arm": "baseline"}, not_run)]:
        set_params(project.folder, changes)
        before = project.run("git", "status", "--porcelain").stdout
        files = project.fingerprints("metrics", "models", "report")
        done = project.run("make", "compare", "-o", ".venv/ready")
        (heading,) = [line for line in done.stdout.splitlines() if line.startswith("Path ")]
        assert heading.split() == ["Path", "Metric", "uniform", "differential", "Change"]
        (line,) = [line for line in done.stdout.splitlines() if " val_loss " in line]
        shown = [float(cell) for cell in line.split()[2:4]]
        assert shown == pytest.approx(losses, abs=1e-4)
        assert set("".join(re.findall(r"waits for dvc repro \((.*)\)", done.stderr)).split()) == waiting
        assert project.run("git", "status", "--porcelain").stdout == before
        assert project.fingerprints("metrics", "models", "report") == files


@pytest.mark.slow
def test_make_compare_asks_nobody_who_they_are(project, nobody):
    """Unlike `dvc exp run`, whose experiments people share."""
    for key in ("user.name", "user.email"):
        project.run("git", "config", "--unset", key)
    assert "differential" in project.run("make", "compare", "-o", ".venv/ready").stdout


@pytest.mark.slow
def test_the_exercises_own_script_runs_through_the_whole_flow(tmp_path, run_stage):
    """FakeData and a ResNet-18 without pretrained weights: the exercise literally, but for its size."""
    exercise = {
        "data.source": "fake",
        "data.split": {"train": 0.1, "val": 0.1, "test": 0.1},
        "model.library": "torchvision",
        "model.name": "resnet18",
        "train.epochs": 1,
        "train.seeds": [1],
    }
    project = clone_project(tmp_path, {**TINY, **exercise})
    done = project.run("dvc", "repro")
    assert sorted(stages_run(done.stdout)) == sorted(STAGES)
    evaluation = project.read_json("metrics/evaluation.json")
    assert list(evaluation["test"]["baseline"]["mean"]) == METRIC_NAMES
    assert evaluation["val"]["baseline"]["std"]["accuracy"] is None
    assert evaluation["verdict"]["low"] is None
    assert evaluation["verdict"]["decision"] == "no difference shown"
    assert "one replicate says nothing of the chance between replicates" in " ".join(
        run_stage(project, "summary").stdout.split()
    )


@pytest.mark.slow
def test_finding_rates_with_the_committed_network_touches_nothing_else(reproduced_with_real_network, tmp_path):
    project = reproduced_with_real_network.copy_to(tmp_path / "clone")
    before = project.fingerprints("metrics", "models", "data/prepared")
    suggested = json.loads(project.stage("find_rates", "--steps", "40", "--json").stdout)
    assert set(suggested) <= {"head", "backbone", "all"}
    assert all(1e-6 <= rate <= 1 for rate in suggested.values())
    assert pd.read_csv(project.folder / "report/find_rates.csv")["learning_rate"].between(1e-6, 1).all()
    assert project.fingerprints("metrics", "models", "data/prepared") == before
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_the_real_network_is_the_one_that_is_committed():
    model = load_params(ROOT / "params.yaml").model
    assert {"model.name": model.name, "model.weights": model.weights} == REAL_NETWORK


@pytest.mark.slow
def test_queued_experiments_are_run_one_after_the_other(project):
    """With one worker; with several, DVC's queue loses experiments (its issues 10398 and 10673)."""
    project.run("dvc", "exp", "run", "--queue", "-S", "lr.head=0.003,0.02")
    project.run("dvc", "exp", "run", "--run-all", "--jobs", "1")
    shown = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    heads = {
        revision["data"]["params"]["params.yaml"]["data"]["lr"]["head"]
        for entry in shown
        for experiment in entry.get("experiments") or []
        for revision in experiment["revs"]
        if revision["data"]["metrics"]["metrics/review.json"]
    }
    assert heads == {0.003, 0.02}
