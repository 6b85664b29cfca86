import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.data.splits import split_samples
from stages.errors import UserError
from stages.params import PARTS, Split

CLASSES = ["good", "bad"]


@st.composite
def tables(draw):
    """Two classes and two strata, with ten samples of each kind at least."""
    counts = draw(st.lists(st.integers(10, 60), min_size=4, max_size=4))
    kinds = [(0, "mono"), (0, "poly"), (1, "mono"), (1, "poly")]
    rows = [kind for kind, count in zip(kinds, counts, strict=True) for _ in range(count)]
    return pd.DataFrame(rows, columns=["label", "stratum"])


@st.composite
def splits(draw):
    """Fractions that leave no part of ten samples empty."""
    train, val, test = (draw(st.floats(0.15, 0.33)) for _ in PARTS)
    return Split(train=train, val=val, test=test)


@given(tables(), splits(), st.integers(0, 2**32 - 1))
def test_each_kind_is_split_by_the_fractions_to_within_one_sample(samples, split, seed):
    parts = split_samples(samples, CLASSES, split, seed)
    for _, kind in samples.groupby(["label", "stratum"]):
        for part in PARTS:
            wanted = getattr(split, part) * len(kind)
            assert abs((parts[kind.index] == part).sum() - wanted) <= 1


@given(tables(), st.integers(0, 1000))
def test_fractions_that_add_up_to_one_use_every_sample(samples, seed):
    parts = split_samples(samples, CLASSES, Split(train=0.36, val=0.32, test=0.32), seed)
    assert set(parts) == set(PARTS)


def test_the_same_seed_gives_the_same_split_and_another_seed_another(samples):
    split = Split(train=0.5, val=0.2, test=0.2)
    first, again, other = (split_samples(samples, CLASSES, split, seed) for seed in (3, 3, 4))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_class_that_would_be_empty_in_a_part_is_named():
    samples = pd.DataFrame({"label": np.repeat([0, 1], [50, 2]), "stratum": ""})
    with pytest.raises(UserError, match=r"data.split: .*test has no image of bad.*raise that fraction"):
        split_samples(samples, CLASSES, Split(train=0.6, val=0.2, test=0.02), seed=0)
