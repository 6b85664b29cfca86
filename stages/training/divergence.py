"""A loss that is not finite: where it was, and whose rate is to blame."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from stages.models.network import Network


@dataclass(frozen=True)
class Divergence:
    """Where the loss stopped being finite.

    Attributes:
        epoch: the first is 1.
        step: of that epoch, the first is 1; 0 where the measurement after the epoch showed it.
        group: the layer group whose weights had grown most since the beginning; None where none had changed yet.
    """

    epoch: int
    step: int
    group: str | None

    def describe(self) -> str:
        """Return where it was, for people."""
        return f"in epoch {self.epoch}, " + (f"step {self.step}" if self.step else "when it was measured")


def weight_norms(network: Network) -> dict[str, float]:
    """Return the L2 norm of all weights of each layer group."""
    return {
        group: math.sqrt(
            sum(network.module.get_parameter(name).detach().double().square().sum().item() for name in names)
        )
        for group, names in network.groups.items()
    }


def fastest_growing_group(network: Network, at_first: Mapping[str, float]) -> str | None:
    """Name the layer group whose norm is the greatest multiple of what it was, or is no longer finite.

    Args:
        network: as it is now.
        at_first: layer group -> norm of its first weights.

    Returns:
        None where no norm has changed.
    """
    grown = {
        group: norm / at_first[group] if at_first[group] and math.isfinite(norm) else math.inf
        for group, norm in weight_norms(network).items()
        if norm != at_first[group] and math.isfinite(at_first[group])
    }
    return max(grown, key=lambda group: grown[group], default=None)
