"""Searches that share a database: each trial is one search's, a dead one's is taken up, no password is told."""

import shutil
import sys
import threading
import time
import warnings

import optuna
import pytest
from optuna.trial import TrialState

from stages.errors import UserError, has_password, without_passwords
from stages.params import load_params
from stages.tuning import records, sharing, storage
from stages.tuning.records import METRICS_OF_TRIAL, TrialResult, is_known
from stages.tuning.sharing import SharedTrialLog, open_trials
from tests.conftest import ROOT, set_params
from tests.postgres import needs_postgres
from tests.tuning.conftest import drawn_trials, search_params

METRICS = dict(zip(METRICS_OF_TRIAL, (0.3, 0.9, 0.2, 0.95, 0.05), strict=True))
PARAMS = search_params()
STUDY = PARAMS.search.studies["sgd"]
DRAWS = drawn_trials(PARAMS, 4)[0]
DECIDED = {draw.label: [f"print of {draw.label}"] for draw in DRAWS}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.slow, needs_postgres])])
def url(request, tmp_path, monkeypatch):
    """A database that is shared; SQLite's stands for a server's where nothing happens at once: it locks no rows."""
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    monkeypatch.setattr(storage, "GRACE", 5)
    monkeypatch.setattr(sharing, "HEARTBEAT", 1)
    if request.param == "postgresql":
        return request.getfixturevalue("database")
    for module in (records, sharing, storage):
        monkeypatch.setattr(module, "file_of", lambda url: None)
    return f"sqlite:///{tmp_path}/trials.db"


@pytest.fixture
def opened(url):
    """Return a function that opens the storage as one search more."""
    logs = []

    def open_one():
        logs.append(open_trials(url, "sgd", ["baseline", "differential"], "val_loss"))
        return logs[-1]

    yield open_one
    for log in logs:
        log.close()


def claim(log, draw):
    return log.claim(draw, DECIDED[draw.label], STUDY)


def add(log, draw, state="finished"):
    log.add(TrialResult(draw, state, METRICS if state == "finished" else {}), DECIDED[draw.label], STUDY)


def known(log, draw):
    return log.known(draw, DECIDED[draw.label])


def is_free(log, draw):
    return log.is_free(draw, DECIDED[draw.label])


def known_records(url):
    """(study, number) of each trial that has come to its end, as Optuna's own tools see it."""
    return sorted(
        (name, trial.user_attrs["number"])
        for name in optuna.get_all_study_names(url)
        for trial in optuna.load_study(study_name=name, storage=url).trials
        if is_known(trial)
    )


@pytest.mark.parametrize("state", ["finished", "diverged", "pruned"])
def test_a_trial_is_one_search_s_and_what_it_comes_to_is_everyone_s(opened, url, state):
    one, other = opened(), opened()
    draw = DRAWS[0]
    assert is_free(one, draw) and claim(one, draw) and claim(one, draw)
    assert not is_free(other, draw) and not claim(other, draw)
    assert known(one, draw) is known(other, draw) is None
    add(one, draw, state)
    assert known(one, draw) == known(other, draw) != None  # noqa: E711
    assert known(other, draw).state == state
    assert not claim(other, draw)
    add(other, draw, state)
    assert known_records(url) == [("sgd, baseline, val_loss", 0)]


def test_what_comes_to_its_end_unclaimed_is_kept_once(opened, url):
    one, other = opened(), opened()
    add(one, DRAWS[0])  # as from the replicate store
    add(other, DRAWS[0])
    assert known_records(url) == [("sgd, baseline, val_loss", 0)]


