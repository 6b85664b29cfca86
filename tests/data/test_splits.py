import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stages.data.splits import (
    UNUSED,
    class_balance,
    few_samples,
    groups_in_two_splits,
    split_samples,
    splits_too_small,
)
from stages.params import SPLITS, MaxImages, SplitFractions, load_params
from tests.conftest import ROOT

DATA = load_params(ROOT / "params.yaml").data
NO_LIMIT = MaxImages(train=None, val=None, test=None, per_class=None)


def settings(seed=0, by="stratified", max_images=None, **fractions):
    split = SplitFractions(**(fractions or {"train": 0.36, "val": 0.32, "test": 0.32}))
    limits = NO_LIMIT.model_copy(update=max_images or {})
    changes = {"split": split, "seed": seed, "split_by": by, "max_images": limits}
    return DATA.model_copy(update=changes)


def table(rows, **columns):
    """Samples of the given labels and strata, without groups and without splits of their own."""
    frame = pd.DataFrame(rows, columns=["label", "stratum"])
    frame["image"] = [f"image-{row}" for row in range(len(frame))]
    return frame.assign(**{"group": "", "split": "", **columns})


KINDS = [(0, "mono"), (0, "poly"), (1, "mono"), (1, "poly")]
SEEDS = st.integers(0, 2**32 - 1)
WAYS = st.sampled_from(["stratified", "hash"])


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
    train, val, test = (draw(st.integers(5, 33)) / 100 for _ in SPLITS)
    return {"train": 1 - val - test if draw(st.booleans()) else train, "val": val, "test": test}


@given(tables(), fractions(), SEEDS)
def test_each_kind_is_split_by_the_fractions_to_within_one_sample(samples, shares, seed):
    splits = split_samples(samples, settings(seed, **shares))
    for _, kind in samples.groupby(["label", "stratum"]):
        for split in SPLITS:
            assert abs((splits[kind.index] == split).sum() - shares[split] * len(kind)) <= 1


@given(tables() | grouped_tables(), fractions(), SEEDS, WAYS)
def test_no_sample_is_lost_and_none_is_in_two_splits(samples, shares, seed, by):
    splits = split_samples(samples, settings(seed, by, **shares))
    assert splits.index.equals(samples.index)
    assert set(splits) <= {*SPLITS, UNUSED}
    if sum(shares.values()) > 1 - 1e-9:
        assert set(splits) <= set(SPLITS)


@given(grouped_tables(), fractions(), SEEDS, WAYS)
def test_groups_are_kept_whole(samples, shares, seed, by):
    splits = split_samples(samples, settings(seed, by, **shares))
    assert (splits.groupby(samples["group"]).nunique() == 1).all()


@given(st.lists(st.integers(1, 12), min_size=6, max_size=80), fractions(), SEEDS)
def test_no_split_is_over_its_fraction_by_more_than_the_largest_group(sizes, shares, seed):
    groups = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    splits = split_samples(table([(0, "")] * len(groups), group=groups), settings(seed, **shares))
    for split in SPLITS:
        assert (splits == split).sum() - shares[split] * len(groups) <= max(sizes)


@given(st.lists(st.lists(st.integers(1, 12), min_size=3, max_size=20), min_size=2, max_size=4), fractions(), SEEDS)
def test_where_a_class_has_three_groups_no_split_lacks_it(sizes, shares, seed):
    """Each group is of one class, as a patient's images often are."""
    rows = [
        (label, f"group-{label}-{number}")
        for label, of_class in enumerate(sizes)
        for number, size in enumerate(of_class)
        for _ in range(size)
    ]
    samples = table([(label, "") for label, _ in rows], group=[group for _, group in rows])
    splits = split_samples(samples, settings(seed, **shares))
    for label in range(len(sizes)):
        assert set(SPLITS) <= set(splits[samples["label"] == label])


@pytest.mark.parametrize(
    ("sizes", "asked", "found"),
    [
        ([30, 30] + 40 * [1], (0.8, 0.1, 0.1), (0.8, 0.1, 0.1)),
        (10 * [10], (0.33, 0.33, 0.33), (0.4, 0.3, 0.3)),
        (5 * [20], (0.8, 0.1, 0.1), (0.6, 0.2, 0.2)),
        ([40, 30, 30], (0.98, 0.01, 0.01), (0.4, 0.3, 0.3)),
    ],
)
def test_groups_come_as_near_to_the_fractions_as_these_can(sizes, asked, found):
    groups = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    shares = dict(zip(SPLITS, asked, strict=True))
    splits = split_samples(table([(0, "")] * 100, group=groups), settings(**shares))
    assert tuple(splits.value_counts(normalize=True)[split] for split in SPLITS) == pytest.approx(found)


def test_groups_are_split_near_the_fractions_class_by_class():
    random = np.random.default_rng(0)
    groups = np.repeat([f"patient-{number}" for number in range(100)], 10)
    labels = np.repeat(random.random(100) < 0.2, 10).astype(int)
    samples = table([(label, "") for label in labels], group=groups)
    splits = split_samples(samples, settings(train=0.6, val=0.2, test=0.2))
    shares = pd.crosstab(samples["label"], splits, normalize="index")
    assert np.abs(shares[["train", "val", "test"]] - [0.6, 0.2, 0.2]).to_numpy().max() < 0.06


