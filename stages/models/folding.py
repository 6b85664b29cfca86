"""BatchNorm folded into the convolution before it: in evaluation mode both are one linear map."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from stages.models.network import Network

# Relative and absolute differences of logits that folding may make; a network that differs by more stays as it is.
RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 1e-3, 1e-4


def fold_batchnorm(network: Network, pixels: Tensor) -> Network:
    """Return a copy of a network for evaluation, folded where that changes rounding at most; else the network itself.

    Which BatchNorm follows which convolution is seen in a forward pass, so that it works for any network.

    Args:
        network: in evaluation mode.
        pixels: a few images, on which the copy is compared with the network, in the precision of its weights.
    """
    folded = Network(copy.deepcopy(network.module), network.preprocessing, network.groups)
    with torch.inference_mode():
        pairs = _pairs(folded, pixels)
        if not pairs:
            return network
        for convolution, batchnorm in pairs:
            _fold(convolution, batchnorm)
        _remove(folded.module, [batchnorm for _, batchnorm in pairs])
        wanted, found = network.logits(pixels), folded.logits(pixels)
    return folded if torch.allclose(found, wanted, RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE) else network


def _pairs(network: Network, pixels: Tensor) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Return every BatchNorm whose input is what a convolution gave, with that convolution."""
    outputs: list[tuple[nn.Conv2d, Tensor]] = []
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def given(convolution: nn.Conv2d, _: object, output: Tensor) -> None:
        outputs.append((convolution, output))

    def taken(batchnorm: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        pairs.extend((convolution, batchnorm) for convolution, output in outputs if output is inputs[0])

    hooks = []
    for module in network.module.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(given))
        elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(taken))
    try:
        network.logits(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _fold(convolution: nn.Conv2d, batchnorm: nn.BatchNorm2d) -> None:
    assert batchnorm.running_mean is not None
    assert batchnorm.running_var is not None
    weight, bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        batchnorm.running_mean,
        batchnorm.running_var,
        batchnorm.eps,
        batchnorm.weight,
        batchnorm.bias,
    )
    convolution.weight = nn.Parameter(weight.contiguous(memory_format=torch.channels_last), requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)


def _remove(module: nn.Module, batchnorms: list[nn.BatchNorm2d]) -> None:
    """Put in place of each BatchNorm what else it does: timm's apply the activation. ReLU6 may then overwrite."""
    known = {id(batchnorm) for batchnorm in batchnorms}
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if id(child) in known:
                setattr(parent, name, nn.Sequential(*_activations(child)))
    for layer in module.modules():
        if isinstance(layer, nn.ReLU6):
            layer.inplace = True


def _activations(batchnorm: nn.Module) -> Iterator[nn.Module]:
    for name in ("drop", "act"):
        if isinstance(layer := getattr(batchnorm, name, None), nn.Module):
            yield layer
