"""Put the metrics of one arm where a reviewer compares them; or tell a reviewer what a change changed.

Without options, as a stage: writes metrics/review.json, the means over the replicates of the arm that `review.arm`
names, and nothing else, so that `dvc metrics diff` between two commits or experiments shows one arm against another.
With --against REV: prints, as Markdown, the verdict, the goal, and the metrics and parameters that differ from REV.
"""

import argparse
from pathlib import Path

from stages.errors import run
from stages.files import read_json, write_json
from stages.params import load_params

METRICS = Path("metrics")
REVIEWED = METRICS / "review.json"


def main() -> None:
    """Write the review metrics, or print the review."""
    parser = argparse.ArgumentParser(prog="python -m stages.review", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", metavar="REV", help="a commit, branch, tag or experiment to compare with")
    revision = parser.parse_args().against
    if revision is None:
        write_review_metrics()
    else:
        from stages.reporting.changes import review_against  # which the stage itself does not need

        print(review_against(revision))


def write_review_metrics() -> None:
    """Write the metrics of the arm under review."""
    arm = load_params().review.arm
    training = read_json(METRICS / f"{arm}.json")
    evaluation = read_json(METRICS / "evaluation.json")

    write_json(
        REVIEWED,
        {
            **training["mean"],
            **{f"test_{figure}": value for figure, value in evaluation["test"][arm]["mean"].items()},
            "replicates_that_met_the_goal": evaluation["goal"][arm]["replicates_met"],
        },
    )


if __name__ == "__main__":
    run(main)
