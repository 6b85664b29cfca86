"""Scripts that are started as files, or inside stages/: one line that says how."""

import subprocess
import sys

import pytest

from tests.conftest import ROOT, one_line_of

SCRIPTS = sorted(path.stem for path in (ROOT / "stages").glob("*.py") if "run_cli(main)" in path.read_text())


def test_there_are_scripts():
    assert {"summary", "train", "predict"} <= set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize(
    ("folder", "command"),
    [(".", "stages/{}.py"), ("stages", "{}.py"), ("stages", "-m {}"), ("stages", "-m stages.{}")],
    ids=["as a file", "as a file in stages", "as a module in stages", "as it should be, but in stages"],
)
def test_a_script_that_is_started_as_a_file_says_in_one_line_how_to(name, folder, command):
    arguments = command.format(name).split()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT / folder, env={}, capture_output=True, text=True, check=False
    )
    assert one_line_of(done) == f"error: run `python -m stages.{name}` in the project's folder"
