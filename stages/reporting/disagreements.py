"""The validation images on which the arms disagree, for people to look at."""

from collections import Counter
from dataclasses import dataclass

import pandas as pd

from stages.data.store import Prepared
from stages.params import ARMS, Arm
from stages.reporting.thumbnails import as_data_url

MAX_SHOWN = 12  # images


@dataclass(frozen=True)
class Disagreement:
    """One image and what the replicates of both arms take it for.

    Attributes:
        name: of the image.
        picture: PNG as a data URL.
        actual: its class.
        predicted: arm -> the classes in words, the most frequent first.
    """

    name: str
    picture: str
    actual: str
    predicted: dict[Arm, str]


def find_disagreements(predictions: dict[Arm, pd.DataFrame], prepared: Prepared) -> list[Disagreement]:
    """Return the images on which the arms disagree with most seeds, at most `MAX_SHOWN`.

    Args:
        predictions: arm -> content of metrics/ARM_predictions.csv.
        prepared: the images.
    """
    baseline, differential = (predictions[arm].set_index(["image", "seed"]) for arm in ARMS)
    differ = (baseline["predicted"] != differential["predicted"]).groupby(level="image").sum()
    chosen = differ[differ > 0].sort_values(ascending=False, kind="stable").index[:MAX_SHOWN]
    row_of = {name: row for row, name in enumerate(prepared.samples["image"])}
    return [
        Disagreement(
            name=name,
            picture=as_data_url(prepared.images[row_of[name]]),
            actual=baseline.loc[name, "actual"].iloc[0],
            predicted={
                arm: _describe(table.loc[name, "predicted"])
                for arm, table in zip(ARMS, (baseline, differential), strict=True)
            },
        )
        for name in chosen
    ]


def _describe(predicted: "pd.Series[str]") -> str:
    return ", ".join(f"{name} ({count} of {len(predicted)})" for name, count in Counter(predicted).most_common())
