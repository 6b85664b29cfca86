import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stages.errors import UserError
from stages.params import Rates, load_params
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
        ({"train.batch_size": True}, "train.batch_size: should be a valid integer, is True"),
        ({"lr.head": -0.1}, "lr.head: should be greater than or equal to 0, is -0.1"),
        ({"lr.head": math.inf}, "lr.head: should be a finite number, is inf"),
        ({"lr.backbone": math.nan}, "lr.backbone: should be"),
        ({"lr.uniform": 0}, "lr: uniform is 0, so the baseline would train nothing"),
        ({"lr.backbone": 0, "lr.head": 0}, "lr: backbone and head are 0, so the differential arm would"),
        ({"data.split": {"train": 0.8, "val": 0.2, "test": 0.2}}, "data.split: the fractions add up to 1.2"),
        ({"data.image_size": 8}, "data.image_size: should be greater than or equal to 32, is 8"),
        ({"review.arm": "both"}, "review.arm: should be 'baseline' or 'differential', is 'both'"),
        ({"train.seeds": [1, 1]}, "train.seeds: an entry stands there twice"),
        ({"train.augment": ["blur"]}, "train.augment.0: should be 'horizontal_flip'"),
        ({"optimizer.name": "lion"}, "optimizer.name: should be 'sgd', 'adam' or 'adamw'"),
    ],
)
def test_wrong_input_has_one_line_that_names_the_parameter(folder, changes, says):
    set_params(folder, changes)
    (line,) = problems(folder)
    assert f"params.yaml: {says}" in line


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


rate = st.floats(min_value=0, max_value=1e6, exclude_min=True)


@given(uniform=rate, backbone=rate, head=rate)
def test_positive_finite_rates_are_taken(uniform, backbone, head):
    assert Rates(uniform=uniform, backbone=backbone, head=head).head == head


@given(st.floats(max_value=0, exclude_max=True) | st.just(math.nan) | st.just(math.inf))
def test_negative_and_infinite_rates_are_refused(head):
    with pytest.raises(ValidationError):
        Rates(uniform=0.1, backbone=0.1, head=head)
