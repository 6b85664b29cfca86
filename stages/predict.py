"""Print the class probabilities of images, from a checkpoint alone."""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from stages.data.images import read_pixels
from stages.errors import run
from stages.models.checkpoint import load_checkpoint


def main() -> None:
    """Predict the images that the command names."""
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description=__doc__)
    parser.add_argument(
        "--checkpoint", type=Path, required=True, metavar="FILE", help="such as models/differential/seed-1.safetensors"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object for each image, one a line")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="a PNG, JPEG or other image file")
    options = parser.parse_args()

    checkpoint = load_checkpoint(options.checkpoint)
    asked = checkpoint.description
    pixels = np.stack([read_pixels(image, asked.image_size, asked.channels) for image in options.images])

    checkpoint.network.module.eval()
    with torch.inference_mode():
        probabilities = checkpoint.network.logits(torch.from_numpy(pixels)).softmax(1).tolist()

    if options.json:
        for image, row in zip(options.images, probabilities, strict=True):
            print(json.dumps({"image": str(image), "probabilities": dict(zip(asked.classes, row, strict=True))}))
    else:
        table = Table("image", *(f"[right]{name}" for name in asked.classes))
        for image, row in zip(options.images, probabilities, strict=True):
            table.add_row(str(image), *(f"{probability:.1%}" for probability in row))
        Console().print(table)


if __name__ == "__main__":
    run(main)
