import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from stages.errors import UserError
from stages.params import Policy, Schedule
from stages.rates.policies import plan_policy
from stages.rates.schedules import lr_multipliers, rate_curves

EPOCHS, STEPS = 6, 10
TOTAL = EPOCHS * STEPS
RATES = {"stem": 0.001, "stage1": 0.002, "head": 0.01}


def schedule(name, **changes):
    default = {"warmup": 0.0, "warmup_unit": "epochs", "step_size": 2, "gamma": 0.1}
    return Schedule(**{"name": name, **default, **changes})


# First, middle and last step of 60, written out from the formulas.
FORMULAS = {
    "constant": (1, 1, 1),
    "cosine": (1, (1 + math.cos(math.pi * 30 / 60)) / 2, (1 + math.cos(math.pi * 59 / 60)) / 2),
    "linear": (1, 1 - 30 / 60, 1 - 59 / 60),
    "one_cycle": (
        1 / 25,
        4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * (30 - 17) / (59 - 17))) / 2,
        1 / 25 / 10_000,
    ),
    "step": (1, 0.1, 0.01),
}


@pytest.mark.parametrize("group", RATES)
@pytest.mark.parametrize("name", FORMULAS)
def test_the_rate_at_first_middle_and_last_step_is_what_the_formula_says(name, group):
    plan = plan_policy(Policy(uniform=0.5, groups=RATES), list(RATES))
    curve = {
        row["step"]: row["learning_rate"]
        for row in rate_curves(plan, lr_multipliers(schedule(name), EPOCHS, STEPS), STEPS)
        if row["layer_group"] == group
    }
    # Steps within a stretch of equal rates are left out of a curve: the last one told still holds.
    at = {step: curve[max(told for told in curve if told <= step)] for step in (1, 31, 60)}
    assert list(at.values()) == pytest.approx([RATES[group] * scale for scale in FORMULAS[name]])


TORCHS = {
    "constant": lambda optimizer: lr_scheduler.ConstantLR(optimizer, factor=1),
    "cosine": lambda optimizer: lr_scheduler.CosineAnnealingLR(optimizer, T_max=TOTAL),
    "linear": lambda optimizer: lr_scheduler.LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=TOTAL),
    "one_cycle": lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=TOTAL),
    "step": lambda optimizer: lr_scheduler.StepLR(optimizer, step_size=2 * STEPS, gamma=0.1),
}


@pytest.mark.parametrize("name", TORCHS)
def test_each_schedule_is_torchs_own_at_every_step(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    theirs = TORCHS[name](optimizer)
    for scale in lr_multipliers(schedule(name), EPOCHS, STEPS):
        assert 0.1 * scale == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("warmup", "unit", "steps"), [(1.0, "epochs", 10), (0.5, "epochs", 5), (7.0, "steps", 7)])
@pytest.mark.parametrize("name", ["constant", "cosine", "linear", "step"])
def test_warm_up_rises_linearly_and_the_schedule_runs_over_what_is_left(name, warmup, unit, steps):
    warmed = lr_multipliers(schedule(name, warmup=warmup, warmup_unit=unit), EPOCHS, STEPS)
    assert len(warmed) == TOTAL
    assert warmed[:steps] == pytest.approx([(step + 1) / steps for step in range(steps)])
    assert warmed[steps] == 1
    assert warmed[-1] <= 1


def test_a_warm_up_as_long_as_the_training_has_one_line():
    with pytest.raises(UserError, match=r"^schedule.warmup: 60 steps are no less than the whole training \(6 epochs"):
        lr_multipliers(schedule("cosine", warmup=60.0, warmup_unit="steps"), EPOCHS, STEPS)


def test_a_warm_up_of_a_part_of_a_step_takes_the_whole_step():
    warmed = lr_multipliers(schedule("constant", warmup=0.12), EPOCHS, STEPS)
    assert warmed[:3] == [0.5, 1, 1]


def test_a_training_too_short_for_a_cycle_has_one_line():
    with pytest.raises(UserError, match=r"^schedule.name: one_cycle needs 4 steps to rise and to fall, .* has 3"):
        lr_multipliers(schedule("one_cycle"), epochs=1, steps_per_epoch=3)


@given(
    name=st.sampled_from(sorted(FORMULAS)),
    epochs=st.integers(1, 12),
    steps=st.integers(1, 40),
    share=st.floats(0, 0.9),
)
def test_every_scale_lies_between_nothing_and_one(name, epochs, steps, share):
    warmup = 0.0 if name == "one_cycle" else share * epochs
    if math.ceil(warmup * steps) < epochs * steps and (name != "one_cycle" or epochs * steps >= 4):
        given_scales = lr_multipliers(schedule(name, warmup=warmup), epochs, steps)
        assert len(given_scales) == epochs * steps
        assert all(0 < scale <= 1 for scale in given_scales)


def test_a_curve_says_zero_until_a_group_learns():
    plan = plan_policy(Policy(backbone=0.001, head=0.01, head_only_epochs=2), ["stem", "head"])
    stem = [row for row in rate_curves(plan, [1.0] * TOTAL, STEPS) if row["layer_group"] == "stem"]
    assert [(row["step"], row["learning_rate"]) for row in stem] == [(1, 0), (20, 0), (21, 0.001), (60, 0.001)]
