"""How fast `prepare` reads a folder of JPEGs, and in how much memory, beside torchvision's ImageFolder and DataLoader.

Each pass runs in a process of its own over the same generated files; both use every core. `prepare` also checks every
image, hashes it, looks for copies and writes the array; the other pass decodes, resizes and throws away. The last line
prepares once more after one image has changed.

python -m benchmarks.prepare_speed --count 100000
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from stages.params import load_params
from stages.prepare import prepare

CLASSES = 10
SIZE = 128  # pixels, of what the network sees
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.prepare_speed", description=__doc__)
    parser.add_argument("--count", type=int, default=100_000, help="images; default 100000")
    parser.add_argument("--width", type=int, default=500, help="pixels of each; default 500, as ImageNet's mean")
    parser.add_argument("--height", type=int, default=375, help="pixels of each; default 375")
    parser.add_argument("--pass", dest="which", choices=PASSES, help="one pass over a folder, by itself")
    parser.add_argument("--folder", type=Path, help="where the images are; default a temporary folder")
    options = parser.parse_args()
    if options.which:
        PASSES[options.which](options.folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "images"
        make_images(folder, options.count, (options.width, options.height))
        print(f"{options.count:,} JPEGs of {options.width} x {options.height}, {CORES} cores")
        for which in PASSES:
            show(which, options.count, *measure(which, folder))
        next(folder.rglob("*.jpg")).write_bytes(jpeg(options.count, (options.width, options.height)))
        show("ours, one image changed", options.count, *measure("ours", folder))


def show(what: str, count: int, seconds: float, peak: float) -> None:
    print(f"{what:>24}: {seconds:7.1f} s, {count / seconds / CORES:6.0f} images/s a core, peak {peak:6.0f} MiB")


def make_images(folder: Path, count: int, size: tuple[int, int]) -> None:
    """Write images of smooth noise, each unlike the others."""
    for label in range(CLASSES):
        (folder / f"class-{label}").mkdir(parents=True)
    with ProcessPoolExecutor(CORES) as processes:
        list(processes.map(partial(make_image, folder=folder, size=size), range(count), chunksize=256))


def make_image(number: int, folder: Path, size: tuple[int, int]) -> None:
    (folder / f"class-{number % CLASSES}" / f"{number:07}.jpg").write_bytes(jpeg(number, size))


def jpeg(number: int, size: tuple[int, int]) -> bytes:
    coarse = np.random.default_rng(number).integers(256, size=(18, 24, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(content, "JPEG", quality=90)
    return content.getvalue()


def measure(which: str, folder: Path) -> tuple[float, float]:
    """Run a pass in a process of its own; give its seconds and the peak of the memory of it and its children, in MiB.

    Pages that several processes share are counted once (PSS), those of mapped files only while they are mapped.
    """
    started, peak = time.perf_counter(), 0.0
    command = [sys.executable, "-m", "benchmarks.prepare_speed", "--pass", which, "--folder", str(folder)]
    with subprocess.Popen(command) as process:
        whole = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, sum(map(proportional, [whole, *children(whole)])))
            time.sleep(2)  # to look costs time itself
    assert process.returncode == 0
    return time.perf_counter() - started, peak / 2**20


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:  # it has just ended
        return []


def proportional(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def ours(folder: Path) -> None:
    data = load_params().data.model_copy(update={"source": "folder", "path": str(folder), "image_size": SIZE})
    prepare(data, folder.with_name("prepared"))


def image_folder(folder: Path) -> None:
    from torch.utils.data import DataLoader

    from stages.libraries import torchvision

    v1 = torchvision.transforms
    transform = v1.Compose([v1.Resize((SIZE, SIZE)), v1.PILToTensor()])
    for _ in DataLoader(torchvision.datasets.ImageFolder(folder, transform), batch_size=256, num_workers=CORES):
        pass


PASSES = {"ours": ours, "ImageFolder": image_folder}


if __name__ == "__main__":
    main()
