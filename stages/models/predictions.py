"""Logits that a network gave, in a file beside its checkpoint, so that nothing shows it the same images again."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stages.errors import UserError
from stages.files import write_bytes
from stages.hashing import hash_bytes, hash_file, hash_tensors

Logits = dict[str, Tensor]
KEY = "differential-rates-logits"  # not that of checkpoints, which these files must not be taken for


class _Stored(BaseModel):
    """What the file says of itself.

    Attributes:
        checkpoint: digest of the file that gave the logits.
        data: digest of the images that it was shown.
        checksum: of both and of the tensors.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    checkpoint: str
    data: str
    checksum: str


def predictions_path(checkpoint: Path) -> Path:
    """Return where the logits of a checkpoint lie."""
    return checkpoint.with_suffix(".logits.safetensors")


def save_predictions(checkpoint: Path, logits: Logits, checksums: Mapping[str, str]) -> None:
    """Write logits beside the checkpoint that gave them, whole or not at all.

    Args:
        checkpoint: which is on the disk.
        logits: split -> (samples, classes).
        checksums: of the prepared data and of the replicate's splits.
    """
    tensors = {split: tensor.cpu().contiguous() for split, tensor in logits.items()}
    of, data = hash_file(checkpoint), _digest(checksums)
    stored = _Stored(checkpoint=of, data=data, checksum=_checksum(of, data, tensors))
    content = safetensors.torch.save(tensors, metadata={KEY: stored.model_dump_json()})
    write_bytes(predictions_path(checkpoint), content)


def load_predictions(checkpoint: Path, checksums: Mapping[str, str]) -> Logits:
    """Read what `save_predictions` wrote, of the same prepared data.

    Raises:
        UserError: it is missing, damaged, of another checkpoint, or of other images.
    """
    path = predictions_path(checkpoint)
    if not path.is_file():
        raise UserError(f"{path} is missing: run `dvc repro`, or `dvc pull` where a remote is configured")
    try:
        with safe_open(path, framework="pt") as file:
            stored = _Stored.model_validate_json((file.metadata() or {}).get(KEY, ""))
        tensors: Logits = safetensors.torch.load_file(path)
        is_whole = stored.checksum == _checksum(stored.checkpoint, stored.data, tensors)
    except (SafetensorError, OSError, ValidationError):
        is_whole = False
    if not is_whole:
        raise UserError(f"{path} is damaged: run `dvc checkout --force`, or `dvc repro --force`")
    if stored.checkpoint != hash_file(checkpoint):
        raise UserError(f"{path} is not as it was written with {checkpoint.name}: run `dvc checkout --force`")
    if stored.data != _digest(checksums):
        raise UserError(f"{checkpoint} was trained on other images than data/prepared holds now: run `dvc repro`")
    return tensors


def _checksum(checkpoint: str, data: str, tensors: Logits) -> str:
    return hash_bytes(f"{checkpoint} {data} {hash_tensors(tensors)}".encode())


def _digest(checksums: Mapping[str, str]) -> str:
    return hash_bytes(json.dumps(dict(checksums), sort_keys=True).encode())


def probabilities_of(logits: Tensor) -> Tensor:
    """Return class probabilities (samples, classes), float64, on the CPU."""
    return logits.double().softmax(1).cpu()