@given(tables() | grouped_tables(), SEEDS, WAYS)
def test_the_same_seed_gives_the_same_split(samples, seed, by):
    assert split_samples(samples, settings(seed, by)).equals(split_samples(samples, settings(seed, by)))


@pytest.mark.parametrize("by", ["stratified", "hash"])
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
    splits = split_samples(table([(0, "")] * 20_000), settings(by="hash", train=0.5, val=0.2, test=0.1))
    shares = splits.value_counts(normalize=True)
    assert [shares[split] for split in (*SPLITS, UNUSED)] == pytest.approx([0.5, 0.2, 0.1, 0.2], abs=0.015)


def test_splits_that_the_source_gives_stay_and_those_it_lacks_come_out_of_train():
    given = ["train"] * 300 + ["test"] * 100
    samples = table([(label, "") for label in [0, 1] * 200], split=given)
    splits = split_samples(samples, settings(train=0.4, val=0.2, test=0.3))
    assert (splits[300:] == "test").all()
    assert splits[:300].value_counts().to_dict() == {"train": 200, "val": 100}  # 0.4 to 0.2, and nothing unassigned


@pytest.mark.parametrize("by", ["stratified", "hash"])
def test_splits_that_the_source_gives_whole_are_taken_as_they_are(by):
    samples = table([(0, "")] * 30, split=["train", "val", "test"] * 10)
    assert split_samples(samples, settings(by=by)).tolist() == ["train", "val", "test"] * 10


@given(tables(), st.integers(1, 20), SEEDS)
def test_a_limit_on_a_split_holds_and_keeps_the_classes_in_proportion(samples, most, seed):
    whole = split_samples(samples, settings(seed))
    splits = split_samples(samples, settings(seed, max_images={"train": most}))
    assert (splits == "train").sum() == min(most, (whole == "train").sum())
    assert (
        splits[splits != "train"]
        .where(whole != "train", UNUSED)
        .equals(whole[splits != "train"].where(whole != "train", UNUSED))
    )
    kept = pd.crosstab([samples["label"], samples["stratum"]], [splits == "train"])
    of_whole = pd.crosstab([samples["label"], samples["stratum"]], [whole == "train"])
    if True in kept and (splits == "train").any():
        share = (splits == "train").sum() / (whole == "train").sum()
        # Each kind is cut at one quantile, to within half an image; so is the sum over the kinds.
        slack = 0.5 + 0.5 * len(of_whole) * of_whole[True] / of_whole[True].sum()
        assert (np.abs(kept[True] - share * of_whole[True]) <= slack + 1e-9).all()


@given(tables(), st.integers(1, 20), SEEDS)
def test_a_limit_on_classes_holds_in_every_split(samples, most, seed):
    whole = split_samples(samples, settings(seed))
    splits = split_samples(samples, settings(seed, max_images={"per_class": most}))
    for (label, split), kept in splits.groupby([samples["label"], whole]):
        of_class = (samples["label"] == label) & (whole == split)
        if split != UNUSED:
            assert (kept == split).sum() == min(most, of_class.sum())


def with_splits(labels, splits, group=""):
    return table([(label, "") for label in labels], split=splits, group=group)


def test_classes_that_a_split_lacks_are_named_with_what_to_do():
    samples = with_splits([0, 0, 0, 1, 1], ["train", "val", "test", "train", "val"])
    (problem,) = splits_too_small(class_balance(samples, ["good", "bad"]))
    assert problem == (
        "data: test has no image of bad: add images of that class, or change what decides the splits: data.split, "
        "data.split_by, data.max_images, the groups, or the source"
    )
    whole = with_splits([0, 1] * 4, ["train", "train", "val", "val", "val", "val", "test", "test"])
    assert splits_too_small(class_balance(whole, ["a", "b"])) == []


def test_a_validation_split_on_which_no_features_can_be_compared_is_refused():
    three = with_splits([0, 1] * 3 + [0], ["train", "train", "val", "val", "test", "test", "val"])
    (problem,) = splits_too_small(class_balance(three, ["a", "b"]))
    assert problem == "data: val has 3 images, and needs 4 to compare features on: add some"


def test_where_no_image_is_left_that_is_said():
    none = class_balance(with_splits([], []), ["good", "bad"])
    assert splits_too_small(none) == ["data.path: no image is left to use"]


def test_classes_with_few_images_are_counted():
    samples = with_splits([0] * 30 + [1] * 12, ["train", "val", "test"] * 14)
    assert [tuple(finding) for finding in few_samples(class_balance(samples, ["many", "few"]))] == [
        ("few_samples", "few", f"4 in {split}") for split in SPLITS
    ]


def test_a_group_that_the_source_puts_in_two_splits_is_found():
    samples = with_splits([0] * 4, ["train", "test", "train", "test"], group=["anna", "anna", "ben", ""])
    found = groups_in_two_splits(samples)
    assert [(finding.image, finding.detail) for finding in found] == [
        ("image-0", "anna, here in train"),
        ("image-1", "anna, here in test"),
    ]


def test_the_class_balance_has_a_row_for_every_class_in_every_split():
    balance = class_balance(with_splits([0, 2], ["train", "test"]), ["a", "b", "c"])
    assert len(balance) == 9
    assert balance[balance["images"] == 1][["split", "class"]].to_numpy().tolist() == [["train", "a"], ["test", "c"]]
