"""Freezing: what does not learn stays as it is, its BatchNorm statistics too."""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.params import Train


def freeze_all_but(network: nn.Module, learning: Iterable[str]) -> None:
    """Let the named parameters learn, and no others."""
    names = set(learning)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)


def train_mode(network: nn.Module, knobs: Train) -> None:
    """Put a network into training mode, all but its frozen parts.

    A part with parameters, none of which learns, is a fixed function: its dropout rests, and its BatchNorm keeps
    its running statistics, which in training mode would go on moving.

    Args:
        network: whose parameters are frozen or not.
        knobs: the section `train` of params.yaml; `frozen_batchnorm: update` lets the statistics of frozen parts
            move all the same, `batchnorm: freeze` keeps all of them still.
    """
    network.train()
    for part in network.modules():
        if _is_frozen(part):
            part.eval()
    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    for norm in norms:
        if knobs.batchnorm == "freeze":
            norm.eval()
        elif knobs.frozen_batchnorm == "update":
            norm.train()


def _is_frozen(part: nn.Module) -> bool:
    parameters = list(part.parameters())
    return bool(parameters) and not any(parameter.requires_grad for parameter in parameters)
