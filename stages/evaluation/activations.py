"""What each layer group makes of images: its output, caught on the way through the network."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn


def output_modules(network: nn.Module, groups: dict[str, list[str]]) -> dict[str, list[nn.Module]]:
    """Return, for each layer group, the modules whose output may be the group's, the likeliest first.

    They hold the last parameter of the group that lies in a module of the group's own, and none of another group. The
    largest comes first: a stage before its last layer, since a residual is added at its end. A module that is only a
    list has no output; then the next one speaks.

    Args:
        network: any.
        groups: layer group -> names of its parameters.
    """
    group_of = {name: group for group, names in groups.items() for name in names}

    def alone(module: str, group: str) -> bool:
        return all(group_of[name] == group for name in group_of if name.startswith(f"{module}."))

    def own_modules(group: str, parameter: str) -> list[nn.Module]:
        parts = parameter.split(".")[:-1]
        inside = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
        return [network.get_submodule(module) for module in inside if alone(module, group)]

    return {
        group: next(filter(None, (own_modules(group, parameter) for parameter in reversed(names))), [])
        for group, names in groups.items()
    }


@contextmanager
def capture_activations(network: nn.Module, groups: dict[str, list[str]]) -> Iterator[dict[str, Tensor]]:
    """Yield a dictionary that holds each layer group's output after a forward pass; clear it before the next."""
    outputs: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}

    def catch(group: str, rank: int, output: object) -> None:
        if isinstance(output, Tensor) and ranks.get(group, rank) >= rank:
            ranks[group] = rank
            outputs[group] = output

    with ExitStack() as hooks:
        for group, modules in output_modules(network, groups).items():
            for rank, module in enumerate(modules):
                hook = module.register_forward_hook(
                    lambda _module, _inputs, output, group=group, rank=rank: catch(group, rank, output)
                )
                hooks.callback(hook.remove)
        yield outputs
