"""A first look: the whole pipeline on few of the sample images, in a folder of its own, demo/.

Copies the code and the parameters as they stand here, sets those of experiments/demo, and runs `dvc repro` there.
Nothing outside the folder changes, and Git is not asked. A second time only what has changed since is run.
"""

import argparse
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

from stages.adopt import write_values
from stages.errors import UserError, run_cli
from stages.files import write_text
from stages.reporting.tables import PAGE, Results, load_results, verdict_sentence
from stages.yaml12 import parse_yaml

DEMO = Path("demo")
PRESET = Path("experiments/demo")
CODE = ("stages", "dvc.yaml", "params.yaml", "requirements.txt", ".dvc/plots", "data/raw/.gitignore")
DVC_CONFIG = Path(".dvc/config")  # marks the folder as the demo's, too
NO_GIT = "[core]\n    analytics = false\n    no_scm = true\n"
NEXT = {
    "your own images": 'README.md, "Your own images in five commands"',
    "make repro": "this experiment on all images, with all its replicates",
    "make search": "which rates to take; with TRIALS=8 a first look",
}


def main() -> None:
    """Run the demo, and say what came out and what to do next."""
    parser = argparse.ArgumentParser(prog="python -m stages.demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.parse_args()
    values = read_preset(PRESET)
    copy_project(DEMO)
    with chdir(DEMO):
        write_values(values)
        if code := subprocess.run(["dvc", "repro"], check=False).returncode:
            sys.exit(code)  # what is wrong has been said
        results = load_results()
    print("", *closing_lines(results), sep="\n")


def read_preset(path: Path) -> dict[str, Any]:
    """Return dotted name -> value of a file of experiments/, which has a NAME=VALUE in each line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", maxsplit=1) for line in lines if not line.startswith("#"))
    return {name: parse_yaml(value) for name, value in pairs}


def copy_project(folder: Path) -> None:
    """Copy what a run needs into a folder, in the place of what an earlier demo has copied.

    Raises:
        UserError: there is such a folder, and it is no demo's.
    """
    if folder.exists() and not (folder / DVC_CONFIG).exists():
        raise UserError(f"{folder}: is there, and no earlier demo has made it: move it away")
    write_text(folder / DVC_CONFIG, NO_GIT)
    for name in CODE:
        source, copy = Path(name), folder / name
        if source.is_dir():
            shutil.rmtree(copy, ignore_errors=True)  # modules that are no longer there
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def closing_lines(results: Results) -> list[str]:
    """Return the verdict, how little it is worth, where the page is, and what to do next."""
    replicates, images = results.splits.replicates, results.splits.train
    width = max(map(len, NEXT))
    return [
        verdict_sentence(results),
        f"That is {replicates} replicates of {images} training images each, to see the pipeline run. It says nothing "
        "of the rates: docs/results.md does.",
        f"The page: {DEMO / PAGE}",
        "Next:",
        *(f"  {what.ljust(width)}   {how}" for what, how in NEXT.items()),
    ]


if __name__ == "__main__":
    run_cli(main)
