"""From an image to the pixels that a network sees: the same way for training and for prediction."""

import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from stages.data.checks import Finding, describe
from stages.errors import UserError, first_line

MODES = {1: "L", 3: "RGB"}
MAX_MEGAPIXELS = 100.0

# Formats whose decoders are in Pillow's own process: EPS would start Ghostscript, and others are no photographs.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TGA", "TIFF", "WEBP")
SIXTEEN_BIT = {"I;16", "I;16L", "I;16B", "I;16N", "I"}
# Of 256 gray levels, from an image's darkest to its brightest: 12 bits of 16 leave 16 of them, and 14 bits leave 64. A
# photograph of 8 bits may well have no more than 64: of the sample images some have 40.
FEW_LEVELS, FEW_LEVELS_SCALED = 16, 64
EXTREME_ASPECT_RATIO = 10  # one side over the other


class BadImageError(Exception):
    """An image that cannot be used.

    Attributes:
        check: a key of `CHECKS`.
        detail: what the library said, in a few words.
    """

    def __init__(self, check: str, detail: str = "") -> None:
        """Keep both for the finding."""
        super().__init__(check, detail)
        self.check, self.detail = check, detail


@contextmanager
def translate_decode_errors() -> Iterator[None]:
    """Translate whatever a decoder raises into a bad image.

    Raises:
        BadImageError: the image is no image, is cut short, is damaged, or is larger than Pillow's limit.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what the checks count
            yield
    except (BadImageError, MemoryError):
        raise
    except FileNotFoundError:
        raise BadImageError("missing") from None
    except UnidentifiedImageError:
        raise BadImageError("not_an_image") from None
    except Image.DecompressionBombError:
        raise BadImageError("too_large") from None
    except Exception as error:  # decoders raise anything at hostile bytes
        reason = getattr(error, "strerror", None) or first_line(error)
        raise BadImageError("truncated" if "truncated" in reason.lower() else "unreadable", reason) from None


@contextmanager
def open_image(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Iterator[Image.Image]:
    """Open an image file; the pixels are read when they are asked for.

    Raises:
        BadImageError: it cannot be used, which may show only when the pixels are read.
    """
    with translate_decode_errors():
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise BadImageError("unreadable", "it is no file")  # to open a pipe would wait for ever
        if status.st_size == 0:
            raise BadImageError("empty")
        # Before Pillow takes memory for the pixels: see https://pillow.readthedocs.io, "decompression bomb".
        Image.MAX_IMAGE_PIXELS = int(max_megapixels * 1e6)
        with Image.open(path, formats=FORMATS) as image:
            check_pixel_count(image, max_megapixels)
            yield image


def check_pixel_count(image: Image.Image, max_megapixels: float) -> None:
    """Check the size that the header states against the limit.

    Raises:
        BadImageError: it is larger.
    """
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise BadImageError("too_large", f"{width} x {height} pixels, limit {max_megapixels:g} megapixels")


def to_pixels(image: Image.Image, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Convert an image to gray or RGB and resize it to a square, as torchvision's `Resize((size, size))` does.

    The EXIF's orientation is applied, transparency is put on white, 16 bits are scaled to 8. A JPEG several times too
    large is decoded at a half, a quarter or an eighth, to no less than twice the size, which is quicker.

    Returns:
        uint8, (size, size, channels).

    Raises:
        BadImageError: the pixels have no known range.
    """
    image.draft(MODES[channels], (2 * size, 2 * size))
    ImageOps.exif_transpose(image, in_place=True)
    resized = _opaque(image, MODES[channels]).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(size, size, channels)


def _opaque(image: Image.Image, mode: str) -> Image.Image:
    """Return the image in 8 bits, without transparency."""
    if image.mode in SIXTEEN_BIT:
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise BadImageError("unreadable", "pixels beyond 16 bits have no known range")
        return Image.fromarray((values // 257).astype(np.uint8)).convert(mode)
    if image.mode == "F":
        raise BadImageError("unreadable", "pixels that are fractions have no known range")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), layers).convert(mode)
    return image if image.mode == mode else image.convert(mode)  # which would copy it


def image_warnings(image: Image.Image, name: str) -> list[Finding]:
    """Return what is unusual about an image that can be used, from its header alone.

    Args:
        image: opened, not yet read.
        name: with its extension; one without a dot is not held against the format.
    """
    suffix = Path(name).suffix.lower()
    named_format = Image.registered_extensions().get(suffix)
    # A phone's JPEG with a preview is an MPO, and its second frame is no animation.
    format_ = "JPEG" if image.format == "MPO" else image.format
    upright = image.getexif().get(ExifTags.Base.Orientation, 1)
    shorter, longer = sorted(image.size)
    found = {
        "wrong_extension": (bool(suffix) and named_format != format_, f"{suffix}, but {format_}"),
        "animated": (format_ != "JPEG" and getattr(image, "is_animated", False), ""),
        "cmyk": (image.mode == "CMYK", ""),
        "sixteen_bit": (image.mode in SIXTEEN_BIT, image.mode),
        "palette_transparency": (image.mode in ("P", "PA") and image.has_transparency_data, ""),
        "gray_alpha": (image.mode in ("L", "LA", "La") and image.has_transparency_data, ""),
        "transparency": (image.mode in ("RGB", "RGBA", "RGBa") and image.has_transparency_data, ""),
        "exif_orientation": (upright in range(2, 9), f"orientation {upright}"),
        "extreme_shape": (longer > EXTREME_ASPECT_RATIO * shorter, f"{image.size[0]} x {image.size[1]} pixels"),
    }
    return [Finding(check, name, detail) for check, (is_so, detail) in found.items() if is_so]


def pixel_warnings(pixels: npt.NDArray[np.uint8], name: str, sixteen_bit: bool) -> list[Finding]:
    """Return what is unusual about the pixels that a network will see.

    Args:
        pixels: as `to_pixels` gives them.
        name: of the image.
        sixteen_bit: whether they were scaled to 8 bits, so that what lies between the gray levels is lost.
    """
    darkest, brightest = int(pixels.min()), int(pixels.max())
    if brightest - darkest >= (FEW_LEVELS_SCALED if sixteen_bit else FEW_LEVELS):
        return []
    return [Finding("few_gray_levels", name, f"all between {darkest} and {brightest} of 255")]


def read_pixels(path: Path, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Read an image file as `to_pixels` gives it.

    Raises:
        UserError: the file cannot be used.
    """
    try:
        with open_image(path) as image:
            return to_pixels(image, size, channels)
    except BadImageError as error:
        raise UserError(f"{describe(Finding(error.check, str(path), error.detail))}: give another file") from None
