"""Simulate how long a search takes on many workers, from replicate times that were measured.

A replicate takes a time drawn from benchmarks/replicate_seconds.csv, times a factor for a larger network. Workers take
the next one when they are free, as both engines do. Workers may fail; their replicate goes on elsewhere from its last
saved state. A Gaussian process draws in rounds, and a round waits for its last trial.

python -m benchmarks.scheduling --hours 1
"""

import argparse
import heapq
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from stages.tuning.draws import ROUND

MEASURED = Path(__file__).parent / "replicate_seconds.csv"
ARMS = 2
SEED = 1

Values = npt.NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1.0, help="that a replicate takes on average (default: 1)")
    parser.add_argument("--trials", type=int, default=1000, help="of each arm (default: 1000)")
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 64, 256], help="(default: 2 8 64 256)")
    parser.add_argument("--days-between-failures", type=float, default=30.0, help="of one worker (default: 30)")
    parser.add_argument("--save-every", type=float, default=5.0, help="minutes between two states (default: 5)")
    options = parser.parse_args()
    measured = pd.read_csv(MEASURED)["seconds"].to_numpy()
    random = np.random.default_rng(SEED)
    hours = options.hours * random.choice(measured / measured.mean(), size=ARMS * options.trials)
    spread = measured.std(ddof=1) / measured.mean()
    print(
        f"{len(measured)} measured replicates, relative standard deviation {spread:.1%}; {len(hours):,} are simulated"
    )
    print("| workers | independent draws: days | busy | with failures: days | lost hours | in rounds: days | busy |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for workers in options.workers:
        alone = finish(hours, workers)
        broken, lost = finish_with_failures(
            hours, workers, 24 * options.days_between_failures, options.save_every / 60, random
        )
        in_round = ARMS * ROUND
        rounds = sum(finish(hours[first : first + in_round], workers) for first in range(0, len(hours), in_round))
        print(
            f"| {workers} | {alone / 24:.2f} | {hours.sum() / workers / alone:.1%} | {broken / 24:.2f} | {lost:.0f} | "
            f"{rounds / 24:.2f} | {hours.sum() / workers / rounds:.1%} |"
        )


def finish(hours: Values, workers: int) -> float:
    """Return when the last replicate has ended, where each is begun as soon as a worker is free.

    Args:
        hours: that each takes, in the order in which they are begun.
        workers: how many there are.
    """
    free = [0.0] * workers
    for duration in hours:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def finish_with_failures(
    hours: Values, workers: int, between: float, save_every: float, random: np.random.Generator
) -> tuple[float, float]:
    """Return when the last replicate has ended, and the hours of training that were lost with failed workers.

    Args:
        hours: that each takes.
        workers: how many there are; one that fails is there again at once.
        between: two failures of one worker, hours on average.
        save_every: hours between two saved states; what came after the last is trained again.
        random: draws the failures.
    """
    free, lost, left = [0.0] * workers, 0.0, list(hours)[::-1]
    while left:
        duration, fails_after = left.pop(), random.exponential(between)
        if fails_after >= duration:
            heapq.heapreplace(free, free[0] + duration)
            continue
        saved = fails_after // save_every * save_every
        lost += fails_after - saved
        left.append(duration - saved)
        heapq.heapreplace(free, free[0] + fails_after)
    return max(free), lost


if __name__ == "__main__":
    main()
