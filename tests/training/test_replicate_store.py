"""Finished replicates, kept and given back byte for byte, or not at all."""

import errno
import os
import time

import pytest

from stages.training.divergence import Divergence
from stages.training.loop import EpochMetrics
from stages.training.memory import GIB
from stages.training.replicate_store import RECORD, ReplicateStore
from stages.training.state import Epoch
from stages.training.trainer import ReplicateResult

RESULT = ReplicateResult([Epoch(EpochMetrics(0.7, 1 / 3), EpochMetrics(0.6, 0.1 + 0.2))])
NAMES = ("seed-1.safetensors", "seed-1.logits.safetensors")


@pytest.fixture
def files(tmp_path):
    """Return the files of a replicate."""
    paths = [tmp_path / name for name in NAMES]
    for path in paths:
        path.write_bytes(os.urandom(1000))
    return paths


@pytest.fixture
def store(tmp_path):
    return ReplicateStore(1.0, tmp_path / "store")


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def test_a_kept_replicate_comes_back_byte_for_byte(store, files, into):
    assert store.get("a", into) is None
    store.put("a", "baseline, seed 1", RESULT, files)
    assert store.get("a", into) == RESULT
    assert {path.name: path.read_bytes() for path in into.iterdir()} == {path.name: path.read_bytes() for path in files}


def test_one_that_diverged_is_kept_without_files(store, into):
    diverged = ReplicateResult([], Divergence(1, 3, "stage2"))
    store.put("a", "baseline, seed 1", diverged, [])
    assert store.get("a", into) == diverged
    assert list(into.iterdir()) == []


def test_one_whose_network_nobody_asked_for_is_kept_without_files_and_serves_who_asks_for_none(store, into):
    store.put("a", "baseline, trial 1", RESULT, [])
    assert store.get("a", None) == RESULT
    assert store.get("a", into) is None  # whose network is needed is trained again
    assert "a" in store


def test_its_files_are_added_once_there_are_some_and_are_not_taken_away(store, files, into):
    store.put("a", "baseline, trial 1", RESULT, [])
    store.put("a", "baseline, seed 1", RESULT, files)
    assert store.get("a", into) == RESULT
    store.put("a", "baseline, trial 1", RESULT, [])
    assert {path.name: path.read_bytes() for path in into.iterdir()} == {path.name: path.read_bytes() for path in files}
    assert store.get("a", into) == RESULT


def test_without_a_folder_no_file_is_copied(store, files, into):
    store.put("a", "baseline, seed 1", RESULT, files)
    assert store.get("a", None) == RESULT
    assert list(into.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_lets_none_pass_where_no_file_is_asked_for_either(store, tmp_path, files, name):
    store.put("a", "baseline, seed 1", RESULT, files)
    (tmp_path / "store/a" / name).write_bytes(b"damaged")
    assert store.get("a", None) is None


@pytest.mark.parametrize("name", [*NAMES, RECORD])
@pytest.mark.parametrize("place", [0, 0.5, 0.999])
def test_a_flipped_bit_lets_none_pass(store, tmp_path, files, into, capsys, name, place):
    store.put("a", "baseline, seed 1", RESULT, files)
    path = tmp_path / "store/a" / name
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    path.write_bytes(content)
    assert store.get("a", into) is None
    assert "damaged and is removed" in capsys.readouterr().out
    assert list(into.iterdir()) == []
    assert "a" not in store


@pytest.mark.parametrize("name", [*NAMES, RECORD])
def test_nor_does_a_missing_file(store, tmp_path, files, into, name):
    store.put("a", "baseline, seed 1", RESULT, files)
    (tmp_path / "store/a" / name).unlink()
    assert store.get("a", into) is None
    assert list(into.iterdir()) == []


def test_one_that_was_put_under_another_name_does_not_pass(store, tmp_path, files, into):
    store.put("a", "baseline, seed 1", RESULT, files)
    (tmp_path / "store/a").rename(tmp_path / "store/b")
    assert store.get("b", into) is None


def test_the_least_recently_used_go_where_there_is_no_room(tmp_path, files, into):
    store = ReplicateStore(8000 / GIB, tmp_path / "store")
    for number, name in enumerate("abc"):
        store.put(name, name, RESULT, files)
        os.utime(tmp_path / "store" / name / RECORD, (time.time() - 100 + number,) * 2)
    assert [replicate.label for replicate in store.kept()] == ["a", "b", "c"]
    assert store.get("a", into)  # which is now the latest
    store.put("d", "d", RESULT, files)
    assert [replicate.label for replicate in store.kept()] == ["c", "a", "d"]
    assert sum(replicate.size for replicate in store.kept()) <= 8000


def test_a_store_without_room_keeps_nothing_and_takes_nothing(tmp_path, store, files, into):
    store.put("a", "baseline, seed 1", RESULT, files)
    empty = ReplicateStore(0, tmp_path / "store")
    empty.put("b", "baseline, seed 2", RESULT, files)
    assert empty.get("a", into) is None
    assert [replicate.path.name for replicate in store.kept()] == ["a"]


def test_a_disk_that_does_not_take_it_is_a_warning(store, tmp_path, files, into, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("stages.training.replicate_store.shutil.copyfile", full)
    store.put("a", "baseline, seed 1", RESULT, files)
    assert "warning: baseline, seed 1 is not kept for later, " in capsys.readouterr().out
    assert store.get("a", into) is None
    assert list((tmp_path / "store").iterdir()) == []


def test_clearing_removes_all(tmp_path, store, files):
    store.put("a", "baseline, seed 1", RESULT, files)
    store.clear()
    assert store.kept() == []
    assert not (tmp_path / "store").exists()
