"""How many trials a storage of the search keeps in a second, how large they are, and how long finding them takes.

python -m benchmarks.study_storage sqlite:////tmp/a-new-file.db
python -m benchmarks.study_storage postgresql+psycopg://me@host/a_new_database
"""

import argparse
import time
from contextlib import closing

import sqlalchemy

from stages.hashing import hash_bytes
from stages.params import load_params
from stages.tuning.draws import Scores, run_draws
from stages.tuning.records import METRICS_OF_TRIAL, TrialResult
from stages.tuning.sharing import open_trials
from stages.tuning.space import Draw, search_arms
from stages.tuning.storage import file_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("storage", help="as search.storage, empty")
    parser.add_argument("--trials", type=int, default=500, help="of each arm")
    options = parser.parse_args()
    params = load_params()
    study = params.search.study("sgd")
    drawn: list[Draw] = []

    def keep(draws: list[Draw]) -> Scores:
        drawn.extend(draws)
        return {(draw.arm, draw.number): 1.0 for draw in draws}

    run_draws(params, study, search_arms(study), options.trials, keep)
    metrics = dict.fromkeys(METRICS_OF_TRIAL, 0.123456789012)
    with closing(open_trials(options.storage, "sgd", search_arms(study), "val_loss")) as log:
        empty, begun = size_of(options.storage), clocks()
        for draw in drawn:
            if log.claim(draw, decided_by(draw), study):
                log.add(TrialResult(draw, "finished", metrics), decided_by(draw), study)
        kept = clocks()
        assert all(log.known(draw, decided_by(draw)) for draw in drawn)
        found, size = clocks(), size_of(options.storage)
    count = len(drawn)
    for title, before, after in (("kept", begun, kept), ("found", kept, found)):
        wall, processor = (count / (end - start) for start, end in zip(before, after, strict=True))
        print(f"{count} trials: {wall:.0f} {title} a second, {processor:.0f} a second of this process's processor")
    print(f"{(size - empty) / count / 1000:.1f} kB each")


def clocks() -> tuple[float, float]:
    """Return the time on the clock, and the processor's that this process has had."""
    return time.perf_counter(), time.process_time()


def decided_by(draw: Draw) -> list[str]:
    return [hash_bytes(draw.label.encode())]


def size_of(storage: str) -> int:
    file = file_of(storage)
    if file:
        return file.stat().st_size
    with sqlalchemy.create_engine(storage).connect() as connection:
        return int(connection.execute(sqlalchemy.text("SELECT pg_database_size(current_database())")).scalar_one())


if __name__ == "__main__":
    main()
