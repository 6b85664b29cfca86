"""Splitting samples into training, validation and test."""

import hashlib

import numpy as np
import pandas as pd

from stages.data.checks import MAX_LISTED, Finding
from stages.params import SPLITS, Data, MaxImages

UNUSED = ""
MIN_VAL_IMAGES = 4  # validation images; of fewer, their similarity cannot be estimated
MIN_IMAGES_PER_CLASS = 10  # images of a class in a split; below that, a metric of that class says little


def split_samples(samples: pd.DataFrame, data: Data) -> "pd.Series[str]":
    """Assign each sample to a split: the one that its source names, or one by `data.split`; then apply `max_images`.

    Where the source names splits but lacks some, those are cut out of what it calls train, in the proportion of the
    fractions.

    Args:
        samples: with the columns `image`, `label`, `stratum`, `group` and `split`.
        data: the section of params.yaml.

    Returns:
        For each row `train`, `val`, `test`, or an empty text where the fractions or `max_images` leave the sample out.
    """
    splits = samples["split"].copy()
    given = [split for split in SPLITS if (splits == split).any()]
    to_cut: list[str] = [split for split in SPLITS if split not in given or split == "train"]
    fractions = {split: getattr(data.split, split) for split in to_cut}
    if given:
        total = sum(fractions.values())
        fractions = {split: fraction / total for split, fraction in fractions.items()}
    uncut = samples[splits.isin(["", "train"])]
    splits[uncut.index] = _cut(uncut, fractions, data)
    return _limited(samples, splits, data.max_images, data.seed)


def _cut(samples: pd.DataFrame, fractions: dict[str, float], data: Data) -> "pd.Series[str]":
    if data.split_by == "hash":
        return hash_split(samples, fractions, data.seed)
    if (samples["group"] != "").any():
        return stratified_group_split(samples, fractions, data.seed)
    return stratified_split(samples, fractions, data.seed)


def stratified_split(samples: pd.DataFrame, fractions: dict[str, float], seed: int) -> "pd.Series[str]":
    """Split each kind by the fractions, to within one sample, however small it is.

    The samples of one class and stratum are shuffled and lined up; the fractions cut the line.
    """
    shuffled = samples.sample(frac=1, random_state=seed)
    kinds = shuffled.groupby(["label", "stratum"])["label"]
    place = (kinds.cumcount() + 0.5) / kinds.transform("size")
    return _between_cuts(place, fractions).reindex(samples.index)


def hash_split(samples: pd.DataFrame, fractions: dict[str, float], seed: int) -> "pd.Series[str]":
    """Split by a hash of each group's or sample's own name, so that no other sample ever moves it."""
    return _between_cuts(_draws(_units(samples), seed), fractions)


def stratified_group_split(samples: pd.DataFrame, fractions: dict[str, float], seed: int) -> "pd.Series[str]":
    """Split whole groups, each kind near the fractions.

    The largest group comes first, and each goes where most is lacking of what it brings, as scikit-learn's
    `StratifiedGroupKFold` fills its folds. The last groups of a kind go to the splits that have none of it. Samples
    without a group are groups of one.
    """
    units = _units(samples)
    kinds = pd.crosstab(units, [samples["label"], samples["stratum"]])
    kinds = kinds.sample(frac=1, random_state=seed)
    kinds = kinds.loc[kinds.sum(axis=1).sort_values(ascending=False, kind="stable").index]

    names = [*fractions, UNUSED]
    shares = np.array([*fractions.values(), max(0.0, 1 - sum(fractions.values()))])
    brings = (kinds / kinds.sum()).to_numpy()  # (groups, kinds), as a share of all samples of that kind
    still_to_come = (brings > 0)[::-1].cumsum(axis=0)[::-1]
    lacking = np.repeat(shares[:, np.newaxis], brings.shape[1], axis=1)  # (splits, kinds)
    has_some = np.zeros(lacking.shape, dtype=bool)
    has_some[-1] = True  # what is left over need not have any
    part_of = {}
    for unit, of_unit, to_come in zip(kinds.index, brings, still_to_come, strict=True):
        missing = ~has_some & (of_unit > 0)
        due = (missing & (missing.sum(axis=0) >= to_come)).any(axis=1)
        chosen = int(np.where(due | ~due.any(), lacking @ of_unit, -np.inf).argmax())
        lacking[chosen] -= of_unit
        has_some[chosen] |= of_unit > 0
        part_of[unit] = names[chosen]
    return units.map(part_of)


