"""Decoding every image once, on all cores, straight into the array's file."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from stages.data.checks import Finding
from stages.data.duplicates import HASH_BYTES, perceptual_hash
from stages.data.image_set import Images
from stages.data.images import SIXTEEN_BIT, BadImageError, image_warnings, pixel_warnings, to_pixels
from stages.data.store import write_images
from stages.errors import UserError

CHUNK = 32  # images that a process takes at once


@dataclass(frozen=True)
class DecodeJob:
    """What every process needs to know.

    Attributes:
        images: by row.
        names: of the images, by row.
        rows: which to decode; the n-th one becomes the n-th image of the array.
        size: height and width in pixels.
        channels: 1 or 3.
        max_megapixels: the limit above which an image is bad.
        array: a .npy file of the right shape, or None where nothing is written.
    """

    images: Images
    names: Sequence[str]
    rows: Sequence[int]
    size: int
    channels: Literal[1, 3]
    max_megapixels: float
    array: Path | None


@dataclass(frozen=True)
class DecodeResult:
    """What decoding leaves to compare, for the images of a job in their order.

    Attributes:
        good: bool (images,).
        digests: S16 (images,), equal where the prepared pixels are.
        hashes: uint8 (images, HASH_BYTES), similar where the images look alike.
        findings: what was bad or unusual.
    """

    good: npt.NDArray[np.bool_]
    digests: npt.NDArray[np.bytes_]
    hashes: npt.NDArray[np.uint8]
    findings: list[Finding]


def decode_all(job: DecodeJob, on_images: Callable[[int], object]) -> DecodeResult:
    """Decode the images of a job, in parallel. Of each, memory keeps a digest, a hash and what was found, no pixels.

    Args:
        job: what to decode.
        on_images: called with how many more are done.

    Raises:
        UserError: the system ended a process, as it does where memory runs out.
    """
    digests = np.zeros(len(job.rows), dtype="S16")
    hashes = np.zeros((len(job.rows), HASH_BYTES), dtype=np.uint8)
    good = np.zeros(len(job.rows), dtype=bool)
    findings: list[Finding] = []
    chunks = [range(start, min(start + CHUNK, len(job.rows))) for start in range(0, len(job.rows), CHUNK)]
    stop = multiprocessing.Event()
    try:
        with ProcessPoolExecutor(_cores(), initializer=_start, initargs=(job, stop)) as processes, _set_on_error(stop):
            for chunk, (is_good, digest, likeness, found) in zip(chunks, processes.map(_decode, chunks), strict=True):
                good[chunk], digests[chunk], hashes[chunk] = is_good, digest, likeness
                findings += found
                on_images(len(chunk))
    except (BrokenProcessPool, MemoryError):
        raise UserError(
            "data: a process that decoded images had too little memory, or was ended by the system: "
            "lower data.max_megapixels"
        ) from None
    return DecodeResult(good, digests, hashes, findings)


def _cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _set_on_error(stop: Event) -> Iterator[None]:
    """Tell the processes that nobody waits for their images any more."""
    try:
        yield
    except BaseException:
        stop.set()
        raise


_job: DecodeJob  # of this process
_stop: Event


def _start(job: DecodeJob, stop: Event) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits for this one
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    global _job, _stop  # how an initializer hands something over
    _job, _stop = job, stop


def _exit_with_parent() -> None:
    """End this process when the one that waits for it has been killed."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


Chunk = tuple[list[bool], list[bytes], npt.NDArray[np.uint8], list[Finding]]


def _decode(places: range) -> Chunk:
    """Decode a chunk and write it into the array's file."""
    pixels = np.zeros((len(places), _job.size, _job.size, _job.channels), dtype=np.uint8)
    good, digests, findings = [], [], []
    hashes = np.zeros((len(places), HASH_BYTES), dtype=np.uint8)
    for place, position in enumerate(places):
        if _stop.is_set():
            break
        row = _job.rows[position]
        try:
            with _job.images.open(row, _job.max_megapixels) as image:
                unusual, sixteen_bit = image_warnings(image, _job.names[row]), image.mode in SIXTEEN_BIT
                pixels[place] = to_pixels(image, _job.size, _job.channels)
            findings += [*unusual, *pixel_warnings(pixels[place], _job.names[row], sixteen_bit)]
            good.append(True)
        except BadImageError as error:
            findings.append(Finding(error.check, _job.names[row], error.detail))
            good.append(False)
        digests.append(hashlib.blake2b(pixels[place].tobytes(), digest_size=16).digest())
        hashes[place] = perceptual_hash(pixels[place])
    if _job.array:
        write_images(_job.array, places.start, pixels)
    return good, digests, hashes, findings
