"""What evaluation takes from the table of images: who belongs together, and what one has in hand without a network."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.data.store import Prepared
from stages.evaluation.metrics import Probabilities
from stages.params import Split


def image_units(images: Prepared) -> npt.NDArray[np.intp]:
    """Return a number for each image that images of the same group share."""
    groups, names = images.samples["group"], images.samples["image"]
    numbers: npt.NDArray[np.intp] = pd.factorize(("group " + groups).where(groups != "", "image " + names))[0]
    return numbers


def majority_probabilities(images: Prepared, split: Split) -> Probabilities:
    """Return what one has in hand where training diverged: all classes equally probable, and the largest one first."""
    probabilities = np.full((len(images.rows(split)), len(images.classes)), 1.0)
    probabilities[:, images.majority_class] += 1e-9
    normalized: Probabilities = probabilities / probabilities.sum(1, keepdims=True)
    return normalized
