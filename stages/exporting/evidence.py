"""What the project has measured of a checkpoint, where its own records show that they are about this file."""

import csv
import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stages.errors import UserError
from stages.files import METRICS
from stages.models.checkpoint import CHECKPOINTS
from stages.params import ARMS, SPLITS, Arm
from stages.reporting.tables import Results, load_results
from stages.yaml12 import read_yaml

LOCK, SPLITS_FILE = Path("dvc.lock"), Path("data/splits.csv")


@dataclass(frozen=True)
class Evidence:
    """What is known of a checkpoint.

    Attributes:
        arm: that it was trained in.
        seed: of its replicate.
        results: of the experiment.
        params: section or dotted key of params.yaml -> value that the network was made with.
        images: split -> how many it has; None where data/splits.csv is not there to count them.
    """

    arm: Arm
    seed: int
    results: Results
    params: dict[str, Any]
    images: dict[str, int] | None


def find_evidence(checkpoint: Path) -> Evidence | str:
    """Return what is known of a checkpoint, or why nothing is.

    It is taken only where dvc.lock has the digests of the checkpoint's folder and of every file of metrics as they are.
    """
    arm = next((arm for arm in ARMS if checkpoint.resolve().parent == (CHECKPOINTS / arm).resolve()), None)
    name = re.fullmatch(r"seed-(\d+)\.safetensors", checkpoint.name)
    if arm is None or name is None:
        return "it does not lie where an experiment leaves its checkpoints, with the experiment's records beside it"
    seed = int(name[1])
    try:
        stages = read_yaml(LOCK)["stages"]
        recorded = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
        evaluated = {entry["path"]: entry["md5"] for entry in stages["evaluate"]["deps"]}
        params = {**stages["prepare"]["params"]["params.yaml"], **stages[f"train_{arm}"]["params"]["params.yaml"]}
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return f"there is no {LOCK} that records how it was made"
    folder = CHECKPOINTS / arm
    if evaluated.get(str(folder)) != recorded.get(str(folder)):
        return f"metrics/evaluation.json is of other checkpoints than {LOCK} records"
    metrics = [METRICS / f"{name}.json" for name in ("prepare", "splits", *ARMS, "evaluation")]
    for path in (folder, *metrics):
        if recorded.get(str(path)) != _digest(path):
            return f"{path} is not as {LOCK} records it"
    try:
        results = load_results()
    except UserError as error:
        return str(error)
    images = _count_images(seed) if recorded.get(str(SPLITS_FILE)) == _digest(SPLITS_FILE) else None
    return Evidence(arm, seed, results, params, images)


def _count_images(seed: int) -> dict[str, int]:
    with SPLITS_FILE.open(encoding="utf-8", newline="") as file:
        counts = Counter(row[f"seed-{seed}"] for row in csv.DictReader(file))
    return {split: counts[split] for split in SPLITS}


def _digest(path: Path) -> str | None:
    """Return the digest of a file or folder as DVC writes it; None where there is none."""
    if path.is_file():
        return _md5(path.read_bytes())
    if not path.is_dir():
        return None
    names = sorted(file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    listing = [{"md5": _md5((path / name).read_bytes()), "relpath": name} for name in names]
    return f"{_md5(json.dumps(listing, sort_keys=True).encode())}.dir"


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
