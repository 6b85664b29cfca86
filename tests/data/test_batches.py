import os
import subprocess
import sys
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.data.batches import Samples, batch_sizes
from stages.data.store import COLUMNS, SAMPLES, make_array
from stages.files import write_csv
from stages.params import Augmentation
from tests.conftest import ROOT


@pytest.fixture
def split():
    """50 of 100 images; each image is filled with its position."""
    rows = torch.arange(0, 100, 2)
    images = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 8, 8, 1).contiguous()
    return Samples(images, rows, rows % 3)


@given(st.integers(2, 5000), st.integers(2, 300))
def test_batches_hold_every_sample_and_never_a_single_one(count, batch_size):
    sizes = batch_sizes(count, batch_size)
    assert sum(sizes) == count
    assert 2 <= min(sizes) <= max(sizes) <= batch_size + 1


def test_an_epoch_sees_every_sample_once_with_its_label(split, train):
    seen = list(split.shuffled_batches(train.model_copy(update={"batch_size": 8}), seed=1, epoch=1))
    images = torch.cat([pixels[:, 0, 0, 0] for pixels, _ in seen]).long()
    labels = torch.cat([labels for _, labels in seen])
    assert sorted(images.tolist()) == split.rows.tolist()
    assert torch.equal(labels, images % 3)


@pytest.mark.parametrize("config", [{}, {"augment": list(get_args(Augmentation))}, {"mixup": 0.5}, {"cutmix": 0.5}])
def test_seed_and_epoch_decide_the_batches(split, train, config):
    train = train.model_copy(update={"batch_size": 8, **config})

    def epoch(seed, number):
        return torch.cat([pixels for pixels, _ in split.shuffled_batches(train, seed, number)])

    assert torch.equal(epoch(1, 1), epoch(1, 1))
    assert not torch.equal(epoch(1, 1), epoch(1, 2))
    assert not torch.equal(epoch(1, 1), epoch(2, 1))


def test_an_image_is_augmented_the_same_whatever_the_batch_size(split, train):
    def epoch(batch_size):
        config = {"batch_size": batch_size, "augment": ["random_erasing", "quarter_turn"]}
        return torch.cat([pixels for pixels, _ in split.shuffled_batches(train.model_copy(update=config), 1, 1)])

    assert torch.equal(epoch(8), epoch(25))


def test_mixed_batches_give_the_share_of_every_class(split, train):
    for pixels, shares in split.shuffled_batches(train.model_copy(update={"mixup": 0.5}), 1, 1):
        assert shares.shape == (len(pixels), 3)
        assert torch.allclose(shares.sum(1), torch.ones(len(pixels)))


ANONYMOUS = """
import re, sys
from pathlib import Path
from stages.data.batches import open_samples
from stages.data.store import open_prepared
from stages.params import load_params
import torch

def anonymous():
    return int(re.search(r"RssAnon:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

samples = open_samples(open_prepared(Path(sys.argv[1])), ("train",), torch.device("cpu"))["train"]
train = load_params(Path(sys.argv[2])).train
batches = samples.shuffled_batches(train, seed=1, epoch=1)
next(batches)
before, seen = anonymous(), 0
for (pixels, labels), _ in zip(batches, range(200)):
    seen += pixels.nbytes
print(seen / 2**20, anonymous() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_set_larger_than_the_memory_trains_from_its_file(tmp_path):
    """A sparse array of twice the machine's memory opens, and passing 200 batches through holds none of them."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    count = 2 * memory // (224 * 224 * 3)
    make_array(tmp_path, (count, 224, 224, 3))
    texts = {
        "image": "i",
        "class": "c",
        "stratum": "",
        "group": "",
        "unit": "",
        "near_duplicates": "",
        "split": "train",
    }
    table = pd.DataFrame({"label": np.arange(count) % 2, "usable": True, **texts})
    write_csv(tmp_path / SAMPLES, table[COLUMNS])  # without the checksum of so many zeros
    command = [sys.executable, "-c", ANONYMOUS, str(tmp_path), str(ROOT / "params.yaml")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    passed, held = map(float, done.stdout.split())
    assert passed > 900  # MiB
    assert held < 50
