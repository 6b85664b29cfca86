import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stages.data.splits import (
    UNUSED,
    class_balance,
    few_samples,
    groups_in_two_parts,
    parts_too_small,
    split_samples,
)
from stages.params import PARTS, Cap, Split, load_params
from tests.conftest import ROOT

DATA = load_params(ROOT / "params.yaml").data
NO_CAP = Cap(train=None, val=None, test=None, per_class=None)


def settings(seed=0, by="count", cap=None, **fractions):
    split = Split(**(fractions or {"train": 0.36, "val": 0.32, "test": 0.32}))
    changes = {"split": split, "seed": seed, "split_by": by, "cap": NO_CAP.model_copy(update=cap or {})}
    return DATA.model_copy(update=changes)


def table(rows, **columns):
    """Samples of the given labels and strata, without groups and without parts of their own."""
    frame = pd.DataFrame(rows, columns=["label", "stratum"])
    frame["image"] = [f"image-{row}" for row in range(len(frame))]
    return frame.assign(**{"group": "", "split": "", **columns})


KINDS = [(0, "mono"), (0, "poly"), (1, "mono"), (1, "poly")]
SEEDS = st.integers(0, 2**32 - 1)
WAYS = st.sampled_from(["count", "hash"])


@st.composite
def tables(draw):
    """Two classes and two strata, of any size."""
    counts = draw(st.lists(st.integers(1, 60), min_size=4, max_size=4))
    return table([kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)])


@st.composite
def grouped_tables(draw):
    """Groups of 1 to 12 samples, each of one class or of both."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=6, max_size=60))
    groups = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    labels = draw(st.lists(st.integers(0, 1), min_size=len(groups), max_size=len(groups)))
    assume(len(set(labels)) == 2)
    return table([(label, "") for label in labels], group=groups)


@st.composite
def fractions(draw):
    """Any that leave some over, or none."""
    train, val, test = (draw(st.integers(5, 33)) / 100 for _ in PARTS)
    return {"train": 1 - val - test if draw(st.booleans()) else train, "val": val, "test": test}


@given(tables(), fractions(), SEEDS)
def test_each_kind_is_split_by_the_fractions_to_within_one_sample(samples, split, seed):
    parts = split_samples(samples, settings(seed, **split))
    for _, kind in samples.groupby(["label", "stratum"]):
        for part in PARTS:
            assert abs((parts[kind.index] == part).sum() - split[part] * len(kind)) <= 1


@given(tables() | grouped_tables(), fractions(), SEEDS, WAYS)
def test_no_sample_is_lost_and_none_is_in_two_parts(samples, split, seed, by):
    parts = split_samples(samples, settings(seed, by, **split))
    assert parts.index.equals(samples.index)
    assert set(parts) <= {*PARTS, UNUSED}
    if sum(split.values()) > 1 - 1e-9:
        assert set(parts) <= set(PARTS)


@given(grouped_tables(), fractions(), SEEDS, WAYS)
def test_groups_are_kept_whole(samples, split, seed, by):
    parts = split_samples(samples, settings(seed, by, **split))
    assert (parts.groupby(samples["group"]).nunique() == 1).all()


@given(st.lists(st.integers(1, 12), min_size=6, max_size=80), fractions(), SEEDS)
def test_no_part_is_over_its_fraction_by_more_than_the_largest_group(sizes, split, seed):
    groups = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    parts = split_samples(table([(0, "")] * len(groups), group=groups), settings(seed, **split))
    for part in PARTS:
        assert (parts == part).sum() - split[part] * len(groups) <= max(sizes)


@given(st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=20), min_size=2, max_size=4), fractions(), SEEDS)
def test_where_a_class_has_three_groups_no_part_lacks_it(sizes, split, seed):
    """Each group is of one class, as a patient's images often are."""
    rows = [
        (label, f"group-{label}-{number}")
        for label, of_class in enumerate(sizes)
        for number, size in enumerate(of_class)
        for _ in range(size)
    ]
    samples = table([(label, "") for label, _ in rows], group=[group for _, group in rows])
    parts = split_samples(samples, settings(seed, **split))
    for label in range(len(sizes)):
        assert set(PARTS) <= set(parts[samples["label"] == label])


