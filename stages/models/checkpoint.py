"""Checkpoints: one safetensors file that is enough to predict. It holds tensors and text, never code."""

from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.errors import UserError
from stages.files import write_bytes
from stages.hashing import hash_bytes, hash_tensors
from stages.models.description import NetworkDescription
from stages.models.network import LIBRARIES, Network, empty_network
from stages.models.preprocessing import Preprocessing

CHECKPOINTS = Path("models")
# One key holds all, for safetensors writes several in no fixed order and checkpoints must be the same byte by byte.
KEY = "differential-rates"


class Description(NetworkDescription):
    """What a checkpoint says of itself, beside its tensors.

    Attributes:
        layer_groups: layer group -> names of its parameters, from input to head.
    """

    layer_groups: dict[str, list[str]]


class _Stored(Description):
    """A description as it stands in the file.

    Attributes:
        checksum: SHA-256 of the description and of the tensors.
    """

    checksum: str


@dataclass(frozen=True)
class Checkpoint:
    """A trained network and how to feed it."""

    description: Description
    network: Network


def checkpoint_name(seed: int) -> str:
    """Return the name of a replicate's checkpoint, in the folder of its arm."""
    return f"seed-{seed}.safetensors"


def save_checkpoint(path: Path, network: Network, description: Description) -> None:
    """Write a checkpoint, whole or not at all."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.module.state_dict().items()}
    stored = _Stored(**description.model_dump(), checksum=_checksum(description, tensors))
    write_bytes(path, safetensors.torch.save(tensors, metadata={KEY: stored.model_dump_json()}))


def _checksum(description: Description, tensors: dict[str, Tensor]) -> str:
    return hash_bytes(f"{description.model_dump_json()} {hash_tensors(tensors)}".encode())


def load_checkpoint(path: Path) -> Checkpoint:
    """Build the network that a checkpoint describes, with the checkpoint's weights.

    Raises:
        UserError: the file is missing, cut short, or no checkpoint of this project.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro`, or `dvc pull` where a remote is configured")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a checkpoint, or is cut short ({error}): run `dvc repro`, which makes it"
        ) from None
    if text is None:
        raise UserError(f"{path} holds tensors but is not a checkpoint of this project: give a file under models/")
    try:
        stored = _Stored.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"{path} describes itself wrongly ({error.error_count()} problems): run `dvc repro`") from None
    description = Description(**stored.model_dump(exclude={"checksum"}))
    if _checksum(description, tensors) != stored.checksum:
        raise UserError(f"{path} is not as it was written: run `dvc checkout --force`, or `dvc repro --force`")

    if description.name not in LIBRARIES[description.library].names():
        raise UserError(f"{path} is of a network that {description.library} does not have: {description.name!r}")
    module = empty_network(description.library, description.name, len(description.classes)).module
    groups = description.layer_groups
    try:
        module.load_state_dict(tensors)
    except RuntimeError:
        raise UserError(
            f"{path} does not hold the weights of {description.name}, as it says: run `dvc repro`"
        ) from None
    if sorted(name for names in groups.values() for name in names) != sorted(dict(module.named_parameters())):
        raise UserError(f"{path} does not give every parameter its layer group: run `dvc repro`")
    return Checkpoint(description, Network(module, Preprocessing(description.mean, description.std), groups))
