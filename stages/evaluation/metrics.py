"""What probabilities are worth: the metrics of scikit-learn, and torchmetrics' calibration error."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    roc_auc_score,
)

import stages.libraries  # noqa: F401 - lets torchmetrics import torchvision where its compiled part is missing

from torchmetrics.functional.classification import multiclass_calibration_error  # isort: skip

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]

BINS = 15  # of confidence, as Guo et al. 2017 (arXiv:1706.04599) have it


def classification_metrics(labels: Labels, probabilities: Probabilities) -> dict[str, float]:
    """Score probabilities against labels.

    Args:
        labels: (samples,), each class at least once.
        probabilities: (samples, classes), each row adding up to 1.

    Returns:
        accuracy, balanced accuracy and macro F1 as fractions; loss in nats; the Brier score, which is the sum over
        classes, from 0 to 2; expected calibration error over `BINS` bins; ROC AUC, for more than two classes the mean
        of one against the rest.
    """
    predicted = probabilities.argmax(1)
    classes = np.arange(probabilities.shape[1])
    metrics = {
        "accuracy": accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "loss": log_loss(labels, probabilities, labels=classes),
        "brier": brier_score_loss(labels, probabilities, labels=classes, scale_by_half=False),
        "calibration_error": multiclass_calibration_error(
            torch.from_numpy(probabilities), torch.from_numpy(labels), num_classes=len(classes), n_bins=BINS
        ),
        "roc_auc": roc_auc_score(labels, probabilities[:, 1])
        if len(classes) == 2
        else roc_auc_score(labels, probabilities, multi_class="ovr"),
    }
    return {name: float(value) for name, value in metrics.items()}


def metrics_by_class(labels: Labels, probabilities: Probabilities, classes: list[str]) -> pd.DataFrame:
    """Return precision, recall, F1 and the number of samples of every class, a row for each."""
    precision, recall, f1, samples = precision_recall_fscore_support(
        labels, probabilities.argmax(1), labels=np.arange(len(classes)), zero_division=0
    )
    samples = samples.astype(int)  # which are fractions where no sample is right
    return pd.DataFrame({"class": classes, "precision": precision, "recall": recall, "f1": f1, "samples": samples})


def reliability(labels: Labels, probabilities: Probabilities) -> pd.DataFrame:
    """Return the samples, mean confidence and accuracy of each of `BINS` bins of confidence that has any."""
    confidence = probabilities.max(1)
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    table = pd.DataFrame({"bin": bins, "confidence": confidence, "accuracy": probabilities.argmax(1) == labels})
    grouped = table.groupby("bin")
    return grouped.agg(
        samples=("bin", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    ).reset_index()


def sample_losses(labels: Labels, probabilities: Probabilities) -> npt.NDArray[np.float64]:
    """Return the log loss of each sample in nats, of probabilities kept away from 0 as `log_loss` keeps them."""
    of_label = probabilities[np.arange(len(labels)), labels]
    losses: npt.NDArray[np.float64] = -np.log(np.clip(of_label, np.finfo(np.float64).eps, 1.0))
    return losses
