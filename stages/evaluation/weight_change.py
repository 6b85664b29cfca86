"""How far training moved the weights of each layer group."""

import torch
from torch import nn


def relative_weight_change(before: nn.Module, after: nn.Module, groups: dict[str, list[str]]) -> dict[str, float]:
    """Return, for each layer group, the L2 norm of the change over the L2 norm of the first weights.

    Args:
        before: the network as training met it.
        after: the same network, trained.
        groups: layer group -> names of its parameters.
    """
    first, last = dict(before.named_parameters()), dict(after.named_parameters())

    def norm(tensors: list[torch.Tensor]) -> torch.Tensor:
        together: torch.Tensor = torch.cat([tensor.detach().double().flatten() for tensor in tensors]).norm()
        return together

    return {
        group: (norm([last[name] - first[name] for name in names]) / norm([first[name] for name in names])).item()
        for group, names in groups.items()
    }
