"""Freezing: a layer group whose rate is 0 stays as it is, its BatchNorm statistics too."""

from torch import nn


def freeze(network: nn.Module, names: set[str]) -> None:
    """Take parameters out of training."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in names)


def train_mode(network: nn.Module) -> None:
    """Put a network into training mode, all but the layers whose parameters are frozen.

    A frozen BatchNorm in training mode would go on moving its running statistics.
    """
    network.train()
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad for parameter in own):
            module.eval()
