"""Train an arm in processes that are killed, over and over; say how often, and when.

python tests/kill_training.py ARM KILLS < wanted.json

It starts each run as DVC does, with the outputs of the last one deleted, lets it be killed by SIGKILL at a moment of
its own, and starts it again until it comes to its end; then the outputs must be those that are wanted: file -> SHA-256.
It counts the steps of all runs, to show that they go on and do not begin anew.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from stages import train
from stages.training import loop

STEPS = Path(".git/steps-taken")  # where it is in nobody's way


def main() -> None:
    arm, kills = sys.argv[1], int(sys.argv[2])
    wanted = json.load(sys.stdin)
    happened: list[str] = []
    ends = 0
    for moment, kill in moments():
        if len(happened) >= kills and not Path(".resume").exists():
            break
        remove_outputs(arm)
        process = os.fork()
        if process == 0:
            if len(happened) < kills:
                kill()
            count_steps()
            sys.argv = ["train", arm]
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # for as long as it lives
            train.main()
            os._exit(0)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            happened.append(moment)
            continue
        assert status == 0, f"the run ended with {os.waitstatus_to_exitcode(status)}"
        ends += 1
        found = outputs(arm)
        assert found == wanted, {name for name in {*found, *wanted} if found.get(name) != wanted.get(name)}
        assert not Path(".resume").exists()
    steps = STEPS.stat().st_size
    print(json.dumps({"kills": len(happened), "ends": ends, "steps": steps, "moments": sorted(set(happened))}))


def moments() -> Iterator[tuple[str, Callable[[], None]]]:
    """Return moments without end: at a random time, then before the n-th file is synced, or takes its place."""
    chance = random.Random(0)
    while True:
        for what in ("fsync", "replace"):
            for number in (1, 2, 5, 9):
                yield f"before {what} {number}", partial(kill_before, what, number)
                yield "at a random time", partial(kill_after, chance.uniform(0.05, 3.0))


def count_steps() -> None:
    """Leave a mark in a file after every step of this process."""
    real = loop.train_step

    def step(*arguments: Any, **settings: Any) -> Any:
        loss = real(*arguments, **settings)
        with STEPS.open("a") as file:
            file.write(".")
        return loss

    loop.train_step = step


def kill_before(what: str, number: int) -> None:
    """Kill this process before the n-th call of os.fsync or os.replace."""
    left, real = [number], getattr(os, what)

    def call(*arguments: object, **settings: object) -> object:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **settings)

    setattr(os, what, call)


def kill_after(seconds: float) -> None:
    """Kill this process after some time."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()


def places(arm: str) -> list[Path]:
    return [Path("models", arm), *(Path("metrics", f"{arm}{rest}") for rest in (".json", "_curves.csv", "_rates.csv"))]


def remove_outputs(arm: str) -> None:
    for path in places(arm):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def outputs(arm: str) -> dict[str, str]:
    files = [file for path in places(arm) for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


if __name__ == "__main__":
    main()
