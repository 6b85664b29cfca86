"""Write the page of a search for people, report/search-STUDY.html, and two pictures under metrics/search/STUDY/.

The page answers first and explains after: which rates to take, the best of each arm, the tuning curves, the surfaces,
the independent searches, every trial, and how all was made. It opens from disk, asks the network for nothing, and shows
its charts also where scripts are switched off.
"""

import argparse
from pathlib import Path

from stages.errors import run_cli
from stages.files import write_text
from stages.params import load_params
from stages.reporting.charts import as_svg
from stages.reporting.provenance import provenance
from stages.reporting.search_page import SearchFiles, objective_curves, objective_surface, render_search_page
from stages.reporting.search_text import recommendation
from stages.search_files import find_repeats, path_of, read_answer, read_table


def main() -> None:
    """Write the page and the pictures of one study."""
    parser = argparse.ArgumentParser(prog="python -m stages.search_report", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("study", help="one of search.studies in params.yaml, such as sgd")
    name: str = parser.parse_args().study
    study = load_params().search.study(name)
    files = read_search(name)
    page = page_of(name)
    write_text(page, render_search_page(files, study, provenance()))
    curves = objective_curves(files).properties(width=460, height=240)
    write_text(path_of(name, "curves.svg"), as_svg(curves))
    write_text(path_of(name, "surface.svg"), as_svg(objective_surface(files).properties(width=460, height=360)))
    print(recommendation(files.answer, files.repeats))
    print(f"wrote {page}")


def page_of(study: str) -> Path:
    """Return the page of a study."""
    return Path(f"report/search-{study}.html")


def read_search(name: str) -> SearchFiles:
    """Read what a search has left.

    Raises:
        UserError: a file is missing or damaged.
    """
    answer = read_answer(name)
    return SearchFiles(
        answer=answer,
        repeats=find_repeats(name),
        trials=read_table(name, "trials.csv"),
        curves=read_table(name, "curves.csv") if answer.curves else None,
        surface=read_table(name, "surface.csv") if answer.surface else None,  # else the file is empty
    )


if __name__ == "__main__":
    run_cli(main)
