"""Images that belong together, and what one has in hand for an image without a network."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.evaluation.metrics import Probabilities


def image_units(samples: pd.DataFrame) -> npt.NDArray[np.intp]:
    """Return a number for each image that images of the same group share.

    Args:
        samples: with the columns `image` and `group`.
    """
    groups, names = samples["group"], samples["image"]
    numbers: npt.NDArray[np.intp] = pd.factorize(("group " + groups).where(groups != "", "image " + names))[0]
    return numbers


def majority_probabilities(images: int, classes: int, majority: int) -> Probabilities:
    """Return what one has in hand where training diverged: all classes equally probable, and the largest one first.

    Args:
        images: whose probabilities.
        classes: of which each has one.
        majority: label of the class that most training images have.
    """
    probabilities = np.full((images, classes), 1.0)
    probabilities[:, majority] += 1e-9
    normalized: Probabilities = probabilities / probabilities.sum(1, keepdims=True)
    return normalized
