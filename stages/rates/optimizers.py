"""From layer groups and their rates to an optimizer of torch."""

from collections.abc import Callable
from typing import Any

from torch import nn, optim

from stages.params import Optimizer

# Fused kernels make one pass over the weights where the plain ones make several.
OPTIMIZERS: dict[str, Callable[[Any, Optimizer], optim.Optimizer]] = {
    "sgd": lambda groups, knobs: optim.SGD(
        groups, momentum=knobs.momentum, weight_decay=knobs.weight_decay, fused=True
    ),
    "adam": lambda groups, knobs: optim.Adam(groups, weight_decay=knobs.weight_decay, fused=True),
    "adamw": lambda groups, knobs: optim.AdamW(groups, weight_decay=knobs.weight_decay, fused=True),
}


def build_optimizer(
    knobs: Optimizer, network: nn.Module, groups: dict[str, list[str]], rates: dict[str, float]
) -> optim.Optimizer:
    """Build the optimizer with one parameter group for each layer group that learns.

    Args:
        knobs: the section `optimizer` of params.yaml.
        network: whose parameters learn.
        groups: layer group -> names of its parameters.
        rates: layer group -> learning rate per step; a group at 0 is left out.
    """
    parameters = dict(network.named_parameters())
    return OPTIMIZERS[knobs.name](
        [
            {"name": group, "params": [parameters[name] for name in names], "lr": rates[group]}
            for group, names in groups.items()
            if rates[group] > 0
        ],
        knobs,
    )
