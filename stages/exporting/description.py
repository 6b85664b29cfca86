"""What an exported network says of itself, in every format."""

from stages.models.description import NetworkDescription

# Where it stands: in ONNX's metadata, in timm's config.json, and as a file of that name in torch.export's archive.
KEY = "differential_rates"

# The files of an exported folder. timm fixes the names of its two, and the hub that of the card.
CARD, RECORD = "README.md", "export.json"
TIMM_CONFIG, TIMM_WEIGHTS = "config.json", "model.safetensors"
ONNX_FILE, TORCH_FILE = "model.onnx", "model.pt2"
FILES = {CARD, RECORD, TIMM_CONFIG, TIMM_WEIGHTS, ONNX_FILE, TORCH_FILE}
PIXELS, LOGITS = "pixels", "logits"  # what the ONNX graph takes and gives


class Exported(NetworkDescription):
    """What is to know beside the weights.

    Attributes:
        checkpoint: SHA-256 of the file that it was made from.
    """

    checkpoint: str
