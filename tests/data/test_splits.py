from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import stages.data.splits as splits_module
from stages.data.duplicates import units
from stages.data.splits import (
    POOL,
    UNUSED,
    class_balance,
    few_samples,
    groups_in_two_splits,
    split_replicates,
    splits_too_small,
)
from stages.errors import UserError
from stages.params import SPLITS, MaxImages, SplitFractions, load_params
from tests.conftest import ROOT

DATA = load_params(ROOT / "params.yaml").data
NO_LIMIT = MaxImages(train=None, val=None, test=None, per_class=None)
SHARES = {"train": 0.36, "val": 0.32, "test": 0.32}


def settings(shares=None, max_images=None, **changes):
    """The section `data`: everything in one part, and no limits, but for what is said."""
    default = {
        "split": SplitFractions(**(shares or SHARES)),
        "max_images": NO_LIMIT.model_copy(update=max_images or {}),
        "development": 0.0,
        "part": "main",
        "folds": None,
        "split_by": "stratified",
        "seed": 0,
    }
    return DATA.model_copy(update={**default, **changes})


def table(rows, same=None, **columns):
    """Usable samples of the given labels and strata, without groups and without splits of their own.

    Where `same` is equal, so are the pixels.
    """
    frame = pd.DataFrame(rows, columns=["label", "stratum"])
    frame["image"] = pd.Series([f"image-{row}" for row in range(len(frame))], dtype=str)
    frame = frame.assign(**{"group": "", "split": "", "usable": True, **columns})
    digests = np.array([str(digest) for digest in (range(len(frame)) if same is None else same)], dtype="S16")
    frame["group"] = frame["group"].astype(str)
    return frame.assign(unit=units(frame, digests))


def split(samples, data, seed=1):
    """The splits of one replicate."""
    return split_replicates(samples, data, [seed])[1][seed]


KINDS = [(0, "mono"), (0, "poly"), (1, "mono"), (1, "poly")]
SEEDS = st.integers(0, 2**32 - 1)
WAYS = st.sampled_from(["stratified", "hash"])
SEVERAL = st.lists(SEEDS, min_size=1, max_size=4, unique=True)


@st.composite
def tables(draw, copies=False):
    """Two classes and two strata, of any size, and where it is asked for images with the same pixels."""
    counts = draw(st.lists(st.integers(1, 40), min_size=4, max_size=4))
    rows = [kind for kind, count in zip(KINDS, counts, strict=True) for _ in range(count)]
    rows = [rows[place] for place in np.random.default_rng(draw(SEEDS)).permutation(len(rows))]
    return table(rows, same=np.random.default_rng(draw(SEEDS)).integers(len(rows), size=len(rows)) if copies else None)


@st.composite
def grouped_tables(draw):
    """Groups of 1 to 12 samples, each of one class or of both; some images have no group, some have the same pixels."""
    sizes = draw(st.lists(st.integers(1, 12), min_size=6, max_size=25))
    groups = [f"group-{number}" if number else "" for number, size in enumerate(sizes) for _ in range(size)]
    random = np.random.default_rng(draw(SEEDS))
    labels = random.integers(2, size=len(groups))
    assume(len(set(labels)) == 2)
    same = np.arange(len(groups))
    copied = draw(st.integers(0, 5))
    same[random.integers(len(same), size=copied)] = same[random.integers(len(same), size=copied)]
    return table([(label, "") for label in labels], group=groups, same=same)


ANY_TABLE = tables() | tables(copies=True) | grouped_tables()


@st.composite
def fractions(draw):
    """Any that leave some over, or none."""
    train, val, test = (draw(st.integers(5, 33)) / 100 for _ in SPLITS)
    return {"train": 1 - val - test if draw(st.booleans()) else train, "val": val, "test": test}


@st.composite
def any_settings(draw):
    """Any parts and folds, and no limits."""
    folds = draw(st.none() | st.integers(2, 5))
    shares = {"train": 0.2, "val": 0.1, "test": 0.3} if folds else draw(fractions())
    development = draw(st.sampled_from([0.0, 0.2, 0.5]))
    part = draw(st.sampled_from(["main", "development"])) if development else "main"
    return settings(shares, folds=folds, development=development, part=part, split_by=draw(WAYS), seed=draw(SEEDS))


def kinds_of_classes(samples, enough):
    """The kinds of those classes of which one kind is so large that each part gets some, and none has to be moved."""
    for _, of_class in samples.groupby("label"):
        kinds = [kind for _, kind in of_class.groupby("stratum")]
        yield from kinds if max(map(len, kinds)) >= enough else []


