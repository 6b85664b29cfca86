"""The search under its real commands: what it leaves, what it keeps closed, and how it goes on after anything."""

import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import optuna
import pandas as pd
import pytest

from stages.data.store import CHECKSUMS, IMAGES
from stages.files import read_json, write_json
from stages.hashing import hash_file
from stages.search_files import SearchAnswer
from tests.conftest import PATIENCE, TINY, Project, build_once, clone_project, one_line_of, set_params, stages_run

RATE = {"low": 0.0001, "high": 0.1}
SPACE = {"lr": {"uniform": RATE, "head": RATE, "backbone": {"low": 0.001, "high": 1.0, "times": "lr.head"}}}
SEARCH = {
    **TINY,
    "data.development": 0.3,
    "data.max_images": {"train": 32, "val": 32, "test": 32, "per_class": None},
    "search.studies": {"sgd": {"set": {"optimizer": {"name": "sgd"}}, "space": SPACE}},
}
TRIALS = "metrics/search/sgd/trials.csv"


def search(project):
    for command in (("prepare",), ("split", "--search"), ("search", "sgd"), ("search_answer", "sgd")):
        project.stage(*command)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """A search of four trials of each arm, as its stages leave it; only read."""
    return Project(build_once(tmp_path_factory, "searched", lambda folder: search(clone_project(folder, SEARCH))))


@pytest.fixture
def project(searched, tmp_path):
    """A copy of it in which nothing has been tried yet."""
    project = searched.copy_to(tmp_path / "clone")
    shutil.rmtree(project.folder / ".search")
    shutil.rmtree(project.folder / "metrics/search/sgd")
    return project


def kept_trials(project):
    """The numbers of the trials in Optuna's storage, arm by arm."""
    url = f"sqlite:///{project.folder}/.search/trials.db"
    return {
        name: [trial.user_attrs["number"] for trial in optuna.load_study(study_name=name, storage=url).trials]
        for name in optuna.get_all_study_names(url)
    }


def table_of(project):
    return pd.read_csv(project.folder / TRIALS)


def test_it_leaves_the_trials_of_both_arms_alike_and_what_they_say(searched):
    trials = table_of(searched)
    assert trials["arm"].tolist() == ["baseline"] * 4 + ["differential"] * 4
    assert trials["trial"].tolist() == [1, 2, 3, 4] * 2
    assert trials["seed"].is_unique
    assert set(trials["state"]) == {"finished"}
    assert trials.groupby("arm")["lr.uniform"].count().to_dict() == {"baseline": 4, "differential": 0}
    answer = SearchAnswer.model_validate(searched.read_json("metrics/search/sgd/answer.json"))
    assert (answer.train, answer.val) == (32, 32)
    assert answer.surface is None
    assert {arm: found.trials for arm, found in answer.arms.items()} == {"baseline": 4, "differential": 4}
    assert len(pd.read_csv(searched.folder / "metrics/search/sgd/curves.csv")) == 2 * 2 * 4
    assert pd.read_csv(searched.folder / "metrics/search/sgd/surface.csv").empty
    assert set(map(tuple, kept_trials(searched).values())) == {(0, 1, 2, 3)}
    assert not list(searched.folder.glob(".resume/*"))


def test_it_gives_the_same_bytes_again(searched, project, run_stage):
    run_stage(project, "search", "sgd")
    assert project.read(TRIALS) == searched.read(TRIALS)


def test_what_has_been_tried_is_not_trained_again(searched, tmp_path, run_stage):
    copy = searched.copy_to(tmp_path / "clone")
    (copy.folder / TRIALS).unlink()
    assert "to train" not in run_stage(copy, "search", "sgd").stdout
    assert copy.read(TRIALS) == searched.read(TRIALS)


