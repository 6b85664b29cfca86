import json
import shlex
import subprocess

import pytest
from ruamel.yaml import YAML

from stages.params import read_params
from stages.reporting.provenance import run_command
from tests.conftest import set_params


@pytest.fixture
def committed(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    return read_params()


def test_a_run_of_what_is_committed_is_a_checkout_and_dvc_repro(committed):
    head = subprocess.run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
    assert run_command(committed) == f"git checkout {head.stdout.strip()} && dvc repro"


def test_what_changes_no_result_is_not_in_the_command(committed):
    assert "exp run" not in run_command({**committed, "review": {"arm": "baseline"}})


@pytest.mark.slow
def test_the_command_sets_what_differs_so_that_dvc_reads_it_as_it_was(project, monkeypatch):
    """Text with spaces and quotes, a list, nothing, a truth value, and a mapping that was not there."""
    changes = {
        "data.path": 'data/raw/it\'s "mine"',
        "train.augment": ["vertical_flip"],
        "train.seeds": [1, 2, 3],
        "lr.groups": {"stem": 0.0001},
        "lr.layer_decay": 0.5,
        "optimizer.nesterov": True,
        "evidence.looks": [3],
    }
    monkeypatch.chdir(project.folder)
    set_params(project.folder, changes)
    wanted = read_params()
    command = run_command(wanted)
    project.run("git", "checkout", "--quiet", "params.yaml")
    _, _, exp_run = command.partition(" && ")
    overrides = [word for word in shlex.split(exp_run)[3:] if word != "-S"]
    from dvc.utils.hydra import apply_overrides

    apply_overrides(project.folder / "params.yaml", overrides)
    found = YAML(typ="safe").load(project.folder / "params.yaml")
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(wanted))
