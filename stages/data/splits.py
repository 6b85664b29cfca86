"""Splitting samples into training, validation and test."""

import numpy as np
import pandas as pd

from stages.errors import UserError
from stages.params import PARTS, Split


def split_samples(samples: pd.DataFrame, classes: list[str], split: Split, seed: int) -> "pd.Series[str]":
    """Give each sample its part, stratified by class and stratum.

    The samples of one class and stratum are shuffled and lined up; the fractions cut the line. So each kind is
    split in the same proportions, to within one sample, however small it is.

    Args:
        samples: with columns `label` and `stratum`.
        classes: names of the labels, for messages.
        split: fractions of the samples.
        seed: the same seed gives the same split.

    Returns:
        For each row `train`, `val`, `test`, or an empty text where the fractions leave the sample over.

    Raises:
        UserError: a class would be empty in a part.
    """
    shuffled = samples.sample(frac=1, random_state=seed)
    kinds = shuffled.groupby(["label", "stratum"])["label"]
    place = (kinds.cumcount() + 0.5) / kinds.transform("size")
    cuts = np.cumsum([split.train, split.val, split.test])
    parts = pd.Series(np.array([*PARTS, ""])[np.searchsorted(cuts, place)], index=shuffled.index, dtype=str)
    parts = parts.reindex(samples.index)
    _refuse_empty_classes(samples["label"], parts, classes)
    return parts


def _refuse_empty_classes(labels: "pd.Series[int]", parts: "pd.Series[str]", classes: list[str]) -> None:
    empty = [
        f"{part} has no image of {name}"
        for part in PARTS
        for label, name in enumerate(classes)
        if not ((labels == label) & (parts == part)).any()
    ]
    if empty:
        raise UserError(f"data.split: {'; '.join(empty)}: raise that fraction")
