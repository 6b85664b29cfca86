import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from stages.evaluation.metrics import BINS, classification_metrics, metrics_by_class, reliability, sample_losses

LABELS = np.array([0, 0, 0, 1])
PROBABILITIES = np.array([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.3, 0.7]])


def drawn(seed, classes, samples=300):
    random = np.random.default_rng(seed)
    return random.integers(0, classes, samples), random.dirichlet(np.ones(classes), samples)


def test_metrics_of_two_classes_by_hand():
    metrics = classification_metrics(LABELS, PROBABILITIES)
    assert metrics["accuracy"] == 0.75
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert metrics["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert metrics["loss"] == pytest.approx(-np.log([0.9, 0.8, 0.4, 0.7]).mean())
    assert metrics["brier"] == pytest.approx(2 * np.mean([0.01, 0.04, 0.36, 0.09]))
    # Each of the four confidences has a bin of its own.
    assert metrics["calibration_error"] == pytest.approx(np.mean([0.1, 0.2, 0.6, 0.3]))
    assert metrics["roc_auc"] == 1.0


def test_more_classes_are_each_held_against_the_rest():
    labels, probabilities = drawn(0, classes=4)
    metrics = classification_metrics(labels, probabilities)
    each = [roc_auc_score(labels == label, probabilities[:, label]) for label in range(4)]
    assert metrics["roc_auc"] == pytest.approx(np.mean(each))
    even = classification_metrics(np.array([0, 1, 2]), np.full((3, 3), 1 / 3))
    assert even["loss"] == pytest.approx(math.log(3))
    assert even["brier"] == pytest.approx(2 / 3)
    assert even["calibration_error"] == pytest.approx(0, abs=1e-6)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), classes=st.integers(2, 5))
def test_the_bins_that_are_drawn_add_up_to_torchmetrics_calibration_error(seed, classes):
    labels, probabilities = drawn(seed, classes)
    bins = reliability(labels, probabilities)
    assert bins["samples"].sum() == len(labels)
    assert bins["bin"].between(0, BINS - 1).all()
    error = (bins["samples"] * (bins["accuracy"] - bins["confidence"]).abs()).sum() / len(labels)
    assert classification_metrics(labels, probabilities)["calibration_error"] == pytest.approx(error, abs=1e-5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_the_losses_of_samples_average_to_the_loss(seed):
    labels, probabilities = drawn(seed, classes=3)
    assert sample_losses(labels, probabilities).mean() == pytest.approx(
        log_loss(labels, probabilities, labels=range(3))
    )
    sure_and_wrong = np.array([[1.0, 0.0]])
    assert math.isfinite(sample_losses(np.array([1]), sure_and_wrong)[0])


def test_every_class_has_its_precision_and_recall():
    table = metrics_by_class(LABELS, PROBABILITIES, ["good", "bad"]).set_index("class")
    assert table.loc["good"].to_dict() == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8, "samples": 3})
    assert table.loc["bad"].to_dict() == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "samples": 1})


def test_a_class_that_is_never_predicted_has_precision_zero_and_no_warning(recwarn):
    table = metrics_by_class(np.array([0, 1]), np.array([[0.9, 0.1], [0.8, 0.2]]), ["good", "bad"])
    assert table["precision"].tolist() == [0.5, 0]
    assert not recwarn.list


def test_where_no_image_is_right_the_number_of_samples_is_a_whole_one_too():
    """Scikit-learn counts in fractions then."""
    wrong = np.eye(3)[[2, 2, 2]]
    samples = metrics_by_class(np.array([0, 0, 1]), wrong, ["a", "b", "c"])["samples"]
    assert samples.tolist() == [2, 1, 0]
    assert samples.dtype == int
