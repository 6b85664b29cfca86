"""What a page was made from: commit, data, software and machine, without a name of anyone or of any computer."""

import os
import platform
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from stages.params import PARAMS_FILE
from stages.yaml12 import parse_yaml, read_yaml

LOCK = Path("dvc.lock")
NOT_OF_THE_RESULT = ("review", "resume", "replicate_store", "search")  # sections of params.yaml that change no result
PACKAGES = ("dvc", "torch", "torchvision", "timm", "numpy", "scikit-learn")


def provenance(lock: Path = LOCK) -> dict[str, str]:
    """Return what can be found out here and now; what cannot is said to be unknown."""
    return {
        "commit": f"made on top of {head()}",  # its own does not exist yet
        "prepared data": _fingerprint(lock),
        "software": f"Python {platform.python_version()}, "
        + ", ".join(f"{package} {version(package)}" for package in PACKAGES),
        "machine": f"{platform.system()} on {platform.machine()}, {os.cpu_count()} CPU cores",
    }


def head() -> str:
    """Return the abbreviated hash of the commit that is checked out."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "an unknown commit"
    return done.stdout.strip()


def run_command(written: Mapping[str, Any]) -> str:
    """Return what to type to have this run again: the commit, and the parameters that differ from it.

    Args:
        written: content of params.yaml.
    """
    try:
        done = subprocess.run(["git", "show", f"HEAD:./{PARAMS_FILE}"], capture_output=True, text=True, check=True)
        committed = parse_yaml(done.stdout)
        commit = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError, yaml.YAMLError):
        return "dvc repro"
    of_the_result = {name: section for name, section in written.items() if name not in NOT_OF_THE_RESULT}
    overrides = "".join(f" -S {shlex.quote(override)}" for override in _overrides(committed, of_the_result))
    return f"git checkout {commit.stdout.strip()} && dvc " + (f"exp run{overrides}" if overrides else "repro")


def _overrides(before: Mapping[str, Any], after: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield `name=value` for each value that differs; what is new has a plus before its name."""
    for key, value in after.items():
        then = before.get(key)
        if isinstance(value, dict) and isinstance(then, dict):
            yield from _overrides(then, value, f"{prefix}{key}.")
        elif key not in before or then != value:
            yield f"{'' if key in before else '+'}{prefix}{key}={_override(value)}"


def _override(value: Any) -> str:
    """Return a value as Hydra's grammar of overrides has it."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(_override, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}: {_override(of_key)}' for key, of_key in value.items())}}}"
    if isinstance(value, str) and not re.fullmatch(r"[\w./:-]+", value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)


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
