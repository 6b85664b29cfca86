"""Put the metrics of one arm where a reviewer compares them; or show a reviewer what a change changed.

Without options, as a stage: writes metrics/review.json, the means over the replicates of the arm that `review.arm`
names, and nothing else, so that `dvc metrics diff` between two commits or experiments shows one arm against another.
With --against REV: prints, as Markdown, the verdict, the goal, and the metrics and parameters that differ from REV.
"""

import argparse

from stages.errors import run_cli
from stages.files import METRICS, write_json
from stages.metrics_files import read_evaluation, read_training_metrics
from stages.params import load_params, read_params
from stages.unchanged import changed_since_run, other_params, warn_of_changed_params, warn_of_revision


def main() -> None:
    """Write the review metrics, or print the review."""
    parser = argparse.ArgumentParser(prog="python -m stages.review", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--against", metavar="REV", help="a commit, branch, tag or experiment to compare with")
    parser.add_argument("--picture", metavar="URL", help="of metrics/differences.svg, where its reader finds it")
    options = parser.parse_args()
    if options.picture and options.against is None:
        parser.error("--picture goes with --against")
    if options.against is None:
        write_review_metrics()
    else:
        print_review(options.against, options.picture)


def print_review(revision: str, picture: str | None) -> None:
    """Print what differs from a revision. The stage itself needs nothing of this."""
    from dvc.utils.flatten import flatten

    from stages.evaluation.changes import judge_changes
    from stages.reporting.changes import review_against
    from stages.reporting.csv_tables import read_table
    from stages.reporting.provenance import read_output_digests
    from stages.reporting.revision import groups_of_images, read_revision, what_differs
    from stages.reporting.tables import load_results

    warn_of_changed_params(changed_since_run())
    results, arm, before = load_results(), load_params().review.arm, read_revision(revision)
    warn_of_revision(revision, other_params(before.lock, before.written))
    before_arm = before.reviewed_arm(arm)
    differs = what_differs(before, before_arm, read_output_digests(), results.training[arm].environment)
    then, judged = before.predictions[before_arm], {}
    if then is not None and not differs:
        now = read_table(METRICS / f"{arm}_predictions.csv")
        judged = judge_changes(then, now, groups_of_images() if results.prepare.groups else {})
    print(review_against(before, results, flatten(read_params()), differs, judged, picture))


def write_review_metrics() -> None:
    """Write the metrics of the arm under review that people compare, means over the replicates.

    They are few, so that DVC's tables fit a screen; all the others stand in metrics/evaluation.json.
    """
    arm = load_params().review.arm
    training, evaluation = read_training_metrics()[arm].mean, read_evaluation()
    decides = evaluation.verdict.metric
    write_json(
        METRICS / "review.json",
        {
            "val_accuracy": training["val_accuracy"],
            "val_loss": evaluation.val.arm(arm).mean["loss"],
            "gap": training["overfitting_gap"],
            f"test_{decides}": evaluation.test.arm(arm).mean[decides],
            "meeting_goal": evaluation.goal.arm(arm).replicates_meeting,
        },
    )


if __name__ == "__main__":
    run_cli(main)
