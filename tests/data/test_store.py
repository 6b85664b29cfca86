import numpy as np
import pytest

from stages.data.store import open_prepared, write_prepared
from stages.errors import UserError


def pixels(row):
    return np.full((4, 4, 1), row, dtype=np.uint8)


@pytest.fixture
def table(samples):
    part = ["train", "val", "test", ""] * (len(samples) // 4)
    return samples.assign(part=part, **{"class": samples["label"].map({0: "good", 1: "bad"})})


def test_what_was_written_is_what_is_opened(tmp_path, table):
    write_prepared(table, pixels, (4, 4, 1), iter, tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    assert prepared.classes == ["good", "bad"]
    assert (prepared.image_size, prepared.channels) == (4, 1)
    assert prepared.images[:, 0, 0, 0].tolist() == list(range(60))
    assert prepared.rows("val").tolist() == list(range(1, 60, 4))
    assert prepared.labels("val").tolist() == table["label"][1::4].tolist()


def test_the_images_stay_on_disk(tmp_path, table):
    write_prepared(table, pixels, (4, 4, 1), iter, tmp_path / "prepared")
    assert isinstance(open_prepared(tmp_path / "prepared").images, np.memmap)


def test_a_failure_in_the_middle_keeps_what_was_there(tmp_path, table):
    write_prepared(table, pixels, (4, 4, 1), iter, tmp_path / "prepared")

    def failing(row):
        if row == 30:
            raise OSError("the disk is full")
        return pixels(row + 1)

    with pytest.raises(OSError, match="full"):
        write_prepared(table, failing, (4, 4, 1), iter, tmp_path / "prepared")
    assert open_prepared(tmp_path / "prepared").images[0, 0, 0, 0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["prepared"]


def test_missing_and_damaged_data_are_told_with_the_command_that_mends_them(tmp_path, table):
    folder = tmp_path / "prepared"
    with pytest.raises(UserError, match="missing: run `dvc repro prepare`"):
        open_prepared(folder)
    write_prepared(table, pixels, (4, 4, 1), iter, folder)
    whole = (folder / "images.npy").read_bytes()
    (folder / "images.npy").write_bytes(whole[:200])
    with pytest.raises(UserError, match="damaged"):
        open_prepared(folder)
    (folder / "images.npy").write_bytes(whole)
    (folder / "samples.csv").write_text("image,label\n")
    with pytest.raises(UserError, match="damaged"):
        open_prepared(folder)
