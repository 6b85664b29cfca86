"""Put the metrics of one arm where a reviewer compares them.

Writes metrics/review.json: the means over the replicates of the arm that `review.arm` names, and nothing else, so
that `dvc metrics diff` between two commits or experiments shows one arm against another.
"""

import argparse
from pathlib import Path

from stages.errors import run
from stages.files import read_json, write_json
from stages.params import load_params

METRICS = Path("metrics")


def main() -> None:
    """Write the review metrics."""
    argparse.ArgumentParser(prog="python -m stages.review", description=__doc__).parse_args()
    arm = load_params().review.arm
    training = read_json(METRICS / f"{arm}.json")
    evaluation = read_json(METRICS / "evaluation.json")

    write_json(
        METRICS / "review.json",
        {
            **training["mean"],
            **{f"test_{figure}": value for figure, value in evaluation["test"][arm]["mean"].items()},
            "replicates_that_met_the_goal": evaluation["goal"][arm]["replicates_met"],
        },
    )


if __name__ == "__main__":
    run(main)
