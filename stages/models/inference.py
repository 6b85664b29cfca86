"""What a network says of images, in evaluation mode."""

import torch
from torch import Tensor

from stages.data.batches import Samples
from stages.models.compute import Compute
from stages.models.folding import fold_batchnorm
from stages.models.network import Classifier, Network

# Fixed for each kind of device, for the last bits of a result depend on it; a GPU wants more at a time.
BATCH_SIZES = {"cpu": 32, "cuda": 256}
PROBED_IMAGES = 2  # on which a folded network is compared with the network


def batch_size_on(device: torch.device) -> int:
    """Return how many images are measured at a time."""
    return BATCH_SIZES[device.type]


def predict_logits(classifier: Classifier, samples: Samples, compute: Compute) -> Tensor:
    """Return logits (samples, classes), float32, in the order of the samples, on the device.

    A network's BatchNorm is folded into its convolutions, which rounds otherwise (`stages/models/folding.py`).
    """
    classifier.module.eval()
    if isinstance(classifier, Network):
        pixels, _ = next(samples.batches(PROBED_IMAGES))
        classifier = fold_batchnorm(classifier, pixels)
    with torch.inference_mode(), compute.autocast():
        return torch.cat(
            [classifier.logits(pixels).float() for pixels, _ in samples.batches(batch_size_on(compute.device))]
        )
