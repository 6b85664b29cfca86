import numpy as np
import pytest
from PIL import Image

from stages.data.images import read_pixels, to_pixels
from stages.errors import UserError


def test_pixels_are_a_square_of_the_asked_size_and_channels():
    image = Image.new("RGB", (50, 80), (255, 0, 0))
    assert to_pixels(image, 32, 3).shape == (32, 32, 3)
    assert to_pixels(image, 32, 1).shape == (32, 32, 1)
    assert np.all(to_pixels(image, 32, 3) == (255, 0, 0))


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n\x00\x00"])
def test_what_is_no_image_is_refused_by_name(tmp_path, content):
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(UserError, match=r"picture\.png"):
        read_pixels(tmp_path / "picture.png", 32, 3)


def test_a_truncated_image_is_refused_by_name(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(255, size=(64, 64), dtype=np.uint8)).save(whole)
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"half\.png cannot be read"):
        read_pixels(tmp_path / "half.png", 32, 3)


def test_a_missing_image_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match="nowhere.png cannot be read as an image: No such file"):
        read_pixels(tmp_path / "nowhere.png", 32, 3)
    with pytest.raises(UserError, match="Is a directory"):
        read_pixels(tmp_path, 32, 3)


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (64, 64)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match="bomb.png is refused"):
        read_pixels(tmp_path / "bomb.png", 32, 3)
