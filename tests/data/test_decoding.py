import os
import signal
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pytest

from stages.data.decoding import CHUNK, Job, decode_all
from stages.data.image_set import Files
from stages.data.images import read_pixels
from stages.data.store import IMAGES, make_array
from stages.errors import UserError
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
    return Job(Files(tmp_path, names), names, rows, 32, 3, 100, array)


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
    decode_all(Job(job.images, job.names, job.rows, 32, 3, 100, array=None), on_images=lambda count: None)
    assert (tmp_path / IMAGES).read_bytes() == before


@dataclass(frozen=True)
class Deadly:
    """Images whose decoder is ended by the system."""

    @contextmanager
    def open(self, row, max_megapixels):
        os.kill(os.getpid(), signal.SIGKILL)
        yield


def test_a_process_that_the_system_ends_is_told_in_one_line():
    with pytest.raises(UserError, match=r"^data: a process that decoded images was ended by the system"):
        decode_all(Job(Deadly(), ["a"], [0], 32, 3, 100, array=None), on_images=lambda count: None)
