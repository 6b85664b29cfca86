import errno
import json
import math
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from stages.errors import UserError
from stages.files import atomic_directory, read_json, write_csv, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_floats_are_rounded_and_keys_keep_their_order(tmp_path):
    write_json(tmp_path / "metrics.json", {"b": 1 / 3, "a": {"list": [2 / 3], "none": None}})
    text = " ".join((tmp_path / "metrics.json").read_text().split())
    assert text == '{ "b": 0.333333, "a": { "list": [ 0.666667 ], "none": null } }'


def test_a_metric_that_is_no_number_is_never_written(tmp_path):
    write_json(tmp_path / "metrics.json", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "metrics.json", {"loss": math.nan})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss": 1.0}


def test_what_is_exact_is_written_as_it_is(tmp_path):
    write_json(tmp_path / "metrics.json", {"loss": 0.12345678}, exact={"learning_rates": {"head": 1.5e-7}})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"learning_rates": {"head": 1.5e-7}, "loss": 0.123457}


def test_a_table_is_written_rounded(tmp_path):
    write_csv(tmp_path / "deep" / "table.csv", pd.DataFrame({"a": [1 / 3], "b": ["x,y"]}))
    assert (tmp_path / "deep" / "table.csv").read_text() == 'a,b\n0.333333,"x,y"\n'


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    write_text(tmp_path / "page.html", "old")

    def fails(self, target):
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(Path, "replace", fails)
    with pytest.raises(OSError, match=r"the disk is gone.*page\.html"):
        write_text(tmp_path / "page.html", "new")
    assert names(tmp_path) == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "old"


def test_a_directory_takes_its_place_whole(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "of-an-older-run").touch()
    with atomic_directory(tmp_path / "models") as beside:
        (beside / "new").touch()
        assert names(tmp_path / "models") == ["of-an-older-run"]
    assert names(tmp_path / "models") == ["new"]
    assert names(tmp_path) == ["models"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_directory_vanishes(tmp_path, error):
    with pytest.raises(error), atomic_directory(tmp_path / "models") as beside:
        (beside / "half").touch()
        raise error
    assert names(tmp_path) == []


def test_a_directory_that_is_stopped_between_its_two_renames_keeps_what_it_had(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "old").touch()
    real = Path.replace

    def stopped(self, target):
        replaced = real(self, target)
        if self.name == "models":
            raise KeyboardInterrupt
        return replaced

    monkeypatch.setattr(Path, "replace", stopped)
    with pytest.raises(KeyboardInterrupt), atomic_directory(tmp_path / "models") as beside:
        (beside / "new").touch()
    assert names(tmp_path) == ["models"]
    assert names(tmp_path / "models") == ["old"]


def test_what_a_kill_between_the_two_renames_has_left_comes_back(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    (tmp_path / f".models.old.{ended.pid}").mkdir()
    (tmp_path / f".models.old.{ended.pid}" / "old").touch()
    (tmp_path / f".models.{ended.pid}").mkdir()
    with pytest.raises(ValueError), atomic_directory(tmp_path / "models"):
        raise ValueError
    assert names(tmp_path) == ["models"]
    assert names(tmp_path / "models") == ["old"]


@pytest.mark.parametrize("text", [None, "{", "[1]"])
def test_metrics_that_are_missing_or_damaged_have_one_line(tmp_path, text):
    if text is not None:
        (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(UserError, match=r"baseline.json .*: run `dvc repro`"):
        read_json(tmp_path / "baseline.json")