def test_what_the_replicate_store_keeps_costs_nothing_where_optuna_s_storage_is_gone(searched, project, run_stage):
    set_params(project.folder, {"replicate_store.max_gib": 1.0})
    run_stage(project, "search", "sgd")
    shutil.rmtree(project.folder / ".search")
    done = run_stage(project, "search", "sgd")
    assert done.stdout.count("is in .replicates/ from before") == 8
    assert "to train" not in done.stdout
    assert project.read(TRIALS) == searched.read(TRIALS)
    assert set(map(tuple, kept_trials(project).values())) == {(0, 1, 2, 3)}


def test_a_first_look_writes_no_file_and_its_trials_count_later(searched, project, run_stage):
    before = project.fingerprints("metrics", "data")
    done = run_stage(project, "search", "sgd", "--trials", "2")
    assert "search sgd: 4 to train" in done.stdout
    assert project.fingerprints("metrics", "data") == before
    done = run_stage(project, "search", "sgd")
    assert "search sgd: 4 to train" in done.stdout
    assert project.read(TRIALS) == searched.read(TRIALS)


def test_more_trials_leave_the_first_as_they_are(searched, project, run_stage):
    set_params(project.folder, {"search.trials": 5})
    run_stage(project, "split", "--search")
    run_stage(project, "search", "sgd")
    first = table_of(project)[lambda trials: trials["trial"] <= 4].reset_index(drop=True)
    assert first.equals(table_of(searched))


@pytest.mark.parametrize("trials", ["0", "1", "5", "-3"])
def test_a_first_look_is_at_two_trials_or_more_of_those_there_are(project, run_stage, trials):
    done = run_stage(project, "search", "sgd", "--trials", trials, check=False)
    one_line_of(done, "--trials: should be between 2 and search.trials, which is 4")


@pytest.mark.parametrize("development", [0.3, 0.0])
def test_no_image_is_opened_but_those_that_trials_train_and_validate_on(
    searched, project, run_stage, monkeypatch, development
):
    """Others' pixels may be anything: first of all those of the test part, and of all that is not set aside."""
    set_params(project.folder, {"data.development": development})
    run_stage(project, "split", "--search")
    run_stage(project, "search", "sgd")
    before = project.read(TRIALS)
    assert (before == searched.read(TRIALS)) == bool(development)
    shutil.rmtree(project.folder / ".search")

    splits = pd.read_csv(project.folder / "data/search_splits.csv", keep_default_na=False)
    used = splits.filter(like="seed-").isin(["train", "val"]).any(axis=1).to_numpy()
    assert set(splits.filter(like="seed-").to_numpy().ravel()) == {"train", "val", ""}
    run_stage(project, "split")
    experiment = pd.read_csv(project.folder / "data/splits.csv", keep_default_na=False)
    if development:
        assert not used[experiment["part"] != "development"].any()
    tested = (experiment.filter(like="seed-") == "test").any(axis=1).to_numpy()
    assert tested.any()
    assert not used[tested].any()

    prepared = project.folder / "data/prepared"
    images = np.load(prepared / IMAGES, mmap_mode="r+")
    images[~used] = np.random.default_rng(0).integers(0, 256, (int((~used).sum()), *images.shape[1:]), dtype=np.uint8)
    images.flush()
    checksums = read_json(prepared / CHECKSUMS)
    write_json(prepared / CHECKSUMS, {}, exact={**checksums, IMAGES: hash_file(prepared / IMAGES)})
    done = run_stage(project, "search", "sgd")
    assert "search sgd: 8 to train" in done.stdout
    assert project.read(TRIALS) == before


def test_a_trial_that_diverges_is_recorded_and_the_search_goes_on(project, run_stage):
    rates = {**SPACE["lr"], "uniform": {"low": 1e28, "high": 1e30}}
    set_params(project.folder, {"search.studies": {"sgd": {"space": {"lr": rates}}}})
    done = run_stage(project, "search", "sgd")
    assert done.stdout.count(": diverged") == 4
    trials = table_of(project)
    assert trials.groupby("arm")["state"].unique().map(list).to_dict() == {
        "baseline": ["diverged"],
        "differential": ["finished"],
    }
    assert trials["val_loss"].isna().equals(trials["arm"] == "baseline")
    before = project.read(TRIALS)
    assert "to train" not in run_stage(project, "search", "sgd").stdout
    assert project.read(TRIALS) == before
    one_line_of(run_stage(project, "search_answer", "sgd", check=False), "no trial of the baseline arm came to its end")