@given(tables(), fractions(), SEEDS, SEEDS)
def test_each_kind_is_split_by_the_fractions_to_within_about_one_sample(samples, shares, seed, of_replicate):
    splits = split(samples, settings(shares, seed=seed), of_replicate)
    for kind in kinds_of_classes(samples, 1.5 / min(shares.values())):
        missed = {name: abs((splits[kind.index] == name).sum() - shares[name] * len(kind)) for name in SPLITS}
        assert missed["test"] <= 0.5 + 1e-6
        assert max(missed["train"], missed["val"]) <= 1.5 + 1e-6


@given(tables(), st.integers(1, 99), SEEDS)
def test_the_development_part_has_its_fraction_of_each_kind_to_within_one_sample(samples, percent, seed):
    parts, _ = split_replicates(samples, settings(development=percent / 100, seed=seed), [1])
    for kind in kinds_of_classes(samples, max(1.5 / (percent / 100), 3.5 / (1 - percent / 100))):
        assert abs((parts[kind.index] == "development").sum() - percent / 100 * len(kind)) <= 0.5 + 1e-6


@given(tables(), st.sampled_from(["main", "development"]), SEEDS)
def test_the_fractions_are_those_of_the_part_that_is_used(samples, part, seed):
    data = settings(development=0.4, part=part, seed=seed)
    parts, _ = split_replicates(samples, settings(development=0.4, seed=seed), [1])
    used = samples[(parts == "development") == (part == "development")]
    splits = split(samples, data)
    for kind in kinds_of_classes(used, 1.5 / min(SHARES.values())):
        for name in SPLITS:
            assert abs((splits[kind.index] == name).sum() - SHARES[name] * len(kind)) <= 1.5 + 1e-6


@given(ANY_TABLE, any_settings(), SEVERAL)
def test_every_sample_has_one_part_and_in_each_replicate_one_split(samples, data, seeds):
    parts, splits = split_replicates(samples, data, seeds)
    assert parts.index.equals(samples.index)
    assert splits.index.equals(samples.index)
    assert list(splits) == seeds
    assert set(splits.to_numpy().ravel()) <= {*SPLITS, UNUSED}
    assert set(parts) <= {"development", POOL, "test", UNUSED}


@given(ANY_TABLE, WAYS, SEEDS)
def test_fractions_that_add_up_to_1_leave_nothing_over(samples, by, seed):
    data = settings({"train": 0.5, "val": 0.3, "test": 0.2}, split_by=by, seed=seed)
    assert set(split(samples, data)) <= set(SPLITS)


@given(ANY_TABLE, any_settings(), SEVERAL)
def test_what_belongs_together_is_never_divided(samples, data, seeds):
    """Neither a group nor images with the same pixels, whatever the parts and splits."""
    parts, splits = split_replicates(samples, data, seeds)
    for column in (parts, *(splits[seed] for seed in seeds)):
        assert (column.groupby(samples["unit"]).nunique() == 1).all()
        grouped = samples["group"] != ""
        assert (column[grouped].groupby(samples.loc[grouped, "group"]).nunique() == 1).all()


@given(ANY_TABLE, any_settings(), SEVERAL)
def test_the_development_part_and_the_rest_never_meet(samples, data, seeds):
    assume(data.development)
    main = split_replicates(samples, data.model_copy(update={"part": "main"}), seeds)
    own = split_replicates(samples, data.model_copy(update={"part": "development"}), seeds)
    of_development = main[0] == "development"
    assert (main[1][of_development] == UNUSED).all(axis=None)
    assert (own[1][~of_development] == UNUSED).all(axis=None)
    assert (own[0][~of_development] == UNUSED).all()
    assert set(own[0][of_development]) <= {POOL, "test"}


@given(ANY_TABLE, any_settings(), any_settings(), SEVERAL, SEVERAL)
def test_the_development_part_follows_from_its_fraction_and_the_seed_alone(samples, data, other, seeds, others):
    kept = {"development": data.development, "seed": data.seed, "split_by": data.split_by, "part": "main"}
    data, other = data.model_copy(update={"part": "main"}), other.model_copy(update=kept)
    one, two = split_replicates(samples, data, seeds)[0], split_replicates(samples, other, others)[0]
    assert (one == "development").equals(two == "development")


