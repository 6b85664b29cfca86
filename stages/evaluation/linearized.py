"""Metrics as means over images, to first order, so that one interval serves them all.

A metric that is no mean, such as a macro F1, is close to one: each image has a value, and the mean of the values is the
metric. The value is the metric plus the image's influence, its derivative by the image's weight (Efron's infinitesimal
jackknife; of ROC AUC DeLong's structural components, DeLong et al. 1988, doi 10.2307/2531595).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from stages.evaluation.metrics import Labels, Probabilities, sample_losses
from stages.params import Metric

Values = npt.NDArray[np.float64]


def _one_hot(labels: Labels, classes: int) -> Values:
    values: Values = np.eye(classes)[labels]
    return values


def _accuracy(labels: Labels, probabilities: Probabilities) -> Values:
    values: Values = (probabilities.argmax(1) == labels).astype(float)
    return values


def _balanced_accuracy(labels: Labels, probabilities: Probabilities) -> Values:
    actual, correct = _one_hot(labels, probabilities.shape[1]), _accuracy(labels, probabilities)
    share = actual.mean(0)
    recall = (actual * correct[:, None]).mean(0) / share
    values: Values = recall.mean() + (actual * (correct[:, None] - recall) / share).mean(1)
    return values


def _macro_f1(labels: Labels, probabilities: Probabilities) -> Values:
    classes = probabilities.shape[1]
    actual, predicted = _one_hot(labels, classes), _one_hot(probabilities.argmax(1), classes)
    hits, sizes = 2 * actual * predicted, actual + predicted
    f1 = hits.mean(0) / sizes.mean(0)
    values: Values = f1.mean() + ((hits - f1 * sizes) / sizes.mean(0)).mean(1)
    return values


def _roc_auc(labels: Labels, probabilities: Probabilities) -> Values:
    """One class against the rest: for two classes of the second, for more the mean over all."""
    classes = range(probabilities.shape[1]) if probabilities.shape[1] > 2 else [1]
    values: Values = np.mean([_auc_of_class(labels == name, probabilities[:, name]) for name in classes], axis=0)
    return values


def _auc_of_class(positive: npt.NDArray[np.bool_], scores: Values) -> Values:
    """Return DeLong's components: of each positive the share of negatives below it, of each negative the reverse."""
    positives, negatives, ranks = int(positive.sum()), int((~positive).sum()), rankdata(scores)
    below = np.empty(len(scores))
    below[positive] = (ranks[positive] - rankdata(scores[positive])) / negatives
    below[~positive] = 1 - (ranks[~positive] - rankdata(scores[~positive])) / positives
    auc = below[positive].mean()
    size = np.where(positive, positives, negatives)
    values: Values = auc + (below - auc) * len(scores) / size
    return values


def _brier(labels: Labels, probabilities: Probabilities) -> Values:
    values: Values = ((probabilities - _one_hot(labels, probabilities.shape[1])) ** 2).sum(1)
    return values


LINEARIZED: dict[Metric, Callable[[Labels, Probabilities], Values]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
    "macro_f1": _macro_f1,
    "roc_auc": _roc_auc,
    "loss": sample_losses,
    "brier": _brier,
}


def linearized(metric: Metric, labels: Labels, probabilities: Probabilities) -> Values:
    """Return a value for each image (images,), whose mean is the metric.

    Args:
        metric: which.
        labels: (images,), each class at least once.
        probabilities: (images, classes), each row adding up to 1.
    """
    return LINEARIZED[metric](labels, probabilities)
