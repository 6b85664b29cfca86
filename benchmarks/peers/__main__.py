"""Time the same job by the exercise's script, by timm's parts, by Lightning, by fastai and by this pipeline.

The job: train a network on image files with one rate, then with two, validating after each epoch. The peers decode the
files at every pass; this pipeline prepares them once, trains both arms, and evaluates them on test images too. All take
turns, each in a process of its own; the environment is made beside the project's. Writes benchmarks/peers.json and
prints a table of minimum, median and maximum.

    python -m benchmarks.peers --epochs 3 --turns 3
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

import torch
from elpv_dataset.utils import load_dataset
from PIL import Image

from stages.errors import UserError, run_cli
from stages.files import write_text
from stages.reporting.markdown import markdown_table

RESULTS = Path("benchmarks/peers.json")
ENVIRONMENT = Path(".venv-peers")
PEERS = {
    "exercise's script": "exercise",
    "timm": "timm_parts",
    "Lightning": "lightning_loop",
    "fastai": "fastai_learner",
    "ours": "ours",
}
NETWORKS = ("tf_efficientnet_lite0", "resnet18")
MEASURES = {
    "train_images_per_s": "training, images/s",
    "val_images_per_s": "validation, images/s",
    "whole_s": "whole job, s",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=5, help="of each arm (default: 5)")
    parser.add_argument("--turns", type=int, default=3, help="of every peer (default: 3)")
    parser.add_argument("--size", type=int, default=160, help="of the images, in pixels (default: 160)")
    parser.add_argument(
        "--images", type=int, default=700, help="for training; half as many for each other split (default: 700)"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS, help="(default: both)")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), help="(default: all)")
    options = parser.parse_args()
    python = make_environment()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        write_image_files(Path(folder), options.images)
        for network in options.networks:
            for turn in range(options.turns):
                for peer in options.peers:
                    job = [folder, network, str(options.epochs), str(options.size)]
                    found = run_peer(python, PEERS[peer], job)
                    runs.append({"network": network, "peer": peer, "turn": turn + 1, **found})
                    print(f"{network}, turn {turn + 1}, {peer}: {found}", flush=True)
                    content = {**vars(options), "machine": machine(), "runs": runs}
                    write_text(RESULTS, json.dumps(content, indent=2) + "\n")
    print_table(runs)


def make_environment() -> str:
    """Make an environment with this one's packages and the peers', once; return its Python."""
    python = ENVIRONMENT / "bin/python"
    wanted = Path(__file__).parent / "requirements.txt"
    ready = ENVIRONMENT / "requirements.txt"
    if not ready.exists() or ready.read_bytes() != wanted.read_bytes():
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT, with_pip=True)
        torch_pin = f"torch=={torch.__version__.partition('+')[0]}"
        pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", "constraints.txt"]
        for packages in ([torch_pin], ["-r", "requirements.txt", "-r", str(wanted)]):
            if subprocess.run([*pip, *packages], check=False).returncode:
                raise UserError(f"{wanted}: pip could not install it; what it said stands above")
        shutil.copy(wanted, ready)
    return str(python)


def write_image_files(folder: Path, images: int) -> None:
    """Write the default images as PNG files, train/CLASS/… and likewise, half as many for `val` and for `test`."""
    pixels, probabilities, _ = load_dataset()
    chosen = [number for number, probability in enumerate(probabilities) if probability in (0.0, 1.0)]
    for place, number in enumerate(chosen[: 2 * images]):
        split = ("train", "val", "train", "test")[place % 4]
        path = folder / split / ("defective" if probabilities[number] else "functional") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(path)


def run_peer(python: str, module: str, job: list[str]) -> dict[str, float]:
    """Run one peer in a process of its own; return its speeds and the seconds of the whole.

    Raises:
        UserError: it failed.
    """
    started = time.perf_counter()
    command = [python, "-m", f"benchmarks.peers.{module}", *job]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    whole = time.perf_counter() - started
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1]}")
    return {"whole_s": whole, **json.loads(done.stdout.strip().splitlines()[-1])}


def machine() -> dict[str, object]:
    """Return what the figures depend on."""
    found = torch.cpu.get_capabilities()
    return {
        "processor": found.get("cpu_name"),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
    }


def print_table(runs: list[dict[str, object]]) -> None:
    """Print minimum, median and maximum of each measure, as Markdown."""
    rows = []
    for network, peer in dict.fromkeys((run["network"], run["peer"]) for run in runs):
        of_peer = [run for run in runs if (run["network"], run["peer"]) == (network, peer)]
        cells = []
        for measure in MEASURES:
            values = [float(str(run[measure])) for run in of_peer]
            cells.append(f"{min(values):.1f}, {statistics.median(values):.1f}, {max(values):.1f}")
        rows.append([str(network), str(peer), *cells])
    print(markdown_table(["network", "", *MEASURES.values()], rows))


if __name__ == "__main__":
    run_cli(main)
