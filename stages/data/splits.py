"""Who trains, validates and tests on what: the development part first, then the test part, then each replicate's draw.

What belongs together, a group or images with the same pixels, is never divided.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd

from stages.data.checks import MAX_LISTED, Finding
from stages.errors import UserError
from stages.params import SPLITS, Data, Split

UNUSED = ""
MIN_VAL_IMAGES = 4  # validation images; of fewer, an accuracy says nothing
MIN_IMAGES_PER_CLASS = 10  # images of a class in a split; below that, a metric of that class says little
POOL = "pool"  # the part that replicates draw their training and validation images from

Splits = pd.DataFrame  # a row for each sample, a column for each seed: train, val, test or UNUSED


def split_replicates(samples: pd.DataFrame, data: Data, seeds: list[int]) -> tuple["pd.Series[str]", Splits]:
    """Give every replicate its training, validation and test images.

    First the development part is cut, by `data.development` alone; the experiment uses the rest of the images, or with
    `data.part: development` that part alone. Then the test part is cut, once and by `data.split.test` alone; or with
    `data.folds: K` each K replicates test each of K parts, and the next K replicates test K others. From what is left
    each replicate's seed draws training and validation images. Splits that the source gives stay; those that it lacks
    are cut out of what it calls train, in the proportion of the fractions.

    Args:
        samples: with the columns `image`, `label`, `stratum`, `group`, `unit`, `split` (the source's) and `usable`.
        data: the section of params.yaml.
        seeds: of the replicates, in their order.

    Returns:
        The part of each sample (`development`, `test`, `pool`, or a given `val`, or `UNUSED`; with folds, no `test`),
        and the splits.

    Raises:
        UserError: there are to be folds, and the source gives test images.
    """
    used, is_development = _used(samples, data)
    given = {str(split) for split in used["split"]} - {UNUSED}
    if data.folds and "test" in given:
        raise UserError("data.folds: the source gives test images, so no others are tested; set data.folds to null")
    fractions = _fractions(data, given)

    tested = [_test_part(used, fractions, data, number) for number in range(_rounds(data, len(seeds)))]
    as_given = used["split"].where(used["split"].isin(["val", "test"]), POOL)
    parts = pd.Series(UNUSED, index=samples.index)
    parts[is_development.index[is_development]] = "development"
    parts[used.index] = as_given
    columns = {}
    for number, seed in enumerate(seeds):
        in_round = tested[number // data.folds] if data.folds else tested[0]
        column = as_given.copy()
        column[in_round.index[in_round == _name_of_test(data, number)]] = "test"
        column = _limited(used, column, "test", data, data.seed)
        if not data.folds:
            parts[used.index] = column  # the same for every replicate
        drawn = _cut(used[column == POOL], _of_the_rest(fractions), data, _derived(data.seed, "replicate", seed))
        column[drawn.index] = drawn
        for split in ("train", "val"):
            column = _limited(used, column, split, data, seed)
        columns[seed] = column.reindex(samples.index, fill_value=UNUSED)
    return parts, pd.DataFrame(columns)


def _used(samples: pd.DataFrame, data: Data) -> tuple[pd.DataFrame, "pd.Series[bool]"]:
    """Return the samples that the experiment uses, and of each that is usable whether it is set aside."""
    usable = samples[samples["usable"]]
    is_development = _development(usable, data)
    if data.part == "development":
        return usable[is_development].assign(split=UNUSED), is_development
    return usable[~is_development], is_development


def _development(usable: pd.DataFrame, data: Data) -> "pd.Series[bool]":
    """Whether each sample is set aside for choosing rates; never one that the source calls test or val."""
    free = usable[usable["split"].isin([UNUSED, "train"])]
    part = pd.Series(data=False, index=usable.index)
    if data.development:
        later = len(SPLITS) - usable.loc[usable["split"].isin(["val", "test"]), "split"].nunique()
        cut = _cut(free, {"development": data.development}, data, _derived(data.seed, "development"), left_over=later)
        part[cut.index] = cut == "development"
    return part


def _fractions(data: Data, given: set[str]) -> dict[str, float]:
    """Return the fractions of the splits that are to be cut; where the source gives others, they add up to 1."""
    to_cut = [split for split in SPLITS if split == "train" or (split not in given and getattr(data.split, split))]
    fractions: dict[str, float] = {split: getattr(data.split, split) for split in to_cut}
    if data.folds:
        fractions["test"] = 1 / data.folds
    total = sum(fractions.values()) if given else 1
    return {split: fraction / total for split, fraction in fractions.items()}


def _rounds(data: Data, replicates: int) -> int:
    return -(-replicates // data.folds) if data.folds else 1


def _name_of_test(data: Data, number: int) -> str:
    return f"fold-{number % data.folds}" if data.folds else "test"


def _test_part(used: pd.DataFrame, fractions: Mapping[str, float], data: Data, round_number: int) -> "pd.Series[str]":
    """Cut the test part of all replicates, or the folds of one round."""
    free = used[used["split"].isin([UNUSED, "train"])]
    if data.folds:
        folds = {f"fold-{number}": 1 / data.folds for number in range(data.folds)}
        return _cut(free, folds, data, _derived(data.seed, "folds", round_number), each=_each_fold(data.folds))
    if "test" not in fractions:
        return pd.Series(dtype=str)
    return _cut(free, {"test": fractions["test"]}, data, _derived(data.seed, "test"), left_over=len(fractions) - 1)


def _each_fold(folds: int) -> int:
    """Return what a fold needs of each class: of two, one is trained and validated on while the other is tested."""
    return 2 if folds == 2 else 1


def _of_the_rest(fractions: Mapping[str, float]) -> dict[str, float]:
    """Return the fractions of training and validation of what the test part leaves."""
    left = 1 - fractions.get("test", 0.0)
    return {split: fraction / left for split, fraction in fractions.items() if split != "test"}


def _cut(
    samples: pd.DataFrame, fractions: Mapping[str, float], data: Data, seed: int, *, each: int = 1, left_over: int = 0
) -> "pd.Series[str]":
    """Cut samples into parts; what the fractions leave over is `UNUSED`.

    Unless a hash decides, each part gets so many units of each class at least, and so does what is left over, where the
    class has enough for all of them.
    """
    if data.split_by == "hash":
        return hash_split(samples, fractions, seed)
    if (samples["group"] != "").any():
        return stratified_group_split(samples, fractions, seed, each, left_over)
    first = samples.drop_duplicates("unit")
    part_of = dict(zip(first["unit"], stratified_split(first, fractions, seed, each, left_over), strict=True))
    return samples["unit"].map(part_of).astype(str)


def stratified_split(
    samples: pd.DataFrame, fractions: Mapping[str, float], seed: int, each: int = 1, left_over: int = 0
) -> "pd.Series[str]":
    """Split each kind by the fractions, to within one sample, and give each part some of every class.

    The samples of one class and stratum are shuffled and lined up; the fractions cut the line. Of a class so small that
    a part got too few, the parts that have most to spare give single samples away.

    Args:
        samples: with the columns `label` and `stratum`.
        fractions: of the parts.
        seed: of the order.
        each: samples of each class that each part needs.
        left_over: samples of each class that are needed of what the fractions leave over.
    """
    shuffled = samples.sample(frac=1, random_state=seed)
    kinds = shuffled.groupby(["label", "stratum"])["label"]
    place = (kinds.cumcount() + 0.5) / kinds.transform("size")
    parts = _between_cuts(place, fractions)
    _give_each_part_some(parts, shuffled["label"], {**dict.fromkeys(fractions, each), UNUSED: left_over})
    return parts.reindex(samples.index)


def _give_each_part_some(parts: "pd.Series[str]", labels: "pd.Series[int]", needs: Mapping[str, int]) -> None:
    """Move single samples of each class that has enough for what every part needs, where a part has too few of it."""
    counts = pd.crosstab(labels, parts).reindex(columns=list(needs), fill_value=0)
    to_spare = counts.to_numpy() - np.array(list(needs.values()))
    for label, spare in zip(counts.index, to_spare, strict=True):
        while spare.min() < 0 <= spare.sum():
            giver, taker = int(spare.argmax()), int(spare.argmin())
            last = parts.index[(labels == label) & (parts == counts.columns[giver])][-1]
            parts[last] = counts.columns[taker]
            spare[giver] -= 1
            spare[taker] += 1


def hash_split(samples: pd.DataFrame, fractions: Mapping[str, float], seed: int) -> "pd.Series[str]":
    """Split by a hash of the name of what stays together, so that nothing moves it but what comes to belong to it."""
    return _between_cuts(_draws(samples["unit"], seed), fractions)


def stratified_group_split(
    samples: pd.DataFrame, fractions: Mapping[str, float], seed: int, each: int = 1, left_over: int = 0
) -> "pd.Series[str]":
    """Split whole units, each kind near the fractions.

    The larger units come first, and each goes where most is lacking of what it brings, as scikit-learn's
    `StratifiedGroupKFold` fills its folds. Sizes are told apart by powers of two: a finer order would leave the seed
    nothing to draw. The last units of a kind go to the parts that still need some.

    Args:
        samples: with the columns `label`, `stratum` and `unit`.
        fractions: of the parts.
        seed: of the order.
        each: units of each kind that each part needs.
        left_over: units of each kind that are needed of what the fractions leave over.
    """
    units = samples["unit"]
    kinds = pd.crosstab(units, [samples["label"], samples["stratum"]])
    kinds = kinds.sample(frac=1, random_state=seed)
    doublings = np.floor(np.log2(kinds.sum(axis=1)))
    kinds = kinds.loc[doublings.sort_values(ascending=False, kind="stable").index]

    names = [*fractions, UNUSED]
    shares = np.array([*fractions.values(), max(0.0, 1 - sum(fractions.values()))])
    brings = (kinds / kinds.sum()).to_numpy()  # (units, kinds), as a share of all samples of that kind
    still_to_come = (brings > 0)[::-1].cumsum(axis=0)[::-1]
    lacking = np.repeat(shares[:, np.newaxis], brings.shape[1], axis=1)  # (parts, kinds)
    needs = np.repeat([[each]] * len(fractions) + [[left_over]], brings.shape[1], axis=1)  # units
    part_of = {}
    for unit, of_unit, to_come in zip(kinds.index, brings, still_to_come, strict=True):
        wanted = np.where(of_unit > 0, needs, 0).clip(min=0)
        due = ((wanted > 0) & (wanted.sum(axis=0) >= to_come)).any(axis=1)
        chosen = int(np.where(due | ~due.any(), lacking @ of_unit, -np.inf).argmax())
        lacking[chosen] -= of_unit
        needs[chosen] -= of_unit > 0
        part_of[unit] = names[chosen]
    return units.map(part_of)


def _between_cuts(place: "pd.Series[float]", fractions: Mapping[str, float]) -> "pd.Series[str]":
    """Return the part of each place in [0, 1)."""
    cuts = np.cumsum(list(fractions.values())).round(9)
    return pd.Series(np.array([*fractions, UNUSED])[np.searchsorted(cuts, place)], index=place.index, dtype=str)


def _draws(names: "pd.Series[str]", seed: int) -> "pd.Series[float]":
    """A number in [0, 1) that follows from each name and the seed alone."""
    draws = {name: _hash(f"{seed}/{name}") / 2**64 for name in names.unique()}
    return names.map(draws).astype(float)


def _derived(*of: object) -> int:
    """A seed of its own for each cut, so that none follows another's order."""
    return _hash("/".join(map(str, of))) % 2**32


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def _limited(samples: pd.DataFrame, column: "pd.Series[str]", split: Split, data: Data, seed: int) -> "pd.Series[str]":
    """Leave out of a split what is beyond `max_images`: of each class, then of all, kinds in proportion."""
    most, per_class = getattr(data.max_images, split), data.max_images.per_class
    if most is None and per_class is None:
        return column
    table = samples.loc[column == split, ["image", "label", "stratum"]]
    table = table.assign(draw=_draws(table["image"], seed)).sort_values("draw", kind="stable")
    if per_class is not None:
        table = table[table.groupby("label").cumcount() < per_class]
    kinds = table.groupby(["label", "stratum"])["label"]
    table = table.assign(place=(kinds.cumcount() + 0.5) / kinds.transform("size")).sort_values("place", kind="stable")
    return column.where((column != split) | column.index.isin(table.index[:most]), UNUSED)


def groups_in_two_splits(samples: pd.DataFrame) -> list[Finding]:
    """Find the groups that the source itself puts in more than one split."""
    grouped = samples[(samples["group"] != "") & (samples["split"] != UNUSED)]
    apart = grouped.groupby("group")["split"].transform("nunique") > 1
    torn = grouped[apart]
    return [
        Finding("group_in_two_splits", image, f"{group}, here in {split}")
        for image, group, split in zip(torn["image"], torn["group"], torn["split"], strict=True)
    ]


def few_samples(balance: pd.DataFrame) -> list[str]:
    """Return the classes that have few images in a split, by their balance, as lines for people."""
    few = balance[(balance["images"] > 0) & (balance["images"] < MIN_IMAGES_PER_CLASS)]
    return [
        f"{name}: {images} image{'s' * (images != 1)} in {split}, of which a metric of that class says little"
        for split, name, images in zip(few["split"], few["class"], few["images"], strict=True)
    ]


def splits_too_small(balance: pd.DataFrame, samples: pd.DataFrame, data: Data) -> list[str]:
    """Return which class is missing from which split, or that validation is too small, and what to do, in lines.

    Args:
        balance: what `class_balance` counts in the splits that are needed.
        samples: with the columns that `split_replicates` needs, and `class`.
        data: the section of params.yaml.
    """
    if not balance["images"].any():
        return ["data.path: no image is left to use"]
    none = balance[balance["images"] == 0]
    if len(none):
        return _what_mends(none, samples, data)
    in_val = int(balance.loc[balance["split"] == "val", "images"].sum())
    if in_val < MIN_VAL_IMAGES:
        return [f"data: val has {in_val} images, and needs {MIN_VAL_IMAGES}: add some, or raise data.split.val"]
    return []


def _what_mends(none: pd.DataFrame, samples: pd.DataFrame, data: Data) -> list[str]:
    """Return a line for the classes with too few units for these splits, and one for what else a split lacks."""
    used, _ = _used(samples, data)
    fractions = _fractions(data, set())
    needed = data.folds * _each_fold(data.folds) if data.folds else len(fractions)
    units = used.groupby("class")["unit"].nunique().reindex(none["class"].unique(), fill_value=0)
    is_split_here = bool((used["split"] == UNUSED).all())
    small = units[units < needed] if is_split_here else units[:0]
    others = none[~none["class"].isin(small.index)]
    problems = []
    if len(small):
        what = "group" if (used["group"] != "").any() else "different image"
        named = _listed([f"{name} has {count} {what}{'s' * (count != 1)}" for name, count in small.items()])
        where = {"main": " beside the development part" if data.development else "", "development": " in that part"}
        *first, last = fractions
        parts = f"the {data.folds} folds" if data.folds else f"{', '.join(first)} and {last}"
        whole = samples[samples["usable"]].groupby("class")["unit"].nunique().reindex(small.index, fill_value=0)
        is_main = data.part == "main"
        of_development = "set data.development to 0" if is_main else "raise data.development"
        enough = needed if is_main else needed + len(SPLITS)  # what is not set aside is split, too
        advice = {
            f"set data.folds to {small.min()} or null": bool(data.folds) and small.min() >= len(SPLITS),
            of_development: data.development > 0 and whole.min() >= enough,
            "add images of that class, or remove the class": True,
        }
        what_to_do = ", or ".join(line for line, helps in advice.items() if helps)
        problems.append(f"data: {named}{where[data.part]}, and {parts} need {needed}: {what_to_do}")
    if len(others):
        lacks = [
            f"{split} has no image of {name}" for split, name in zip(others["split"], others["class"], strict=True)
        ]
        what_to_do = (
            "data.split_by: hash cannot promise one; set it to stratified, or add images of that class"
            if data.split_by == "hash"
            else "add images of that class, or change what decides the splits: data.split, data.folds, "
            "data.development, data.max_images, the groups, or the source"
        )
        problems.append(f"data: {_listed(lacks)}: {what_to_do}")
    return problems


def _listed(entries: list[str]) -> str:
    more = f"; and {len(entries) - MAX_LISTED:,} more" if len(entries) > MAX_LISTED else ""
    return "; ".join(entries[:MAX_LISTED]) + more


def class_balance(samples: pd.DataFrame, column: "pd.Series[str]", classes: list[str]) -> pd.DataFrame:
    """Count the images of each class in each split of a replicate.

    Args:
        samples: with the column `label`.
        column: the split of each.
        classes: names of the labels.

    Returns:
        A row for each split and class, with the columns `split`, `class`, `images`.
    """
    counts = pd.crosstab(column.rename("split"), samples["label"])
    counts = counts.reindex(index=list(SPLITS), columns=range(len(classes)), fill_value=0)
    return pd.DataFrame(
        {"split": split, "class": name, "images": images}
        for split, of_split in zip(SPLITS, counts.to_numpy().tolist(), strict=True)
        for name, images in zip(classes, of_split, strict=True)
    )