def _between_cuts(place: "pd.Series[float]", fractions: dict[str, float]) -> "pd.Series[str]":
    """Return the split of each place in [0, 1)."""
    cuts = np.cumsum(list(fractions.values()))
    return pd.Series(np.array([*fractions, UNUSED])[np.searchsorted(cuts, place)], index=place.index, dtype=str)


def _units(samples: pd.DataFrame) -> "pd.Series[str]":
    """What stays together: the group, or the sample by itself. No group is named as an image is."""
    return ("group " + samples["group"]).where(samples["group"] != "", "image " + samples["image"])


def _draws(names: "pd.Series[str]", seed: int) -> "pd.Series[float]":
    """A number in [0, 1) that follows from each name and the seed alone."""
    digests = (hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names)
    return pd.Series([int.from_bytes(digest) / 2**64 for digest in digests], index=names.index, dtype=float)


def _limited(samples: pd.DataFrame, splits: "pd.Series[str]", max_images: MaxImages, seed: int) -> "pd.Series[str]":
    """Leave out what is beyond `max_images`: of each class in each split, then of each split, kinds in proportion."""
    if not any(max_images.model_dump().values()):
        return splits
    table = samples[["label", "stratum"]].assign(split=splits, draw=_draws(samples["image"], seed))
    table = table[table["split"] != UNUSED].sort_values("draw", kind="stable")
    if max_images.per_class is not None:
        table = table[table.groupby(["split", "label"]).cumcount() < max_images.per_class]
    kinds = table.groupby(["split", "label", "stratum"])["label"]
    table = table.assign(place=(kinds.cumcount() + 0.5) / kinds.transform("size"))
    most = table["split"].map({split: getattr(max_images, split) for split in SPLITS}).astype(float).fillna(np.inf)
    kept = table.sort_values("place", kind="stable").groupby("split").cumcount().reindex(table.index) < most
    return splits.where(splits.index.isin(table.index[kept]), UNUSED)


def groups_in_two_splits(samples: pd.DataFrame) -> list[Finding]:
    """Find the groups that the source itself puts in more than one split."""
    grouped = samples[samples["group"] != ""]
    apart = grouped.groupby("group")["split"].transform("nunique") > 1
    torn = grouped[apart]
    return [
        Finding("group_in_two_splits", image, f"{group}, here in {split}")
        for image, group, split in zip(torn["image"], torn["group"], torn["split"], strict=True)
    ]


def few_samples(balance: pd.DataFrame) -> list[Finding]:
    """Find the classes that have few images in a split, by their balance."""
    few = balance[(balance["images"] > 0) & (balance["images"] < MIN_IMAGES_PER_CLASS)]
    return [
        Finding("few_samples", name, f"{images} in {split}")
        for split, name, images in zip(few["split"], few["class"], few["images"], strict=True)
    ]


def splits_too_small(balance: pd.DataFrame) -> list[str]:
    """Return which class is missing from which split, or that validation is too small, and what to do, in a line."""
    if not balance["images"].any():
        return ["data.path: no image is left to use"]
    none = balance[balance["images"] == 0]
    empty = [f"{split} has no image of {name}" for split, name in zip(none["split"], none["class"], strict=True)]
    if empty:
        more = f"; and {len(empty) - MAX_LISTED:,} more" if len(empty) > MAX_LISTED else ""
        advice = (
            "add images of that class, or change what decides the splits: data.split, data.split_by, "
            "data.max_images, the groups, or the source"
        )
        return [f"data: {'; '.join(empty[:MAX_LISTED])}{more}: {advice}"]
    in_val = int(balance.loc[balance["split"] == "val", "images"].sum())
    if in_val < MIN_VAL_IMAGES:
        return [f"data: val has {in_val} images, and needs {MIN_VAL_IMAGES} to compare features on: add some"]
    return []


def class_balance(samples: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Count the images of each class in each split.

    Args:
        samples: with the columns `label` and `split`.
        classes: names of the labels.

    Returns:
        A row for each split and class, with the columns `split`, `class`, `images`.
    """
    counts = pd.crosstab(samples["split"], samples["label"])
    counts = counts.reindex(index=list(SPLITS), columns=range(len(classes)), fill_value=0)
    return pd.DataFrame(
        {"split": split, "class": name, "images": images}
        for split, of_split in zip(SPLITS, counts.to_numpy().tolist(), strict=True)
        for name, images in zip(classes, of_split, strict=True)
    )
