"""Splitting samples into training, validation and test."""

import hashlib

import numpy as np
import pandas as pd

from stages.data.checks import TOLD, Finding
from stages.params import PARTS, Cap, Data

UNUSED = ""
FEWEST_COMPARED = 4  # validation images; of fewer, their similarity cannot be estimated
FEW = 10  # images of a class in a part; below that, a figure of that class says little


def split_samples(samples: pd.DataFrame, data: Data) -> "pd.Series[str]":
    """Give each sample its part: the one that its source names, or one by `data.split`; then apply the caps.

    Where the source names parts but lacks some, those are cut out of what it calls train, in the proportion of the
    fractions.

    Args:
        samples: with the columns `image`, `label`, `stratum`, `group` and `split`.
        data: the section of params.yaml.

    Returns:
        For each row `train`, `val`, `test`, or an empty text where the fractions or a cap leave the sample over.
    """
    parts = samples["split"].copy()
    given = [part for part in PARTS if (parts == part).any()]
    to_cut: list[str] = [part for part in PARTS if part not in given or part == "train"]
    fractions = {part: getattr(data.split, part) for part in to_cut}
    if given:
        total = sum(fractions.values())
        fractions = {part: fraction / total for part, fraction in fractions.items()}
    uncut = samples[parts.isin(["", "train"])]
    parts[uncut.index] = _cut(uncut, fractions, data)
    return _capped(samples, parts, data.cap, data.seed)


def _cut(samples: pd.DataFrame, fractions: dict[str, float], data: Data) -> "pd.Series[str]":
    if data.split_by == "hash":
        return by_hash(samples, fractions, data.seed)
    if (samples["group"] != "").any():
        return groups_by_count(samples, fractions, data.seed)
    return by_count(samples, fractions, data.seed)


def by_count(samples: pd.DataFrame, fractions: dict[str, float], seed: int) -> "pd.Series[str]":
    """Split each kind by the fractions, to within one sample, however small it is.

    The samples of one class and stratum are shuffled and lined up; the fractions cut the line.
    """
    shuffled = samples.sample(frac=1, random_state=seed)
    kinds = shuffled.groupby(["label", "stratum"])["label"]
    place = (kinds.cumcount() + 0.5) / kinds.transform("size")
    return _between_cuts(place, fractions).reindex(samples.index)


def by_hash(samples: pd.DataFrame, fractions: dict[str, float], seed: int) -> "pd.Series[str]":
    """Split by a hash of each group's or sample's own name, so that no other sample ever moves it."""
    return _between_cuts(_draws(_units(samples), seed), fractions)


def groups_by_count(samples: pd.DataFrame, fractions: dict[str, float], seed: int) -> "pd.Series[str]":
    """Split whole groups, each kind near the fractions.

    The largest group comes first, and each goes where most is lacking of what it brings, as the folds of scikit-learn's
    `StratifiedGroupKFold` are filled. The last groups of a kind go to the parts that have none of it. Samples without a
    group are groups of one.
    """
    units = _units(samples)
    kinds = pd.crosstab(units, [samples["label"], samples["stratum"]])
    kinds = kinds.sample(frac=1, random_state=seed)
    kinds = kinds.loc[kinds.sum(axis=1).sort_values(ascending=False, kind="stable").index]

    names = [*fractions, UNUSED]
    shares = np.array([*fractions.values(), max(0.0, 1 - sum(fractions.values()))])
    brings = (kinds / kinds.sum()).to_numpy()  # (groups, kinds), as a share of all samples of that kind
    still_to_come = (brings > 0)[::-1].cumsum(axis=0)[::-1]
    lacking = np.repeat(shares[:, np.newaxis], brings.shape[1], axis=1)  # (parts, kinds)
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
    """Give the part of each place in [0, 1)."""
    cuts = np.cumsum(list(fractions.values()))
    return pd.Series(np.array([*fractions, UNUSED])[np.searchsorted(cuts, place)], index=place.index, dtype=str)


