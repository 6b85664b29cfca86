"""A folder of images that are bad or odd in every way that the checks know, each with the check that should find it."""

import os
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, PngImagePlugin


def picture(number: int, size: tuple[int, int] = (96, 96), mode: str = "RGB") -> Image.Image:
    """A picture of its own for each number: colored ellipses, as unlike one another as photographs."""
    random = np.random.default_rng(number)
    image = Image.new("RGB", size, tuple(random.integers(256, size=3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        (left, right), (top, bottom) = (sorted(random.integers(0, side, size=2)) for side in size)
        draw.ellipse((left, top, right, bottom), fill=tuple(int(value) for value in random.integers(256, size=3)))
    return image.convert(mode)


def encoded(image: Image.Image, format_: str, **options: object) -> bytes:
    content = BytesIO()
    image.save(content, format_, **options)
    return content.getvalue()


def png_with_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge: a decompression bomb."""
    whole = bytearray(encoded(Image.new("L", (1, 1)), "PNG"))
    whole[16:24] = width.to_bytes(4) + height.to_bytes(4)
    whole[29:33] = zlib.crc32(whole[12:29]).to_bytes(4)
    return bytes(whole)


def with_exif(orientation: int, number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(picture(number, size=(96, 64)), "JPEG", exif=exif)


def sixteen_bit(number: int) -> Image.Image:
    return Image.fromarray(np.asarray(picture(number, mode="L")).astype(np.uint16) * 257)


def transparent_palette(number: int) -> bytes:
    return encoded(picture(number).quantize(16), "PNG", transparency=0)


def with_hidden_text(number: int) -> bytes:
    """A text chunk that unpacks to 100 MB; Pillow refuses to."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "0" * 100_000_000, zip=True)
    return encoded(picture(number), "PNG", pnginfo=text)


PNG, JPEG = encoded(picture(0), "PNG"), encoded(picture(1), "JPEG")

# name -> content, and the check that names it; None where nothing is wrong with it
KINDS: dict[str, tuple[bytes, str | None]] = {
    # bad: they cannot be used
    "no-bytes.jpg": (b"", "empty"),
    "text.png": (b"this is no image", "not_an_image"),
    "page.html.jpg": (b"<!doctype html><title>404</title>", "not_an_image"),
    "notes.txt": (b"remember the milk", "not_an_image"),
    "program.jpg": (b"\x7fELF" + bytes(200), "not_an_image"),
    "zeros.png": (bytes(5000), "not_an_image"),
    "postscript.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "not_an_image"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image"),
    "photoshop.psd": (encoded(picture(2), "PNG").replace(b"\x89PNG", b"8BPS"), "not_an_image"),
    "signature-alone.png": (PNG[:8], "not_an_image"),
    "header-alone.png": (PNG[:60], "truncated"),
    "half.png": (PNG[: len(PNG) // 2], "truncated"),
    "half.jpg": (JPEG[: len(JPEG) // 2], "truncated"),
    "half.gif": (encoded(picture(3), "GIF")[:600], "truncated"),
    "half.bmp": (encoded(picture(4), "BMP")[:600], "truncated"),
    "half.webp": (encoded(picture(5), "WEBP")[:200], "unreadable"),
    "half.tiff": (encoded(picture(6), "TIFF")[:3000], "truncated"),
    "wrong-checksum.png": (PNG[:60] + bytes([PNG[60] ^ 255]) + PNG[61:], "unreadable"),
    "bomb.png": (png_with_header(60_000, 60_000), "too_large"),
    "bigger-bomb.png": (png_with_header(2**31 - 1, 2**31 - 1), "too_large"),
    "large.png": (encoded(Image.new("1", (12_000, 9_000)), "PNG"), "too_large"),
    "hidden-text.png": (with_hidden_text(7), "unreadable"),
    "fractions.tiff": (encoded(Image.fromarray(np.eye(50, dtype=np.float32)), "TIFF"), "unreadable"),
    "integers.tiff": (encoded(Image.fromarray(np.eye(50, dtype=np.int32) * 2**20), "TIFF"), "unreadable"),
    # odd: they can be used, and are converted
    "wrong-extension.jpg": (encoded(picture(10), "PNG"), "wrong_extension"),
    "really-a-gif.png": (encoded(picture(11), "GIF"), "wrong_extension"),
    "animated.gif": (encoded(picture(12), "GIF", save_all=True, append_images=[picture(13)]), "animated"),
    "animated.png": (encoded(picture(14), "PNG", save_all=True, append_images=[picture(15)]), "animated"),
    "cmyk.jpg": (encoded(picture(16, mode="CMYK"), "JPEG"), "cmyk"),
    "sixteen-bit.png": (encoded(sixteen_bit(17), "PNG"), "sixteen_bit"),
    "sixteen-bit.tiff": (encoded(sixteen_bit(18), "TIFF"), "sixteen_bit"),
    "palette.png": (transparent_palette(19), "palette_transparency"),
    "gray-alpha.png": (encoded(picture(20, mode="LA"), "PNG"), "gray_alpha"),
    "alpha.png": (encoded(picture(21, mode="RGBA"), "PNG"), "transparency"),
    "turned.jpg": (with_exif(6, 22), "exif_orientation"),
    "mirrored.jpg": (with_exif(2, 23), "exif_orientation"),
    "long.png": (encoded(picture(24, size=(600, 20)), "PNG"), "extreme_shape"),
    "überbelichtet.png": (encoded(picture(25), "PNG"), "not_ascii"),
    "写真.png": (encoded(picture(26), "PNG"), "not_ascii"),
    "line\nbreak.png": (encoded(picture(27), "PNG"), "not_ascii"),
    # left out
    ".hidden.png": (encoded(picture(28), "PNG"), "hidden"),
    "._resource-fork.jpg": (b"\0\5\x16\7", "litter"),
    "Thumbs.db": (b"\xd0\xcf\x11\xe0", "litter"),
    "Icon\r": (b"", "litter"),
    # nothing is wrong with these
    "plain.png": (encoded(picture(30), "PNG"), None),
    "PLAIN.JPG": (encoded(picture(31), "JPEG"), None),
    "progressive.jpeg": (encoded(picture(32), "JPEG", progressive=True), None),
    "gray.png": (encoded(picture(33, mode="L"), "PNG"), None),
    "bilevel.png": (encoded(picture(34, mode="1"), "PNG"), None),
    "palette-without-transparency.png": (encoded(picture(35).quantize(64), "PNG"), None),
    "plain.webp": (encoded(picture(36), "WEBP", lossless=True), None),
    "plain.bmp": (encoded(picture(37), "BMP"), None),
    "plain.tif": (encoded(picture(38), "TIFF"), None),
    "two words & more.png": (encoded(picture(39), "PNG"), None),
}


def _link(path: Path, target: str) -> None:
    path.symlink_to(target)


# What is no file with content: name -> how it is made, and the check that names it.
POLICY_KEYS: dict[str, tuple[Callable[[Path], None], str]] = {
    "linked-folder": (lambda path: _link(path, "../good"), "linked_folder"),
    ".cache": (lambda path: path.mkdir(), "hidden"),
}
# The same, which DVC cannot watch: `dvc repro` stops at them before `prepare` does.
UNWATCHED: dict[str, tuple[Callable[[Path], None], str]] = {
    "dangling.png": (lambda path: _link(path, "nowhere.png"), "missing"),
    "pipe.png": (os.mkfifo, "unreadable"),
}


def make_folder(root: Path, watched: bool) -> dict[str, str | None]:
    """Fill `root/odd` with every kind, and two classes with 12 good images each; give each odd name its check."""
    odd = root / "odd"
    odd.mkdir(parents=True)
    places = POLICY_KEYS if watched else {**POLICY_KEYS, **UNWATCHED}
    for name, (content, _) in KINDS.items():
        (odd / name).write_bytes(content)
    for name, (make, _) in places.items():
        make(odd / name)
    for label, folder in enumerate(("good", "odd")):
        (root / folder).mkdir(exist_ok=True)
        for number in range(12):
            picture(1000 * (label + 1) + number).save(root / folder / f"good-{number:02}.png")
    return {name: check for name, (_, check) in {**KINDS, **places}.items()}
