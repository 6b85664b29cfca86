"""`python -m stages.adopt`: params.yaml afterwards, and what keeps it from being written."""

import shutil

import pytest

from stages.files import write_json
from stages.params import load_params
from tests.conftest import ROOT, Project, one_line_of, set_params
from tests.search_answers import arm, search_answer


@pytest.fixture
def searched(tmp_path):
    """A folder with the committed params.yaml and the answer of a search."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    write_answer(tmp_path)
    return Project(tmp_path)


def write_answer(folder, **changes):
    write_json(folder / "metrics/search/sgd/answer.json", {}, exact=search_answer(**changes).model_dump())


def test_the_best_rates_of_both_arms_are_written(searched, run_stage):
    done = run_stage(searched, "adopt", "sgd")
    rates = load_params(searched.folder / "params.yaml").lr
    assert (rates.uniform, rates.backbone, rates.head) == (0.0102, 0.0015, 0.0099)
    assert "Confirm them with `dvc repro`" in done.stdout


def test_nothing_else_of_the_file_changes(searched, run_stage):
    before = searched.read("params.yaml").decode().splitlines()
    run_stage(searched, "adopt", "sgd")
    after = searched.read("params.yaml").decode().splitlines()
    changed = [line.split()[0] for line, other in zip(after, before, strict=True) if line != other]
    assert set(changed) <= {"uniform:", "backbone:", "head:"}


def test_what_the_study_sets_is_adopted_too(searched, run_stage):
    set_params(searched.folder, {"search.studies.sgd.set": {"optimizer": {"name": "adam"}}})
    run_stage(searched, "adopt", "sgd")
    assert load_params(searched.folder / "params.yaml").optimizer.name == "adam"


def test_rates_that_would_take_their_place_are_cleared(searched, run_stage):
    set_params(searched.folder, {"lr.layer_decay": 0.8, "lr.baseline": {"head": 0.1, "layer_decay": 0.5}})
    run_stage(searched, "adopt", "sgd")
    rates = load_params(searched.folder / "params.yaml").lr
    assert rates.layer_decay is None
    assert rates.baseline is None


def test_what_each_arm_drew_for_itself_is_left_and_told(searched, run_stage):
    arms = {
        "baseline": arm({"lr.uniform": 0.01, "optimizer.weight_decay": 0.001}),
        "differential": arm({"lr.head": 0.01, "lr.backbone": 0.001, "optimizer.weight_decay": 0.1}),
    }
    write_answer(searched.folder, arms=arms)
    done = run_stage(searched, "adopt", "sgd")
    assert "optimizer.weight_decay was drawn by each arm for itself" in done.stdout
    assert load_params(searched.folder / "params.yaml").optimizer.weight_decay == 0


def test_a_dry_run_prints_the_command_and_writes_nothing(searched, run_stage):
    before = searched.read("params.yaml")
    done = run_stage(searched, "adopt", "sgd", "--dry-run")
    assert "-S lr.uniform=0.0102 -S lr.backbone=0.0015 -S lr.head=0.0099" in done.stdout
    assert searched.read("params.yaml") == before


def test_a_study_without_an_answer_is_one_line(searched, run_stage):
    done = run_stage(searched, "adopt", "adam", check=False)
    one_line_of(done, "metrics/search/adam/answer.json is missing", "make search STUDY=adam")


def test_a_misspelt_study_is_told_with_those_that_exist(searched, run_stage):
    done = run_stage(searched, "adopt", "sgdd", check=False)
    one_line_of(done, "search.studies: there is no sgdd; known are sgd, adam")


def test_a_study_that_is_no_longer_there_is_one_line(searched, run_stage):
    write_json(searched.folder / "metrics/search/old/answer.json", {}, exact=search_answer(study="old").model_dump())
    one_line_of(run_stage(searched, "adopt", "old", check=False), "there is no old; known are sgd, adam")


def test_the_answer_of_other_images_is_not_adopted(searched, run_stage):
    write_json(searched.folder / "data/prepared/checksums.json", {"images.npy": "another"})
    before = searched.read("params.yaml")
    done = run_stage(searched, "adopt", "sgd", check=False)
    one_line_of(done, "is of other images", "make search STUDY=sgd")
    assert searched.read("params.yaml") == before
