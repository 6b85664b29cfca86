from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.data.duplicates import near_duplicates, perceptual_hash, same_pixels
from stages.data.images import to_pixels
from tests.data.bad_images import encoded, picture


def table(*rows):
    return pd.DataFrame(rows, columns=["image", "class", "split"])


def digests(*letters):
    return np.array([letter.encode() for letter in letters], dtype="S16")


def said(findings):
    return [(finding.check, finding.image) for finding in findings]


def test_the_same_pixels_twice_in_a_split_are_a_duplicate_of_the_first():
    findings, torn = same_pixels(
        table(("1", "cat", "train"), ("2", "cat", "train"), ("3", "cat", "train")), digests("a", "a", "b")
    )
    assert [tuple(finding) for finding in findings] == [("duplicate", "2", "the same as 1")]
    assert torn == []


def test_a_file_that_a_table_lists_twice_is_a_duplicate_of_itself():
    findings, _ = same_pixels(table(("1", "cat", "train"), ("1", "cat", "train")), digests("a", "a"))
    assert [tuple(finding) for finding in findings] == [("duplicate", "1", "the same as 1")]


def test_the_same_pixels_in_two_splits_are_a_leak_on_both_sides():
    findings, torn = same_pixels(
        table(("1", "cat", "train"), ("2", "cat", "test"), ("3", "cat", "test")), digests("a", "a", "a")
    )
    assert said(findings) == [("leak", "1"), ("leak", "2"), ("leak", "3"), ("duplicate", "3")]
    assert findings[1].detail == "here in test, and in train as 1"
    assert torn == []


def test_the_same_pixels_under_two_labels_are_given_back_to_be_skipped():
    findings, torn = same_pixels(
        table(("1", "cat", "train"), ("2", "dog", "test"), ("3", "cat", "train")).set_axis([10, 20, 30]),
        digests("a", "a", "a"),
    )
    assert said(findings) == [("two_labels", "1"), ("two_labels", "2"), ("two_labels", "3")]
    assert findings[2].detail == "here in cat, and in dog as 2"
    assert torn == [10, 20, 30]


def test_the_index_of_the_table_need_not_begin_at_0():
    findings, _ = same_pixels(table(("1", "cat", "train"), ("2", "cat", "train")).set_axis([7, 9]), digests("a", "a"))
    assert said(findings) == [("duplicate", "2")]


def prepared(image):
    return to_pixels(image, 128, 3)


@pytest.fixture
def photographs():
    """Real ones, from scikit-learn, and pictures."""
    from sklearn.datasets import load_sample_images

    return [*(Image.fromarray(image) for image in load_sample_images().images), *(picture(n) for n in range(30))]


def compare(images, splits):
    pixels = [prepared(image) for image in images]
    rows = table(*((str(number), "cat", split) for number, split in enumerate(splits)))
    return near_duplicates(
        rows, digests(*(str(number) for number in range(len(rows)))), np.stack([perceptual_hash(one) for one in pixels])
    )


def test_an_image_saved_again_or_resized_is_found_in_another_split(photographs):
    for again in (
        lambda image: Image.open(BytesIO(encoded(image, "JPEG", quality=75))),
        lambda image: image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BICUBIC),
    ):
        copies = [again(image) for image in photographs]
        found = compare([*photographs, *copies], ["train"] * len(photographs) + ["val"] * len(copies))
        assert len(found) >= 0.9 * len(photographs)
        for finding in found:
            original = int(finding.image) - len(photographs)
            assert finding.detail.startswith(f"in val, like {original} in train; ")


def test_images_that_differ_are_not_taken_for_near_duplicates(photographs):
    splits = ["train", "val", "test"] * len(photographs)
    assert compare(photographs, splits[: len(photographs)]) == []


def test_near_duplicates_in_one_split_and_equal_pixels_are_not_reported():
    image = picture(0)
    assert compare([image, image], ["train", "train"]) == []
    hashes = np.stack([perceptual_hash(prepared(image))] * 2)
    assert near_duplicates(table(("1", "cat", "train"), ("2", "cat", "val")), digests("a", "a"), hashes) == []


def test_every_pair_of_splits_is_compared_however_many_images_there_are():
    """600 images, each with one like it in another split."""
    random = np.random.default_rng(0)
    hashes = random.random((600, 256)) < 0.5
    hashes[300:] = hashes[:300]
    hashes[300:, :3] ^= True
    hashes = np.packbits(hashes, axis=1)
    splits = ["train"] * 200 + ["val"] * 100 + ["val"] * 200 + ["test"] * 100
    rows = table(*((str(number), "cat", split) for number, split in enumerate(splits)))
    found = near_duplicates(rows, digests(*(str(number) for number in range(600))), hashes)
    assert {int(finding.image) for finding in found} == set(range(300, 600))
    assert all("3 of 256 bits differ" in finding.detail for finding in found)
