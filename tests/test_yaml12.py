"""params.yaml means to the stages what it means to DVC."""

import math

import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml, modify_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.yaml12 import read_yaml

PARAMS = "# What a user wrote.\nlr:\n  head: 0.01   # the head's\n  groups: null\ntrain: {seeds: [1, 2, 3]}\n"

ODD = """
    1e-4 1E4 1e+30 -1e-4 1.5e3 1.e3 .5 -.5 1. +1 +1.5 -0 0.0 00 010 0777 08 09 0o10 0O10 0x1F 0X1f 0xfg 0b101 0b2
    1_000 1_000.5 1__0 _1 1e 1e+ e1 .e1 . - + .inf -.inf +.inf .Inf .INF .nan .NaN .NAN inf nan
    yes Yes no NO on off y n true True TRUE tRUE false False FALSE null Null NULL ~ nul
    1:20 1:20:30 -1:20 1:20.5 12:30:45.5 2020-01-01 2020-1-1 1.2.3 1,000 0.1.2 12e03 1e1000 123456789012345678901234
    'yes' "1e-4" '010' "" '' =
"""
LITERALS = ODD.split()

# Characters that YAML can hold, those that look like YAML more often.
TEXTS = st.one_of(
    st.sampled_from([literal.strip("'\"") for literal in LITERALS]),
    st.text(st.sampled_from("0123456789+-_.:eExXoObB aAfFnNtTyY~#'\"[]{},&*!|>%@`?\n\t\\"), max_size=12),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Cn"]), max_size=12),
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


def same(one, other):
    """Whether two values are equal, of the same types, and not a number at the same places."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (isinstance(one, float) and math.isnan(one) and math.isnan(other))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS)
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_whatever_dvc_writes_is_read_as_dvc_reads_it(file, value):
    """A value that DVC puts into params.yaml, which it changes in place as `-S` does."""
    file.write_text(PARAMS)
    with modify_yaml(str(file)) as content:
        content["lr"]["groups"] = value
    assert same(read_yaml(file), load_yaml(str(file)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=st.floats(allow_nan=False) | st.integers() | st.booleans())
def test_a_number_on_the_command_line_is_the_number_that_is_read(file, value):
    file.write_text(PARAMS)
    apply_overrides(file, [f"lr.head={value}"])
    assert same(read_yaml(file)["lr"]["head"], load_yaml(str(file))["lr"]["head"])
    assert read_yaml(file)["lr"]["head"] == value


@pytest.mark.parametrize("literal", LITERALS)
def test_a_literal_is_read_as_dvc_reads_it(file, literal):
    file.write_text(f"alone: {literal}\nlisted: [{literal}, 1]\n{literal if literal[0] not in '=-' else 'a'}x: 1\n")
    try:
        expected = load_yaml(str(file))
    except Exception:  # whatever ruamel.yaml makes of it, it is no value to either
        with pytest.raises((yaml.YAMLError, ValueError)):
            read_yaml(file)
    else:
        assert same(read_yaml(file), expected)


@pytest.mark.parametrize("text", ["lr:\n  head: 1\n  head: 2\n", "a: 1\nb: 2\na: 1\n", "a: {1: x, 1: y}\n"])
def test_a_key_that_stands_twice_is_refused(file, text):
    file.write_text(text)
    with pytest.raises(yaml.YAMLError, match="stands there twice"):
        read_yaml(file)