def _units(samples: pd.DataFrame) -> "pd.Series[str]":
    """What stays together: the group, or the sample by itself. No group is named as an image is."""
    return ("group " + samples["group"]).where(samples["group"] != "", "image " + samples["image"])


def _draws(names: "pd.Series[str]", seed: int) -> "pd.Series[float]":
    """A number in [0, 1) that follows from each name and the seed alone."""
    digests = (hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest() for name in names)
    return pd.Series([int.from_bytes(digest) / 2**64 for digest in digests], index=names.index, dtype=float)


def _capped(samples: pd.DataFrame, parts: "pd.Series[str]", cap: Cap, seed: int) -> "pd.Series[str]":
    """Leave out what is beyond the caps: of each class in each part, then of each part, kinds in proportion."""
    if not any(cap.model_dump().values()):
        return parts
    table = samples[["label", "stratum"]].assign(part=parts, draw=_draws(samples["image"], seed))
    table = table[table["part"] != UNUSED].sort_values("draw", kind="stable")
    if cap.per_class is not None:
        table = table[table.groupby(["part", "label"]).cumcount() < cap.per_class]
    kinds = table.groupby(["part", "label", "stratum"])["label"]
    table = table.assign(place=(kinds.cumcount() + 0.5) / kinds.transform("size"))
    most = table["part"].map({part: getattr(cap, part) for part in PARTS}).astype(float).fillna(np.inf)
    kept = table.sort_values("place", kind="stable").groupby("part").cumcount().reindex(table.index) < most
    return parts.where(parts.index.isin(table.index[kept]), UNUSED)


def groups_in_two_parts(samples: pd.DataFrame) -> list[Finding]:
    """Find the groups that the source itself puts in more than one part."""
    grouped = samples[samples["group"] != ""]
    apart = grouped.groupby("group")["part"].transform("nunique") > 1
    torn = grouped[apart]
    return [
        Finding("group_in_two_parts", image, f"{group}, here in {part}")
        for image, group, part in zip(torn["image"], torn["group"], torn["part"], strict=True)
    ]


def few_samples(balance: pd.DataFrame) -> list[Finding]:
    """Find the classes that have few images in a part, by their balance."""
    few = balance[(balance["images"] > 0) & (balance["images"] < FEW)]
    return [
        Finding("few_samples", name, f"{images} in {part}")
        for part, name, images in zip(few["part"], few["class"], few["images"], strict=True)
    ]


def parts_too_small(balance: pd.DataFrame) -> list[str]:
    """Say which class is missing from which part, or that validation is too small, and what to do, in a line."""
    if not balance["images"].any():
        return ["data.path: no image is left to use"]
    none = balance[balance["images"] == 0]
    empty = [f"{part} has no image of {name}" for part, name in zip(none["part"], none["class"], strict=True)]
    if empty:
        more = f"; and {len(empty) - TOLD:,} more" if len(empty) > TOLD else ""
        advice = (
            "add images of that class, or change what decides the parts: data.split, data.split_by, data.cap, the "
            "groups, or the source"
        )
        return [f"data: {'; '.join(empty[:TOLD])}{more}: {advice}"]
    in_val = int(balance.loc[balance["part"] == "val", "images"].sum())
    if in_val < FEWEST_COMPARED:
        return [f"data: val has {in_val} images, and needs {FEWEST_COMPARED} to compare features on: add some"]
    return []


def class_balance(samples: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Count the images of each class in each part.

    Args:
        samples: with the columns `label` and `part`.
        classes: names of the labels.

    Returns:
        A row for each part and class, with the columns `part`, `class`, `images`.
    """
    counts = pd.crosstab(samples["part"], samples["label"])
    counts = counts.reindex(index=list(PARTS), columns=range(len(classes)), fill_value=0)
    return pd.DataFrame(
        {"part": part, "class": name, "images": images}
        for part, of_part in zip(PARTS, counts.to_numpy().tolist(), strict=True)
        for name, images in zip(classes, of_part, strict=True)
    )
