from io import BytesIO
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from stages.data.duplicates import MAX_DIFFERING_BITS, near_duplicates, perceptual_hash, same_pixels, units
from stages.data.images import to_pixels
from tests.data.bad_images import encoded, picture


def table(*rows):
    return pd.DataFrame(rows, columns=["image", "class", "split"])


def digests(*letters):
    return np.array([letter.encode() for letter in letters], dtype="S16")


def said(findings):
    return [(finding.check, finding.image) for finding in findings]


def test_the_same_pixels_again_are_a_duplicate_of_the_first():
    findings, torn = same_pixels(table(("1", "cat", ""), ("2", "cat", ""), ("3", "cat", "")), digests("a", "a", "b"))
    assert [finding[:3] for finding in findings] == [("duplicate", "2", "the same as 1")]
    assert torn == []


def test_the_same_pixels_twice_in_a_split_are_a_duplicate_of_the_first():
    findings, torn = same_pixels(
        table(("1", "cat", "train"), ("2", "cat", "train"), ("3", "cat", "train")), digests("a", "a", "b")
    )
    assert [finding[:3] for finding in findings] == [("duplicate", "2", "the same as 1")]
    assert torn == []


def test_a_file_that_a_table_lists_twice_is_a_duplicate_of_itself():
    findings, _ = same_pixels(table(("1", "cat", "train"), ("1", "cat", "train")), digests("a", "a"))
    assert [finding[:3] for finding in findings] == [("duplicate", "1", "the same as 1")]


def test_the_same_pixels_in_two_splits_that_the_source_gives_are_a_leak_on_both_sides():
    findings, torn = same_pixels(
        table(("1", "cat", "train"), ("2", "cat", "test"), ("3", "cat", "test")), digests("a", "a", "a")
    )
    assert said(findings) == [("leak", "1"), ("leak", "2"), ("leak", "3"), ("duplicate", "3")]
    assert findings[1].detail == "here in test, and in train as 1"
    assert torn == []


def test_where_the_source_gives_no_split_there_is_no_leak_of_train():
    """Both may be drawn from."""
    findings, _ = same_pixels(table(("1", "cat", ""), ("2", "cat", "train")), digests("a", "a"))
    assert said(findings) == [("duplicate", "2")]


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


def test_an_image_by_itself_is_a_unit_and_so_are_a_group_and_the_same_pixels():
    samples = pd.DataFrame({"image": ["1", "2", "3", "4", "5", "6"], "group": ["", "", "", "anna", "anna", ""]})
    names = units(samples, digests("a", "b", "b", "c", "d", "e"))
    assert names.tolist() == ["image 1", "image 2", "image 2", "group anna", "group anna", "image 6"]


def test_groups_that_share_an_image_are_one_unit_and_so_is_an_image_that_is_like_one_of_a_group():
    samples = pd.DataFrame({"image": ["1", "2", "3", "4", "5"], "group": ["ben", "ben", "anna", "anna", ""]})
    assert set(units(samples, digests("a", "b", "b", "c", "c"))) == {"group anna"}


def test_no_group_is_taken_for_an_image_of_its_name():
    samples = pd.DataFrame({"image": ["1", "2"], "group": ["", "1"]})
    assert units(samples, digests("a", "b")).nunique() == 2


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 12)), min_size=1, max_size=30), st.randoms())
def test_a_unit_is_the_least_that_holds_groups_and_the_same_pixels_whole(rows, random):
    """And its name depends on no order."""
    samples = pd.DataFrame(
        {
            "image": [f"{number:02}" for number in range(len(rows))],
            "group": [f"group-{group}" if group else "" for group, _ in rows],
            "pixels": [str(pixels) for _, pixels in rows],
        }
    )
    samples["unit"] = units(samples, digests(*samples["pixels"]))
    together = {image: {image} for image in samples["image"]}
    for one in samples.itertuples():
        for other in samples.itertuples():
            if one.pixels == other.pixels or (one.group and one.group == other.group):
                joined = together[one.image] | together[other.image]
                together.update(dict.fromkeys(joined, joined))
    assert {frozenset(of_unit) for _, of_unit in samples.groupby("unit")["image"]} == set(
        map(frozenset, together.values())
    )
    shuffled = samples.loc[random.sample(list(samples.index), len(samples))]
    assert units(shuffled, digests(*shuffled["pixels"])).sort_index().equals(samples["unit"])


