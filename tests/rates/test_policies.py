from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.errors import UserError
from stages.params import LearningRates, Policy
from stages.rates.policies import (
    GroupPlan,
    learning_rates,
    phases,
    plan_policy,
    plan_rates,
    policy_of,
    policy_problems,
    trainable_groups,
)

GROUPS = ["stem", "stage1", "stage2", "head"]
WITH_NECK = ["stem", "stage1", "neck", "head"]
rate = st.floats(1e-8, 10)


def section(**changes):
    """The section `lr` of params.yaml, with changes."""
    flat = {"uniform": 0.01, "backbone": 0.001, "head": 0.01, "layer_decay": None, "range": None, "groups": None}
    return LearningRates(**{**flat, "head_only_epochs": 0, "gradual_unfreezing": False, "baseline": None, **changes})


@given(rate, rate, rate)
def test_the_flat_keys_say_both_arms(uniform, backbone, head):
    rates = section(uniform=uniform, backbone=backbone, head=head)
    assert learning_rates(policy_of("baseline", rates), GROUPS) == dict.fromkeys(GROUPS, uniform)
    assert learning_rates(policy_of("differential", rates), GROUPS) == {
        "stem": backbone,
        "stage1": backbone,
        "stage2": backbone,
        "head": head,
    }


@given(head=rate, decay=st.floats(0.01, 1))
def test_decay_goes_down_from_the_head_by_the_same_factor(head, decay):
    rates = learning_rates(Policy(head=head, layer_decay=decay), GROUPS)
    assert rates["head"] == head
    for below, above in pairwise(GROUPS):
        assert rates[below] == pytest.approx(rates[above] * decay)


@given(st.tuples(rate, rate).map(sorted))
def test_a_range_is_geometric_from_the_stem_to_the_head(ends):
    rates = learning_rates(Policy(range=ends), GROUPS)
    assert list(rates.values()) == pytest.approx(np.geomspace(*ends, num=4).tolist())


def test_the_neck_stands_beside_the_head_but_counts_as_pretrained():
    assert learning_rates(Policy(head=1.0, layer_decay=0.5), WITH_NECK) == {
        "stem": 0.25,
        "stage1": 0.5,
        "neck": 1,
        "head": 1,
    }
    assert learning_rates(Policy(range=[0.01, 1.0]), WITH_NECK) == pytest.approx(
        {"stem": 0.01, "stage1": 0.1, "neck": 1, "head": 1}
    )
    assert learning_rates(Policy(backbone=0.1, head=1.0), WITH_NECK)["neck"] == 0.1


@pytest.mark.parametrize(
    "policy",
    [{"uniform": 0.1}, {"backbone": 0.1, "head": 1.0}, {"head": 1.0, "layer_decay": 0.5}, {"range": [0.1, 1.0]}],
)
def test_what_is_said_of_a_single_group_counts_most(policy):
    plain = learning_rates(Policy(**policy), GROUPS)
    changed = learning_rates(Policy(**policy, groups={"stage2": 0.7, "stem": 0.0}), GROUPS)
    assert changed == {**plain, "stage2": 0.7, "stem": 0.0}


def test_the_baseline_may_have_any_policy_and_decay_and_range_take_the_place_of_the_flat_rates():
    decaying = section(baseline=Policy(head=0.02, layer_decay=0.5))
    assert learning_rates(policy_of("baseline", decaying), GROUPS)["stage2"] == 0.01
    assert learning_rates(policy_of("differential", section(layer_decay=0.5)), GROUPS)["stage2"] == 0.005
    assert learning_rates(policy_of("differential", section(range=[0.1, 1.0])), GROUPS)["stem"] == pytest.approx(0.1)
    partly_frozen = policy_of("baseline", section(baseline=Policy(groups={"stem": 0.0})))
    assert learning_rates(partly_frozen, GROUPS) == {"stem": 0, "stage1": 0.01, "stage2": 0.01, "head": 0.01}


def test_an_unknown_group_is_answered_with_those_that_exist():
    with pytest.raises(UserError) as error:
        plan_rates("differential", section(groups={"stage9": 0.1, "stem": 0.0}), GROUPS, 5)
    expected = "lr.groups: the network has no layer group stage9; it has stem, stage1, stage2, head"
    assert str(error.value) == expected
    with pytest.raises(UserError, match=r"^lr.baseline.groups: the network has no layer group body; it has stem"):
        plan_rates("baseline", section(baseline=Policy(groups={"body": 0.1})), GROUPS, 5)


