import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stages.data.decoding import CHUNK, DecodeJob, decode_all
from stages.data.image_set import ImageFiles
from stages.data.images import read_pixels
from stages.data.store import IMAGES, make_array
from stages.errors import UserError
from tests.conftest import ROOT, wait_for_end_of_group
from tests.data.bad_images import picture


@pytest.fixture
def job(tmp_path):
    """More images than three processes take at once, one of them cut short, with an array to write into."""
    names = [f"{number}.png" for number in range(3 * CHUNK + 7)]
    for number, name in enumerate(names):
        picture(number).save(tmp_path / name)
    whole = (tmp_path / names[40]).read_bytes()
    (tmp_path / names[40]).write_bytes(whole[:200])
    rows = list(reversed(range(len(names))))
    array = make_array(tmp_path, (len(names), 32, 32, 3))
    return DecodeJob(ImageFiles(tmp_path, names), names, rows, 32, 3, 100, array)


def test_images_come_to_stand_in_the_array_in_the_order_of_the_rows(job, tmp_path):
    decoded = decode_all(job, on_images=lambda count: None)
    images = np.load(tmp_path / IMAGES)
    for place, row in enumerate(job.rows):
        if row == 40:
            assert not images[place].any()
        else:
            assert np.array_equal(images[place], read_pixels(tmp_path / job.names[row], 32, 3))
    assert np.flatnonzero(~decoded.good).tolist() == [job.rows.index(40)]
    assert [(finding.check, finding.image) for finding in decoded.findings] == [("truncated", "40.png")]
    assert len(set(decoded.digests)) == len(job.rows)


def test_progress_counts_every_image(job):
    told = []
    decode_all(job, on_images=told.append)
    assert sum(told) == len(job.rows)
    assert len(told) == 4


def test_without_an_array_nothing_is_written(job, tmp_path):
    before = (tmp_path / IMAGES).read_bytes()
    decode_all(DecodeJob(job.images, job.names, job.rows, 32, 3, 100, array=None), on_images=lambda count: None)
    assert (tmp_path / IMAGES).read_bytes() == before


@dataclass(frozen=True)
class Deadly:
    """Images whose decoder is ended by the system."""

    @contextmanager
    def open(self, row, max_megapixels):
        os.kill(os.getpid(), signal.SIGKILL)
        yield


@dataclass(frozen=True)
class Greedy:
    """Images that take more memory than there is."""

    @contextmanager
    def open(self, row, max_megapixels):
        raise MemoryError
        yield


@pytest.mark.parametrize("images", [Deadly(), Greedy()])
def test_too_little_memory_is_told_in_one_line(images):
    with pytest.raises(UserError, match=r"^data: a process that decoded images had too little memory, or was ended"):
        decode_all(DecodeJob(images, ["a"], [0], 32, 3, 100, array=None), on_images=lambda count: None)


@dataclass(frozen=True)
class Slow:
    """Images that take their time, and leave a mark in a file for each."""

    marks: Path

    @contextmanager
    def open(self, row, max_megapixels):
        with self.marks.open("a") as file:
            file.write(".")
        time.sleep(0.02)
        yield picture(row)


def test_nobody_decodes_on_for_a_user_who_has_pressed_ctrl_c(tmp_path):
    """Chunks that wait for a process cannot be called back, so it must not begin them."""
    count = 40 * CHUNK
    job = DecodeJob(Slow(tmp_path / "marks"), ["a.png"] * count, range(count), 32, 3, 100, array=None)

    def interrupted(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode_all(job, on_images=interrupted)
    assert (tmp_path / "marks").stat().st_size < 2 * CHUNK * len(os.sched_getaffinity(0))


FOR_EVER = """
from pathlib import Path
from stages.data.decoding import DecodeJob, decode_all
from tests.data.test_decoding import Slow
decode_all(DecodeJob(Slow(Path("marks")), ["a.png"] * 10**5, range(10**5), 32, 3, 100, None), on_images=lambda _: None)
"""


def test_no_process_outlives_the_one_that_waits_for_it(tmp_path):
    running = subprocess.Popen(
        [sys.executable, "-c", FOR_EVER],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    while not (tmp_path / "marks").exists():
        assert running.poll() is None
        time.sleep(0.01)
    running.kill()
    running.wait()
    wait_for_end_of_group(running.pid)