@given(ANY_TABLE, fractions(), st.sampled_from([0.0, 0.3]), WAYS, SEEDS, SEVERAL, SEVERAL)
def test_the_test_part_follows_from_its_fraction_and_the_seed_alone(
    samples, shares, development, by, seed, seeds, others
):
    """Neither the replicates nor how they draw from the rest move it."""
    data = settings(shares, development=development, split_by=by, seed=seed)
    changed = settings(
        {**shares, "train": 0.03, "val": 0.02},
        max_images={"train": 3, "val": 2},
        development=development,
        split_by=by,
        seed=seed,
    )
    parts, splits = split_replicates(samples, data, seeds)
    others_parts, others_splits = split_replicates(samples, changed, others)
    assert parts.equals(others_parts)
    for of_one in (*(splits[one] for one in seeds), *(others_splits[one] for one in others)):
        assert (of_one == "test").equals(parts == "test")
        assert set(parts[of_one.isin(["train", "val"])]) <= {POOL}


@given(ANY_TABLE, any_settings(), SEVERAL)
def test_the_splits_of_a_replicate_follow_from_its_own_seed(samples, data, seeds):
    assume(not data.folds)
    together = split_replicates(samples, data, seeds)[1]
    for seed in seeds:
        assert together[seed].equals(split(samples, data, seed))


@given(ANY_TABLE, st.integers(2, 5), WAYS, SEEDS, st.sampled_from([0.0, 0.3]))
def test_every_round_of_folds_tests_each_sample_once(samples, folds, by, seed, development):
    data = settings(
        {"train": 0.2, "val": 0.1, "test": 0.3}, folds=folds, split_by=by, seed=seed, development=development
    )
    parts, splits = split_replicates(samples, data, list(range(2 * folds)))
    for of_round in (splits.columns[:folds], splits.columns[folds:]):
        tests = (splits[of_round] == "test").sum(axis=1)
        assert (tests == (parts != "development")).all()
    assert "test" not in set(parts)


@given(tables(), st.integers(2, 5), SEEDS)
def test_each_fold_has_its_share_of_each_kind_to_within_one_sample(samples, folds, seed):
    data = settings({"train": 0.2, "val": 0.1, "test": 0.3}, folds=folds, seed=seed)
    splits = split_replicates(samples, data, list(range(folds)))[1]
    for kind in kinds_of_classes(samples, 3 * folds):
        tested = (splits.loc[kind.index] == "test").sum()
        assert np.abs(tested - len(kind) / folds).max() <= 1 + 1e-6


def before_each_part_got_some(samples, fractions, seed, *_):
    """The rule as it was, frozen here: the fractions alone cut the line."""
    shuffled = samples.sample(frac=1, random_state=seed)
    kinds = shuffled.groupby(["label", "stratum"])["label"]
    place = (kinds.cumcount() + 0.5) / kinds.transform("size")
    cuts = np.cumsum(list(fractions.values())).round(9)
    names = np.array([*fractions, UNUSED])[np.searchsorted(cuts, place)]
    return pd.Series(names, index=place.index, dtype=str).reindex(samples.index)


def lacks_none(samples, data, parts, splits):
    """Whether each class has an image in every part: in the development part, and in every split of each replicate."""
    for label in set(samples["label"]):
        of_class = samples["label"] == label
        if data.development and data.part == "main" and "development" not in set(parts[of_class]):
            return False
        if not all(set(SPLITS) <= set(splits.loc[of_class, seed]) for seed in splits):
            return False
    return True


@st.composite
def small_classes(draw, least=1):
    """Two to four classes in one or two strata, some of a few images, some of which have the same pixels."""
    classes, strata = draw(st.integers(2, 4)), draw(st.integers(1, 2))
    rows, same = [], []
    for label in range(classes):
        for number in range(draw(st.integers(least, 12))):
            copies = 1 + draw(st.booleans())
            same += [len(rows)] * copies
            rows += [(label, str(number % strata))] * copies
    return table(rows, same=same)


@given(tables() | small_classes(), any_settings(), st.lists(SEEDS, min_size=5, max_size=5, unique=True))
def test_no_split_is_another_than_before_where_every_class_was_in_every_part(samples, data, seeds):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splits_module, "stratified_split", before_each_part_got_some)
        parts, splits = split_replicates(samples, data, seeds)
        main = split_replicates(samples, data.model_copy(update={"part": "main"}), seeds)[0]
    assume(not data.development or all(
        "development" in set(main[samples["label"] == label]) for label in set(samples["label"])
    ))  # fmt: skip
    assume(lacks_none(samples, data, parts, splits))
    new_parts, new_splits = split_replicates(samples, data, seeds)
    assert new_parts.equals(parts)
    assert new_splits.equals(splits)


