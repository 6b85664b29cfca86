"""Write one self-contained page for people, report/index.html, and two pictures under metrics/.

The page answers first and explains after: the verdict, every difference, the goal, the curves, the rates and what they
did to each layer group, where the arms err and disagree, all numbers, and what it was made from. It opens from disk,
asks the network for nothing, and shows its charts also where scripts are switched off.
"""

import argparse

from stages.data.store import open_prepared
from stages.errors import run_cli
from stages.files import METRICS, write_text
from stages.params import load_params
from stages.reporting.charts import as_svg, learning_curves, metric_differences, side_by_side
from stages.reporting.page import read_result_files, render_page
from stages.reporting.tables import PAGE, load_results, verdict_sentence
from stages.unchanged import check_same_run


def main() -> None:
    """Write the page and the picture."""
    argparse.ArgumentParser(prog="python -m stages.report", description=__doc__).parse_args()
    params, results, files = load_params(), load_results(), read_result_files()
    check_same_run(params, "report")
    write_text(PAGE, render_page(results, files, open_prepared(), params))
    accuracy = [learning_curves(files.curves, split, "accuracy") for split in ("train", "val")]
    write_text(METRICS / "curves.svg", as_svg(side_by_side(accuracy)))
    picture = metric_differences(results.evaluation).properties(width=460, height=190)
    write_text(METRICS / "differences.svg", as_svg(picture))
    print(verdict_sentence(results))
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    run_cli(main)
