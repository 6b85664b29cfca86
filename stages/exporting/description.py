"""What an exported network says of itself, in every format."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# Where it stands: in ONNX's metadata, in timm's config.json, and as a file of that name in torch.export's archive.
KEY = "differential_rates"

# The files of an exported folder. timm fixes the names of its two, and the hub that of the card.
CARD, RECORD = "README.md", "export.json"
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"
ONNX_FILE, TORCH_FILE = "model.onnx", "model.pt2"
FILES = {CARD, RECORD, TIMM_CONFIG, TIMM_WEIGHTS, ONNX_FILE, TORCH_FILE}
PIXELS, LOGITS = "pixels", "logits"  # what the ONNX graph takes and gives


class Exported(BaseModel):
    """What is to know beside the weights.

    Attributes:
        library: timm or torchvision.
        name: the network's, in that library.
        classes: names of the outputs.
        image_size: height and width in pixels.
        channels: 1 where images are turned gray first, 3 for RGB.
        mean: of each input channel, in [0, 1].
        std: likewise.
        checkpoint: SHA-256 of the file that it was made from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    library: Literal["timm", "torchvision"]
    name: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    image_size: Annotated[int, Field(ge=1, le=4096)]
    channels: Literal[1, 3]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    checkpoint: str