@given(small_classes(least=3), fractions(), SEEDS, SEVERAL)
def test_where_a_class_has_three_images_no_split_lacks_it(samples, shares, seed, seeds):
    data = settings(shares, seed=seed)
    assert lacks_none(samples, data, *split_replicates(samples, data, seeds))


@given(small_classes(least=4), fractions(), st.integers(1, 99), SEEDS, SEVERAL)
def test_with_an_image_more_the_development_part_has_that_class_too(samples, shares, percent, seed, seeds):
    data = settings(shares, development=percent / 100, seed=seed)
    assert lacks_none(samples, data, *split_replicates(samples, data, seeds))


@given(st.integers(2, 6).flatmap(lambda folds: st.tuples(st.just(folds), small_classes(max(folds, 4)))), SEEDS)
def test_where_a_class_has_images_enough_no_fold_lacks_it(folds_and_samples, seed):
    """One for each fold, and of two folds two, since one is trained and validated on while the other is tested."""
    folds, samples = folds_and_samples
    data = settings({"train": 0.2, "val": 0.1, "test": 0.3}, folds=folds, seed=seed)
    assert lacks_none(samples, data, *split_replicates(samples, data, list(range(2 * folds))))


@given(small_classes(least=3), SEEDS)
def test_three_folds_of_three_images_are_one_each(samples, seed):
    data = settings({"train": 0.4, "val": 0.2, "test": 0.3}, folds=3, seed=seed)
    assert lacks_none(samples, data, *split_replicates(samples, data, [1, 2, 3]))


@given(small_classes(least=2), st.sampled_from(["val", "test"]), SEEDS, SEEDS)
def test_of_what_the_source_calls_train_the_split_that_it_lacks_gets_some_of_each_class(samples, given_split, seed, of):
    held = samples.assign(image="held-" + samples["image"], unit="held-" + samples["unit"], split=given_split)
    whole = pd.concat([samples.assign(split="train"), held], ignore_index=True)
    data = settings({"train": 0.9, "val": 0.05, "test": 0.05}, seed=seed)
    assert lacks_none(whole, data, *split_replicates(whole, data, [of]))


def test_a_class_of_three_images_is_one_in_each_split():
    samples = table([(0, "")] * 40 + [(1, "")] * 3)
    data = settings({"train": 0.6, "val": 0.2, "test": 0.2})
    for seed in range(10):
        assert sorted(split(samples, data, seed)[40:]) == ["test", "train", "val"]


LARGE = {
    "single": table([(row % 2, "") for row in range(200)]),
    "groups": table([(row % 2, "") for row in range(200)], group=[f"group-{row // 4}" for row in range(200)]),
    "groups of any size": table(
        [(row % 2, "") for row in range(210)],
        group=[f"group-{number}" for number in range(1, 21) for _ in range(number)],
    ),
}


@pytest.mark.parametrize("by", ["stratified", "hash"])
@pytest.mark.parametrize("samples", LARGE.values(), ids=LARGE)
def test_each_round_draws_other_folds(samples, by):
    data = settings({"train": 0.3, "val": 0.2, "test": 0.3}, folds=2, split_by=by)
    splits = split_replicates(samples, data, list(range(6)))[1]
    tested = [frozenset(splits.index[splits[seed] == "test"]) for seed in splits]
    assert len(set(tested)) == 6


@pytest.mark.parametrize("by", ["stratified", "hash"])
@pytest.mark.parametrize("samples", LARGE.values(), ids=LARGE)
def test_replicates_share_the_test_part_and_draw_the_rest_each_for_itself(samples, by):
    splits = split_replicates(samples, settings(split_by=by), [1, 2, 3, 4])[1]
    for one, two in pairwise(splits):
        assert (splits[one] == "test").equals(splits[two] == "test")
        assert not (splits[one] == "train").equals(splits[two] == "train")
        assert not (splits[one] == "val").equals(splits[two] == "val")


@pytest.mark.parametrize("by", ["stratified", "hash"])
@pytest.mark.parametrize("samples", LARGE.values(), ids=LARGE)
def test_another_seed_of_the_data_cuts_other_parts(samples, by):
    one, two = (split_replicates(samples, settings(development=0.3, split_by=by, seed=seed), [1]) for seed in (3, 4))
    for part in ("development", "test"):
        assert not (one[0] == part).equals(two[0] == part)
    assert not one[1].equals(two[1])


@given(ANY_TABLE, any_settings(), SEVERAL)
def test_the_same_seeds_give_the_same_splits(samples, data, seeds):
    (parts, splits), (same_parts, same_splits) = (split_replicates(samples, data, seeds) for _ in range(2))
    assert parts.equals(same_parts)
    assert splits.equals(same_splits)


