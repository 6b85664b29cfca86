"""What has to be known of a network beside its weights, in whatever file they lie. It needs no torch."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class NetworkDescription(BaseModel):
    """Which network it is, what its outputs are called, and how images come to it.

    Attributes:
        library: timm or torchvision.
        name: the network's, in that library.
        classes: names of the outputs.
        image_size: height and width in pixels.
        channels: 1 where images are turned gray first, 3 for RGB.
        mean: of each input channel, in [0, 1].
        std: likewise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: Literal["timm", "torchvision"]
    name: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    image_size: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
