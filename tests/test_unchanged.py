"""A params.yaml that changes while a stage, or the run that it belongs to, goes on."""

import importlib
import json
import os
import re
import shutil
import signal

import pytest

from stages.unchanged import changed_since_run
from tests.conftest import ROOT, Project, one_line_of, set_params
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


@pytest.mark.slow
@pytest.mark.parametrize("while_training", ["baseline", "differential"])
def test_a_second_experiment_in_another_terminal_never_lends_its_rates_to_the_first(project, while_training):
    """It is busy, but has rewritten params.yaml: the first says so, and `dvc repro` goes on with what it kept."""
    set_params(project.folder, {"replicate_store.max_gib": 1, "resume.save_every_minutes": 1e-9, "train.epochs": 20})
    project.commit("Arms that take a while to train, and whose finished replicates are kept")
    first = start(project, "dvc", "exp", "run", "-S", "lr.head=0.05", "-S", "optimizer.momentum=0.8")
    wait_for_state(project, while_training)
    os.killpg(first.pid, signal.SIGSTOP)  # else it might come to its end before the second has begun
    second = project.run("dvc", "exp", "run", "-S", "lr.head=0.02", check=False)
    os.killpg(first.pid, signal.SIGCONT)
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


@pytest.fixture
def committed(tmp_path, monkeypatch):
    """The committed parameters, lock and metrics, without images or checkpoints."""
    for name in ("params.yaml", "dvc.yaml", "dvc.lock"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "metrics", tmp_path / "metrics")
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)


def test_a_result_of_the_parameters_that_stand_there_is_shown_without_a_warning(committed, run_stage):
    done = run_stage(committed, "summary", "--json")
    assert done.stderr == ""
    assert json.loads(done.stdout)["changed_since_run"] == []
    assert "warning" not in run_stage(committed, "summary", "--plan").stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr.head": 0.5}, "another lr.head now: run `dvc repro`"),
        (
            {
                "data.seed": 77,
                "train.epochs": 99,
                "optimizer.momentum": 0.1,
                "lr.head": 0.5,
                "goal.val_accuracy_above": 0,
            },
            "another data.seed, optimizer.momentum, train.epochs and 2 more now: run `dvc repro`",
        ),
    ],
    ids=["one", "five"],
)
def test_a_result_of_other_parameters_is_shown_with_a_line_that_names_them(committed, run_stage, changes, says):
    set_params(committed.folder, changes)
    for form in ((), ("--json",), ("--markdown",), ("--plan",)):
        done = run_stage(committed, "summary", *form)
        (line,) = done.stderr.splitlines()
        assert line == f"warning: this is the result of an earlier run; params.yaml has {says}"
        if form == ("--json",):
            assert set(json.loads(done.stdout)["changed_since_run"]) == set(changes)


@pytest.mark.parametrize("changes", [{"train.workers": 7}, {"review.arm": "baseline"}, {"search.trials": 3}], ids=str)
def test_a_parameter_that_the_result_does_not_depend_on_is_not_named(committed, changes):
    set_params(committed.folder, changes)
    assert changed_since_run() == []


@pytest.mark.parametrize("lock", [None, "", "stages: [1, 2]", "stages: {a: 1}", "{"])
def test_without_a_lock_that_can_be_read_nothing_is_said_of_changes(committed, lock):
    (committed.folder / "dvc.lock").unlink()
    if lock is not None:
        (committed.folder / "dvc.lock").write_text(lock)
    assert changed_since_run() == []