@given(st.lists(st.integers(1, 12), min_size=6, max_size=80), fractions(), SEEDS)
def test_no_split_is_over_its_fraction_by_more_than_its_largest_groups(sizes, shares, seed):
    """One in the test part; one more in what is drawn from the rest, which may have one too many itself."""
    groups = [f"group-{number}" for number, size in enumerate(sizes) for _ in range(size)]
    splits = split(table([(0, "")] * len(groups), group=groups), settings(shares, seed=seed))
    for name, groups_over in (("test", 1), ("train", 2), ("val", 2)):
        assert (splits == name).sum() - shares[name] * len(groups) <= groups_over * max(sizes)


def of_classes(sizes):
    """Groups of given sizes, each of one class, as a patient's images often are."""
    rows = [
        (label, f"group-{label}-{number}")
        for label, of_class in enumerate(sizes)
        for number, size in enumerate(of_class)
        for _ in range(size)
    ]
    return table([(label, "") for label, _ in rows], group=[group for _, group in rows])


def classes_of_groups(groups):
    return st.lists(st.lists(st.integers(1, 12), min_size=groups, max_size=20), min_size=2, max_size=4)


@given(classes_of_groups(3), fractions(), SEEDS, SEEDS)
def test_where_a_class_has_three_groups_no_split_lacks_it(sizes, shares, seed, of_replicate):
    samples = of_classes(sizes)
    splits = split(samples, settings(shares, seed=seed), of_replicate)
    for label in range(len(sizes)):
        assert set(SPLITS) <= set(splits[samples["label"] == label])


@given(classes_of_groups(4), fractions(), SEEDS)
def test_with_a_group_more_the_development_part_has_that_class_too(sizes, shares, seed):
    samples = of_classes(sizes)
    parts, splits = split_replicates(samples, settings(shares, development=0.3, seed=seed), [1])
    for label in range(len(sizes)):
        of_class = samples["label"] == label
        assert "development" in set(parts[of_class])
        assert set(SPLITS) <= set(splits.loc[of_class, 1])


@given(st.integers(2, 5).flatmap(lambda folds: st.tuples(st.just(folds), classes_of_groups(max(folds, 4)))), SEEDS)
def test_where_a_class_has_groups_enough_no_fold_lacks_it(folds_and_sizes, seed):
    folds, sizes = folds_and_sizes
    samples = of_classes(sizes)
    data = settings({"train": 0.3, "val": 0.2, "test": 0.3}, folds=folds, seed=seed)
    splits = split_replicates(samples, data, list(range(folds)))[1]
    for label in range(len(sizes)):
        for of_replicate in splits:
            assert set(SPLITS) <= set(splits.loc[samples["label"] == label, of_replicate])


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
    splits = split(table([(0, "")] * 100, group=groups), settings(shares))
    assert tuple(splits.value_counts(normalize=True)[name] for name in SPLITS) == pytest.approx(found)


def test_groups_are_split_near_the_fractions_class_by_class():
    random = np.random.default_rng(0)
    groups = np.repeat([f"patient-{number}" for number in range(100)], 10)
    labels = np.repeat(random.random(100) < 0.2, 10).astype(int)
    samples = table([(label, "") for label in labels], group=groups)
    splits = split(samples, settings({"train": 0.6, "val": 0.2, "test": 0.2}))
    shares = pd.crosstab(samples["label"], splits, normalize="index")
    assert np.abs(shares[["train", "val", "test"]] - [0.6, 0.2, 0.2]).to_numpy().max() < 0.06


@given(ANY_TABLE, tables(), st.sampled_from([0.0, 0.3]), st.none() | st.integers(2, 4), SEEDS)
def test_by_hash_no_sample_moves_because_another_was_added(samples, added, development, folds, seed):
    added = added.assign(image="new-" + added["image"], unit="new-" + added["unit"])
    shares = {"train": 0.2, "val": 0.1, "test": 0.3}
    data = settings(shares, split_by="hash", development=development, folds=folds, seed=seed)
    parts, splits = split_replicates(samples, data, [1, 2])
    more_parts, more_splits = split_replicates(pd.concat([added, samples], ignore_index=True), data, [1, 2])
    assert more_parts[len(added) :].tolist() == parts.tolist()
    assert more_splits[len(added) :].to_numpy().tolist() == splits.to_numpy().tolist()