def test_a_first_epoch_in_which_nothing_learns_is_refused():
    with pytest.raises(UserError, match=r"^lr: no layer group learns in epoch 1 \(stem 0.1, .*head 0\); set a rate"):
        plan_policy(Policy(backbone=0.1, head=0.0, head_only_epochs=1), GROUPS)
    with pytest.raises(UserError, match=r"^lr: no layer group learns in epoch 1"):
        plan_policy(Policy(uniform=0.1, groups=dict.fromkeys(GROUPS, 0.0)), GROUPS)


def test_the_head_may_go_first_and_then_all_learn():
    plan = plan_policy(Policy(backbone=0.1, head=1.0, head_only_epochs=2), GROUPS)
    assert [trainable_groups(plan, epoch) for epoch in (1, 2)] == [["head"]] * 2
    assert sorted(trainable_groups(plan, 3)) == sorted(GROUPS)
    assert phases(plan, 5) == [1, 3]


def test_gradual_unfreezing_adds_one_group_each_epoch_from_the_head_down():
    plan = plan_policy(Policy(uniform=0.1, gradual_unfreezing=True), GROUPS)
    assert [trainable_groups(plan, epoch) for epoch in range(1, 6)] == [
        ["head"],
        ["head", "stage2"],
        ["head", "stage2", "stage1"],
        ["head", "stage2", "stage1", "stem"],
        ["head", "stage2", "stage1", "stem"],
    ]
    assert phases(plan, 5) == [1, 2, 3, 4]
    later = plan_policy(Policy(uniform=0.1, gradual_unfreezing=True, head_only_epochs=3), GROUPS)
    assert phases(later, 9) == [1, 4, 5, 6]


def test_gradual_unfreezing_does_not_wait_for_a_frozen_group():
    plan = plan_policy(Policy(uniform=0.1, groups={"stage2": 0.0}, gradual_unfreezing=True), GROUPS)
    assert [trainable_groups(plan, epoch) for epoch in (1, 2, 3)] == [
        ["head"],
        ["head", "stage1"],
        ["head", "stage1", "stem"],
    ]
    assert plan["stage2"] == GroupPlan(0.0)
    assert not plan["stage2"].learns(9)


def test_without_phases_all_that_learns_learns_from_the_first_epoch():
    plan = plan_policy(Policy(backbone=0.0, head=1.0), GROUPS)
    assert phases(plan, 5) == [1]
    assert trainable_groups(plan, 1) == trainable_groups(plan, 5) == ["head"]


@pytest.mark.parametrize(
    ("arm", "changes", "says"),
    [
        (
            "baseline",
            {"uniform": 0.0},
            "lr: baseline: uniform is 0, so this arm would train nothing; set a rate above 0",
        ),
        (
            "differential",
            {"backbone": 0.0, "head": 0.0},
            "lr: differential: backbone and head are 0, so this arm would",
        ),
        (
            "differential",
            {"layer_decay": 0.5, "range": [0.01, 0.1]},
            "lr: layer_decay and range both take the place of",
        ),
        (
            "baseline",
            {"baseline": Policy(layer_decay=0.5)},
            "lr: baseline: give uniform, or backbone and head, or head",
        ),
        (
            "differential",
            {"head_only_epochs": 5},
            "lr.head_only_epochs: 5 leaves the backbone none of the 5 epochs; set",
        ),
        (
            "baseline",
            {"baseline": Policy(head_only_epochs=7)},
            "lr.baseline.head_only_epochs: 7 leaves the backbone none",
        ),
        (
            "differential",
            {"head": 0.0, "head_only_epochs": 1},
            "lr: differential: the head's rate is 0, but head_only_epochs trains it alone first",
        ),
        (
            "baseline",
            {"baseline": Policy(groups={"head": 0.0}, gradual_unfreezing=True)},
            "lr: baseline: the head's rate is 0, but gradual_unfreezing trains it alone first",
        ),
    ],
)
def test_keys_that_contradict_each_other_have_one_line_before_and_at_training(arm, changes, says):
    (problem,) = policy_problems(arm, section(**changes), epochs=5)
    assert problem.startswith(says)
    with pytest.raises(UserError) as error:
        plan_rates(arm, section(**changes), GROUPS, epochs=5)
    assert str(error.value) == problem


@pytest.mark.parametrize(
    ("arm", "changes"),
    [
        ("differential", {"backbone": 0.0, "head_only_epochs": 9}),  # the head alone learns anyway
        ("baseline", {"baseline": Policy(uniform=0.1)}),
        ("baseline", {"baseline": Policy(groups={"stem": 0.0})}),
        ("differential", {"head": 0.0, "groups": {"head": 0.1}, "head_only_epochs": 1}),
        ("differential", {"layer_decay": 0.5, "groups": {"stage2": 1.0}}),
    ],
)
def test_policies_may_be_mixed_where_it_makes_sense(arm, changes):
    assert policy_problems(arm, section(**changes), epochs=5) == []
