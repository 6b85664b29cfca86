"""What probabilities are worth: scikit-learn's metrics."""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, log_loss, roc_auc_score


def classification_metrics(labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> dict[str, float]:
    """Score probabilities against labels.

    Args:
        labels: (samples,), each class at least once.
        probabilities: (samples, classes), each row adding up to 1.

    Returns:
        accuracy, balanced accuracy and macro F1 as fractions, loss in nats, and ROC AUC where there are two classes
        (the second is the positive one).
    """
    predicted = probabilities.argmax(1)
    metrics = {
        "accuracy": accuracy_score(labels, predicted),
        "balanced_accuracy": balanced_accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
        "loss": log_loss(labels, probabilities, labels=np.arange(probabilities.shape[1])),
    }
    if probabilities.shape[1] == 2:
        metrics["roc_auc"] = roc_auc_score(labels, probabilities[:, 1])
    return {name: float(value) for name, value in metrics.items()}
