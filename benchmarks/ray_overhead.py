"""Measure replicates side by side as tasks of a Ray cluster on this machine against the processes of the local engine.

Both train the same replicates by as many workers, taking turns. What the start takes, of a turn that short, is told
apart from what each further replicate takes, which is what counts in a long run: the seconds from when as many have
ended as there are workers until all have, over how many ended in between. A ratio above 1 says that Ray takes longer.

    python -m benchmarks.ray_overhead
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from stages.data.splits import split_replicates
from stages.data.store import PREPARED, open_prepared, write_splits
from stages.errors import run_cli
from stages.files import scratch_directory
from stages.params import Params, load_params
from stages.prepare import prepare
from stages.signals import Signals
from stages.training.experiment import Experiment, open_experiment
from stages.training.finished import ENGINES
from stages.training.workers import SharedRows

ROOT = Path(__file__).parent.parent


class Turn(NamedTuple):
    """Seconds that a turn of an engine took, and that each replicate took once all workers were at work."""

    whole: float
    each: float


BY_REPLICATE, BY_TURN = attrgetter("each"), attrgetter("whole")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="how many (default: 1 2 4)")
    parser.add_argument("--rounds", type=int, default=3, help="turns that each engine takes (default: 3)")
    parser.add_argument("--replicates", type=int, default=3, help="of each worker in a turn, 2 at least (default: 3)")
    parser.add_argument("--images", type=int, default=320, help="training images of each (default: 320)")
    options = parser.parse_args()
    params = smaller(load_params(), options.images)
    seeds = list(range(options.replicates * max(options.workers)))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("stages").symlink_to(ROOT / "stages")  # where tasks look for it
        prepare(params.data, PREPARED)
        samples = open_prepared().samples
        write_splits(samples, *split_replicates(samples, params.data, seeds))
        experiment = open_experiment(params, seeds)
        print(
            f"{params.model.name}, {params.data.image_size} px, {options.replicates} replicates of each worker, "
            f"{options.images} images and {params.train.epochs} epoch each; seconds, medians of {options.rounds} turns"
        )
        for workers in options.workers:
            some = seeds[: options.replicates * workers]
            turns = [[turn(experiment, some, name, workers) for name in ENGINES] for _ in range(options.rounds)]
            report(workers, turns)
        os.chdir(ROOT)


def smaller(params: Params, images: int) -> Params:
    """Return params of a training that is short."""
    limits = params.data.max_images.model_copy(update={"train": images, "val": 64})
    data = params.data.model_copy(update={"max_images": limits})
    return params.model_copy(update={"data": data, "train": params.train.model_copy(update={"epochs": 1})})


def turn(experiment: Experiment, seeds: list[int], name: str, workers: int) -> Turn:
    """Train all replicates by one engine."""
    shared, ended = SharedRows(len(seeds), experiment.params.train.epochs), list[float]()
    with scratch_directory(Path("turn")) as folder:
        jobs = [
            experiment.job(str(seed), experiment.plan("baseline"), seed, folder / f"{seed}.safetensors", state="turn")
            for seed in seeds
        ]
        started = time.perf_counter()
        for _ in ENGINES[name].train_replicates(jobs, len(jobs), workers, Signals(), shared, lambda: None):
            ended.append(time.perf_counter() - started)
        whole = time.perf_counter() - started
        for job in jobs:
            job.state.unlink(missing_ok=True)
    return Turn(whole, (ended[-1] - ended[workers - 1]) / (len(seeds) - workers))


def report(workers: int, turns: list[list[Turn]]) -> None:
    """Print the medians of both engines, and of the ratios of turns that followed each other."""
    told = [
        f"{word} {' '.join(f'{name} {median:.1f}' for name, median in medians(turns, seconds).items())}, "
        f"{ratios(turns, seconds)}"
        for word, seconds in {"each further replicate": BY_REPLICATE, "the whole turn": BY_TURN}.items()
    ]
    print(f"{workers} worker{'' if workers == 1 else 's'}: {'; '.join(told)}", flush=True)


def medians(turns: list[list[Turn]], seconds: Callable[[Turn], float]) -> dict[str, float]:
    return {
        name: statistics.median(seconds(one) for one in of_engine)
        for name, of_engine in zip(ENGINES, zip(*turns, strict=True), strict=True)
    }


def ratios(turns: list[list[Turn]], seconds: Callable[[Turn], float]) -> str:
    """Return the median ratio of Ray to the local engine, with the lowest and the highest."""
    found = [seconds(ray) / seconds(local) for local, ray in turns]
    return f"ratio {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


if __name__ == "__main__":
    run_cli(main)
