"""How time and memory grow with images, classes, replicates, workers and image size.

A small network (timm's test_efficientnet, whose own arithmetic is cheap, so that the rest shows) goes through the whole
pipeline in a clone, one epoch, on generated images. One thing grows at a time from the same beginning. Writes
benchmarks/growth.csv and benchmarks/growth.svg, and prints a table.

    python -m benchmarks.growth
"""

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import altair as alt
import numpy as np
import pandas as pd
import psutil
from dvc.utils.serialize import modify_yaml
from PIL import Image

from benchmarks.prepare_speed import children, proportional
from stages.errors import run_cli
from stages.files import write_csv, write_text
from stages.reporting.charts import as_svg
from stages.reporting.markdown import markdown_table

TABLE, PICTURE = Path("benchmarks/growth.csv"), Path("benchmarks/growth.svg")
STAGES = ("prepare", "split", "train baseline", "train differential", "evaluate", "report")
LOOK_EVERY = 0.5  # seconds, at the memory


@dataclass(frozen=True)
class Experiment:
    """What may grow.

    Attributes:
        images: in all splits; half of them are for training.
        classes: equally large.
        replicates: of each arm.
        workers: at a time.
        image_size: height and width in pixels.
    """

    images: int = 4_000
    classes: int = 10
    replicates: int = 3
    workers: int = 2
    image_size: int = 64


GROWTH = {
    "images": (1_000, 4_000, 10_000, 30_000, 100_000),
    "classes": (2, 10, 100, 1_000),
    "replicates": (3, 10, 30),
    "workers": (1, 2, 4),
    "image_size": (64, 128, 256),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=GROWTH, default=list(GROWTH), help="what grows (default: all)")
    parser.add_argument(
        "--table", action="store_true", help="draw and print what has been measured, and measure nothing"
    )
    options = parser.parse_args()
    if not options.table:
        earlier = pd.read_csv(TABLE).to_dict("records") if TABLE.exists() else []
        rows: list[dict[str, object]] = [{**row} for row in earlier if row["what"] not in options.only]  # type: ignore[dict-item]
        for what in options.only:
            for value in GROWTH[what]:
                rows += [{"what": what, "value": value, **row} for row in run(replace(Experiment(), **{what: value}))]
                write_csv(TABLE, pd.DataFrame(rows))
    table = pd.read_csv(TABLE)
    write_text(PICTURE, as_svg(picture(table)))
    print_table(table)


def run(experiment: Experiment) -> list[dict[str, object]]:
    """Run the pipeline; return seconds and peak memory of each stage."""
    print(asdict(experiment), file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        clone, images = Path(temporary) / "clone", Path(temporary) / "images"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        make_images(images, experiment)
        with modify_yaml(str(clone / "params.yaml")) as params:
            params["data"].update(source="folder", path=str(images), image_size=experiment.image_size, allow_leaks=True)
            params["data"].update(development=0.0, folds=None)
            params["data"]["split"].update(train=0.5, val=0.25, test=0.25)
            params["model"].update(name="test_efficientnet", weights="none")
            params["lr"].update(uniform=0.001, backbone=0.0001, head=0.001)
            seeds = list(range(1, experiment.replicates + 1))
            params["train"].update(epochs=1, seeds=seeds, workers=experiment.workers)
            params["evidence"].update(looks=None)
        return [{"stage": stage, **measure(stage, clone)} for stage in STAGES]


def make_images(folder: Path, experiment: Experiment) -> None:
    """Write PNG files of noise, at the size that is asked for."""
    random = np.random.default_rng(0)
    for number in range(experiment.images):
        path = folder / f"class-{number % experiment.classes:04}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = random.integers(256, size=(8, 8, 3), dtype=np.uint8)
        size = (experiment.image_size, experiment.image_size)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, compress_level=1)


def measure(stage: str, clone: Path) -> dict[str, float]:
    """Run a stage in a process of its own; return its seconds, and the peak of the memory of all its processes in MiB.

    Pages that several processes share are counted once; so are those of the mapped images that happen to be read.
    """
    started, peak = time.perf_counter(), 0.0
    command = [sys.executable, "-m", *f"stages.{stage}".split()]
    with subprocess.Popen(command, cwd=clone, stdout=subprocess.DEVNULL) as process:
        whole = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, sum(map(proportional, [whole, *children(whole)])))
            time.sleep(LOOK_EVERY)
    if process.returncode:
        raise SystemExit(f"{stage} failed")
    return {"seconds": round(time.perf_counter() - started, 1), "peak_mib": round(peak / 2**20)}


def picture(table: pd.DataFrame) -> "alt.VConcatChart":
    """Draw seconds and memory of each stage over what grows."""
    rows = []
    for measured, title in (("seconds", "seconds"), ("peak_mib", "peak memory, MiB")):
        charts = [
            alt.Chart(table[table["what"] == what], title=what.replace("_", " "), width=150, height=130)
            .mark_line(point=True)
            .encode(
                x=alt.X("value:Q", title=None, scale=alt.Scale(type="log"), axis=alt.Axis(values=list(GROWTH[what]))),
                y=alt.Y(f"{measured}:Q", title=title, scale=alt.Scale(type="log")),
                color=alt.Color("stage:N", title=None, sort=list(STAGES)),
            )
            for what in GROWTH
            if what in set(table["what"])
        ]
        rows.append(alt.hconcat(*charts))
    return alt.vconcat(*rows)


def print_table(table: pd.DataFrame) -> None:
    """Print seconds and memory, a row for each experiment, as Markdown."""
    rows = []
    grown = [(str(what), int(value)) for what, value in zip(table["what"], table["value"], strict=True)]
    for what, value in dict.fromkeys(grown):
        by_stage = table[(table["what"] == what) & (table["value"] == value)].set_index("stage")
        seconds, peak = by_stage["seconds"].to_dict(), by_stage["peak_mib"].to_dict()
        # What was measured before there was a stage has no number of it.
        cells = [f"{seconds[stage]:.1f} / {peak[stage]:.0f}" if stage in seconds else "" for stage in STAGES]
        rows.append([f"{what.replace('_', ' ')} {value:,}", *cells])
    print(markdown_table(["", *(f"{stage}, s / MiB" for stage in STAGES)], rows))


if __name__ == "__main__":
    run_cli(main)
