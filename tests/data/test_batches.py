import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.data.batches import AUGMENTATIONS, Samples, batch_sizes


@pytest.fixture
def part():
    """50 of 100 images; each image is filled with its position."""
    rows = torch.arange(0, 100, 2)
    images = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(100, 4, 4, 1).contiguous()
    return Samples(images, rows, rows % 3)


@given(st.integers(2, 5000), st.integers(2, 300))
def test_batches_hold_every_sample_and_never_a_single_one(count, batch_size):
    sizes = batch_sizes(count, batch_size)
    assert sum(sizes) == count
    assert 2 <= min(sizes) <= max(sizes) <= batch_size + 1


def test_an_epoch_sees_every_sample_once_with_its_label(part):
    seen = list(part.shuffled_batches(8, [], seed=1, epoch=1))
    images = torch.cat([pixels[:, 0, 0, 0] for pixels, _ in seen]).long()
    labels = torch.cat([labels for _, labels in seen])
    assert sorted(images.tolist()) == part.rows.tolist()
    assert torch.equal(labels, images % 3)


@pytest.mark.parametrize("augment", [[], list(AUGMENTATIONS)])
def test_seed_and_epoch_decide_the_batches(part, augment):
    def epoch(seed, number):
        return torch.cat([pixels for pixels, _ in part.shuffled_batches(8, augment, seed, number)])

    assert torch.equal(epoch(1, 1), epoch(1, 1))
    assert not torch.equal(epoch(1, 1), epoch(1, 2))
    assert not torch.equal(epoch(1, 1), epoch(2, 1))


def turned(image):
    """Every way in which an image can be flipped or turned."""
    quarter = [np.rot90(image, turn) for turn in range(4)]
    return {
        "horizontal_flip": [image, image[:, ::-1]],
        "vertical_flip": [image, image[::-1]],
        "quarter_turn": quarter,
    }


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_takes_each_image_one_of_its_ways_and_uses_all_of_them(name):
    image = np.random.default_rng(0).integers(255, size=(4, 4, 3), dtype=np.uint8)
    batch = torch.from_numpy(np.repeat(image[None], 64, axis=0))
    augmented = AUGMENTATIONS[name](batch, np.random.default_rng(1)).numpy()
    ways = turned(image)[name]
    found = {next(way for way, wanted in enumerate(ways) if np.array_equal(wanted, one)) for one in augmented}
    assert found == set(range(len(ways)))
