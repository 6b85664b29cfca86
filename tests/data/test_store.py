import numpy as np
import pytest

from stages.data.store import make_array, open_prepared, write_images, write_samples
from stages.errors import UserError


@pytest.fixture
def table(samples):
    split = ["train", "val", "test", ""] * (len(samples) // 4)
    return samples.assign(split=split, **{"class": samples["label"].map({0: "good", 1: "bad"})})


def write(folder, table):
    """60 images, each filled with its position, written in two pieces and in the wrong order."""
    folder.mkdir()
    array = make_array(folder, (60, 4, 4, 1))
    images = np.broadcast_to(np.arange(60, dtype=np.uint8)[:, None, None, None], (60, 4, 4, 1)).copy()
    for piece in (slice(32, 60), slice(0, 32)):
        write_images(array, piece.start, images[piece])
    write_samples(folder, table)


def test_what_was_written_is_what_is_opened(tmp_path, table):
    write(tmp_path / "prepared", table)
    prepared = open_prepared(tmp_path / "prepared")
    assert prepared.classes == ["good", "bad"]
    assert (prepared.image_size, prepared.channels) == (4, 1)
    assert prepared.images[:, 0, 0, 0].tolist() == list(range(60))
    assert prepared.rows("val").tolist() == list(range(1, 60, 4))
    assert prepared.labels("val").tolist() == table["label"][1::4].tolist()


def test_the_images_stay_on_disk_and_cannot_be_changed(tmp_path, table):
    write(tmp_path / "prepared", table)
    images = open_prepared(tmp_path / "prepared").images
    assert isinstance(images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        images[0] = 0


def test_names_that_are_numbers_stay_text(tmp_path, table):
    numbered = table.assign(**{"class": table["label"].map({0: "01", 1: "2"}), "group": "007"})
    write(tmp_path / "prepared", numbered)
    prepared = open_prepared(tmp_path / "prepared")
    assert prepared.classes == ["01", "2"]
    assert set(prepared.samples["group"]) == {"007"}


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
