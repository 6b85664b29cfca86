"""What a network says of images, in evaluation mode."""

import torch
from torch import Tensor

from stages.data.batches import Samples
from stages.models.compute import Compute
from stages.models.network import Classifier

BATCH_SIZE = 32  # fixed, for the last bits of a result depend on it


def predict_logits(classifier: Classifier, samples: Samples, compute: Compute) -> Tensor:
    """Return logits (samples, classes), float64, in the order of the samples."""
    classifier.module.eval()
    with torch.inference_mode(), compute.autocast():
        return torch.cat([classifier.logits(pixels).double() for pixels, _ in samples.batches(BATCH_SIZE)])


def predict_probabilities(classifier: Classifier, samples: Samples, compute: Compute) -> Tensor:
    """Return class probabilities (samples, classes), float64, on the CPU."""
    return predict_logits(classifier, samples, compute).softmax(1).cpu()