def test_pruning_gives_trials_up_and_depends_on_nothing_that_was_trained_before(project, run_stage):
    """Neither what Optuna keeps nor the replicate store lets a trial pass that pruning would have given up."""
    set_params(project.folder, {"search.epochs": 2, "replicate_store.max_gib": 1.0})
    run_stage(project, "search", "sgd")
    whole = project.read(TRIALS)
    set_params(project.folder, {"search.pruning": {"after_epoch": 1, "loss_above": 0.001}})
    run_stage(project, "search", "sgd")
    from_before = project.read(TRIALS)
    assert set(table_of(project)["state"]) == {"pruned"}
    for folder in (".search", ".replicates"):
        shutil.rmtree(project.folder / folder)
    done = run_stage(project, "search", "sgd")
    assert "search sgd: 8 to train" in done.stdout
    assert project.read(TRIALS) == from_before
    assert "to train" not in run_stage(project, "search", "sgd").stdout
    set_params(project.folder, {"search.pruning": None})
    assert "search sgd: 8 to train" in run_stage(project, "search", "sgd").stdout  # no half of one is kept
    assert project.read(TRIALS) == whole


def test_pruning_that_is_never_due_changes_no_byte(searched, project, run_stage):
    set_params(project.folder, {"search.pruning": {"after_epoch": 1, "loss_above": 0.001}})  # after one of one epoch
    run_stage(project, "search", "sgd")
    assert project.read(TRIALS) == searched.read(TRIALS)


def test_each_replicate_of_a_trial_has_a_seed_and_the_trial_their_mean(project, run_stage):
    set_params(project.folder, {"search.replicates": 2, "search.trials": 2})
    run_stage(project, "split", "--search")
    done = run_stage(project, "search", "sgd")
    assert "search sgd: 8 to train" in done.stdout
    assert table_of(project)["seed"].tolist() == [1000, 1002, 101_000, 101_002]


def test_a_storage_that_cannot_be_opened_is_one_line(project, run_stage):
    set_params(project.folder, {"search.storage": "sqlite:///params.yaml"})
    one_line_of(run_stage(project, "search", "sgd", check=False), "search.storage: Optuna cannot open it (")


def test_a_study_that_does_not_exist_is_one_line(project, run_stage):
    done = run_stage(project, "search", "sdg", check=False)
    one_line_of(done, "search.studies: there is no sdg; known are sgd")


@pytest.mark.parametrize("command", [("split", "--search"), ("search", "sgd")])
def test_a_space_that_will_not_do_stops_it_before_anything_is_drawn(project, run_stage, command):
    set_params(project.folder, {"train.seeds": [1, 1001]})
    one_line_of(run_stage(project, *command, check=False), "search.seed: 1001 would be a trial's seed")


def test_where_every_image_is_tested_it_says_what_to_set(project, run_stage):
    set_params(
        project.folder,
        {"data.development": 0.0, "data.folds": 2, "data.split": {"train": 0.3, "val": 0.1, "test": 0.5}},
    )
    done = run_stage(project, "split", "--search", check=False)
    one_line_of(done, "data.folds: every image is tested", "set data.development above 0, such as 0.33")


def test_without_its_splits_it_says_what_makes_them(project, run_stage):
    (project.folder / "data/search_splits.csv").unlink()
    done = run_stage(project, "search", "sgd", check=False)
    one_line_of(done, "data/search_splits.csv is missing: run `dvc repro search/dvc.yaml:split`, which makes it")


def test_a_plain_repro_runs_no_search(reproduced, tmp_path):
    """Though it has never been run there."""
    project = reproduced.copy_to(tmp_path / "clone")
    assert not (project.folder / "metrics/search").exists()
    assert stages_run(project.run("dvc", "repro", "--dry").stdout) == []
    assert "search/dvc.yaml:split" in project.run("dvc", "repro", "--dry", "search/dvc.yaml:split").stdout


