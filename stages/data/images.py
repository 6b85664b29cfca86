"""From an image to the pixels that a network sees: the same way for training and for prediction."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from stages.errors import UserError

MODES = {1: "L", 3: "RGB"}


def to_pixels(image: Image.Image, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Convert an image to grey or RGB and resize it to a square, as the story's `Resize((224, 224))` does.

    Returns:
        uint8, (size, size, channels).
    """
    converted = image.convert(MODES[channels]).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(converted).reshape(size, size, channels)


def read_pixels(path: Path, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Read an image file as `to_pixels` gives it.

    Raises:
        UserError: the file is missing, is no image, is cut short, or is too large to be one.
    """
    try:
        with Image.open(path) as image:
            return to_pixels(image, size, channels)
    except UnidentifiedImageError:
        raise UserError(f"{path} is not an image that can be read: give a PNG or JPEG file") from None
    except Image.DecompressionBombError as error:
        raise UserError(f"{path} is refused: {error}") from None
    except (OSError, ValueError, SyntaxError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} cannot be read as an image: {reason}") from None
