"""The committed parameters with a search of its own, whatever the committed one is, and trials that nobody trains."""

import copy

import numpy as np
import pandas as pd
import pytest

from stages.params import check_schema, load_params
from stages.tuning.draws import run_draws
from stages.tuning.space import search_arms
from tests.conftest import ROOT

RATE = {"low": 0.0001, "high": 0.1}
SHARE = {"low": 0.001, "high": 1.0, "times": "lr.head"}
SPACE = {"lr": {"uniform": RATE, "head": RATE, "backbone": SHARE}}
SEARCH = {
    "trials": 8,
    "repeats": 2,
    "replicates": 1,
    "epochs": 6,
    "objective": "val_loss",
    "sampler": "random",
    "pruning": None,
    "seed": 1000,
    "storage": "sqlite:///.search/trials.db",
    "studies": {"sgd": {"set": {"optimizer": {"name": "sgd"}}, "space": SPACE}},
}
COMMITTED = load_params(ROOT / "params.yaml").model_dump()


def _copied(value):
    """A copy that shares nothing within itself either, as what is read from a file does not."""
    return {key: _copied(entry) for key, entry in value.items()} if isinstance(value, dict) else value


def content_with(space=None, **changes):
    """Return the content of params.yaml with a study whose space has more in it, and other parameters by dotted key."""
    content = {**copy.deepcopy(COMMITTED), "search": _copied(SEARCH)}
    content["data"].update(folds=None)
    content["schedule"].update(warmup=0)
    content["train"].update(seeds=[1, 2, 3], epochs=6)
    content["evidence"].update(looks=None)
    for section, keys in (space or {}).items():
        content["search"]["studies"]["sgd"]["space"].setdefault(section, {}).update(_copied(keys))
    for key, value in changes.items():
        section, last = key.split("__")
        content[section][last] = value
    return content


def search_params(space=None, **changes):
    """Return parameters with such a search; `search__trials=4` is a change."""
    return check_schema(content_with(space, **changes))


def drawn_trials(params, trials, score=lambda draw: 1.0, order=list):
    """Return the draws of so many trials of each arm, round by round.

    Args:
        params: of the search.
        trials: of each arm.
        score: what a trial comes to.
        order: in which the results of a round come in.
    """
    study = params.search.studies["sgd"]
    rounds = []

    def run(draws):
        rounds.append(list(draws))
        return {(draw.arm, draw.number): score(draw) for draw in order(draws)}

    run_draws(params, study, search_arms(study), trials, run)
    return rounds


def draws_of(arm, rounds):
    return [draw for draws in rounds for draw in draws if draw.arm == arm]


@pytest.fixture
def make_trials():
    """Return a function that makes the table of a search, from what each pair of rates comes to."""

    def make(accuracy, trials=32, noise=0.0, seed=0):
        random = np.random.default_rng(seed)
        rows = []
        for arm, draws in drawn_by_arm(trials).items():
            for draw in draws:
                head = draw.values.get("lr.head", draw.values.get("lr.uniform"))
                backbone = draw.values.get("lr.backbone", head)
                value = accuracy(backbone, head) + noise * random.normal()
                metrics = {"val_accuracy": value, "val_loss": 1 - value, "overfitting_gap": 0.1}
                rows.append({"arm": arm, "trial": draw.number + 1, "seed": draw.seeds[0], "state": "finished",
                             **draw.values, **metrics, "train_accuracy": value + 0.1, "train_loss": 0.5})  # fmt: skip
        return pd.DataFrame(rows)

    def drawn_by_arm(trials):
        params = search_params()
        rounds = drawn_trials(params, trials)
        return {arm: draws_of(arm, rounds) for arm in search_arms(params.search.studies["sgd"])}

    return make