def prepared(image):
    return to_pixels(image, 128, 3)


@pytest.fixture
def photographs():
    """Real ones, from scikit-learn, and pictures."""
    from sklearn.datasets import load_sample_images

    return [*(Image.fromarray(image) for image in load_sample_images().images), *(picture(n) for n in range(30))]


def compare(images):
    """The findings, and what the images share."""
    pixels = [prepared(image) for image in images]
    return near(np.stack([perceptual_hash(one) for one in pixels]))


def near(hashes, pixels=None):
    names = [str(number) for number in range(len(hashes))]
    return near_duplicates(pd.DataFrame({"image": names}), digests(*(pixels or names)), hashes)


def test_an_image_saved_again_or_resized_is_found(photographs):
    for again in (
        lambda image: Image.open(BytesIO(encoded(image, "JPEG", quality=75))),
        lambda image: image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BICUBIC),
    ):
        copies = [again(image) for image in photographs]
        found, alike = compare([*photographs, *copies])
        assert len(found) >= 0.9 * len(photographs)
        for finding in found:
            original = int(finding.image) - len(photographs)
            assert finding.detail.startswith(f"like {original}; ")
            assert alike[original] == alike[int(finding.image)] != ""
        assert (alike != "").sum() == 2 * len(found)


def test_images_that_differ_are_not_taken_for_near_duplicates(photographs):
    found, alike = compare(photographs)
    assert found == []
    assert set(alike) == {""}


def test_the_same_pixels_look_alike_and_are_another_checks_finding():
    hashes = np.stack([perceptual_hash(prepared(picture(0)))] * 2)
    found, alike = near(hashes, pixels=["a", "a"])
    assert found == []
    assert alike.tolist() == ["0", "0"]


def chain(*steps):
    """Hashes, each of which differs from the one before it in so many bits, and no two steps in the same."""
    bits = np.zeros((len(steps) + 1, 256), dtype=bool)
    ends = np.cumsum([0, *steps])
    for number, (start, end) in enumerate(pairwise(ends), start=1):
        bits[number:, start:end] = True
    return np.packbits(bits, axis=1)


def test_images_look_alike_through_others_and_each_pair_is_named_once():
    found, alike = near(chain(MAX_DIFFERING_BITS, 5, 100, MAX_DIFFERING_BITS + 1))
    assert [tuple(finding) for finding in found] == [
        ("near_duplicate_pair", "1", f"like 0; {MAX_DIFFERING_BITS} of 256 bits differ", "0"),
        ("near_duplicate_pair", "2", "like 1; 5 of 256 bits differ", "1"),
    ]
    assert alike.tolist() == ["0", "0", "0", "", ""]


def test_more_pairs_than_images_are_found_where_all_of_them_look_alike():
    found, _ = near(chain(1, 1, 1))
    assert sorted((finding.other, finding.image) for finding in found) == [
        ("0", "1"), ("0", "2"), ("0", "3"), ("1", "2"), ("1", "3"), ("2", "3"),
    ]  # fmt: skip


def test_the_shared_name_stands_beside_each_image_whatever_the_index_of_the_table():
    samples = pd.DataFrame({"image": ["b", "a", "c"]}, index=[7, 3, 9])
    _, alike = near_duplicates(samples, digests("a", "b", "c"), chain(3, 100))
    assert alike.to_dict() == {7: "a", 3: "a", 9: ""}


def test_more_images_that_look_alike_than_are_compared_with_each_share_one_name():
    found, alike = near(chain(*[0] * 39))
    assert {name for finding in found for name in (finding.image, finding.other)} == set(map(str, range(40)))
    assert len({frozenset((finding.image, finding.other)) for finding in found}) == len(found)
    assert set(alike) == {"0"}


def test_every_pair_is_compared_however_many_images_there_are():
    """600 images, each with one like it."""
    random = np.random.default_rng(0)
    hashes = random.random((600, 256)) < 0.5
    hashes[300:] = hashes[:300]
    hashes[300:, :3] ^= True
    found, alike = near(np.packbits(hashes, axis=1))
    assert {int(finding.image) for finding in found} == set(range(300, 600))
    assert all("3 of 256 bits differ" in finding.detail for finding in found)
    assert alike[:300].tolist() == alike[300:].tolist()
    assert alike.nunique() == 300
