"""Images that are the same, or almost, where they should not be."""

import faiss
import imagehash
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from stages.data.checks import Finding

HASH_SIDE = 16
HASH_BITS = HASH_SIDE**2  # of a perceptual hash
HASH_BYTES = HASH_BITS // 8
# How many of them may differ. Measured on 58 images: saved again at JPEG quality 60 or resized to two thirds, 9 in 10
# differ in 11 bits at most; cut by 2 % at the edges, half differ in 23 or more.
MAX_DIFFERING_BITS = 16
NEIGHBORS = 6  # most similar images that are looked at, the image itself among them


def perceptual_hash(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return the perceptual hash (DCT) of prepared pixels (size, size, 1 or 3) as uint8 (HASH_BYTES,)."""
    squeezed = pixels[..., 0] if pixels.shape[2] == 1 else pixels
    return np.packbits(imagehash.phash(Image.fromarray(squeezed), hash_size=HASH_SIDE).hash)


def same_pixels(samples: pd.DataFrame, digests: npt.NDArray[np.bytes_]) -> tuple[list[Finding], list[int]]:
    """Find images with the same pixels: under two labels, in two splits that the source gives, or twice elsewhere.

    Args:
        samples: the images that are used, with the columns `image`, `class` and `split` (the source's).
        digests: (images,), equal where the pixels are.

    Returns:
        The findings, and the index of the images under two labels: nobody can say which label is right.
    """
    findings: list[Finding] = []
    torn: list[int] = []
    loose = samples["split"].replace("", "train")  # from where training and validation are drawn
    for _, same in samples.assign(digest=digests, split=loose)[_repeated(digests)].groupby("digest", sort=False):
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


def units(samples: pd.DataFrame, digests: npt.NDArray[np.bytes_]) -> "pd.Series[str]":
    """Name what no split may divide: a group, images with the same pixels, or an image by itself.

    Args:
        samples: the images that are used, with the columns `image` and `group`.
        digests: (images,), equal where the pixels are.
    """
    own = ("group " + samples["group"]).where(samples["group"] != "", "image " + samples["image"])
    (own_codes, _), (same_codes, _) = pd.factorize(own), pd.factorize(digests)
    linked = _components(own_codes, own_codes.max(initial=0) + 1 + same_codes)[own_codes]
    return own.groupby(linked).transform("min")


def near_duplicates(
    samples: pd.DataFrame, digests: npt.NDArray[np.bytes_], hashes: npt.NDArray[np.uint8]
) -> tuple[list[Finding], "pd.Series[str]"]:
    """Find images that look almost alike.

    Every image is held against every other, so the time grows with the square of their number.

    Args:
        samples: the images that are used, with the column `image`.
        digests: (images,); the same pixels are another check's.
        hashes: uint8 (images, HASH_BYTES).

    Returns:
        A finding for each pair, where an image's own `NEIGHBORS` are held against it; and for every image the name of
        the images that it looks like, directly or through others, or an empty text.
    """
    names = samples["image"].to_numpy()
    index = faiss.IndexBinaryFlat(HASH_BITS)
    index.add(hashes)
    differing, nearest = index.search(hashes, min(NEIGHBORS, max(len(names), 1)))
    ones, places = np.nonzero((differing <= MAX_DIFFERING_BITS) & (nearest >= 0))
    others = nearest[ones, places]
    # Either of two images may be among the most similar of the other alone.
    pairs = {
        (max(one, other), min(one, other)): differing[one, place]
        for one, other, place in zip(ones.tolist(), others.tolist(), places.tolist(), strict=True)
        if digests[one] != digests[other]
    }
    findings = [
        Finding(
            "near_duplicate_pair",
            str(names[later]),
            f"like {names[earlier]}; {bits} of {HASH_BITS} bits differ",
            other=str(names[earlier]),
        )
        for (later, earlier), bits in pairs.items()
    ]
    linked = pd.Series(_components(ones, others, len(names)), index=samples.index)
    size = linked.groupby(linked).transform("size")
    alike = samples["image"].groupby(linked).transform("min").where(size > 1, "")
    return findings, alike


def _components(
    ones: npt.NDArray[np.intp], others: npt.NDArray[np.intp], nodes: int | None = None
) -> npt.NDArray[np.int32]:
    """Return the number of the connected component of each node of a graph, by the ends of its edges."""
    nodes = int(max(ones.max(initial=-1), others.max(initial=-1))) + 1 if nodes is None else nodes
    graph = coo_array((np.ones(len(ones), dtype=np.int8), (ones, others)), shape=(nodes, nodes))
    components: npt.NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return components
