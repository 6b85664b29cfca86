"""Put the metrics of one arm where a reviewer compares them; or show a reviewer what a change changed.

Without options, as a stage: writes metrics/review.json, the means over the replicates of the arm that `review.arm`
names, and nothing else, so that `dvc metrics diff` between two commits or experiments shows one arm against another.
With --against REV: prints, as Markdown, the verdict, the goal, and the metrics and parameters that differ from REV.
"""

import argparse

from stages.errors import run_cli
from stages.files import METRICS, write_json
from stages.metrics_files import read_evaluation, read_training_metrics
from stages.params import load_params


def main() -> None:
    """Write the review metrics, or print the review."""
    parser = argparse.ArgumentParser(prog="python -m stages.review", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", metavar="REV", help="a commit, branch, tag or experiment to compare with")
    parser.add_argument("--picture", metavar="URL", help="of metrics/differences.svg, where its reader finds it")
    options = parser.parse_args()
    revision = options.against
    if options.picture and revision is None:
        parser.error("--picture goes with --against")
    if revision is None:
        write_review_metrics()
    else:
        from stages.reporting.changes import review_against  # which the stage itself does not need
        from stages.reporting.tables import load_results

        print(review_against(revision, load_results(), load_params(), options.picture))


def write_review_metrics() -> None:
    """Write the metrics of the arm under review, means over the replicates."""
    arm = load_params().review.arm
    training, evaluation = read_training_metrics()[arm], read_evaluation()
    train, gap = evaluation.train.arm(arm).mean, evaluation.eval_mode.arm(arm).mean
    write_json(
        METRICS / "review.json",
        {
            **training.mean,
            "train_accuracy_eval_mode": train["accuracy"],
            "train_loss_eval_mode": train["loss"],
            "overfitting_gap_eval_mode": gap["overfitting_gap"],
            **{f"test_{metric}": value for metric, value in evaluation.test.arm(arm).mean.items()},
            "replicates_meeting_goal": evaluation.goal.arm(arm).replicates_meeting,
        },
    )


if __name__ == "__main__":
    run_cli(main)
