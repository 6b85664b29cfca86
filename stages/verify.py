"""Run a committed experiment again, in a temporary clone, and say whether the same came out.

Every stage runs, with nothing taken from a cache. Each figure under metrics/ is then identical, within tolerance (as
on another processor), or different; so is the whole, by its worst figure. It ends with code 1 where one is different.
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
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text
from ruamel.yaml import YAML

from stages.errors import UserError, run
from stages.evaluation.reproduction import Figure, compare_metrics, overall
from stages.files import read_json, remove_leftovers

# .json under metrics/; review.json repeats figures of the others
COMPARED = ("prepare", "baseline", "differential", "evaluation")
SHOWN = 30  # figures that are not identical, in the table
WORKPLACE = Path(".dvc/tmp/verify")  # on the disk of the images, which are then linked and not copied


def main() -> None:
    """Run the experiment again and compare."""
    parser = argparse.ArgumentParser(prog="python -m stages.verify", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("revision", nargs="?", default="HEAD", metavar="REV", help="a commit, branch or tag; HEAD")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args()

    with workplace() as folder:
        clone = clone_revision(options.revision, folder / "clone")
        committed = read_metrics(clone)
        checkpoints = files_of(clone / "dvc.lock", "models/")
        reproduce(clone)
        figures = [
            Figure(f"{name}.json: {figure.name}", figure.committed, figure.again, figure.tolerance)
            for name, content in read_metrics(clone).items()
            for figure in compare_metrics(committed[name], content)
        ]
        same_checkpoints = checkpoints == files_of(clone / "dvc.lock", "models/")

    if options.json:
        print(json.dumps(as_json(figures, same_checkpoints)))
    else:
        print_for_people(figures, same_checkpoints)
    if overall(figures) == "different":
        raise UserError("the experiment came out differently")


@contextmanager
def workplace() -> Iterator[Path]:
    """Give an empty folder, and remove it at the end; where this process is killed, its next run does."""
    WORKPLACE.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(WORKPLACE)
    folder = WORKPLACE.with_name(f".{WORKPLACE.name}.{os.getpid()}")
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
        raise UserError(f"Git knows no revision {revision}")
    _git("clone", "--quiet", "--no-checkout", ".", str(folder))
    _git("-C", str(folder), "checkout", "--quiet", "--detach", found.stdout.strip())
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")  # without our schema, for an older revision has another
    images = Path(params["data"].get("path", "data/raw"))
    if os.path.normpath(images).startswith(".."):  # from the clone it would lead elsewhere
        params["data"]["path"] = os.path.realpath(images)
        yaml.dump(params, folder / "params.yaml")
    elif not images.is_absolute() and images.is_dir():
        bring(images, folder / images)
    return folder


def bring(images: Path, to: Path) -> None:
    """Give every file of a folder a second name in another, or a copy on another disk; what is there stays."""
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
        raise UserError("`dvc repro` failed in the clone; what it said stands above")


def read_metrics(clone: Path) -> dict[str, dict[str, Any]]:
    """Read the JSON files that are compared."""
    return {name: read_json(clone / "metrics" / f"{name}.json") for name in COMPARED}


def files_of(lock: Path, under: str) -> dict[str, str]:
    """Give the checksums that a dvc.lock has of what lies under a folder."""
    stages = YAML(typ="safe", pure=True).load(lock)["stages"].values()
    return {
        output["path"]: output["md5"]
        for stage in stages
        for output in stage.get("outs", [])
        if output["path"].startswith(under)
    }


def as_json(figures: list[Figure], same_checkpoints: bool) -> dict[str, Any]:
    """Give everything for programs."""
    return {
        "verdict": overall(figures),
        "checkpoints_identical": same_checkpoints,
        "figures": [
            {
                "figure": figure.name,
                "committed": figure.committed,
                "again": figure.again,
                "tolerance": figure.tolerance,
                "verdict": figure.verdict,
            }
            for figure in figures
        ],
    }


def print_for_people(figures: list[Figure], same_checkpoints: bool) -> None:
    """Print what differs most, and the verdict."""
    console = Console()
    differing = sorted(
        (figure for figure in figures if figure.verdict != "identical"),
        key=lambda figure: (figure.verdict != "different", -_in_tolerances(figure)),
    )
    for figure in differing[:SHOWN]:
        allowed = "must be equal" if figure.tolerance is None else f"tolerance {figure.tolerance:.3g}"
        console.print(
            Text(f"{figure.name}: {figure.committed} committed, {figure.again} again; {allowed}: {figure.verdict}"),
            soft_wrap=True,
        )
    if len(differing) > SHOWN:
        console.print(f"and {len(differing) - SHOWN} more (--json has all)", highlight=False)
    console.print(f"checkpoints: {'identical' if same_checkpoints else 'not identical'}")
    console.print(f"{overall(figures)}: {len(figures) - len(differing)} of {len(figures)} figures are identical")


def _in_tolerances(figure: Figure) -> float:
    if not figure.tolerance or not isinstance(figure.again, int | float):
        return float("inf")
    return float(abs(figure.committed - figure.again) / figure.tolerance)


def _git(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise UserError(f"git {arguments[0]}: {done.stderr.strip().splitlines()[-1]}")
    return done


if __name__ == "__main__":
    run(main)