@pytest.mark.parametrize("url", [pytest.param("postgresql", marks=[pytest.mark.slow, needs_postgres])], indirect=True)
def test_searches_that_begin_at_once_claim_each_trial_once(url):
    """On a database that is still empty, too."""
    claimed, start = [], threading.Barrier(4)

    def search():
        start.wait()
        log = open_trials(url, "sgd", ["baseline", "differential"], "val_loss")
        for draw in DRAWS:
            if claim(log, draw):
                claimed.append(draw.label)
                add(log, draw)
        log.close()

    searches = [threading.Thread(target=search) for _ in range(4)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for one in searches:
            one.start()
        for one in searches:
            one.join()
    assert sorted(claimed) == sorted(draw.label for draw in DRAWS)
    assert known_records(url) == sorted((f"sgd, {draw.arm}, val_loss", draw.number) for draw in DRAWS)


def test_what_an_interrupted_search_has_not_trained_is_free_at_once(opened):
    one, other = opened(), opened()
    assert claim(one, DRAWS[0])
    one.close()
    assert is_free(other, DRAWS[0]) and claim(other, DRAWS[0])


def test_a_dead_search_s_trial_is_taken_up_after_the_grace_period_and_a_living_one_s_never(opened, url):
    dead, living, other = opened(), opened(), opened()
    assert claim(dead, DRAWS[0]) and claim(living, DRAWS[1])
    dead._heartbeat.stop()
    time.sleep(0.5)
    other.free_dead()
    assert not is_free(other, DRAWS[0])
    until = time.monotonic() + 60
    while not is_free(other, DRAWS[0]):
        assert time.monotonic() < until
        time.sleep(0.5)
        other.free_dead()
    assert not is_free(other, DRAWS[1])
    assert claim(other, DRAWS[0])
    add(dead, DRAWS[0])  # it was merely away, and comes to the same
    assert known(other, DRAWS[0]) is None
    add(other, DRAWS[0])
    add(dead, DRAWS[0])
    assert known_records(url) == [("sgd, baseline, val_loss", 0)]


def test_a_result_of_a_search_that_was_taken_for_dead_is_kept_where_nobody_has_taken_the_trial_up(opened, url):
    away, other = opened(), opened()
    assert claim(away, DRAWS[0])
    away._heartbeat.stop()
    away._storage.set_trial_state_values(away._claimed[DRAWS[0].label], TrialState.FAIL)
    add(away, DRAWS[0])
    assert known(other, DRAWS[0])
    assert known_records(url) == [("sgd, baseline, val_loss", 0)]


def test_a_search_of_something_else_is_told_and_shares_nothing(opened, capsys):
    one, other = opened(), opened()
    assert claim(one, DRAWS[0])
    for draw in DRAWS[:2]:
        assert other.claim(draw, [f"another print of {draw.label}"], STUDY)
    assert capsys.readouterr().out.count("warning: a search on this storage has other code, data, parameters") == 1


SECRET = "s3cr&t"
WITH_PASSWORD = [
    f"postgresql+psycopg://me:{SECRET}@host/trials",
    "postgresql+psycopg://me:pa/ss@host/trials",
    f"postgresql+psycopg://:{SECRET}@host:5432/trials",
    "postgresql+psycopg://host/trials?user=me&password=s3cret",
    "postgresql+psycopg://host/trials?p%61ssword=s3cret",
    "postgresql+psycopg://me%3As3cret@host/trials",
]


@pytest.mark.parametrize("url", WITH_PASSWORD)
def test_a_password_in_params_yaml_is_refused_and_not_told(tmp_path, url):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    set_params(tmp_path, {"search.storage": url})
    with pytest.raises(UserError, match="search.storage: a password does not belong here") as error:
        load_params(tmp_path / "params.yaml")
    assert "PGPASSWORD" in str(error.value) and len(str(error.value).splitlines()) == 1
    assert not [secret for secret in (SECRET, "s3cret", "pa/ss") if secret in str(error.value)]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///.search/trials.db",
        "sqlite:////a/folder:b@c/trials.db",
        "journal:///.search/trials",
        "postgresql+psycopg://me@host:5432/trials",
        "postgresql+psycopg://me@[::1]:5432/trials?sslmode=require&passfile=/home/me/.pgpass",
        "postgresql+psycopg:///trials?host=/run/postgresql",
    ],
)
def test_a_url_without_a_password_is_taken(url):
    assert not has_password(url)
    assert without_passwords(url) == url
    assert search_params(search__storage=url).search.storage == url


def test_passwords_are_cut_out_of_what_is_told(monkeypatch):
    monkeypatch.setenv("PGPASSWORD", "from the environment")
    text = "no postgresql://me:s3cret@host/db?sslpassword=other&a=b with from the environment"
    assert without_passwords(text) == "no postgresql://me:***@host/db?sslpassword=***&a=b with ***"


def test_without_psycopg_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(
        UserError, match=r"^search\.storage: psycopg is missing: pip install -r requirements-postgres.txt$"
    ):
        SharedTrialLog("postgresql+psycopg://nobody@127.0.0.1:1/trials", "sgd", ["baseline"], "val_loss")


@needs_postgres
def test_a_server_that_cannot_be_reached_is_one_line():
    with pytest.raises(
        UserError, match=r"^search\.storage: Optuna cannot open it \(.*Connection refused.*\)$"
    ) as error:
        open_trials("postgresql+psycopg://nobody@127.0.0.1:1/trials", "sgd", ["baseline"], "val_loss")
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.slow
@needs_postgres
@pytest.mark.parametrize(("password", "words"), [("wr0ng", "refuses the password of"), (None, "asks for a password")])
def test_a_wrong_password_is_one_line_that_does_not_tell_it(database, monkeypatch, password, words):
    monkeypatch.setenv("PGPASSFILE", "/dev/null")
    monkeypatch.delenv("PGPASSWORD")
    if password:
        monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(UserError, match=r"^search\.storage: Optuna cannot open it \(the server .+\)$") as error:
        open_trials(database, "sgd", ["baseline"], "val_loss")
    assert words in str(error.value) and "wr0ng" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1
