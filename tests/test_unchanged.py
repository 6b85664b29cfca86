"""A params.yaml that changes while a stage, or the run that it belongs to, goes on."""

import importlib
import json
import re

import pytest

from tests.conftest import TINY, Project, build_once, clone_project, one_line_of, set_params
from tests.test_interruptions import start, wait_for_state

# What each stage calls when its work is done and nothing is written yet, and a parameter that it reads.
ENDS = [
    (("prepare",), "prepare", {"data.image_size": 64}),
    (("train", "baseline"), "train_arm", {"optimizer.momentum": 0.5}),
    (("train", "differential"), "train_arm", {"lr.layer_decay": 0.5}),
    (("evaluate",), "evaluate", {"evidence.metric": "loss"}),
]


def run_and_change(project, run_stage, monkeypatch, stage, function, changes):
    """Run a stage; when a function of it has ended, change params.yaml."""
    module = importlib.import_module(f"stages.{stage[0]}")
    work = getattr(module, function)

    def work_and_change(*arguments):
        result = work(*arguments)
        set_params(project.folder, changes)
        return result

    monkeypatch.setattr(module, function, work_and_change)
    return run_stage(project, *stage, check=False)


@pytest.mark.parametrize(("stage", "function", "changes"), ENDS, ids=str)
def test_a_stage_whose_parameter_changes_while_it_runs_stops_with_both_values(
    project, run_stage, monkeypatch, stage, function, changes
):
    ((name, value),) = changes.items()
    before = project.fingerprints("metrics", "models")
    done = run_and_change(project, run_stage, monkeypatch, stage, function, changes)
    one_line_of(done, f"error: params.yaml: {name} was ", "began and is ", f"{value} now: run `dvc repro`")
    assert project.fingerprints("metrics", "models") == before


@pytest.mark.parametrize("changes", [{"lr.head": 0.02}, {"review.arm": "baseline"}, {"train.workers": 2}], ids=str)
def test_a_parameter_that_a_stage_does_not_read_may_change_while_it_runs(project, run_stage, monkeypatch, changes):
    done = run_and_change(project, run_stage, monkeypatch, ("train", "baseline"), "train_arm", changes)
    assert done.returncode == 0


def test_a_stage_of_a_run_whose_params_have_changed_since_it_began_does_not_begin(project, monkeypatch):
    """Here this process is the one that starts the stages, as DVC does."""
    monkeypatch.setenv("DVC_STAGE", "train_differential")
    project.stage("check_params")
    set_params(project.folder, {"lr.head": 0.02})
    done = project.stage("train", "differential", check=False)
    one_line_of(done, "error: params.yaml: lr.head was 0.01 when this run began and is 0.02 now: run `dvc repro`")
    project.stage("check_params")  # a run after it
    assert project.stage("train", "differential").returncode == 0


def test_of_an_arm_trained_with_other_shared_parameters_nothing_is_compared(project, run_stage):
    set_params(project.folder, {"optimizer.momentum": 0.5, "schedule.name": "cosine"})
    run_stage(project, "train", "differential")
    before = project.fingerprints("metrics")
    done = run_stage(project, "evaluate", check=False)
    one_line_of(done, "metrics/baseline.json: this arm was trained with another `optimizer, schedule` than params.yaml")
    set_params(project.folder, {"optimizer.momentum": 0.9, "schedule.name": "constant"})
    one_line_of(run_stage(project, "evaluate", check=False), "metrics/differential.json", "--single-item train_differ")
    assert project.fingerprints("metrics") == before


def test_what_was_written_before_arms_recorded_their_parameters_is_compared(project, run_stage):
    for arm in ("baseline", "differential"):
        content = project.read_json(f"metrics/{arm}.json")
        del content["trained_with"]
        (project.folder / f"metrics/{arm}.json").write_text(json.dumps(content))
    assert run_stage(project, "evaluate").returncode == 0


@pytest.fixture
def reproduced_long(tmp_path_factory, tmp_path):
    """A reproduced experiment whose arms take a while to train, and whose finished replicates are kept."""

    def reproduce(folder):
        kept = {"replicate_store.max_gib": 1, "resume.save_every_minutes": 1e-9, "train.epochs": 20}
        project = clone_project(folder, {**TINY, **kept})
        project.run("dvc", "repro")
        project.commit("Its results")

    return Project(build_once(tmp_path_factory, "reproduced-long", reproduce)).copy_to(tmp_path / "clone")


@pytest.mark.slow
@pytest.mark.parametrize("while_training", ["baseline", "differential"])
def test_a_second_experiment_in_another_terminal_never_lends_its_rates_to_the_first(reproduced_long, while_training):
    """It is busy, but has rewritten params.yaml: the first says so, and `dvc repro` goes on with what it kept."""
    project = reproduced_long
    first = start(project, "dvc", "exp", "run", "-S", "lr.head=0.05", "-S", "optimizer.momentum=0.8")
    wait_for_state(project, while_training)
    second = project.run("dvc", "exp", "run", "-S", "lr.head=0.02", check=False)
    assert second.returncode != 0
    assert "is busy" in second.stderr
    printed, told = first.communicate()
    assert first.returncode != 0
    (line,) = [line for line in told.splitlines() if line.startswith("error: ")]
    assert re.search(
        r"lr\.head was 0\.05 when (this run|train_differential) began and is 0\.02 now: run `dvc rep", line
    )
    assert "Running stage 'review'" not in printed
    finished = project.run("dvc", "repro").stdout
    assert project.read_json("metrics/differential.json")["learning_rates"]["head"] == 0.02
    assert project.read_json("metrics/evaluation.json")["verdict"]["decision"]
    assert (printed + finished).count("baseline: 2 to train") == 1


def test_an_arm_trained_with_other_rates_than_params_yaml_has_is_not_compared(project, run_stage):
    """As where DVC trained it first, and its rates changed while the other arm was trained."""
    set_params(project.folder, {"lr.head": 0.5})
    one_line_of(run_stage(project, "evaluate", check=False), "metrics/differential.json: this arm was trained with ano")