def test_by_hash_the_fractions_hold_on_average():
    samples = table([(0, "")] * 20_000)
    data = settings({"train": 0.5, "val": 0.2, "test": 0.1}, split_by="hash", development=0.25)
    parts, splits = split_replicates(samples, data, [1])
    assert (parts == "development").mean() == pytest.approx(0.25, abs=0.015)
    shares = splits.loc[parts != "development", 1].value_counts(normalize=True)
    assert [shares[name] for name in (*SPLITS, UNUSED)] == pytest.approx([0.5, 0.2, 0.1, 0.2], abs=0.015)


@given(ANY_TABLE, any_settings(), SEEDS)
def test_what_cannot_be_used_is_in_no_part_and_no_split(samples, data, seed):
    usable = np.random.default_rng(seed).random(len(samples)) < 0.7
    parts, splits = split_replicates(samples.assign(usable=usable), data, [1, 2])
    assert set(parts[~usable]) <= {UNUSED}
    assert (splits[~usable] == UNUSED).all(axis=None)
    alone_parts, alone_splits = split_replicates(samples[usable], data, [1, 2])
    assert parts[usable].equals(alone_parts)
    assert splits[usable].equals(alone_splits)


@pytest.mark.parametrize("by", ["stratified", "hash"])
@pytest.mark.parametrize("folds", [None, 2])
def test_where_there_are_no_samples_there_are_no_splits(by, folds):
    parts, splits = split_replicates(table([]), settings(SHARES, split_by=by, folds=folds, development=0.3), [1, 2])
    assert (len(parts), splits.shape) == (0, (0, 2))


def test_splits_that_the_source_gives_stay_and_those_it_lacks_come_out_of_train():
    given = ["train"] * 300 + ["test"] * 100
    samples = table([(label, "") for label in [0, 1] * 200], split=given)
    parts, splits = split_replicates(samples, settings({"train": 0.4, "val": 0.2, "test": 0.3}), [1, 2])
    assert (splits[300:] == "test").all(axis=None)
    for seed in (1, 2):
        of_rest = splits.loc[: 300 - 1, seed].value_counts().to_dict()
        assert of_rest == {"train": 200, "val": 100}  # 0.4 to 0.2, and nothing unassigned
    assert not splits[1].equals(splits[2])
    assert parts.tolist() == [POOL] * 300 + ["test"] * 100


def test_a_test_part_that_the_source_lacks_is_the_same_for_all_replicates():
    samples = table([(label, "") for label in [0, 1] * 200], split=["train"] * 300 + ["val"] * 100)
    parts, splits = split_replicates(samples, settings({"train": 0.4, "val": 0.3, "test": 0.2}), [1, 2])
    assert splits[1].equals(splits[2])
    assert splits[1].value_counts().to_dict() == {"train": 200, "val": 100, "test": 100}
    assert (parts[300:] == "val").all()


@pytest.mark.parametrize("by", ["stratified", "hash"])
def test_splits_that_the_source_gives_whole_are_taken_as_they_are(by):
    samples = table([(0, "")] * 30, split=["train", "val", "test"] * 10)
    assert split(samples, settings(split_by=by)).tolist() == ["train", "val", "test"] * 10


@given(ANY_TABLE, st.sampled_from([("train", "test"), ("train", "val"), SPLITS]), any_settings(), SEEDS)
def test_the_development_part_takes_nothing_that_the_source_calls_val_or_test(samples, names, data, seed):
    assume(data.development and not data.folds)
    samples = samples.assign(split=np.random.default_rng(seed).choice(names, size=len(samples)))
    held = samples["split"].isin(["val", "test"])
    main = settings(development=data.development, split_by=data.split_by, seed=data.seed)
    parts, splits = split_replicates(samples, main, [1, 2])
    assert set(samples.loc[parts == "development", "split"]) <= {"train"}
    for seed_of in splits:
        assert splits.loc[held, seed_of].equals(samples.loc[held, "split"])
    own = split_replicates(samples, main.model_copy(update={"part": "development"}), [1, 2])[1]
    assert (own[parts != "development"] == UNUSED).all(axis=None)


def test_folds_of_images_of_which_the_source_gives_the_test_ones_are_refused():
    samples = table([(row % 2, "") for row in range(40)], split=["train", "test"] * 20)
    data = settings({"train": 0.3, "val": 0.2, "test": 0.3}, folds=2)
    with pytest.raises(UserError, match=r"^data.folds: the source gives test images"):
        split_replicates(samples, data, [1, 2])
    in_development = data.model_copy(update={"development": 0.5, "part": "development"})
    assert "test" in set(split(samples, in_development))


