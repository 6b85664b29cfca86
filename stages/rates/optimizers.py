"""From layer groups and their rates to an optimizer of torch."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from typing import Any

from torch import nn, optim

from stages.params import Optimizer
from stages.rates.policies import Plan

# Fused kernels make one pass over the weights where others make several; benchmarks/README.md has the measurements.
OPTIMIZERS: dict[str, Callable[[Any, Optimizer], optim.Optimizer]] = {
    "sgd": lambda groups, config: optim.SGD(groups, momentum=config.momentum, nesterov=config.nesterov, fused=True),
    "adam": lambda groups, config: optim.Adam(groups, fused=True),
    "adamw": lambda groups, config: optim.AdamW(groups, fused=True),
}

# Layer group -> its parameter groups, as torch's optimizers take them: one, or two where some of it does not decay.
ParamGroups = dict[str, list[dict[str, Any]]]


def build_param_groups(config: Optimizer, network: nn.Module, groups: dict[str, list[str]], plan: Plan) -> ParamGroups:
    """Return every layer group as parameter groups with its rate and weight decay.

    Args:
        config: the section `optimizer` of params.yaml.
        network: whose parameters they are.
        groups: layer group -> names of its parameters.
        plan: layer group -> rate.
    """
    exempt = set() if config.weight_decay_on_bias_and_norm else no_weight_decay(network)
    return {
        group: [
            {
                "layer_group": group,
                "params": [network.get_parameter(name) for name in some_names],
                "lr": plan[group].rate,
                "initial_lr": plan[group].rate,
                "weight_decay": weight_decay,
            }
            for weight_decay, some_names in (
                (config.weight_decay, [name for name in names if name not in exempt]),
                (0.0, [name for name in names if name in exempt]),
            )
            if some_names
        ]
        for group, names in groups.items()
    }


def no_weight_decay(network: nn.Module) -> set[str]:
    """Name the parameters that `weight_decay_on_bias_and_norm: false` keeps from decay.

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


def build_optimizer(config: Optimizer, param_groups: ParamGroups, trainable_groups: Sequence[str]) -> optim.Optimizer:
    """Build the optimizer of the layer groups that learn.

    Given those of a later phase, in the order in which they began to learn, it can load the state of an optimizer
    that `unfreeze` has brought there.

    Args:
        config: the section `optimizer` of params.yaml.
        param_groups: of every layer group.
        trainable_groups: names of the layer groups that learn.
    """
    return OPTIMIZERS[config.name]([dict(entry) for group in trainable_groups for entry in param_groups[group]], config)


def unfreeze(optimizer: optim.Optimizer, param_groups: ParamGroups, trainable_groups: Sequence[str]) -> None:
    """Add the layer groups to the optimizer that it does not hold yet; its state of the others stays.

    Args:
        optimizer: of the phase before.
        param_groups: of every layer group.
        trainable_groups: names of the layer groups that learn now.
    """
    held = {entry["layer_group"] for entry in optimizer.param_groups}
    for group in trainable_groups:
        if group not in held:
            for entry in param_groups[group]:
                optimizer.add_param_group(dict(entry))


def set_lr(optimizer: optim.Optimizer, multiplier: float) -> None:
    """Set every parameter group's rate to its initial one times `multiplier`."""
    for entry in optimizer.param_groups:
        entry["lr"] = entry["initial_lr"] * multiplier
