"""Freezing: what does not learn stays as it is, its BatchNorm statistics too."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.params import Train


def freeze_all_but(network: nn.Module, trainable: Iterable[str]) -> None:
    """Let the named parameters learn, and no others."""
    names = set(trainable)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)


def train_mode(network: nn.Module, config: Train) -> None:
    """Put a network into training mode, all but its frozen modules.

    A module with parameters, none of which learns, is a fixed function: its dropout rests, and its BatchNorm keeps
    its running statistics, which in training mode would go on moving.

    Args:
        network: whose parameters are frozen or not.
        config: the section `train` of params.yaml; `frozen_batchnorm: update` lets the statistics of frozen modules
            move all the same, `batchnorm: freeze` keeps all of them still.
    """
    network.train()
    for module in network.modules():
        if _is_frozen(module):
            module.eval()
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        if config.batchnorm == "freeze":
            norm.eval()
        elif config.frozen_batchnorm == "update":
            norm.train()


def _is_frozen(module: nn.Module) -> bool:
    parameters = list(module.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
