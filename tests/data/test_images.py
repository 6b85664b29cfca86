from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from stages.data.images import pixel_warnings, read_pixels, to_pixels
from stages.errors import UserError
from tests.checkpoints import PHOTOGRAPHS
from tests.data.bad_images import encoded, picture


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
    with pytest.raises(UserError, match=r"half\.png \(the file ends before the image does"):
        read_pixels(tmp_path / "half.png", 32, 3)


def test_a_missing_image_and_a_folder_are_refused_by_name(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.png \(there is no such file\)"):
        read_pixels(tmp_path / "nowhere.png", 32, 3)
    with pytest.raises(UserError, match="it is no file"):
        read_pixels(tmp_path, 32, 3)


def test_an_image_that_would_fill_the_memory_is_refused(tmp_path):
    Image.new("1", (12_000, 9_000)).save(tmp_path / "bomb.png")
    with pytest.raises(UserError, match=r"bomb\.png \(more pixels"):
        read_pixels(tmp_path / "bomb.png", 32, 3)


def test_a_photograph_is_turned_upright_as_its_exif_says():
    wide = Image.new("RGB", (64, 32), "black")
    wide.paste("white", (0, 0, 16, 32))
    turned = Image.open(BytesIO(encoded(wide, "JPEG", exif=orientation(6))))
    pixels = to_pixels(turned, 32, 1)[..., 0]
    assert pixels[:6].min() > 200  # the white end was on the left, and is on top
    assert pixels[10:].max() < 60


def orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def test_sixteen_bits_are_scaled_and_not_cut_off():
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    pixels = to_pixels(Image.open(BytesIO(encoded(Image.fromarray(ramp), "PNG"))), 64, 1)[..., 0]
    assert np.abs(pixels.astype(float) - ramp / 257).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode):
    clear = Image.new("RGBA", (40, 40), (200, 0, 0, 0))
    clear.paste((0, 0, 0, 255), (0, 0, 20, 40))
    image = clear.quantize(4) if mode == "P" else clear.convert(mode)
    pixels = to_pixels(Image.open(BytesIO(encoded(image, "PNG"))), 40, 3)
    assert pixels[:, 30].min() == 255
    assert pixels[:, 5].max() == 0


def test_a_jpeg_is_decoded_smaller_to_nearly_the_same_pixels():
    """At no less than twice the size that is asked for, so that half a gray value in the mean is the most it costs."""
    image = picture(5, size=(1600, 1200))
    content = encoded(image, "JPEG", quality=95)
    quick = to_pixels(Image.open(BytesIO(content)), 128, 3)
    opened = Image.open(BytesIO(content))
    opened.load()  # in full
    full = to_pixels(opened, 128, 3)
    assert np.abs(quick.astype(float) - full.astype(float)).mean() < 0.5


def shades(bits, size=64):
    """An image of so many bits in a file of 16."""
    values = np.linspace(0, 2**bits - 1, size * size).reshape(size, size).astype(np.uint16)
    return to_pixels(Image.open(BytesIO(encoded(Image.fromarray(values), "PNG"))), size, 1)


@pytest.mark.parametrize(("bits", "brightest"), [(8, 0), (12, 15), (14, 63)])
def test_an_image_that_uses_few_of_the_bits_of_its_file_is_named(bits, brightest):
    (found,) = pixel_warnings(shades(bits), "a.png", sixteen_bit=True)
    assert found == ("few_gray_levels", "a.png", f"all between 0 and {brightest} of 255", "")


def test_an_image_with_more_gray_levels_is_not():
    assert pixel_warnings(shades(16), "a.png", sixteen_bit=True) == []
    assert pixel_warnings(shades(15), "a.png", sixteen_bit=True) == []
    assert pixel_warnings(shades(14), "a.png", sixteen_bit=False) == []


def test_a_blank_image_is_named_and_one_in_one_color_is_not():
    gray, red = (to_pixels(Image.new("RGB", (9, 9), color), 8, 3) for color in ((200, 200, 200), (200, 20, 20)))
    assert pixel_warnings(gray, "a.png", sixteen_bit=False)[0].detail == "all between 200 and 200 of 255"
    assert pixel_warnings(red, "a.png", sixteen_bit=False) == []


def test_the_sample_images_have_more_gray_levels():
    for image in PHOTOGRAPHS[:20]:
        assert pixel_warnings(read_pixels(image, 32, 1), image.name, sixteen_bit=False) == []
