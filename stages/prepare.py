"""Decode, resize and split the images once, so that training never does.

Writes data/prepared/ (the array and the table of samples) and metrics/prepare.json.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from stages.data.images import to_pixels
from stages.data.sources import ImageSet, load_source
from stages.data.splits import split_samples
from stages.data.store import PREPARED, write_prepared
from stages.errors import run
from stages.files import write_json
from stages.params import PARTS, Data, load_params
from stages.progress import each

METRICS = Path("metrics/prepare.json")


def main() -> None:
    """Prepare the images that params.yaml names."""
    argparse.ArgumentParser(prog="python -m stages.prepare", description=__doc__).parse_args()
    data = load_params().data

    samples, source = prepare(data)

    counts: dict[str, dict[str, int]] = {
        part: _count(samples[samples["part"] == part], source.classes) for part in PARTS
    }
    write_json(METRICS, {"images": len(samples), "image_size": data.image_size, "channels": source.channels, **counts})
    print(f"prepared {len(samples)} images at {data.image_size} px:", end=" ")
    print(", ".join(f"{counts[part]['all']} {part}" for part in PARTS))


def prepare(data: Data, folder: Path = PREPARED) -> tuple[pd.DataFrame, ImageSet]:
    """Write the prepared images into a folder; give the table of samples and the source."""
    source = load_source(data)
    samples = source.samples.assign(
        **{"class": [source.classes[label] for label in source.samples["label"]]},
        part=split_samples(source.samples, source.classes, data.split, data.seed),
    )
    write_prepared(
        samples,
        pixels=lambda row: to_pixels(source.open(row), data.image_size, source.channels),
        shape=(data.image_size, data.image_size, source.channels),
        progress=partial(each, what="preparing", unit=" images"),
        folder=folder,
    )
    return samples, source


def _count(samples: pd.DataFrame, classes: list[str]) -> dict[str, int]:
    """Images in all and of each class."""
    return {"all": len(samples), **{name: int((samples["class"] == name).sum()) for name in classes}}


if __name__ == "__main__":
    run(main)
