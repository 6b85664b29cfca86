"""From stored pixels to what a network was trained on."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

Channels = tuple[float, float, float]


@dataclass(frozen=True)
class Preprocessing:
    """The normalisation that belongs to pretrained weights.

    Attributes:
        mean: of each channel, of values in [0, 1].
        std: likewise.
    """

    mean: Channels
    std: Channels

    def __call__(self, pixels: Tensor) -> Tensor:
        """Give uint8 (batch, height, width, 1 or 3) as float32 (batch, 3, height, width) in channels-last layout."""
        mean, std = _on(pixels.device, self.mean), _on(pixels.device, self.std)
        normalised = (pixels.float() / 255 - mean) / std  # a grey channel becomes three here
        return normalised.permute(0, 3, 1, 2)


@lru_cache
def _on(device: torch.device, values: Channels) -> Tensor:
    """Put values onto the device once: a copy for every batch would make a GPU wait."""
    with torch.inference_mode(mode=False):
        return torch.tensor(values, device=device)


# The normalisation of ImageNet, which most pretrained weights share.
IMAGENET = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

# As the story's ToTensor gives images: without pretrained weights there is no normalisation that belongs to them.
UNIT_RANGE = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
