"""How much the features of each layer group changed: linear centered kernel alignment (CKA)."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from stages.evaluation.activations import capture_activations
from stages.models.compute import Compute
from stages.models.network import Network

Grams = dict[str, Tensor]


def linear_cka(before: Sequence[Grams], after: Sequence[Grams]) -> dict[str, float]:
    """Return the similarity of every layer group's features of images in two states of one network.

    Linear CKA (Kornblith et al. 2019, arXiv:1905.00414) with the unbiased estimator of HSIC, summed over batches so
    that no more than a batch of features is held (Nguyen, Raghu and Kornblith 2021, arXiv:2010.15327): 1 means the same
    up to rotation and scale, 0 unrelated.

    Args:
        before: of each batch what `grams_of` gives of the network with its first weights.
        after: the same of the trained one.
    """
    return {
        group: cka_of(sum((hsic_terms(b[group], a[group]) for b, a in zip(before, after, strict=True)), torch.zeros(3)))
        for group in before[0]
    }


def grams_of(network: Network, batches: Iterable[Tensor], compute: Compute) -> list[Grams]:
    """Return the Gram matrix (samples, samples) of every layer group's features, batch by batch, on the CPU.

    Args:
        network: in any mode.
        batches: uint8 pixels, four images or more in each.
        compute: device and precision.
    """
    network.module.to(compute.device).eval()
    grams = []
    with torch.inference_mode(), compute.autocast(), capture_activations(network.module, network.groups) as features:
        for pixels in batches:
            features.clear()
            network.logits(pixels)
            grams.append({group: gram(features[group]).cpu() for group in network.groups})
    return grams


def cka_of(terms: Tensor) -> float:
    """Return CKA from what `hsic_terms` adds up to; 0 where one of the two does not vary with the samples."""
    cross, one, other = terms.tolist()
    return float(cross / math.sqrt(one * other)) if one > 0 and other > 0 else 0.0


def gram(features: Tensor) -> Tensor:
    """Return the inner products (samples, samples) of features (samples, anything), float64.

    They are centered first: HSIC does not change by it, but the digits of small differences are kept.
    """
    flat = features.flatten(1).double()
    flat = flat - flat.mean(0)
    return flat @ flat.T


def hsic_terms(one: Tensor, other: Tensor) -> Tensor:
    """Return the unbiased HSIC of two Gram matrices with each other, and of each with itself (Song et al., JMLR 13)."""
    return torch.stack([_hsic(one, other), _hsic(one, one), _hsic(other, other)])


def _hsic(one: Tensor, other: Tensor) -> Tensor:
    n = len(one)
    one, other = (matrix - torch.diag(matrix.diag()) for matrix in (one, other))
    together = (one * other).sum() + one.sum() * other.sum() / ((n - 1) * (n - 2))
    return (together - 2 * (one @ other).sum() / (n - 2)) / (n * (n - 3))
