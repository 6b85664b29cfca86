"""`python -m stages.search_repeats`: the winners of independent searches, trained again and tested."""

import shutil

import pandas as pd
import pytest

from stages.search_files import read_repeats
from stages.training.replicate_store import ReplicateStore
from tests.conftest import one_line_of, set_params

LOSSES = {"baseline": [0.5, 0.4, 0.3, 0.6], "differential": [0.6, 0.7, 0.8, 0.2]}


def write_trials(project, **changes):
    """Four trials an arm, whose losses say which of each two wins."""
    rows = [
        {
            "arm": arm,
            "trial": number + 1,
            "seed": 1000 + number,
            "state": "finished",
            "lr.uniform": 0.001 * (number + 1) if arm == "baseline" else None,
            "lr.head": 0.01 * (number + 1) if arm == "differential" else None,
            "lr.backbone": 0.0001 * (number + 1) if arm == "differential" else None,
            "val_loss": loss,
            "val_accuracy": 0.5,
            **changes,
        }
        for arm, losses in LOSSES.items()
        for number, loss in enumerate(losses)
    ]
    path = project.folder / "metrics/search/sgd/trials.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_csv(path, index=False)


@pytest.fixture
def searched(project):
    """The tiny experiment with the trials of two independent searches."""
    set_params(project.folder, {"search.trials": 4, "search.repeats": 2, "train.epochs": 1})
    write_trials(project)
    return project


def test_the_winners_of_each_search_are_trained_and_compared(searched, run_stage, monkeypatch):
    run_stage(searched, "search_repeats", "sgd")
    monkeypatch.chdir(searched.folder)
    answer = read_repeats("sgd")
    first, second = answer.searches
    assert first.values["baseline"] == {"lr.uniform": 0.002}
    assert first.values["differential"] == {"lr.head": 0.01, "lr.backbone": 0.0001}
    assert second.values["baseline"] == {"lr.uniform": 0.003}
    assert second.values["differential"] == {"lr.head": 0.04, "lr.backbone": 0.0004}
    assert answer.trials == 2
    assert answer.tested == searched.read_json("metrics/splits.json")["test"]
    differences = [search.scores["differential"] - search.scores["baseline"] for search in answer.searches]
    assert answer.interval.estimate == pytest.approx(sum(differences) / 2, abs=1e-5)
    assert not {search.seed for search in answer.searches} & {1, 2, *range(1000, 1004), *range(101_000, 101_004)}


def test_the_same_bytes_come_out_again_and_nothing_is_left_behind(searched, run_stage):
    run_stage(searched, "search_repeats", "sgd")
    before = searched.read("metrics/search/sgd/repeats.json")
    run_stage(searched, "search_repeats", "sgd")
    assert searched.read("metrics/search/sgd/repeats.json") == before
    assert not list((searched.folder / "models").glob(".search*"))
    assert not (searched.folder / ".resume").exists()


def test_winners_that_are_kept_are_not_trained_again(searched, run_stage):
    set_params(searched.folder, {"replicate_store.max_gib": 1})
    run_stage(searched, "search_repeats", "sgd")
    before = searched.read("metrics/search/sgd/repeats.json")
    assert len(ReplicateStore(1, searched.folder / ".replicates").kept()) == 4
    done = run_stage(searched, "search_repeats", "sgd")
    assert done.stdout.count("is in .replicates/ from before") == 4
    assert searched.read("metrics/search/sgd/repeats.json") == before


def test_a_single_search_has_no_repeats(searched, run_stage, monkeypatch):
    set_params(searched.folder, {"search.repeats": 1})
    run_stage(searched, "search_repeats", "sgd")
    monkeypatch.chdir(searched.folder)
    assert read_repeats("sgd").searches == []
    assert read_repeats("sgd").interval is None


def test_a_winner_that_diverges_counts_as_the_majority_class(searched, run_stage, monkeypatch):
    write_trials(searched, **{"lr.head": 1e30})
    run_stage(searched, "search_repeats", "sgd")
    monkeypatch.chdir(searched.folder)
    for search in read_repeats("sgd").searches:
        assert search.diverged == ["differential"]
        assert 0.5 <= search.scores["differential"] <= 1


@pytest.mark.parametrize("stage", ["search_answer", "search_repeats"])
def test_a_study_that_is_no_longer_in_the_params_is_one_line(searched, run_stage, stage):
    (searched.folder / "metrics/search/old").mkdir()
    shutil.copyfile(
        searched.folder / "metrics/search/sgd/trials.csv", searched.folder / "metrics/search/old/trials.csv"
    )
    run_stage(searched, "split", "--search")
    one_line_of(run_stage(searched, stage, "old", check=False), "search.studies: there is no old")
