"""Print the class probabilities of images, from a checkpoint alone."""

import argparse
import json
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.data.images import read_pixels
from stages.errors import run_cli
from stages.models.checkpoint import Checkpoint, load_checkpoint

MAX_SHOWN = 10  # classes of each image in the table; JSON has them all


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
    predictions = [(str(image), predict(checkpoint, image)) for image in options.images]

    if options.json:
        for image, probabilities in predictions:
            print(json.dumps({"image": image, "probabilities": probabilities}))
    else:
        print_for_people(predictions)


def predict(checkpoint: Checkpoint, image: Path) -> dict[str, float]:
    """Return the probability of each class.

    Raises:
        UserError: the file is no image.
    """
    wanted = checkpoint.description
    pixels = torch.from_numpy(read_pixels(image, wanted.image_size, wanted.channels).copy())[None]
    checkpoint.network.module.eval()
    with torch.inference_mode():
        probabilities = checkpoint.network.logits(pixels).softmax(1)[0].tolist()
    return dict(zip(wanted.classes, probabilities, strict=True))


def print_for_people(predictions: list[tuple[str, dict[str, float]]]) -> None:
    """Print a table with the most probable classes of each image first. Names are text, never markup."""
    table = Table("image", "class")
    table.add_column("probability", justify="right", no_wrap=True)
    for image, probabilities in predictions:
        likely = sorted(probabilities.items(), key=lambda entry: -entry[1])[:MAX_SHOWN]
        for place, (name, probability) in enumerate(likely):
            shown = "" if place else image
            table.add_row(Text(shown), Text(name), f"{probability:.1%}", end_section=place == len(likely) - 1)
    Console().print(table)


if __name__ == "__main__":
    run_cli(main)
