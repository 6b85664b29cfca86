import numpy as np
import pandas as pd
import pytest

from stages.data.store import (
    COLUMNS,
    SPLITS_FILE,
    make_array,
    open_prepared,
    open_splits,
    replicate_checksums,
    verified_checksums,
    write_images,
    write_samples,
    write_splits,
)
from stages.errors import UserError


@pytest.fixture
def table(samples):
    """The last of 60 cannot be used."""
    return samples.assign(
        **{
            "class": samples["label"].map({0: "good", 1: "bad"}),
            "unit": "image " + samples["image"],
            "near_duplicates": "",
            "split": "",
            "usable": samples.index < 59,
        }
    )


def write(folder, table):
    """60 images, each filled with its position, written in two pieces and in the wrong order."""
    folder.mkdir()
    array = make_array(folder, (60, 4, 4, 1))
    images = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 4, 4, 1)).copy()
    for piece in (slice(32, 60), slice(0, 32)):
        write_images(array, piece.start, images[piece])
    write_samples(folder, table)


@pytest.fixture
def prepared(tmp_path, table):
    write(tmp_path / "prepared", table)
    return open_prepared(tmp_path / "prepared")


SPLIT = pd.Series(["train", "val", "test", ""] * 15)


def test_what_was_written_is_what_is_opened(prepared, table):
    assert prepared.classes == ["good", "bad"]
    assert (prepared.image_size, prepared.channels) == (4, 1)
    assert prepared.images[:, 0, 0, 0].tolist() == list(range(60))
    assert prepared.samples.equals(table[COLUMNS])
    assert prepared.samples["usable"].dtype == bool


def test_a_replicate_has_the_same_images_and_splits_of_its_own(prepared, table):
    replicate = prepared.of_replicate(SPLIT)
    assert replicate.images is prepared.images
    assert replicate.rows("val").tolist() == list(range(1, 60, 4))
    assert replicate.labels("val").tolist() == table["label"][1::4].tolist()
    assert len(prepared.rows("val")) == 0
    assert replicate.samples.drop(columns="split").equals(prepared.samples.drop(columns="split"))


def test_the_majority_class_is_that_of_the_training_images(prepared):
    for label in (0, 1):
        train = SPLIT.where(prepared.samples["label"] == label, "test")
        assert prepared.of_replicate(train).majority_class == label


def test_the_images_stay_on_disk_and_cannot_be_changed(prepared):
    assert isinstance(prepared.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        prepared.images[0] = 0


def test_names_that_are_numbers_stay_text(tmp_path, table):
    numbered = table.assign(**{"class": table["label"].map({0: "01", 1: "2"}), "group": "007", "near_duplicates": "1"})
    write(tmp_path / "prepared", numbered)
    prepared = open_prepared(tmp_path / "prepared")
    assert prepared.classes == ["01", "2"]
    assert set(prepared.samples["group"]) == {"007"}
    assert set(prepared.samples["near_duplicates"]) == {"1"}


def test_missing_and_damaged_data_are_told_with_the_command_that_mends_them(tmp_path, table):
    folder = tmp_path / "prepared"
    with pytest.raises(UserError, match="missing: run `dvc repro prepare`"):
        open_prepared(folder)
    write(folder, table)
    whole = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(whole[:200])
    with pytest.raises(UserError, match="damaged"):
        open_prepared(folder)
    (folder / "images.npy").write_bytes(whole)
    (folder / "samples.csv").write_text("image,label\n")
    with pytest.raises(UserError, match="damaged"):
        open_prepared(folder)


def test_a_changed_bit_is_noticed(tmp_path, table):
    folder = tmp_path / "prepared"
    write(folder, table)
    assert set(verified_checksums(folder)) == {"images.npy", "samples.csv"}
    whole = bytearray((folder / "images.npy").read_bytes())
    whole[-1] ^= 1
    (folder / "images.npy").write_bytes(whole)
    with pytest.raises(UserError, match=r"images.npy is not as `prepare` wrote it: run `dvc repro --force prepare`"):
        verified_checksums(folder)


def test_the_checksums_of_a_replicate_change_with_its_splits():
    of_images = {"images.npy": "a"}
    one, two = replicate_checksums(of_images, SPLIT), replicate_checksums(of_images, SPLIT[::-1])
    assert one == replicate_checksums(of_images, SPLIT.copy())
    assert one["images.npy"] == two["images.npy"] == "a"
    assert one["splits"] != two["splits"]


@pytest.fixture
def splits(prepared, tmp_path, monkeypatch):
    """Of two replicates, written to where they belong in an empty folder."""
    monkeypatch.chdir(tmp_path)
    SPLITS_FILE.parent.mkdir()
    of_seeds = pd.DataFrame({3: SPLIT, 14: SPLIT[::-1].reset_index(drop=True)})
    write_splits(prepared.samples, SPLIT.replace({"train": "pool", "val": "pool"}), of_seeds)
    return of_seeds


def test_splits_that_were_written_are_opened_seed_by_seed(prepared, splits):
    opened = open_splits(prepared, [14, 3])
    assert list(opened) == [14, 3]
    for seed in splits:
        assert opened[seed].tolist() == splits[seed].tolist()
    assert open_splits(prepared, [3])[3].tolist() == SPLIT.tolist()
    assert list(pd.read_csv(SPLITS_FILE)) == ["image", "part", "seed-3", "seed-14"]


def test_splits_of_other_seeds_or_images_are_refused(prepared, splits):
    with pytest.raises(UserError, match=r"splits.csv is of other images or seeds: run `dvc repro split`"):
        open_splits(prepared, [3, 4])
    table = pd.read_csv(SPLITS_FILE, keep_default_na=False)
    table[::-1].to_csv(SPLITS_FILE, index=False)
    with pytest.raises(UserError, match="of other images or seeds"):
        open_splits(prepared, [3])


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"image,part\n1,2,3,4\n5\n"])
def test_damaged_splits_are_told_with_the_command_that_mends_them(prepared, splits, content):
    SPLITS_FILE.write_bytes(content)
    with pytest.raises(UserError, match="run `dvc repro (--force )?split`"):
        open_splits(prepared, [3])


def test_missing_splits_are_told_with_the_command_that_makes_them(prepared, splits):
    SPLITS_FILE.unlink()
    with pytest.raises(UserError, match="splits.csv is missing: run `dvc repro split`, which makes it"):
        open_splits(prepared, [3])
