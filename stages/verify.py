"""Run a committed experiment again, in a temporary clone, and say whether the same came out.

Every stage runs, with nothing taken from a cache. Each metric under metrics/ is then identical, within tolerance (as
on another processor), or different; so is the whole, by its worst metric. It ends with code 1 where one is different.
The clone lies under .dvc/tmp for as long as that takes; nothing else is changed in this folder.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dvc.utils.serialize import modify_yaml
from rich.console import Console
from rich.text import Text

from stages.errors import UserError, run_cli
from stages.evaluation.reproduction import MetricComparison, compare_metrics, overall
from stages.files import METRICS, read_json, remove_leftovers
from stages.yaml12 import read_yaml

# .json under metrics/; review.json repeats metrics of the others
COMPARED = ("prepare", "splits", "baseline", "differential", "evaluation")
MAX_SHOWN = 30  # metrics that are not identical, in the table
TEMPORARY = Path(".dvc/tmp/verify")  # on the disk of the images, which are then linked and not copied


def main() -> None:
    """Run the experiment again and compare."""
    parser = argparse.ArgumentParser(prog="python -m stages.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("revision", nargs="?", default="HEAD", metavar="REV", help="a commit, branch or tag; HEAD")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()

    with temporary_folder() as folder:
        clone = clone_revision(options.revision, folder / "clone")
        committed = read_metrics(clone)
        checkpoints = checksums_under(clone / "dvc.lock", "models/")
        reproduce(clone)
        metrics = [
            replace(metric, name=f"{name}.json: {metric.name}")
            for name, content in read_metrics(clone).items()
            for metric in compare_metrics(committed[name], content)
        ]
        same_checkpoints = checkpoints == checksums_under(clone / "dvc.lock", "models/")

    if options.json:
        print(json.dumps(as_json(metrics, same_checkpoints)))
    else:
        print_for_people(metrics, same_checkpoints)
    if overall(metrics) == "different":
        raise UserError(
            "the experiment came out differently: look for what differs above in code, versions or images, or run "
            "`dvc repro` and commit what it gives here"
        )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield an empty folder, and remove it at the end; where this process is killed, its next run does."""
    TEMPORARY.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(TEMPORARY)
    folder = TEMPORARY.with_name(f".{TEMPORARY.name}.{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)  # left by a killed process that had this one's number
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clone_revision(revision: str, folder: Path) -> Path:
    """Clone this repository at a revision, and put beside what Git has of the user's own images what it has not.

    Raises:
        UserError: there is no such revision.
    """
    found = _git("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", check=False)
    if found.returncode:
        raise UserError(
            f"REV: Git knows no revision {revision or 'without a name'}: give a commit, branch or tag, such as one of "
            f"`git log --oneline`"
        )
    _git("clone", "--quiet", "--no-checkout", ".", str(folder))
    _git("-C", str(folder), "checkout", "--quiet", "--detach", found.stdout.strip())
    params = read_yaml(folder / "params.yaml")  # without our schema, for an older revision has another
    images = Path(params["data"].get("path", "data/raw"))
    if os.path.normpath(images).startswith(".."):  # from the clone it would lead elsewhere
        with modify_yaml(str(folder / "params.yaml")) as params:
            params["data"]["path"] = os.path.realpath(images)
    elif not images.is_absolute() and images.is_dir():
        hardlink_tree(images, folder / images)
    return folder


def hardlink_tree(images: Path, to: Path) -> None:
    """Hard-link every file of a folder into another, or copy it to another disk; what is there stays."""
    for found, folders, names in os.walk(images):
        source, target = Path(found), to / Path(found).relative_to(images)
        target.mkdir(parents=True, exist_ok=True)
        for name in (*names, *(folder for folder in folders if (source / folder).is_symlink())):
            if os.path.lexists(target / name):
                continue
            try:
                os.link(source / name, target / name, follow_symlinks=False)
            except OSError:
                shutil.copy2(source / name, target / name, follow_symlinks=False)


def reproduce(clone: Path) -> None:
    """Run every stage, with DVC's own words on the standard error.

    Raises:
        UserError: a stage failed.
    """
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    command = ["dvc", "repro", "--force", "--no-run-cache", "--no-commit"]
    if subprocess.run(command, cwd=clone, env=environment, stdout=sys.stderr, check=False).returncode:
        raise UserError("`dvc repro` failed in the clone; what it said stands above: mend and commit that first")


def read_metrics(clone: Path) -> dict[str, dict[str, Any]]:
    """Read the JSON files that are compared; an older revision has no stage `split`."""
    names = COMPARED if "split" in read_yaml(clone / "dvc.yaml")["stages"] else set(COMPARED) - {"splits"}
    return {name: read_json(clone / METRICS / f"{name}.json") for name in COMPARED if name in names}


def checksums_under(lock: Path, under: str) -> dict[str, str]:
    """Return the checksums that a dvc.lock has of what lies under a folder."""
    stages = read_yaml(lock)["stages"].values()
    return {
        output["path"]: output["md5"]
        for stage in stages
        for output in stage.get("outs", [])
        if output["path"].startswith(under)
    }


def as_json(metrics: list[MetricComparison], same_checkpoints: bool) -> dict[str, Any]:
    """Return everything for programs."""
    return {
        "outcome": overall(metrics),
        "checkpoints_identical": same_checkpoints,
        "metrics": [
            {
                "metric": metric.name,
                "committed": metric.committed,
                "reproduced": metric.reproduced,
                "tolerance": metric.tolerance,
                "outcome": metric.outcome,
            }
            for metric in metrics
        ],
    }


def print_for_people(metrics: list[MetricComparison], same_checkpoints: bool) -> None:
    """Print what differs most, and the verdict."""
    console = Console()
    differing = sorted(
        (metric for metric in metrics if metric.outcome != "identical"),
        key=lambda metric: (metric.outcome != "different", -_in_tolerances(metric)),
    )
    for metric in differing[:MAX_SHOWN]:
        allowed = "must be equal" if metric.tolerance is None else f"tolerance {metric.tolerance:.3g}"
        console.print(
            Text(
                f"{metric.name}: {metric.committed} committed, {metric.reproduced} again; {allowed}: {metric.outcome}"
            ),
            soft_wrap=True,
        )
    if len(differing) > MAX_SHOWN:
        console.print(f"and {len(differing) - MAX_SHOWN} more (--json has all)", highlight=False)
    console.print(f"checkpoints: {'identical' if same_checkpoints else 'not identical'}")
    console.print(f"{overall(metrics)}: {len(metrics) - len(differing)} of {len(metrics)} metrics are identical")


def _in_tolerances(metric: MetricComparison) -> float:
    if not metric.tolerance or not isinstance(metric.reproduced, int | float):
        return float("inf")
    return float(abs(metric.committed - metric.reproduced) / metric.tolerance)


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it failed"]
        raise UserError(f"git {arguments[0]}: {said[0]}: mend that, then verify again")
    return done


if __name__ == "__main__":
    run_cli(main)
