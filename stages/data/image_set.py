"""What every source gives: labeled images that are yet to be decoded."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd
from PIL import Image

from stages.data.checks import Finding
from stages.data.images import check_pixel_count, open_image, translate_decode_errors


class Images(Protocol):
    """Images by their row in the table. It crosses to other processes, so it holds names and no open files."""

    def open(self, row: int, max_megapixels: float) -> AbstractContextManager[Image.Image]:
        """Return an image whose pixels are not read yet.

        Raises:
            BadImageError: it cannot be used.
        """


@dataclass(frozen=True)
class ImageFiles:
    """Image files.

    Attributes:
        root: the folder that they lie under.
        paths: relative to it, one for each row.
    """

    root: Path
    paths: Sequence[str]

    @contextmanager
    def open(self, row: int, max_megapixels: float) -> Iterator[Image.Image]:
        """Open the file of a row."""
        with open_image(self.root / self.paths[row], max_megapixels) as image:
            yield image


@dataclass(frozen=True)
class DatasetImages:
    """Images that data sets of torchvision make.

    Attributes:
        datasets: the splits that a set comes in.
        places: for each row the data set's position in `datasets`, and the image's in the data set.
    """

    datasets: Sequence[Any]
    places: Sequence[tuple[int, int]]

    @contextmanager
    def open(self, row: int, max_megapixels: float) -> Iterator[Image.Image]:
        """Have the data set make the image of a row."""
        dataset, position = self.places[row]
        with translate_decode_errors():
            image = self.datasets[dataset][position][0]
            check_pixel_count(image, max_megapixels)
            yield image


def sample_table(**columns: Any) -> pd.DataFrame:
    """Return a table of samples; of `stratum`, `group` and `split`, what a source does not know stays an empty text."""
    table = pd.DataFrame({"stratum": "", "group": "", "split": "", **columns})
    kinds = {"image": str, "label": int, "stratum": str, "group": str, "split": str}
    return table.astype(kinds)  # pandas guesses otherwise where there are no rows


@dataclass(frozen=True)
class ImageSet:
    """Labelled images that are yet to be decoded.

    Attributes:
        classes: their names; a label is a position in this list.
        channels: 1 for gray, 3 for RGB.
        samples: a row for each image: `image` (a name for people), `label`, `stratum` (kept balanced in the split),
            `group` (kept in one split; an empty text stands alone), and `split` (the split that the source gives it, or
            an empty text).
        images: gives the image of a row.
        findings: what was wrong before any image was opened.
    """

    classes: list[str]
    channels: Literal[1, 3]
    samples: pd.DataFrame
    images: Images
    findings: list[Finding] = field(default_factory=list)

    def in_channels(self, channels: Literal[1, 3]) -> "ImageSet":
        """Return the same images in gray or in RGB."""
        return replace(self, channels=channels)