@pytest.mark.parametrize(
    ("sizes", "split", "shares"),
    [
        ([30, 30] + 40 * [1], (0.8, 0.1, 0.1), (0.8, 0.1, 0.1)),
        (10 * [10], (0.33, 0.33, 0.33), (0.4, 0.3, 0.3)),
        (5 * [20], (0.8, 0.1, 0.1), (0.6, 0.2, 0.2)),
        ([40, 30, 30], (0.98, 0.01, 0.01), (0.4, 0.3, 0.3)),
    ],
)
def test_groups_come_as_near_to_the_fractions_as_these_can(sizes, split, shares):
    groups = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    fractions = dict(zip(PARTS, split, strict=True))
    parts = split_samples(table([(0, "")] * 100, group=groups), settings(**fractions))
    found = parts.value_counts(normalize=True)
    assert tuple(found[part] for part in PARTS) == pytest.approx(shares)


def test_groups_are_split_near_the_fractions_class_by_class():
    random = np.random.default_rng(0)
    groups = np.repeat([f"patient-{number}" for number in range(100)], 10)
    labels = np.repeat(random.random(100) < 0.2, 10).astype(int)
    samples = table([(label, "") for label in labels], group=groups)
    parts = split_samples(samples, settings(train=0.6, val=0.2, test=0.2))
    shares = pd.crosstab(samples["label"], parts, normalize="index")
    assert np.abs(shares[["train", "val", "test"]] - [0.6, 0.2, 0.2]).to_numpy().max() < 0.06


@given(tables() | grouped_tables(), SEEDS, WAYS)
def test_the_same_seed_gives_the_same_split(samples, seed, by):
    assert split_samples(samples, settings(seed, by)).equals(split_samples(samples, settings(seed, by)))


@pytest.mark.parametrize("by", ["count", "hash"])
@pytest.mark.parametrize("group", ["", [f"group-{number // 2}" for number in range(200)]])
def test_another_seed_gives_another_split(by, group):
    samples = table([(0, "")] * 100 + [(1, "")] * 100, group=group)
    assert not split_samples(samples, settings(3, by)).equals(split_samples(samples, settings(4, by)))


@given(tables() | grouped_tables(), tables(), SEEDS)
def test_by_hash_no_sample_moves_because_another_was_added(samples, added, seed):
    added = added.assign(image="new-" + added["image"], group=added["group"].where(added["group"] == "", "new"))
    before = split_samples(samples, settings(seed, "hash"))
    after = split_samples(pd.concat([added, samples], ignore_index=True), settings(seed, "hash"))
    assert after[len(added) :].tolist() == before.tolist()


def test_by_hash_the_fractions_hold_on_average():
    parts = split_samples(table([(0, "")] * 20_000), settings(by="hash", train=0.5, val=0.2, test=0.1))
    shares = parts.value_counts(normalize=True)
    assert [shares[part] for part in (*PARTS, UNUSED)] == pytest.approx([0.5, 0.2, 0.1, 0.2], abs=0.015)


def test_parts_that_the_source_gives_stay_and_those_it_lacks_come_out_of_train():
    given_parts = ["train"] * 300 + ["test"] * 100
    samples = table([(label, "") for label in [0, 1] * 200], split=given_parts)
    parts = split_samples(samples, settings(train=0.4, val=0.2, test=0.3))
    assert (parts[300:] == "test").all()
    assert parts[:300].value_counts().to_dict() == {"train": 200, "val": 100}  # 0.4 to 0.2, and nothing left over


