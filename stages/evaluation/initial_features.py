"""Features of networks before training. Where only heads differ, the backbone sees the images once for all of them."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from stages.evaluation.activations import output_modules
from stages.evaluation.cka import Grams, gram, grams_of
from stages.hashing import hash_tensors
from stages.models.compute import Compute
from stages.models.network import Network


def initial_grams(
    networks: Iterable[tuple[int, Network]], batches: Sequence[Tensor], compute: Compute
) -> dict[int, list[Grams]]:
    """Return, by seed, what `grams_of` gives of each network.

    Args:
        networks: seed and network, of one architecture.
        batches: uint8 pixels, four images or more in each.
        compute: device and precision.
    """
    by_backbone: dict[str, tuple[list[Grams], list[Tensor]]] = {}
    grams: dict[int, list[Grams]] = {}
    for seed, network in networks:
        layer, backbone = _head_layer(network), _backbone_digest(network)
        if layer is None:
            grams[seed] = grams_of(network, batches, compute)
        elif backbone not in by_backbone:
            inputs: list[Tensor] = []
            hook = layer.register_forward_pre_hook(lambda _, taken, inputs=inputs: inputs.append(taken[0].clone()))
            grams[seed] = grams_of(network, batches, compute)
            hook.remove()
            by_backbone[backbone] = grams[seed], inputs
        else:
            of_backbone, inputs = by_backbone[backbone]
            heads = _head_grams(layer.to(compute.device), inputs, compute)
            grams[seed] = [{**of_batch, "head": head} for of_batch, head in zip(of_backbone, heads, strict=True)]
    return grams


def _head_layer(network: Network) -> nn.Module | None:
    """Return the layer whose output is the head's, if it has all of its parameters; else None."""
    layers = {name.rpartition(".")[0] for name in network.groups["head"]}
    layer = network.module.get_submodule(layers.pop())
    speaks = output_modules(network.module, network.groups)["head"][:1] == [layer]
    return layer if speaks and not layers else None


def _backbone_digest(network: Network) -> str:
    head = set(network.groups["head"])
    tensors: Mapping[str, Tensor] = network.module.state_dict()
    return hash_tensors({name: tensor for name, tensor in tensors.items() if name not in head})


def _head_grams(layer: nn.Module, inputs: Iterable[Tensor], compute: Compute) -> list[Tensor]:
    with torch.inference_mode(), compute.autocast():
        return [gram(layer(taken)).cpu() for taken in inputs]
