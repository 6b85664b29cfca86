"""Whether a metric of one arm changed between two runs, by the rule of the verdict."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from stages.evaluation.statistics import Sample, decide, grouped, paired_interval
from stages.metrics_files import Decision, Interval
from stages.params import HIGHER_IS_BETTER, METRIC_OF, Objective

# The validation metrics that a change may be judged by: of each image, from metrics/ARM_predictions.csv.
VALUES: dict[Objective, Callable[[pd.DataFrame], "pd.Series[float]"]] = {
    "val_accuracy": lambda table: (table["actual"] == table["predicted"]).astype(float),
    "val_loss": lambda table: table["loss"],
}


def judge_changes(
    before: pd.DataFrame, after: pd.DataFrame, group_of: Mapping[str, str]
) -> dict[str, tuple[Interval, Decision]]:
    """Return for every validation metric that both sides have recorded the interval of its change, and its decision.

    Args:
        before: content of metrics/ARM_predictions.csv there; the same replicates validated on the same images.
        after: here.
        group_of: image -> its group; an image that is not there stands alone.
    """
    recorded = [metric for metric in VALUES if metric != "val_loss" or {"loss"} <= {*before} & {*after}]
    return {metric: judge_change(metric, before, after, group_of) for metric in recorded}


def judge_change(
    metric: Objective, before: pd.DataFrame, after: pd.DataFrame, group_of: Mapping[str, str]
) -> tuple[Interval, Decision]:
    """Return the interval of a metric's change over replicates and images, or groups of them, and what it decides.

    Args:
        metric: a key of `VALUES`.
        before: as `judge_changes` has it.
        after: likewise.
        group_of: likewise.
    """
    then, now = (
        pd.Series(VALUES[metric](table).to_numpy(), index=pd.MultiIndex.from_frame(table[["seed", "image"]]))
        for table in (before, after)
    )
    change = (now - then).unstack("image")  # a row for each replicate; nothing where it did not validate on the image
    estimates, scored = change.mean(axis=1), change.notna()
    influences = change.sub(estimates, axis=0).div(scored.sum(axis=1), axis=0).fillna(0.0)
    names = [("group", group_of[name]) if name in group_of else ("image", name) for name in map(str, change)]
    units = pd.factorize(pd.Series(names))[0]
    sample = Sample(estimates.to_numpy(), influences.to_numpy(), scored.to_numpy(), np.ones(len(units)))
    of_units = grouped(sample, units)
    found = paired_interval(of_units)
    return found, decide(found, HIGHER_IS_BETTER[METRIC_OF[metric]], of_units.effective_units)
