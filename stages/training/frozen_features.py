"""A frozen backbone is a fixed function: its features are computed once, and the head trains on them."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.data.augmentation import changes_images
from stages.data.batches import Samples
from stages.models.compute import Compute
from stages.models.inference import batch_size_on
from stages.models.network import Network
from stages.params import Split, Train
from stages.rates.freezing import train_mode


@dataclass(frozen=True)
class Head:
    """The end of a network, from where what is frozen stops: a classifier of features.

    Attributes:
        module: shares its parameters with the network.
    """

    module: nn.Module

    def logits(self, features: Tensor) -> Tensor:
        """Return logits (batch, classes) for features as the backbone gives them."""
        outputs: Tensor = self.module(features)
        return outputs


def head_on_features(
    network: Network, samples: dict[Split, Samples], train: Train, compute: Compute
) -> tuple[Head, dict[Split, Samples]] | None:
    """Return the head alone, and samples that hold features in place of pixels, where that changes rounding at most.

    It changes more, and the answer is None, where more than the head learns, where images are augmented or frozen
    BatchNorm moves, and where anything but the head's own dropout is drawn anew at each pass.

    Args:
        network: with its frozen parameters marked.
        samples: images.
        train: the section of params.yaml.
        compute: device and precision.
    """
    head = network.groups["head"]
    trainable = {name for name, parameter in network.module.named_parameters() if parameter.requires_grad}
    if trainable != set(head) or changes_images(train) or _batchnorm_moves(network.module, train):
        return None
    layers = {name.rpartition(".")[0] for name in head}
    if len(layers) > 1:
        return None
    end = Head(_end_of(network.module, layers.pop()))
    if not _is_enough(network, end, samples["train"], train, compute):
        return None
    network.module.eval()
    return end, {split: _with_features(network, end, images, compute) for split, images in samples.items()}


def _batchnorm_moves(module: nn.Module, train: Train) -> bool:
    """Whether running statistics of frozen layers are asked to move, and there are any."""
    asked = train.frozen_batchnorm == "update" and train.batchnorm == "update"
    return asked and any(isinstance(layer, _BatchNorm) for layer in module.modules())


def _end_of(module: nn.Module, head: str) -> nn.Module:
    """Return the head with the layers without parameters, such as dropout, that a Sequential puts right before it."""
    container = module.get_submodule(head.rpartition(".")[0])
    if not isinstance(container, nn.Sequential) or container[-1] is not module.get_submodule(head):
        return module.get_submodule(head)
    before = list(container)[:-1]
    while before and not list(before[-1].parameters()):
        before.pop()
    return container[len(before) :]


def _is_enough(network: Network, end: Head, samples: Samples, train: Train, compute: Compute) -> bool:
    """Whether features are the same in training as in evaluation, and the head makes the network's logits of them."""
    pixels, _ = next(samples.batches(batch_size_on(compute.device)))
    train_mode(network.module, train)
    in_training, _ = _features(network, end, pixels, compute)
    network.module.eval()
    in_evaluation, logits = _features(network, end, pixels, compute)
    with torch.no_grad(), compute.autocast():
        again = end.logits(in_evaluation.clone())  # the head may begin with a layer that works in place
    return torch.allclose(in_training, in_evaluation) and again.shape == logits.shape and torch.allclose(again, logits)


def _with_features(network: Network, end: Head, samples: Samples, compute: Compute) -> Samples:
    features = [
        _features(network, end, pixels, compute)[0] for pixels, _ in samples.batches(batch_size_on(compute.device))
    ]
    return Samples(torch.cat(features), torch.arange(len(samples), device=samples.rows.device), samples.labels)


def _features(network: Network, end: Head, pixels: Tensor, compute: Compute) -> tuple[Tensor, Tensor]:
    """Return what reaches the end of the network, and what leaves it."""
    first = end.module[0] if isinstance(end.module, nn.Sequential) else end.module
    captured: list[Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, inputs: captured.append(inputs[0].clone()))
    try:
        with torch.no_grad(), compute.autocast():
            logits = network.logits(pixels)
    finally:
        hook.remove()
    return captured[0], logits
