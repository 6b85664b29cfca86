from typing import get_args

import numpy as np
import pytest
import torch

from stages.data.augmentation import augment_images, changes_images, mix_images
from stages.params import Augmentation

AUGMENTATIONS = get_args(Augmentation)


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(255, size=(16, 16, 3), dtype=np.uint8)


def augmented(image, train, *names, seed=1, **config):
    """64 copies of an image, augmented."""
    batch = torch.from_numpy(np.repeat(image[None], 64, axis=0))
    train = train.model_copy(update={"augment": list(names), **config})
    return augment_images(batch, train, [(seed, 1, sample) for sample in range(64)])


def ways(image):
    """Every way in which an image can be flipped or turned."""
    return {
        "horizontal_flip": [image, image[:, ::-1]],
        "vertical_flip": [image, image[::-1]],
        "quarter_turn": [np.rot90(image, turn) for turn in range(4)],
    }


@pytest.mark.parametrize("name", ["horizontal_flip", "vertical_flip", "quarter_turn"])
def test_flips_and_turns_take_each_image_one_of_their_ways_and_use_all_of_them(name, image, train):
    known = ways(image)[name]
    found = {
        next(way for way, wanted in enumerate(known) if np.array_equal(wanted, one))
        for one in augmented(image, train, name).numpy()
    }
    assert found == set(range(len(known)))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_augmented_in_its_own_way_and_stays_uint8_of_its_shape(name, channels, image, train):
    result = augmented(image[..., :channels], train, name)
    assert result.dtype == torch.uint8
    assert result.shape == (64, 16, 16, channels)
    assert len({bytes(one.numpy().tobytes()) for one in result}) >= 2


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_the_seed_decides_and_nothing_else_that_draws(name, image, train):
    first = augmented(image, train, name)
    torch.rand(7)
    before = torch.random.get_rng_state()
    again = augmented(image, train, name)
    assert torch.equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(first, augmented(image, train, name, seed=2))


def test_an_image_is_augmented_the_same_in_any_company(image, train):
    train = train.model_copy(update={"augment": list(AUGMENTATIONS)})
    batch = torch.from_numpy(np.stack([image, image[::-1], image[:, ::-1]]))
    together = augment_images(batch, train, [(1, 1, 5), (1, 1, 6), (1, 1, 7)])
    alone = augment_images(batch[1:2], train, [(1, 1, 6)])
    assert torch.equal(together[1], alone[0])


def test_a_crop_keeps_the_share_that_is_asked_for(train):
    """Of an image whose pixels say their row, a crop of nearly all shows nearly all rows, one of less can show less."""
    ramp = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[:, None, None], 120, axis=1)

    def rows_shown(crop_area):
        result = augmented(ramp, train, "random_resized_crop", crop_area=crop_area)
        return [int(one.max()) - int(one.min()) for one in result]

    assert min(rows_shown(0.98)) > 200
    assert min(rows_shown(0.1)) < 120


def test_color_jitter_changes_by_up_to_the_strength(train):
    gray = np.full((8, 8, 3), 100, dtype=np.uint8)
    result = augmented(gray, train, "color_jitter", color_strength=0.1).float().mean((1, 2, 3))
    assert 87 <= result.min() < 97  # each of the three rounds down
    assert 103 < result.max() <= 110


@pytest.fixture
def pair():
    """A black image of class 0 and a white one of class 2."""
    pixels = torch.stack([torch.zeros(16, 16, 1), torch.full((16, 16, 1), 255)]).to(torch.uint8)
    return pixels, torch.tensor([0, 2])


def mixed(pair, train, number=0, **alphas):
    return mix_images(*pair, 3, train.model_copy(update=alphas), seed=(1, 1, number))


def test_mixup_blends_images_as_their_labels_say(pair, train):
    pixels, shares = mixed(pair, train, mixup=1.0)
    assert shares.sum(1).tolist() == pytest.approx([1, 1])
    assert shares[:, 1].tolist() == [0, 0]
    assert pixels.dtype == torch.uint8
    for image, share in zip(pixels, shares, strict=True):
        assert image.unique().tolist() == pytest.approx([255 * share[2].item()], abs=0.51)


def test_cutmix_puts_in_a_piece_as_large_as_the_labels_say(pair, train):
    pixels, shares = mixed(pair, train, cutmix=1.0)
    assert set(pixels.unique().tolist()) <= {0, 255}
    for image, share in zip(pixels, shares, strict=True):
        assert (image == 255).float().mean().item() == pytest.approx(share[2].item(), abs=1e-6)


def test_with_both_each_batch_gets_one_of_them_by_its_seed(pair, train):
    def blended(number):
        pixels, _ = mixed(pair, train, number, mixup=1.0, cutmix=1.0)
        return not set(pixels.unique().tolist()) <= {0, 255}

    found = [blended(number) for number in range(20)]
    assert found == [blended(number) for number in range(20)]
    assert 3 < sum(found) < 17


def test_what_changes_images_is_known_to_those_who_keep_features(train):
    plain = train.model_copy(update={"augment": []})
    assert not changes_images(plain)
    for change in ({"augment": ["vertical_flip"]}, {"mixup": 0.2}, {"cutmix": 1.0}):
        assert changes_images(plain.model_copy(update=change))
