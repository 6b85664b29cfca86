"""From stored pixels to what a network was trained on."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """The normalization that belongs to pretrained weights.

    Attributes:
        mean: of each channel, of values in [0, 1].
        std: likewise.
    """

    mean: Channels
    std: Channels

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return uint8 (batch, height, width, 1 or 3) as float32 (batch, 3, height, width) in channels-last layout."""
        batch, height, width, channels = pixels.shape
        table = _normalized_values(self, pixels.device)
        if channels == 1:  # a gray pixel becomes three values
            normalized = table.index_select(0, pixels.flatten().int())
        else:
            normalized = table.gather(0, pixels.reshape(-1, 3).long())
        return normalized.view(batch, height, width, 3).permute(0, 3, 1, 2)


@lru_cache
def _normalized_values(preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Return what each of the 256 pixel values becomes in each channel: looking it up is faster, to the same bits."""
    with torch.inference_mode(mode=False):
        values = torch.arange(256, device=device).float()[:, None] / 255
        mean = torch.tensor(preprocessing.mean, device=device)
        std = torch.tensor(preprocessing.std, device=device)
        return (values - mean) / std


# The normalization of ImageNet, which most pretrained weights share.
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# As torchvision's ToTensor gives images: without pretrained weights there is no normalization that belongs to them.
UNIT_RANGE = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