@pytest.mark.parametrize("by", ["count", "hash"])
def test_parts_that_the_source_gives_whole_are_taken_as_they_are(by):
    samples = table([(0, "")] * 30, split=["train", "val", "test"] * 10)
    assert split_samples(samples, settings(by=by)).tolist() == ["train", "val", "test"] * 10


@given(tables(), st.integers(1, 20), SEEDS)
def test_a_cap_on_a_part_holds_and_keeps_the_classes_in_proportion(samples, most, seed):
    whole = split_samples(samples, settings(seed))
    parts = split_samples(samples, settings(seed, cap={"train": most}))
    assert (parts == "train").sum() == min(most, (whole == "train").sum())
    assert (
        parts[parts != "train"]
        .where(whole != "train", UNUSED)
        .equals(whole[parts != "train"].where(whole != "train", UNUSED))
    )
    kept = pd.crosstab([samples["label"], samples["stratum"]], [parts == "train"])
    of_whole = pd.crosstab([samples["label"], samples["stratum"]], [whole == "train"])
    if True in kept and (parts == "train").any():
        share = (parts == "train").sum() / (whole == "train").sum()
        assert (np.abs(kept[True] - share * of_whole[True]) <= 1).all()


@given(tables(), st.integers(1, 20), SEEDS)
def test_a_cap_on_classes_holds_in_every_part(samples, most, seed):
    whole = split_samples(samples, settings(seed))
    parts = split_samples(samples, settings(seed, cap={"per_class": most}))
    for (label, part), kept in parts.groupby([samples["label"], whole]):
        of_class = (samples["label"] == label) & (whole == part)
        if part != UNUSED:
            assert (kept == part).sum() == min(most, of_class.sum())


def with_parts(labels, parts, group=""):
    return table([(label, "") for label in labels], part=parts, group=group)


def test_classes_that_a_part_lacks_are_named_with_what_to_do():
    samples = with_parts([0, 0, 0, 1, 1], ["train", "val", "test", "train", "val"])
    (problem,) = parts_too_small(class_balance(samples, ["good", "bad"]))
    assert problem == (
        "data: test has no image of bad: add images of that class, or change what decides the parts: data.split, "
        "data.split_by, data.cap, the groups, or the source"
    )
    whole = with_parts([0, 1] * 4, ["train", "train", "val", "val", "val", "val", "test", "test"])
    assert parts_too_small(class_balance(whole, ["a", "b"])) == []


def test_a_validation_part_on_which_no_features_can_be_compared_is_refused():
    three = with_parts([0, 1] * 3 + [0], ["train", "train", "val", "val", "test", "test", "val"])
    (problem,) = parts_too_small(class_balance(three, ["a", "b"]))
    assert problem == "data: val has 3 images, and needs 4 to compare features on: add some"


def test_where_no_image_is_left_that_is_said():
    none = class_balance(with_parts([], []), ["good", "bad"])
    assert parts_too_small(none) == ["data.path: no image is left to use"]


def test_classes_with_few_images_are_counted():
    samples = with_parts([0] * 30 + [1] * 12, ["train", "val", "test"] * 14)
    assert [tuple(finding) for finding in few_samples(class_balance(samples, ["many", "few"]))] == [
        ("few_samples", "few", f"4 in {part}") for part in PARTS
    ]


def test_a_group_that_the_source_puts_in_two_parts_is_found():
    samples = with_parts([0] * 4, ["train", "test", "train", "test"], group=["anna", "anna", "ben", ""])
    found = groups_in_two_parts(samples)
    assert [(finding.image, finding.detail) for finding in found] == [
        ("image-0", "anna, here in train"),
        ("image-1", "anna, here in test"),
    ]


def test_the_class_balance_has_a_row_for_every_class_in_every_part():
    balance = class_balance(with_parts([0, 2], ["train", "test"]), ["a", "b", "c"])
    assert len(balance) == 9
    assert balance[balance["images"] == 1][["part", "class"]].to_numpy().tolist() == [["train", "a"], ["test", "c"]]
