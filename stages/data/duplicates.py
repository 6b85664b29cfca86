"""Images that are the same, or almost, where they should not be."""

import itertools

import faiss
import imagehash
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from stages.data.checks import Finding
from stages.params import SPLITS

HASH_SIDE = 16
HASH_BITS = HASH_SIDE**2  # of a perceptual hash
HASH_BYTES = HASH_BITS // 8
# How many of them may differ. Measured on 58 images: saved again at JPEG quality 60 or resized to two thirds, 9 in 10
# differ in 11 bits at most; cut by 2 % at the edges, half differ in 23 or more.
MAX_DIFFERING_BITS = 16


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the perceptual hash (DCT) of prepared pixels (size, size, 1 or 3) as uint8 (HASH_BYTES,)."""
    squeezed = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return np.packbits(imagehash.phash(Image.fromarray(squeezed), hash_size=HASH_SIDE).hash)


def same_pixels(samples: pd.DataFrame, digests: npt.NDArray[np.bytes_]) -> tuple[list[Finding], list[int]]:
    """Find images with the same pixels: under two labels, in two splits, or twice in one split.

    Args:
        samples: the images that are used, with the columns `image`, `class` and `split`.
        digests: (images,), equal where the pixels are.

    Returns:
        The findings, and the index of the images under two labels: nobody can say which label is right.
    """
    findings: list[Finding] = []
    torn: list[int] = []
    for _, same in samples.assign(digest=digests)[_repeated(digests)].groupby("digest", sort=False):
        of_class = dict(zip(same["class"][::-1], same["image"][::-1], strict=True))  # the first image of each
        of_split = dict(zip(same["split"][::-1], same["image"][::-1], strict=True))
        if len(of_class) > 1:
            torn += list(same.index)
            findings += _elsewhere("two_labels", same, "class", of_class)
            continue
        if len(of_split) > 1:
            findings += _elsewhere("leak", same, "split", of_split)
        again = same[same.duplicated("split")]
        findings += [
            Finding("duplicate", image, f"the same as {of_split[split]}")
            for image, split in zip(again["image"], again["split"], strict=True)
        ]
    return findings, torn


def _repeated(digests: npt.NDArray[np.bytes_]) -> npt.NDArray[np.bool_]:
    return pd.Series(digests).duplicated(keep=False).to_numpy()


def _elsewhere(check: str, same: pd.DataFrame, what: str, first_of: dict[str, str]) -> list[Finding]:
    """Name, for each of the same images, one that stands elsewhere: in another class, or in another split."""
    return [
        Finding(check, image, f"here in {here}, and in {there} as {other}")
        for image, here in zip(same["image"], same[what], strict=True)
        for there, other in [next(entry for entry in first_of.items() if entry[0] != here)]
    ]


def near_duplicates(
    samples: pd.DataFrame, digests: npt.NDArray[np.bytes_], hashes: npt.NDArray[np.uint8]
) -> list[Finding]:
    """Find images that look almost like one in another split: for each, the most similar one in each earlier split.

    Every image is held against every one of the other splits, so the time grows with the square of their number.

    Args:
        samples: the images that are used, with the columns `image` and `split`.
        digests: (images,); the same pixels are another check's.
        hashes: uint8 (images, HASH_BYTES).
    """
    names, splits = samples["image"].to_numpy(), samples["split"].to_numpy()
    findings = []
    for earlier, later in itertools.combinations(SPLITS, 2):
        theirs, ours = (np.flatnonzero(splits == split) for split in (earlier, later))
        index = faiss.IndexBinaryFlat(HASH_BITS)
        index.add(hashes[theirs])
        differing, nearest = index.search(hashes[ours], 1)
        for row in np.flatnonzero((differing[:, 0] <= MAX_DIFFERING_BITS) & (nearest[:, 0] >= 0)):
            one, other = ours[row], theirs[nearest[row, 0]]
            if digests[one] != digests[other]:
                detail = f"in {later}, like {names[other]} in {earlier}; {differing[row, 0]} of {HASH_BITS} bits differ"
                findings.append(Finding("near_duplicate", str(names[one]), detail))
    return findings
