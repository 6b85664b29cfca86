"""Say what the trials of a study come to: tuning curves, the surface over both rates, and the best of each arm.

Writes metrics/search/STUDY/answer.json, curves.csv and surface.csv beside it, from trials.csv alone.
"""

import argparse

from stages.errors import run_cli
from stages.files import significant, write_csv, write_json
from stages.metrics_files import read_prepare_metrics
from stages.params import load_params
from stages.search_files import path_of, read_search_splits, read_table
from stages.tuning.answer import answer_study


def main() -> None:
    """Write the answer of one study."""
    parser = argparse.ArgumentParser(prog="python -m stages.search_answer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("study", help="one of search.studies in params.yaml, such as sgd")
    name: str = parser.parse_args().study
    params, trials = load_params(), read_table(name, "trials.csv")
    answer, curves, surface = answer_study(
        name, trials, params, read_search_splits(), len(read_prepare_metrics().classes)
    )
    write_json(path_of(name, "answer.json"), {}, exact=significant(answer.model_dump()))
    write_csv(path_of(name, "curves.csv"), curves, number="%.6g")
    write_csv(path_of(name, "surface.csv"), surface, number="%.6g")


if __name__ == "__main__":
    run_cli(main)