def test_folds_leave_the_validation_images_that_the_source_gives():
    samples = table([(row // 4 % 2, "") for row in range(80)], split=["train", "train", "train", "val"] * 20)
    splits = split_replicates(samples, settings({"train": 0.3, "val": 0.2, "test": 0.3}, folds=2), [1, 2])[1]
    is_val = samples["split"] == "val"
    assert (splits[is_val] == "val").all(axis=None)
    assert ((splits[~is_val] == "test").sum(axis=1) == 1).all()
    assert (splits[~is_val] != "val").all(axis=None)


@given(tables(), st.sampled_from(SPLITS), st.integers(1, 20), SEEDS)
def test_a_limit_on_a_split_holds_keeps_the_kinds_in_proportion_and_moves_no_other_split(samples, name, most, seed):
    whole = split(samples, settings(seed=seed))
    splits = split(samples, settings(seed=seed, max_images={name: most}))
    assert (splits == name).sum() == min(most, (whole == name).sum())
    assert splits[whole != name].equals(whole[whole != name])
    assert set(splits[whole == name]) <= {name, UNUSED}
    kept = pd.crosstab([samples["label"], samples["stratum"]], [splits == name])
    of_whole = pd.crosstab([samples["label"], samples["stratum"]], [whole == name])
    if True in kept and (splits == name).any():
        share = (splits == name).sum() / (whole == name).sum()
        # Each kind is cut at one quantile, to within half an image; so is the sum over the kinds.
        slack = 0.5 + 0.5 * len(of_whole) * of_whole[True] / of_whole[True].sum()
        assert (np.abs(kept[True] - share * of_whole[True]) <= slack + 1e-9).all()


@given(tables(), st.integers(1, 20), SEEDS)
def test_a_limit_on_classes_holds_in_every_split(samples, most, seed):
    whole = split(samples, settings(seed=seed))
    splits = split(samples, settings(seed=seed, max_images={"per_class": most}))
    for (label, name), kept in splits.groupby([samples["label"], whole]):
        of_class = (samples["label"] == label) & (whole == name)
        if name != UNUSED:
            assert (kept == name).sum() == min(most, of_class.sum())


@given(ANY_TABLE, any_settings(), st.integers(1, 10))
def test_limited_test_images_are_the_same_for_all_replicates_and_nobody_trains_on_the_rest(samples, data, most):
    assume(not data.folds)
    limited = data.model_copy(update={"max_images": NO_LIMIT.model_copy(update={"test": most})})
    whole = split_replicates(samples, data, [1])[0]
    parts, splits = split_replicates(samples, limited, [1, 2])
    assert (splits[1] == "test").equals(splits[2] == "test")
    left_out = (whole == "test") & (parts != "test")
    assert set(parts[left_out]) <= {UNUSED}
    assert (splits[left_out] == UNUSED).all(axis=None)


def balance(labels, splits, classes):
    return class_balance(pd.DataFrame({"label": labels}, dtype=int), pd.Series(splits, dtype=str), classes)


def problems(data, samples=None, **of_class):
    """What is said of the splits of classes with so many images, or of a table in which a class is its label."""
    names = list(of_class)
    if samples is None:
        samples = table([(label, "") for label, name in enumerate(names) for _ in range(of_class[name])])
    names = names or [str(label) for label in range(samples["label"].max() + 1)]
    samples = samples.assign(**{"class": [names[label] for label in samples["label"]]})
    needed = SPLITS if data.split.test or data.folds else ("train", "val")
    _, splits = split_replicates(samples, data, list(range(data.folds or 1)))
    counts = [class_balance(samples, splits[seed], names) for seed in splits]
    said = [splits_too_small(of_one[of_one["split"].isin(needed)], samples, data) for of_one in counts]
    return next(filter(None, said), [])


MANY = {"train": 0.2, "val": 0.1, "test": 0.3}


def of_search(development):
    """As the trials of the search split the development part, without test images."""
    data = settings(development=development, part="development")
    return data.model_copy(update={"split": data.split.model_copy(update={"test": 0.0})})


DEVELOPMENT = settings(development=0.3, part="development")


@pytest.mark.parametrize(
    ("data", "count", "says", "what_to_do"),
    [
        (settings(), 2, "bad has 2 different images, and train, val and test need 3", "add images"),
        (settings(), 1, "bad has 1 different image, and train, val and test need 3", "add images"),
        (
            settings(MANY, folds=5),
            4,
            "bad has 4 different images, and the 5 folds need 5",
            "set data.folds to 4 or null",
        ),
        (
            settings(MANY, folds=2),
            3,
            "bad has 3 different images, and the 2 folds need 4",
            "set data.folds to 3 or null",
        ),
        (settings(MANY, folds=2), 2, "bad has 2 different images, and the 2 folds need 4", "add images"),
        (
            settings(development=0.3),
            3,
            "bad has 2 different images beside the development part, and train, val and test need 3",
            "set data.development to 0",
        ),
        (DEVELOPMENT, 6, "bad has 2 different images in that part, and train, val and test need 3", "raise data.dev"),
        (DEVELOPMENT, 5, "bad has 2 different images in that part, and train, val and test need 3", "add images"),
        (of_search(0.2), 5, "bad has 1 different image in that part, and train and val need 2", "raise data.dev"),
        (of_search(0.5), 4, "bad has 1 different image in that part, and train and val need 2", "add images"),
        (settings(split_by="hash"), 2, "bad has 2 different images, and train, val and test need 3", "add images"),
        (settings(split_by="hash"), 3, "val has no image of bad", "data.split_by: hash cannot promise one; set it to"),
        (settings(max_images={"test": 1}), 30, "test has no image of bad", "add images of that class, or change what"),
    ],
)
def test_of_a_class_that_a_split_lacks_it_is_said_what_would_do(data, count, says, what_to_do):
    (said,) = problems(data, good=60, bad=count)
    assert said.startswith(f"data: {says}: {what_to_do}")


@pytest.mark.parametrize(
    ("data", "count"),
    [(settings(), 3), (settings(MANY, folds=5), 5), (settings(MANY, folds=2), 4), (settings(development=0.3), 4),
     (settings(development=0.5, part="development"), 6), (of_search(0.4), 5)],
)  # fmt: skip
def test_of_a_class_that_is_just_large_enough_nothing_is_said(data, count):
    assert problems(data, good=60, bad=count) == []


def test_what_stands_together_counts_once():
    copies = table([(0, "")] * 40 + [(1, "")] * 6, same=[*range(40), 40, 40, 40, 41, 41, 41])
    assert problems(settings(), copies)[0].startswith("data: 1 has 2 different images, and train, val and test need 3")
    groups = table([(0, "")] * 40 + [(1, "")] * 6, group=[*map(str, range(40)), "a", "a", "a", "b", "b", "b"])
    assert problems(settings(), groups)[0].startswith("data: 1 has 2 groups, and train, val and test need 3: add")


def test_what_the_source_puts_into_the_splits_is_no_matter_of_fractions():
    given = table([(0, ""), (1, "")] * 20 + [(0, "")] * 20, split=["train"] * 40 + ["test"] * 20)
    (problem,) = problems(settings(), given)
    assert problem.startswith("data: test has no image of 1: add images of that class, or change what decides")
    assert problem.endswith("the groups, or the source")


def test_of_many_classes_that_a_split_lacks_five_are_named():
    (problem,) = problems(settings(), table([(label, "") for label in range(10)] * 2))
    assert "4 has 2 different images; and 5 more, and train, val and test need 3" in problem
    assert "5 has" not in problem


def test_a_validation_split_that_says_nothing_is_refused():
    samples = table([(0, "")] * 5 + [(1, "")] * 5)
    (problem,) = problems(settings({"train": 0.5, "val": 0.25, "test": 0.25}), samples)
    assert problem == "data: val has 2 images, and needs 4: add some, or raise data.split.val"


def test_where_no_image_is_left_that_is_said():
    nothing = balance([], [], ["good", "bad"])
    assert splits_too_small(nothing, table([]), settings()) == ["data.path: no image is left to use"]


def test_classes_with_few_images_are_named():
    few = balance([0] * 30 + [1] * 12, ["train", "val", "test"] * 14, ["many", "few"])
    assert few_samples(few) == [
        f"few: 4 images in {name}, of which a metric of that class says little" for name in SPLITS
    ]


def test_a_group_that_the_source_puts_in_two_splits_is_found():
    given = ["train", "test", "train", "test"]
    samples = table([(0, "")] * 4, split=given, group=["anna", "anna", "ben", ""])
    found = groups_in_two_splits(samples)
    assert [(finding.image, finding.detail) for finding in found] == [
        ("image-0", "anna, here in train"),
        ("image-1", "anna, here in test"),
    ]
    assert groups_in_two_splits(samples.assign(split="")) == []


def test_the_class_balance_has_a_row_for_every_class_in_every_split():
    counts = balance([0, 2], ["train", "test"], ["a", "b", "c"])
    assert len(counts) == 9
    assert counts[counts["images"] == 1][["split", "class"]].to_numpy().tolist() == [["train", "a"], ["test", "c"]]
