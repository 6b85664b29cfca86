import math

import pytest

from stages.errors import UserError
from stages.params import load_params
from tests.conftest import ROOT, set_params


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def problems(folder):
    with pytest.raises(UserError) as error:
        load_params(folder / "params.yaml")
    return str(error.value).splitlines()


def test_the_committed_params_are_in_order():
    load_params(ROOT / "params.yaml")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr.haed": 0.1}, "lr.haed: unknown key; did you mean head?"),
        ({"surprise": 1}, "surprise: unknown key; known are data, model, lr"),
        ({"train.epochs": "five"}, "train.epochs: should be a valid integer, is 'five'"),
        ({"train.epochs": 0}, "train.epochs: should be greater than or equal to 1, is 0"),
        ({"train.epochs": 10**20}, "train.epochs: should be less than or equal to 100000, is 100000000000000000000"),
        ({"train.threads": 100_000}, "train.threads: should be less than or equal to 1024, is 100000"),
        ({"train.mixup": 5e-324}, "train.mixup: 4.94066e-324 is too small to draw with; set 0 for none, or 0.001 at"),
        ({"train.batch_size": True}, "train.batch_size: should be a valid integer, is True"),
        ({"lr.head": -0.1}, "lr.head: should be greater than or equal to 0, is -0.1"),
        ({"lr.head": math.inf}, "lr.head: should be a finite number, is inf"),
        ({"lr.backbone": math.nan}, "lr.backbone: should be"),
        ({"lr.uniform": 0}, "lr: baseline: uniform is 0, so this arm would train nothing; set a rate above 0"),
        ({"lr.backbone": 0, "lr.head": 0}, "lr: differential: backbone and head are 0, so this arm would"),
        ({"data.split": {"train": 0.8, "val": 0.2, "test": 0.2}}, "data.split: the fractions add up to 1.2"),
        ({"data.image_size": 8}, "data.image_size: should be greater than or equal to 32, is 8"),
        ({"review.arm": "both"}, "review.arm: should be 'baseline' or 'differential', is 'both'"),
        ({"train.seeds": [1, 1]}, "train.seeds: an entry stands there twice"),
        ({"train.augment": ["blur"]}, "train.augment.0: should be 'horizontal_flip'"),
        ({"lr.decay": 1.5}, "lr.decay: should be less than or equal to 1, is 1.5"),
        ({"lr.range": [0.1, 0.01]}, "lr: differential: range goes from the stem's rate up to the head's"),
        ({"lr.range": [0.1]}, "lr.range: should have at least 2 items"),
        ({"lr.decay": 0.5, "lr.range": [0.01, 0.1]}, "lr: decay and range both take the place of backbone"),
        ({"lr.groups": {"stem": -1.0}}, "lr.groups.stem: should be greater than or equal to 0, is -1.0"),
        ({"lr.baseline": {"decay": 0.5}}, "lr: baseline: give uniform, or backbone and head, or head and decay, or"),
        ({"lr.baseline": {"haed": 0.5}}, "lr.baseline.haed: unknown key; did you mean head?"),
        ({"lr.head_first": 5}, "lr.head_first: 5 leaves the backbone none of the 5 epochs; set it below"),
        (
            {"lr.head": 0.0, "lr.head_first": 1},
            "lr: differential: the head's rate is 0, but head_first trains it alone",
        ),
        (
            {"lr.baseline": {"groups": {"head": 0}, "gradual_unfreezing": True}},
            "lr: baseline: the head's rate is 0, but g",
        ),
        ({"lr.baseline": "slow"}, "lr.baseline: should hold keys with values, is 'slow'"),
        ({"lr.groups": {1: 0.1}}, "lr.groups.1: should be a valid string, is 1"),
        ({"schedule.warmup": 5}, "schedule.warmup: 5 epochs leave nothing of the 5 epochs; set it below"),
        ({"lr.baseline": {"head_first": 7}}, "lr.baseline.head_first: 7 leaves the backbone none of the 5 epochs"),
        ({"optimizer.nesterov": True, "optimizer.momentum": 0.0}, "optimizer: nesterov looks ahead along the"),
        ({"optimizer.clip_norm": 0.0}, "optimizer.clip_norm: should be greater than 0, is 0.0"),
        ({"schedule.name": "one_cycle", "schedule.warmup": 1}, "schedule: one_cycle warms up by itself; set warmup"),
        ({"schedule.step_factor": 1.0}, "schedule.step_factor: should be less than 1, is 1.0"),
        ({"schedule.name": "sine"}, "schedule.name: should be 'constant', 'cosine', 'linear', 'one_cycle' or"),
        ({"train.frozen_batchnorm": "keep"}, "train.frozen_batchnorm: should be 'freeze' or 'update', is 'keep'"),
        ({"model.layer_groups": "layers"}, "model.layer_groups: should be 'stages' or 'blocks', is 'layers'"),
        ({"optimizer.name": "lion"}, "optimizer.name: should be 'sgd', 'adam' or 'adamw'"),
    ],
)
def test_wrong_input_has_one_line_that_names_the_parameter(folder, changes, says):
    set_params(folder, changes)
    (line,) = problems(folder)
    assert f"params.yaml: {says}" in line


@pytest.mark.parametrize(
    "changes",
    [
        {"lr.backbone": 0, "lr.head_first": 9},  # the head alone learns anyway
        {"lr.baseline": {"uniform": 0.1, "groups": None}},
        {"lr.baseline": {"groups": {"stem": 0}}},
        {"lr.head": 0.0, "lr.groups": {"head": 0.1}, "lr.head_first": 1},
        {"lr.decay": 0.5, "lr.groups": {"stage7": 1}},
    ],
)
def test_policies_may_be_mixed_where_it_makes_sense(folder, changes):
    set_params(folder, changes)
    load_params(folder / "params.yaml")


def test_all_problems_are_told_at_once(folder):
    set_params(folder, {"lr.head": -1, "train.epochs": "five", "goal.surprise": 1, "review.arm": "both"})
    assert len(problems(folder)) == 4


def test_a_missing_key_is_named(folder):
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text("\n".join(line for line in text.splitlines() if "epochs:" not in line))
    assert "train.epochs: missing" in problems(folder)[0]


@pytest.mark.parametrize("text", ["", "just text", "lr: [", "a: 1\na: 2", "!!python/object/apply:os.system [ls]"])
def test_a_file_that_is_no_params_file_has_one_line(folder, text):
    (folder / "params.yaml").write_text(text)
    assert len(problems(folder)) == 1


def test_a_missing_file_has_one_line(tmp_path):
    assert "is missing" in problems(tmp_path)[0]


def test_a_rate_may_be_written_with_an_exponent_alone(folder):
    text = (folder / "params.yaml").read_text().splitlines()
    changed = ["  backbone: 1e-4" if line.startswith("  backbone:") else line for line in text]
    (folder / "params.yaml").write_text("\n".join(changed))
    assert load_params(folder / "params.yaml").lr.backbone == 0.0001
