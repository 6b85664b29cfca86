"""How much memory training a replicate takes, found without taking it."""

import copy

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from stages.models.compute import Compute
from stages.models.network import Network
from stages.params import Params

GIB = 2**30
# What a process holds besides: Python and torch, with CUDA's context on a GPU, and the buffers of convolutions.
PROCESS_BYTES = {"cpu": 0.5 * GIB, "cuda": 1.0 * GIB}
# Of each parameter: itself, its gradient, and what the optimizer keeps.
COPIES = {"sgd": 3, "adam": 4, "adamw": 4}


def estimate_memory(network: Network, params: Params, images: npt.NDArray[np.uint8], compute: Compute) -> float | None:
    """Return about how many bytes a training of a network takes on its device.

    The network is run on tensors without content, and what its backward pass would need is added up.

    Args:
        network: on the CPU; stays as it is.
        params: of which the sections `train` and `optimizer` are read.
        images: uint8 (samples, size, size, channels), of which each worker copies all to a GPU.
        compute: device and precision.

    Returns:
        None where the network cannot be run without content.
    """
    pieces = min(params.train.grad_accum_steps, params.train.batch_size // 2)
    batch = -(-params.train.batch_size // pieces)
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    try:
        module = copy.deepcopy(network.module).to("meta").train()
        pixels = torch.zeros(batch, *images.shape[1:], dtype=torch.uint8)
        inputs = torch.empty_like(network.preprocessing(pixels), device="meta")
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = module(inputs)
            nn.functional.cross_entropy(logits.float(), torch.zeros(batch, dtype=torch.int64, device="meta"))
    except (RuntimeError, NotImplementedError, AttributeError):
        return None
    weights = sum(parameter.nbytes for parameter in module.parameters())
    sizes = [tensor.untyped_storage().nbytes() for tensor in kept.values()]
    activations = sum(sizes) + 2 * max(sizes, default=0)  # the backward pass holds two more at a time
    copied = images.nbytes if compute.device.type == "cuda" else 0  # on the CPU they stay in their file
    return COPIES[params.optimizer.name] * weights + activations + copied + PROCESS_BYTES[compute.device.type]
