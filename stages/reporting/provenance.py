"""What a page was made from: commit, data, software and machine, without a name of anyone or of any computer."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from stages.yaml12 import read_yaml

LOCK = Path("dvc.lock")
PACKAGES = ("dvc", "torch", "torchvision", "timm", "numpy", "scikit-learn")


def provenance(lock: Path = LOCK) -> dict[str, str]:
    """Return what can be found out here; what cannot is said to be unknown."""
    return {
        "commit": _commit(),
        "prepared data": _fingerprint(lock),
        "software": f"Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES),
        "machine": f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPU cores",
    }


def _commit() -> str:
    """Name the commit on top of which the page was made: its own does not exist yet."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"made on top of {done.stdout.strip()}"


def output_digests(lock: Any) -> dict[str, str]:
    """Return DVC's digest of every output that it keeps, by the content of a dvc.lock."""
    stages = lock.get("stages", {}) if isinstance(lock, dict) else {}
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage.get("outs", []) if "md5" in out}


def read_output_digests(lock: Path = LOCK) -> dict[str, str]:
    """Return DVC's digest of every output here; none where nothing has been run."""
    try:
        return output_digests(read_yaml(lock))
    except (OSError, yaml.YAMLError):
        return {}


def _fingerprint(lock: Path) -> str:
    """Return DVC's own fingerprint of the prepared images."""
    try:
        stages = read_yaml(lock)["stages"]
        (prepared,) = [out for out in stages["prepare"]["outs"] if out["path"] == "data/prepared"]
    except (OSError, KeyError, TypeError, ValueError, yaml.YAMLError):
        return "unknown"
    return f"MD5 {prepared['md5']}, {prepared['nfiles']} files, {prepared['size']:,} bytes"
