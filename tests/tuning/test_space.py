"""What a search draws from, which images and seeds are its own, and what is said of a space that will not do."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import UserError
from stages.params import SearchRange, check_schema, schema_problems
from stages.tuning.space import (
    SEEDS_APART,
    repeat_seeds,
    search_arms,
    search_data,
    search_seeds,
    space_problems,
    study_params,
    trial_seeds,
    values_of,
    with_values,
)
from tests.tuning.conftest import RATE, content_with, search_params

DECAY = {"low": 0.2, "high": 1.0}
counts = st.integers(1, 40)


def study_of(params):
    return params.search.studies["sgd"]


@given(trials=counts, replicates=counts, seed=st.integers(0, 2**31 - 1))
def test_no_two_trials_share_a_seed(trials, replicates, seed):
    params = search_params(
        {"lr": {"layer_decay": DECAY}},
        search__trials=2 * trials,
        search__repeats=1,
        search__replicates=replicates,
        search__seed=seed,
    )
    each = [
        trial_seeds(params, arm, number)
        for arm in ("baseline", "differential", "layer_decay")
        for number in range(2 * trials)
    ]
    assert all(len(set(seeds)) == replicates for seeds in each)
    assert sorted(one for seeds in each for one in seeds) == sorted(set(search_seeds(params)))
    assert len(search_seeds(params)) == 3 * 2 * trials * replicates
    assert not set(search_seeds(params)) & set(repeat_seeds(params))


def test_more_seeds_than_an_arm_has_are_refused():
    params = search_params(search__trials=2002, search__repeats=1, search__replicates=50)
    (problem,) = space_problems(params)
    assert problem == f"search: 2002 trials of 50 replicates are more than the {SEEDS_APART} seeds of an arm"


@given(number=st.integers(0, 30), trials=st.integers(2, 100))
def test_a_trial_s_seeds_do_not_depend_on_how_many_trials_there_are(number, trials):
    few = search_params(search__trials=2, search__repeats=1)
    many = search_params(search__trials=trials, search__repeats=1)
    assert trial_seeds(few, "differential", number) == trial_seeds(many, "differential", number)


@pytest.mark.parametrize("seed", [1000, 1007, 101_003])
def test_a_seed_that_is_reported_is_no_trial_s(seed):
    (problem,) = space_problems(search_params(train__seeds=[1, seed]))
    assert problem == f"search.seed: {seed} would be a trial's seed and is in train.seeds: choose another"


def test_nor_is_it_one_of_the_winners_that_are_trained_again():
    params = search_params()
    (problem,) = space_problems(search_params(train__seeds=[1, repeat_seeds(params)[1]]))
    assert problem.startswith("search.seed: ")


@pytest.mark.parametrize(("repeats", "folds", "used"), [(1, None, 0), (4, None, 4), (4, 3, 3), (8, 4, 8), (6, 4, 4)])
def test_winners_are_trained_again_where_there_are_several_searches_and_for_whole_rounds_of_folds(repeats, folds, used):
    content = content_with(search__trials=48, search__repeats=repeats)
    if folds:
        content["data"]["folds"] = folds
        content["data"]["split"].update(train=0.4, val=0.1)
        content["train"]["seeds"] = list(range(folds))
    assert len(repeat_seeds(check_schema(content))) == used


def test_both_arms_are_tuned_and_a_third_where_it_has_a_range():
    assert search_arms(study_of(search_params())) == ["baseline", "differential"]
    with_decay = search_params({"lr": {"layer_decay": DECAY}})
    assert search_arms(study_of(with_decay)) == ["baseline", "differential", "layer_decay"]
    assert space_problems(with_decay) == []


def test_the_space_is_in_order():
    assert space_problems(search_params()) == []


def whole(low, high):
    return {"low": low, "high": high, "log": False}


@pytest.mark.parametrize(
    ("space", "says"),
    [
        ({"optimizer": {"name": RATE}}, "optimizer.name: is no number that a search can draw; those of lr, optimizer,"),
        ({"optimizer": {"nesterov": RATE}}, "optimizer.nesterov: is no number that a search can draw"),
        ({"data": {"image_size": whole(32, 64)}}, "data.image_size: is no number that a search can draw"),
        ({"train": {"threads": whole(1, 2)}}, "train.threads: is no number that a search can draw"),
        ({"train": {"seeds": whole(1, 2)}}, "train.seeds: is no number that a search can draw"),
        ({"surprise": {"seeds": whole(1, 2)}}, "surprise.seeds: is no number that a search can draw"),
        ({"lr": {"head_only_epochs": whole(0, 2)}}, "lr.head_only_epochs: is no rate that a search can draw; known"),
        ({"lr": {"haed": RATE}}, "lr.haed: is no rate that a search can draw; known are lr.backbone, lr.head, lr.lay"),
        ({"lr": {"backbone": {**RATE, "times": "lr.haed"}}}, "lr.backbone.times: lr.haed is not drawn by this study"),
        (
            {"lr": {"head": {**RATE, "times": "lr.backbone"}}},
            "lr.backbone.times: lr.head is not drawn by this study, or",
        ),
        (
            {"optimizer": {"weight_decay": {**RATE, "times": "lr.head"}}},
            "optimizer.weight_decay.times: lr.head is not drawn by the baseline arm",
        ),
        ({"optimizer": {"momentumm": whole(0.1, 0.9)}}, "optimizer.momentumm: unknown key; did you mean momentum? (at"),
        ({"optimizer": {"a.b": whole(0.1, 0.9)}}, "optimizer.a.b: unknown key; known are name, momentum"),
        ({"optimizer": {"momentum": whole(0.5, 1.5)}}, "optimizer.momentum: should be "),
        (
            {"train": {"epochs": whole(0, 3)}},
            "train.epochs: should be greater than or equal to 1, is 0 (at the low end",
        ),
        (
            {"schedule": {"warmup": whole(0, 6)}},
            "schedule.warmup: 6 epochs leave nothing of the 6 epochs; set it below",
        ),
    ],
)
def test_a_space_that_will_not_do_is_told_by_the_parameter_as_it_is_written(space, says):
    problems = space_problems(search_params(space))
    assert problems
    assert any(problem.startswith(f"search.studies.sgd.space.{says}") for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


@pytest.mark.parametrize("left_out", ["uniform", "head", "backbone"])
def test_an_arm_without_its_range_is_refused_since_both_are_tuned(left_out):
    content = content_with()
    del content["search"]["studies"]["sgd"]["space"]["lr"][left_out]
    problems = space_problems(check_schema(content))
    assert any(f"lr.{left_out}" in problem and "both arms are tuned" in problem for problem in problems)


def test_all_problems_of_all_studies_are_told_at_once():
    content = content_with({"optimizer": {"name": RATE, "nesterov": RATE}}, train__seeds=[1000])
    content["search"]["studies"]["adam"] = {
        "set": {"optimizer": {"nmae": "adam"}},
        "space": content_with()["search"]["studies"]["sgd"]["space"],
    }
    content["search"]["studies"]["other"] = {**content["search"]["studies"]["adam"], "set": {"data": {"seed": 3}}}
    places = [problem.split(": ")[0] for problem in space_problems(check_schema(content))]
    assert places == [
        "search.seed",
        "search.studies.sgd.space.optimizer.name",
        "search.studies.sgd.space.optimizer.nesterov",
        "search.studies.adam.set",
        "search.studies.other.set.data",
    ]


@pytest.mark.parametrize(
    ("place", "changes", "says"),
    [
        ("", {"surprise": 1}, "search.surprise: unknown key; known are trials, repeats"),
        ("studies.sgd", {"spaec": 1}, "search.studies.sgd.spaec: unknown key; did you mean space?"),
        ("studies.sgd.space.lr.uniform", {"hihg": 1}, "search.studies.sgd.space.lr.uniform.hihg: unknown key; did you"),
        (
            "studies.sgd.space.lr.uniform",
            {"low": 0.2},
            "search.studies.sgd.space.lr.uniform: low should be below high, ",
        ),
        (
            "studies.sgd.space.lr.uniform",
            {"low": 0.1},
            "search.studies.sgd.space.lr.uniform: low should be below high, ",
        ),
        (
            "studies.sgd.space.lr.uniform",
            {"low": 0},
            "search.studies.sgd.space.lr.uniform: low should be above 0 where",
        ),
        (
            "studies.sgd.space.lr.uniform",
            {"low": -1},
            "search.studies.sgd.space.lr.uniform.low: should be greater than",
        ),
        (
            "studies.sgd.space.lr.uniform",
            {"low": "a"},
            "search.studies.sgd.space.lr.uniform.low: should be a valid num",
        ),
        ("studies.sgd.space.lr", {"uniform": 0.1}, "search.studies.sgd.space.lr.uniform: should hold keys with values"),
        ("", {"studies": {}}, "search.studies: should have at least 1 item, is {}"),
        ("", {"trials": 7}, "search: 7 trials are no 2 searches of two trials or more, all equally long"),
        ("", {"trials": 2}, "search: 2 trials are no 2 searches of two trials or more, all equally long"),
        ("", {"replicates": 0}, "search.replicates: should be greater than or equal to 1, is 0"),
        ("", {"sampler": "tpe"}, "search.sampler: should be 'random', 'qmc' or 'gp', is 'tpe'"),
        ("", {"objective": "loss"}, "search.objective: should be 'val_loss' or 'val_accuracy', is 'loss'"),
        ("", {"pruning": {"after_epoch": 0, "loss_above": 1.0}}, "search.pruning.after_epoch: should be greater than"),
    ],
)
def test_the_schema_of_the_search_names_the_parameter(place, changes, says):
    content = content_with()
    section = content["search"]
    for key in place.split(".") if place else ():
        section = section[key]
    section.update(changes)
    (problem,) = schema_problems(content)
    assert problem.startswith(says)


def test_a_study_that_does_not_exist_is_told_with_those_that_do():
    with pytest.raises(UserError, match=re.escape("search.studies: there is no sdg; known are sgd")):
        study_params(search_params(), "sdg")


def test_a_study_changes_what_it_sets_and_the_length_of_its_trainings():
    content = content_with(optimizer__name="adam", search__epochs=3)
    params = check_schema(content)
    base = study_params(params, "sgd", params.search.epochs)
    assert (base.optimizer.name, base.train.epochs) == ("sgd", 3)
    assert study_params(params, "sgd").train.epochs == 6
    assert base.model == params.model


def test_a_draw_takes_the_place_of_what_params_yaml_says_of_the_arm():
    content = content_with()
    content["lr"].update(layer_decay=0.5, baseline={"head": 0.1, "layer_decay": 0.5})
    base = check_schema(content)
    one = with_values(base, "baseline", {"lr.uniform": 0.02})
    assert (one.lr.uniform, one.lr.baseline, one.lr.layer_decay) == (0.02, None, 0.5)
    two = with_values(base, "differential", {"lr.head": 0.02, "lr.backbone": 0.001, "optimizer.momentum": 0.5})
    assert (two.lr.head, two.lr.backbone, two.lr.layer_decay, two.optimizer.momentum) == (0.02, 0.001, None, 0.5)
    assert base.lr.layer_decay == 0.5


rates = st.floats(1e-5, 10)


@given(head=rates, share=st.floats(0.001, 1), uniform=rates)
def test_a_value_has_three_significant_digits_and_a_share_is_multiplied(head, share, uniform):
    found = values_of({"lr.head": head, "lr.backbone": share, "lr.uniform": uniform}, study_of(search_params()))
    for name, exact in (("lr.head", head), ("lr.backbone", head * share), ("lr.uniform", uniform)):
        assert found[name] == float(f"{exact:.3g}")
        assert found[name] == pytest.approx(exact, rel=0.0051)


def test_whole_numbers_stay_whole():
    study = study_of(search_params({"train": {"batch_size": {"low": 8, "high": 64}}}))
    found = values_of({"lr.uniform": 0.01, "train.batch_size": 12345}, study)
    assert found["train.batch_size"] == 12345
    assert isinstance(found["train.batch_size"], int)


@pytest.mark.parametrize(
    ("low", "high", "more", "is_whole"),
    [
        (1, 4, {}, True),
        (1.0, 4, {}, False),
        (1, 4.0, {}, False),
        (1, 4, {"times": "lr.head"}, False),
        (0.1, 0.5, {}, False),
    ],
)
def test_two_whole_numbers_give_whole_numbers(low, high, more, is_whole):
    assert SearchRange(low=low, high=high, **more).is_whole == is_whole


def test_the_search_has_the_development_part_for_itself_and_tests_on_none_of_it():
    content = content_with()
    content["data"].update(development=0.3, folds=3)
    content["data"]["split"].update(train=0.4, val=0.1, test=0.5)
    data = search_data(check_schema(content).data)
    assert (data.part, data.folds, data.split.test) == ("development", None, 0)
    assert (data.split.train, data.split.val) == pytest.approx((0.8, 0.2))


def test_without_one_it_has_what_the_test_part_leaves():
    content = content_with(data__development=0)
    assert search_data(check_schema(content).data) == check_schema(content).data


def test_where_every_image_is_tested_none_is_left_for_the_search():
    content = content_with(data__development=0, data__folds=3)
    content["data"]["split"].update(train=0.4, val=0.1)
    with pytest.raises(UserError, match="set data.development above 0, such as 0.33, or data.folds to null"):
        search_data(check_schema(content).data)
