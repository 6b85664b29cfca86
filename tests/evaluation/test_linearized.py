"""Each metric against scikit-learn's: its value, and how it changes with the weight of an image."""

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)

from stages.evaluation.linearized import LINEARIZED, linearized
from stages.evaluation.metrics import classification_metrics
from stages.params import HIGHER_IS_BETTER, Metric

METRICS = get_args(Metric)
WEIGHTED = {
    "accuracy": lambda labels, p, weights: accuracy_score(labels, p.argmax(1), sample_weight=weights),
    "balanced_accuracy": lambda labels, p, weights: balanced_accuracy_score(labels, p.argmax(1), sample_weight=weights),
    "macro_f1": lambda labels, p, weights: f1_score(labels, p.argmax(1), average="macro", sample_weight=weights),
    "roc_auc": lambda labels, p, weights: roc_auc_score(
        labels, p[:, 1] if p.shape[1] == 2 else p, multi_class="ovr", sample_weight=weights
    ),
    "loss": lambda labels, p, weights: log_loss(labels, p, labels=range(p.shape[1]), sample_weight=weights),
    "brier": lambda labels, p, weights: brier_score_loss(
        labels, p, labels=range(p.shape[1]), scale_by_half=False, sample_weight=weights
    ),
}


def drawn(seed, classes, samples=40):
    """Labels with every class, and probabilities of which several images have the same."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.concatenate([np.arange(classes), random.integers(0, classes, samples - classes)]))
    probabilities = random.dirichlet(np.ones(classes), samples // 2)
    return labels, probabilities[random.integers(0, samples // 2, samples)]


def test_every_metric_that_may_decide_is_linearized_and_has_a_better_side():
    assert set(METRICS) == set(LINEARIZED) == set(HIGHER_IS_BETTER) == set(WEIGHTED)


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
@settings(max_examples=25)
def test_the_mean_over_the_images_is_the_metric(metric, seed, classes):
    labels, probabilities = drawn(seed, classes)
    values = linearized(metric, labels, probabilities)
    assert values.shape == labels.shape
    assert values.mean() == pytest.approx(WEIGHTED[metric](labels, probabilities, None))
    assert values.mean() == pytest.approx(classification_metrics(labels, probabilities)[metric])


@pytest.mark.parametrize("metric", METRICS)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 4))
@settings(max_examples=10)
def test_what_an_image_adds_is_the_derivative_of_the_metric_by_its_weight(metric, seed, classes):
    labels, probabilities = drawn(seed, classes)
    values, step = linearized(metric, labels, probabilities), 1e-4
    for image in range(len(labels)):
        weights = np.ones(len(labels))
        more, less = (
            WEIGHTED[metric](labels, probabilities, weights + sign * step * (np.arange(len(labels)) == image))
            for sign in (1, -1)
        )
        derivative = (more - less) / (2 * step)
        assert (values[image] - values.mean()) / len(labels) == pytest.approx(derivative, abs=1e-6)


def test_a_class_that_is_never_predicted_has_an_f1_of_0_and_no_warning(recwarn):
    values = linearized("macro_f1", np.array([0, 0, 1]), np.array([[0.9, 0.1]] * 3))
    assert values.mean() == pytest.approx(0.4)
    assert not recwarn.list


def test_two_images_are_enough_for_every_metric():
    labels, probabilities = np.array([0, 1]), np.array([[0.9, 0.1], [0.2, 0.8]])
    for metric in METRICS:
        assert linearized(metric, labels, probabilities).mean() == pytest.approx(
            classification_metrics(labels, probabilities)[metric]
        )
