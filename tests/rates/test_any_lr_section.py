"""Laws that hold for every section `lr` of params.yaml."""

from functools import cache

import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.check_params import find_problems
from stages.models.network import LIBRARIES
from stages.params import ARMS, check_schema, load_params
from stages.rates.optimizers import build_optimizer, build_param_groups, unfreeze
from stages.rates.policies import plan_rates, trainable_groups
from tests.conftest import ROOT

CONTENT = load_params(ROOT / "params.yaml").model_dump()
EPOCHS = CONTENT["train"]["epochs"]

positive = st.floats(1e-8, 10)
rate = st.just(0.0) | positive
ends = st.tuples(positive, positive).map(sorted)
# The head learns, so that there is something to learn in epoch 1.
groups = st.dictionaries(st.sampled_from(["stem", "stage1", "stage2", "stage3", "stage4"]), rate)
on_top = {"groups": groups, "head_only_epochs": st.integers(0, EPOCHS - 1), "gradual_unfreezing": st.booleans()}
policies = st.one_of(
    st.fixed_dictionaries({}, optional=on_top),
    st.fixed_dictionaries({"uniform": positive}, optional=on_top),
    st.fixed_dictionaries({"backbone": rate, "head": positive}, optional=on_top),
    st.fixed_dictionaries({"head": positive, "layer_decay": st.floats(0.01, 1)}, optional=on_top),
    st.fixed_dictionaries({"range": ends}, optional=on_top),
)
sections = st.fixed_dictionaries(
    {
        "uniform": positive,
        "backbone": rate,
        "head": positive,
        **on_top,
        "groups": st.none() | groups,
        "baseline": st.none() | policies,
    }
).flatmap(
    lambda section: (
        st.sampled_from([{"layer_decay": None, "range": None}, {"layer_decay": 0.5, "range": None}]).map(
            lambda more: {**section, **more}
        )
        | ends.map(lambda pair: {**section, "layer_decay": None, "range": pair})
    )
)


@cache
def resnet18():
    with torch.device("meta"):
        network = LIBRARIES["timm"].create("resnet18", 5)
    return network, LIBRARIES["timm"].layer_groups("resnet18", network, "stages")


@given(section=sections, decays_everywhere=st.booleans())
def test_any_valid_section_covers_every_parameter_exactly_once(section, decays_everywhere):
    optimizer_section = {
        **CONTENT["optimizer"],
        "weight_decay": 0.1,
        "weight_decay_on_bias_and_norm": decays_everywhere,
    }
    params = check_schema({**CONTENT, "lr": section, "optimizer": optimizer_section})
    network, layer_groups = resnet18()
    for arm in ARMS:
        plan = plan_rates(arm, params.lr, list(layer_groups), EPOCHS)
        param_groups = build_param_groups(params.optimizer, network, layer_groups, plan)
        covered = [parameter for entries in param_groups.values() for entry in entries for parameter in entry["params"]]
        assert sorted(map(id, covered)) == sorted(map(id, network.parameters()))

        optimizer = build_optimizer(params.optimizer, param_groups, trainable_groups(plan, epoch=1))
        for epoch in range(1, EPOCHS + 1):
            unfreeze(optimizer, param_groups, trainable_groups(plan, epoch))
            held = [id(parameter) for entry in optimizer.param_groups for parameter in entry["params"]]
            learn = {
                id(network.get_parameter(name))
                for group in trainable_groups(plan, epoch)
                for name in layer_groups[group]
            }
            assert len(held) == len(set(held))
            assert set(held) == learn


wrong = st.one_of(
    st.floats(max_value=0, exclude_max=True), st.just(float("nan")), st.just(float("inf")), st.text(), st.none(),
    st.lists(st.integers(), min_size=3), st.booleans(),
)  # fmt: skip
mistakes = st.one_of(
    st.fixed_dictionaries({"uniform": wrong}),
    st.fixed_dictionaries({"backbone": wrong}),
    st.fixed_dictionaries({"head": wrong}),
    st.fixed_dictionaries(
        {"layer_decay": wrong.filter(lambda value: value is not None) | st.floats(1, 9, exclude_min=True)}
    ),
    st.fixed_dictionaries({"range": st.just([0.1]) | st.just([0.1, 0.01]) | st.just([0.0, 0.1]) | st.just(0.1)}),
    st.fixed_dictionaries({"range": st.just([0.01, 0.1]), "layer_decay": st.just(0.5)}),
    st.fixed_dictionaries({"groups": st.just(["stem"]) | st.just({"stem": -1.0}) | st.just({"stem": "slow"})}),
    st.fixed_dictionaries({"head_only_epochs": st.integers(max_value=-1) | st.integers(EPOCHS, 99) | st.just("two")}),
    st.fixed_dictionaries({"gradual_unfreezing": st.text() | st.integers() | st.none()}),
    st.fixed_dictionaries({"uniform": st.just(0.0)}),
    st.fixed_dictionaries({"backbone": st.just(0.0), "head": st.just(0.0)}),
    st.fixed_dictionaries({"haed": positive}),
    st.fixed_dictionaries(
        {
            "baseline": st.sampled_from(
                [
                    {"layer_decay": 0.5},
                    {"backbone": 0.1},
                    {"head": 0.1},
                    {"uniform": 0.1, "head": 0.1},
                    {"range": [0.1, 1.0], "layer_decay": 0.5},
                    {"rates": 0.1},
                    {"uniform": 0.0},
                    {"head_only_epochs": EPOCHS},
                    [0.1],
                ]
            )
        }
    ),
)


@given(mistake=mistakes)
def test_any_invalid_section_gives_one_clear_line(mistake):
    (problem,) = find_problems({**CONTENT, "lr": {**CONTENT["lr"], **mistake}})
    assert problem.count("\n") == 0
    assert problem.startswith("lr")
    assert "pydantic" not in problem
