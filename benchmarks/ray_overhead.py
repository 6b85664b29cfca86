"""Measure replicates side by side as tasks of a Ray cluster on this machine against the processes of the local engine.

Both train the same replicates by as many workers, taking turns, each from its start until its last worker has ended. A
ratio above 1 says that Ray takes longer.

    python -m benchmarks.ray_overhead
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from stages.data.splits import split_replicates
from stages.data.store import PREPARED, open_prepared, write_splits
from stages.errors import run_cli
from stages.files import scratch_directory
from stages.params import Params, load_params
from stages.prepare import prepare
from stages.signals import Signals
from stages.training.experiment import Experiment, open_experiment
from stages.training.finished import ENGINES
from stages.training.replicate_progress import RUNNING
from stages.training.workers import SharedRows

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="how many (default: 1 2 4)")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each engine takes (default: 3)")
    parser.add_argument("--replicates", type=int, default=4, help="that are trained in a turn (default: 4)")
    parser.add_argument("--images", type=int, default=320, help="training images of each (default: 320)")
    options = parser.parse_args()
    params = smaller(load_params(), options.images)
    seeds = list(range(options.replicates))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("stages").symlink_to(ROOT / "stages")  # where tasks look for it
        prepare(params.data, PREPARED)
        samples = open_prepared().samples
        write_splits(samples, *split_replicates(samples, params.data, seeds))
        experiment = open_experiment(params, seeds)
        print(
            f"{params.model.name}, {params.data.image_size} px, {options.replicates} replicates of {options.images} "
            f"images, {params.train.epochs} epochs; seconds, medians of {options.rounds} turns, the first until a "
            f"replicate begins"
        )
        for workers in options.workers:
            turns = [[turn(experiment, seeds, name, workers) for name in ENGINES] for _ in range(options.rounds)]
            report(workers, turns)
        os.chdir(ROOT)


def smaller(params: Params, images: int) -> Params:
    """Return params of a training that is short."""
    limits = params.data.max_images.model_copy(update={"train": images, "val": 64})
    data = params.data.model_copy(update={"max_images": limits})
    return params.model_copy(update={"data": data, "train": params.train.model_copy(update={"epochs": 1})})


def turn(experiment: Experiment, seeds: list[int], name: str, workers: int) -> tuple[float, float]:
    """Train all replicates by one engine; return the seconds until the first began, and until all had ended."""
    shared, began = SharedRows(len(seeds), experiment.params.train.epochs), list[float]()

    def show() -> None:
        if not began and shared.rows[:, RUNNING].any():
            began.append(time.perf_counter())

    with scratch_directory(Path("turn")) as folder:
        jobs = [
            experiment.job(str(seed), experiment.plan("baseline"), seed, folder / f"{seed}.safetensors", state="turn")
            for seed in seeds
        ]
        started = time.perf_counter()
        for _ in ENGINES[name].train_replicates(jobs, len(jobs), workers, Signals(), shared, show):
            pass
        ended = time.perf_counter()
        for job in jobs:
            job.state.unlink(missing_ok=True)
    return began[0] - started, ended - started


def report(workers: int, turns: list[list[tuple[float, float]]]) -> None:
    """Print the medians of both engines, and of the ratios of turns that followed each other."""
    median_of = {
        name: [statistics.median(engine[column] for engine in columns) for column in (0, 1)]
        for name, columns in zip(ENGINES, zip(*turns, strict=True), strict=True)
    }
    shown = ", ".join(f"{name} {start:.1f} of {whole:.1f}" for name, (start, whole) in median_of.items())
    print(f"{workers} workers: {shown}; {ratios(turns, lambda one: one[1])}, without the start {ratios(turns, lasted)}")


def lasted(one: tuple[float, float]) -> float:
    return one[1] - one[0]


def ratios(turns: list[list[tuple[float, float]]], seconds: Callable[[tuple[float, float]], float]) -> str:
    """Return the median ratio of Ray to the local engine, with the lowest and the highest."""
    found = [seconds(ray) / seconds(local) for local, ray in turns]
    return f"ratio {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


if __name__ == "__main__":
    run_cli(main)
