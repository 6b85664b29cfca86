"""From layer groups and their rates to an optimizer of torch."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import Any

from torch import nn, optim

from stages.params import Optimizer
from stages.rates.policies import Plan

# Fused kernels make one pass over the weights where others make several; benchmarks/README.md has the figures.
OPTIMIZERS: dict[str, Callable[[Any, Optimizer], optim.Optimizer]] = {
    "sgd": lambda groups, knobs: optim.SGD(groups, momentum=knobs.momentum, nesterov=knobs.nesterov, fused=True),
    "adam": lambda groups, knobs: optim.Adam(groups, fused=True),
    "adamw": lambda groups, knobs: optim.AdamW(groups, fused=True),
}

# Layer group -> its parameter groups, as torch's optimizers take them: one, or two where part of it does not decay.
ParameterGroups = dict[str, list[dict[str, Any]]]


def parameter_groups(knobs: Optimizer, network: nn.Module, groups: dict[str, list[str]], plan: Plan) -> ParameterGroups:
    """Give every layer group as parameter groups with its rate and weight decay.

    Args:
        knobs: the section `optimizer` of params.yaml.
        network: whose parameters they are.
        groups: layer group -> names of its parameters.
        plan: layer group -> rate.
    """
    kept = set() if knobs.decay_biases_and_norms else undecayed(network)
    return {
        group: [
            {
                "layer_group": group,
                "params": [network.get_parameter(name) for name in part],
                "lr": plan[group].rate,
                "own_rate": plan[group].rate,
                "weight_decay": weight_decay,
            }
            for weight_decay, part in (
                (knobs.weight_decay, [name for name in names if name not in kept]),
                (0.0, [name for name in names if name in kept]),
            )
            if part
        ]
        for group, names in groups.items()
    }


def undecayed(network: nn.Module) -> set[str]:
    """Name the parameters that `decay_biases_and_norms: false` keeps from decay.

    They are those of one dimension, as in timm's `param_groups_weight_decay`, and those that the network itself
    exempts by name or pattern, such as position embeddings.
    """
    exempt: Callable[[], set[str]] = getattr(network, "no_weight_decay", set)
    patterns = exempt()
    return {
        name
        for name, parameter in network.named_parameters()
        if parameter.ndim <= 1 or any(fnmatch(name, pattern) for pattern in patterns)
    }


def build_optimizer(knobs: Optimizer, entries: ParameterGroups, learning: Sequence[str]) -> optim.Optimizer:
    """Build the optimizer of the layer groups that learn.

    Given those of a later phase, in the order in which they began to learn, it can load the state of an optimizer
    that `unfreeze` has brought there.

    Args:
        knobs: the section `optimizer` of params.yaml.
        entries: of every layer group.
        learning: names of the layer groups.
    """
    return OPTIMIZERS[knobs.name]([dict(entry) for group in learning for entry in entries[group]], knobs)


def unfreeze(optimizer: optim.Optimizer, entries: ParameterGroups, learning: Sequence[str]) -> None:
    """Give the optimizer those layer groups that it does not hold yet; what it knows of the others stays.

    Args:
        optimizer: of the phase before.
        entries: of every layer group.
        learning: names of the layer groups that learn now.
    """
    held = {entry["layer_group"] for entry in optimizer.param_groups}
    for group in learning:
        if group not in held:
            for entry in entries[group]:
                optimizer.add_param_group(dict(entry))


def scale_rates(optimizer: optim.Optimizer, scale: float) -> None:
    """Set every parameter group's rate to its own times `scale`."""
    for entry in optimizer.param_groups:
        entry["lr"] = entry["own_rate"] * scale
