"""Both arms draw equally many trials from the same prior, and nothing but results decides what comes next."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.tuning.conftest import RATE, drawn_trials, draws_of, search_params

SAMPLERS = ["random", "qmc", "gp"]


def valley(draw):
    """What a trial comes to whose best rate is 0.01."""
    rate = draw.values.get("lr.uniform", draw.values.get("lr.head"))
    return (math.log10(rate) + 2) ** 2


def values(arm, rounds):
    return [dict(draw.values) for draw in draws_of(arm, rounds)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_both_arms_get_equally_many_trials_and_each_has_its_number(sampler):
    rounds = drawn_trials(search_params(search__sampler=sampler), 14, valley)
    for arm in ("baseline", "differential"):
        assert [draw.number for draw in draws_of(arm, rounds)] == list(range(14))
    for draws in rounds:
        assert len(draws_of("baseline", [draws])) == len(draws_of("differential", [draws]))


def test_a_third_arm_gets_as_many():
    params = search_params({"lr": {"layer_decay": {"low": 0.2, "high": 1.0}}})
    rounds = drawn_trials(params, 6)
    assert [len(draws_of(arm, rounds)) for arm in ("baseline", "differential", "layer_decay")] == [6, 6, 6]


@settings(max_examples=30)
@given(trials=st.integers(2, 40), sampler=st.sampled_from(["random", "qmc"]))
def test_the_first_trials_are_the_same_however_many_follow(trials, sampler):
    params = search_params(search__sampler=sampler)
    few, many = drawn_trials(params, trials), drawn_trials(params, 40)
    for arm in ("baseline", "differential"):
        assert values(arm, few) == values(arm, many)[:trials]


@pytest.mark.slow
def test_so_they_are_where_a_gaussian_process_draws():
    params = search_params(search__sampler="gp")
    few, many = drawn_trials(params, 10, valley), drawn_trials(params, 14, valley)
    for arm in ("baseline", "differential"):
        assert values(arm, few) == values(arm, many)[:10]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_arm_draws_the_same_whatever_others_draw_and_come_to(sampler):
    alone = drawn_trials(search_params(search__sampler=sampler), 10, valley)
    more = search_params({"lr": {"layer_decay": {"low": 0.2, "high": 1.0}}}, search__sampler=sampler)
    beside = drawn_trials(more, 10, lambda draw: valley(draw) if draw.arm == "baseline" else 1.0)
    assert values("baseline", beside) == values("baseline", alone)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_draws_the_same_and_another_does_not(sampler):
    def drawn(seed):
        return values(
            "differential", drawn_trials(search_params(search__sampler=sampler, search__seed=seed), 8, valley)
        )

    assert drawn(1000) == drawn(1000)
    assert drawn(1000) != drawn(3000)


def test_arms_draw_each_for_itself():
    rounds = drawn_trials(search_params(), 8)
    uniform = [draw["lr.uniform"] for draw in values("baseline", rounds)]
    assert uniform != [draw["lr.head"] for draw in values("differential", rounds)]


def test_every_value_is_within_its_range_and_is_what_was_drawn():
    for draw in drawn_trials(search_params(), 200)[0]:
        for rate in ("lr.uniform", "lr.head"):
            assert RATE["low"] <= draw.values.get(rate, 0.01) <= RATE["high"]
        if draw.arm == "differential":
            assert draw.values["lr.backbone"] <= draw.values["lr.head"] * 1.01
            assert draw.values["lr.backbone"] == float(f"{draw.drawn['lr.head'] * draw.drawn['lr.backbone']:.3g}")


def test_the_head_s_rate_has_the_prior_of_the_uniform_rate():
    """Both are log-uniform over the same range, which a thousand draws of each agree with."""
    rounds = drawn_trials(search_params(search__trials=1000), 1000)
    uniform = [math.log10(draw.values["lr.uniform"]) for draw in draws_of("baseline", rounds)]
    head = [math.log10(draw.values["lr.head"]) for draw in draws_of("differential", rounds)]
    share = [math.log10(draw.drawn["lr.backbone"]) for draw in draws_of("differential", rounds)]
    assert stats.ks_2samp(uniform, head).pvalue > 0.001
    for drawn, low in ((uniform, -4), (head, -4), (share, -3)):
        assert stats.kstest(drawn, stats.uniform(low, 3).cdf).pvalue > 0.001
    assert abs(stats.pearsonr(head, share).statistic) < 0.15


def test_spread_evenly_means_that_no_part_of_the_range_is_left_out():
    rounds = drawn_trials(search_params(search__sampler="qmc"), 33)
    for name, arm in (("lr.uniform", "baseline"), ("lr.head", "differential")):
        drawn = [math.log10(draw.values[name]) for draw in draws_of(arm, rounds)]
        assert min(np.histogram(drawn, bins=8, range=(-4, -1))[0]) >= 2


def test_whole_numbers_are_drawn_between_whole_numbers():
    space = {"train": {"batch_size": {"low": 8, "high": 64}, "grad_accum_steps": {"low": 1, "high": 2, "log": False}}}
    for draw in drawn_trials(search_params(space), 40)[0]:
        assert isinstance(draw.values["train.batch_size"], int)
        assert 8 <= draw.values["train.batch_size"] <= 64
        assert draw.values["train.grad_accum_steps"] in {1, 2}


def test_every_arm_draws_what_they_share_for_itself():
    rounds = drawn_trials(search_params({"optimizer": {"momentum": {"low": 0.5, "high": 0.99, "log": False}}}), 8)
    ours, theirs = (
        [draw["optimizer.momentum"] for draw in values(arm, rounds)] for arm in ("baseline", "differential")
    )
    assert len({*ours, *theirs}) > 8


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_it_draws_the_same_whatever_order_results_come_in(sampler):
    params = search_params(search__sampler=sampler)
    one = drawn_trials(params, 13, valley)
    other = drawn_trials(params, 13, valley, order=reversed)
    assert [[draw.values for draw in draws] for draws in one] == [[draw.values for draw in draws] for draws in other]


def test_independent_draws_are_one_round_and_a_gaussian_process_waits_for_the_results_of_each():
    assert [len(draws) for draws in drawn_trials(search_params(), 14)] == [28]
    assert [len(draws) for draws in drawn_trials(search_params(search__sampler="gp"), 14, valley)] == [16, 8, 4]


def test_a_gaussian_process_draws_its_first_trials_whatever_they_come_to_and_its_next_by_it():
    params = search_params(search__sampler="gp")
    one, other = drawn_trials(params, 12, valley), drawn_trials(params, 12, lambda draw: -valley(draw))
    assert values("baseline", one)[:8] == values("baseline", other)[:8]
    assert values("baseline", one)[8:] != values("baseline", other)[8:]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_trials_that_all_diverge_stop_no_sampler(sampler):
    rounds = drawn_trials(search_params(search__sampler=sampler), 12, lambda draw: math.inf)
    assert len(draws_of("baseline", rounds)) == 12


def test_a_draw_has_a_name_for_people():
    draw = drawn_trials(search_params(), 2)[0][-1]
    assert draw.label == "differential, trial 2"
