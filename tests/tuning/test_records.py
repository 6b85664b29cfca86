"""What trials came to is kept once, found again, and written as a table."""

import subprocess
import sys
from contextlib import closing

import optuna
import pytest

from stages.errors import UserError
from stages.tuning.records import METRICS_OF_TRIAL, TrialResult, trials_table
from stages.tuning.sharing import open_trials
from tests.conftest import ROOT
from tests.tuning.conftest import drawn_trials, search_params

METRICS = dict(zip(METRICS_OF_TRIAL, (0.3, 0.9, 0.2, 0.95, 0.05), strict=True))


@pytest.fixture
def params():
    return search_params({"train": {"batch_size": {"low": 8, "high": 64}}})


@pytest.fixture
def study(params):
    return params.search.studies["sgd"]


@pytest.fixture
def draws(params):
    return drawn_trials(params, 3)[0]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path}/a/folder/trials.db"


@pytest.fixture(params=["sqlite", "journal"])
def url_of_file(request, tmp_path):
    return f"{request.param}:///{tmp_path}/a/folder/trials"


def opened(url, objective="val_loss"):
    return open_trials(url, "sgd", ["baseline", "differential"], objective)


@pytest.mark.parametrize("state", ["finished", "diverged", "pruned"])
def test_what_is_kept_is_found_again_and_is_no_other_trial_s(url_of_file, study, draws, state):
    result = TrialResult(draws[0], state, METRICS if state == "finished" else {})
    with closing(opened(url_of_file)) as log:
        log.add(result, ["print of one", "print of two"], study)
    again = opened(url_of_file)
    assert again.known(draws[0], ["print of one", "print of two"]) == result
    assert again.known(draws[0], ["print of one"]) is None
    assert again.known(draws[0], ["print of two", "print of one"]) is None
    assert again.known(draws[-1], ["print of one", "print of two"]) is None  # of the other arm


def test_a_file_belongs_to_one_search_of_a_study_at_a_time(url_of_file, draws):
    with closing(opened(url_of_file)):
        with pytest.raises(
            UserError, match=r"^search\.storage: another search of sgd is at .+: wait until it ends"
        ) as error:
            opened(url_of_file)
        assert len(str(error.value).splitlines()) == 1
        open_trials(url_of_file, "adam", ["baseline"], "val_loss").close()
    opened(url_of_file).close()


def test_a_killed_search_locks_no_file(url_of_file):
    script = (
        "import os, sys; from stages.tuning.sharing import open_trials;"
        "log = open_trials(sys.argv[1], 'sgd', ['baseline'], 'val_loss'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, url_of_file], cwd=ROOT, check=False).returncode == -9
    opened(url_of_file).close()


@pytest.mark.parametrize(("objective", "value"), [("val_loss", 0.3), ("val_accuracy", 0.9)])
def test_optuna_s_own_tools_find_the_trials_with_their_parameters_and_values(url, study, draws, objective, value):
    log = opened(url, objective)
    log.add(TrialResult(draws[0], "finished", METRICS), ["a"], study)
    log.add(TrialResult(draws[1], "diverged", {}), ["b"], study)
    log.add(TrialResult(draws[-1], "finished", METRICS), ["c"], study)
    assert set(optuna.get_all_study_names(url)) == {f"sgd, baseline, {objective}", f"sgd, differential, {objective}"}
    kept = optuna.load_study(study_name=f"sgd, baseline, {objective}", storage=url)
    assert [trial.state.name for trial in kept.trials] == ["COMPLETE", "FAIL"]
    assert kept.best_value == value
    assert kept.best_params == dict(draws[0].drawn)
    assert kept.trials[0].user_attrs["values"] == dict(draws[0].values)
    assert kept.trials[0].user_attrs["seeds"] == list(draws[0].seeds)


@pytest.mark.parametrize("kind", ["no database", "a folder", "below a file", "no kind of storage"])
def test_a_storage_that_cannot_be_opened_is_one_line(tmp_path, kind):
    (tmp_path / "file").write_text("this is no database")
    url = {
        "no database": f"sqlite:///{tmp_path}/file",
        "a folder": f"sqlite:///{tmp_path}",
        "below a file": f"sqlite:///{tmp_path}/file/trials.db",
        "no kind of storage": "nosuch://trials",
    }[kind]
    with pytest.raises(UserError, match=r"^search\.storage: Optuna cannot open it \(.+\)$") as error:
        opened(url)
    assert len(str(error.value).splitlines()) == 1


def test_the_table_has_a_row_for_each_trial_arm_by_arm_whatever_order_they_came_in(draws):
    results = [TrialResult(draw, "finished", METRICS) for draw in reversed(draws)]
    table = trials_table(results)
    assert table["arm"].tolist() == ["baseline"] * 3 + ["differential"] * 3
    assert table["trial"].tolist() == [1, 2, 3, 1, 2, 3]
    assert table["seed"].tolist() == [draw.seeds[0] for draw in draws]
    assert table.equals(trials_table(results[::-1]).reindex(columns=table.columns))
    assert set(table) == {"arm", "trial", "seed", "state", *METRICS_OF_TRIAL, *draws[0].values, *draws[-1].values}


def test_the_table_s_columns_do_not_depend_on_the_order_in_which_trials_end(draws):
    results = [TrialResult(draw, "finished", METRICS) for draw in draws]
    assert list(trials_table(results)) == list(trials_table(results[::-1]))


def test_a_trial_without_metrics_and_a_rate_of_the_other_arm_have_nothing_there(draws):
    table = trials_table([TrialResult(draws[0], "diverged", {}), TrialResult(draws[-1], "finished", METRICS)])
    assert table.loc[0, ["val_loss", "val_accuracy", "lr.head"]].isna().all()
    assert table.loc[0, "state"] == "diverged"
    assert table.loc[1, "val_loss"] == 0.3
