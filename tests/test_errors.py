"""What libraries say reaches people in our words: none of their advice is passed on."""

import pickle
import re
import tarfile
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
import torch

from stages.errors import UserError, cause_of, first_line
from stages.libraries import timm, torchvision
from stages.models.weights import read_tensors
from tests.conftest import Malicious, one_line_of

ADVICE_OF_LIBRARIES = re.compile(
    r"weights_only|re-running|please|\bUse `|random init|https?://|pip install h5py\.|\x1b|You need to", re.IGNORECASE
)


def write_tar(path):
    """As torch wrote before its version 0.1.10, as far as its reader looks before it refuses."""
    path.with_name("inner").write_bytes(pickle.dumps({"weight": 1}, protocol=2))
    with tarfile.open(path, "w") as tar:
        tar.add(path.with_name("inner"), "storages")


WRITERS = {
    "code": lambda path: torch.save({"weight": Malicious(Path("executed"))}, path),
    "an array": lambda path: torch.save({"weight": np.zeros(2)}, path),
    "a module": lambda path: torch.save(torch.nn.Linear(2, 2), path),
    "a plain pickle": lambda path: path.write_bytes(pickle.dumps({"weight": np.zeros(2)})),
    "a web page": lambda path: path.write_bytes(b"<html>not found</html>"),
    "a pointer of Git LFS": lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"),
    "TorchScript": lambda path: torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path),
    "a tar": write_tar,
}
DAMAGED = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: (torch.save({"weight": torch.zeros(9)}, path), path.write_bytes(path.read_bytes()[:300])),
}


def refusal_of(path):
    with pytest.raises(UserError) as caught:
        read_tensors(path)
    message = str(caught.value)
    assert message.startswith(f"model.weights: {path} does not load as tensors only: ")
    assert "\n" not in message
    assert not ADVICE_OF_LIBRARIES.search(message)
    return message


@pytest.mark.filterwarnings("ignore")  # of TorchScript's age
@pytest.mark.parametrize("content", WRITERS)
def test_weights_that_hold_more_than_tensors_are_refused_with_how_to_convert_them(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    WRITERS[content](tmp_path / "weights.pth")
    message = refusal_of(Path("weights.pth"))
    assert message.endswith('save its tensors alone: torch.save(module.state_dict(), "weights.pth")')
    assert "in a place where you may run what it holds" in message
    assert not (tmp_path / "executed").exists()


def test_the_refusal_names_what_a_pickle_would_run(tmp_path):
    WRITERS["a module"](tmp_path / "weights.pth")
    assert "it holds torch.nn.modules.linear.Linear and not only tensors" in refusal_of(tmp_path / "weights.pth")


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_weights_are_to_be_had_anew(tmp_path, content):
    DAMAGED[content](tmp_path / "weights.pth")
    assert refusal_of(tmp_path / "weights.pth").endswith("; get it anew")


def test_a_damaged_safetensors_file_is_to_be_had_anew(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"neither")
    assert refusal_of(tmp_path / "weights.safetensors").endswith("no safetensors file, or is damaged; get it anew")


PROVOCATIONS = {
    "a network without weights": (
        lambda _: timm.create_model("beit3_giant_patch14_224", pretrained=True),
        "there are none",
    ),
    "a set no longer there": (
        lambda folder: torchvision.datasets.StanfordCars(folder, download=True),
        "it can no longer be downloaded",
    ),
    "a set for people who ask": (
        torchvision.datasets.ImageNet,
        "it must be asked for at its publisher's",
    ),
    "a storage that is removed": (
        lambda _: optuna.create_study(storage="redis://localhost"),
        "it is no URL of a database that SQLAlchemy knows; set one such as sqlite:///.search/trials.db",
    ),
    "a database without its driver": (
        lambda _: optuna.create_study(storage="mysql://host/trials"),
        "the driver of this kind of database is missing; install it with pip",
    ),
    "no storage": (
        lambda _: optuna.create_study(storage="trials"),
        "it is no URL of a database that SQLAlchemy knows; set one such as sqlite:///.search/trials.db",
    ),
    "a table cut short": (lambda folder: pd.read_csv(folder / "cut.csv"), "EOF inside string starting at row 1"),
}


@pytest.mark.parametrize("name", PROVOCATIONS)
def test_what_a_library_advises_is_not_passed_on(tmp_path, name):
    (tmp_path / "cut.csv").write_text('path,label\n"a,b\n')
    provoke, says = PROVOCATIONS[name]
    with pytest.raises(Exception) as caught:  # of many kinds
        provoke(tmp_path)
    assert first_line(caught.value) == says


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("It is broken. Please file an issue", "It is broken"),
        ("No such set; you may ask, please wait", "No such set; you may ask"),
        ("\x1b[1mIt failed\x1b[0m. Try again\nNext steps: none", "It failed"),
        ("Please report this", "ValueError"),
        ("", "ValueError"),
        ("a.csv: Use is no column", "a.csv: Use is no column"),
    ],
)
def test_of_a_message_that_is_not_known_the_facts_are_told(message, says):
    assert first_line(ValueError(message)) == cause_of(ValueError(message)) == says


def test_an_error_of_the_system_ends_with_what_to_do(project, run_stage):
    (project.folder / "metrics/review.json").unlink(missing_ok=True)
    (project.folder / "metrics/review.json").mkdir()
    one_line_of(run_stage(project, "review", check=False), "metrics/review.json", "run it again")