@pytest.mark.slow
def test_dvc_runs_all_of_it_from_nothing_and_nothing_of_the_experiment(searched, tmp_path):
    project = clone_project(tmp_path / "clone", SEARCH)
    done = project.run("dvc", "repro", "search/dvc.yaml:answer@sgd")
    run = [name.split(":")[-1] for name in stages_run(done.stdout)]
    assert run == ["check_params", "prepare", "split", "trials@sgd", "answer@sgd"]
    for name in ("trials.csv", "answer.json", "curves.csv", "surface.csv"):
        assert project.read(f"metrics/search/sgd/{name}") == searched.read(f"metrics/search/sgd/{name}")
    assert stages_run(project.run("dvc", "repro", "search/dvc.yaml:answer@sgd").stdout) == []
    assert (
        "metrics/search/sgd/trials.csv" in project.run("git", "status", "--porcelain", "--untracked-files=all").stdout
    )


# Trials of so many epochs that they take a while, and a state after every step.
LONG = {"search.epochs": 8, "resume.save_every_minutes": 1e-9}


@pytest.fixture(scope="module")
def long_by_one(searched, tmp_path_factory):
    """A longer search, undisturbed, by one worker."""
    project = searched.copy_to(tmp_path_factory.mktemp("long") / "clone")
    set_params(project.folder, LONG)
    project.stage("search", "sgd")
    return project


def start(project):
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "stages.search", "sgd"], cwd=project.folder, env=environment, text=True,
        start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def kill_after(project, trials, number=signal.SIGKILL):
    """Start the search, and end it, with its workers, when so many trials have come to their end."""
    running = start(project)
    told = 0
    while told < trials:
        line = running.stdout.readline()
        assert line, "it ended by itself"
        told += "validation" in line
    os.killpg(running.pid, number)
    running.communicate(timeout=PATIENCE)
    return running.returncode


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGKILL), (2, signal.SIGTERM)])
def test_a_search_that_is_ended_in_the_middle_comes_to_the_same_bytes(long_by_one, project, workers, number):
    set_params(project.folder, {**LONG, "train.workers": workers})
    for trials in (1, 2):
        assert kill_after(project, trials, number) in {-number, 128 + number}
        assert not (project.folder / TRIALS).exists()
    done = project.stage("search", "sgd")
    assert done.stdout.count("validation") >= 3
    assert project.read(TRIALS) == long_by_one.read(TRIALS)
    assert {tuple(sorted(numbers)) for numbers in kept_trials(project).values()} == {(0, 1, 2, 3)}
    assert not list(project.folder.glob(".resume/search-*"))


@pytest.mark.slow
def test_two_workers_come_to_the_same_bytes(long_by_one, project):
    set_params(project.folder, {**LONG, "train.workers": 2})
    assert "by 2 workers" in project.stage("search", "sgd").stdout
    assert project.read(TRIALS) == long_by_one.read(TRIALS)
    assert {tuple(sorted(numbers)) for numbers in kept_trials(project).values()} == {(0, 1, 2, 3)}


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["qmc", "gp"])
def test_samplers_that_draw_no_bands_have_an_answer_without_curves(project, run_stage, monkeypatch, sampler):
    for module in ("surface", "answer"):
        monkeypatch.setattr(f"stages.tuning.{module}.SIMULATIONS", 2)
    set_params(project.folder, {"search.sampler": sampler, "search.trials": 10})
    run_stage(project, "split", "--search")
    run_stage(project, "search", "sgd")
    before = project.read(TRIALS)
    shutil.rmtree(project.folder / ".search")
    run_stage(project, "search", "sgd")
    assert project.read(TRIALS) == before
    run_stage(project, "search_answer", "sgd")
    answer = SearchAnswer.model_validate(project.read_json("metrics/search/sgd/answer.json"))
    assert answer.curves is None
    assert len(table_of(project)) == 20
