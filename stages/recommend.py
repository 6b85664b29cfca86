"""Say which rates to take, from what searches have left under metrics/search/."""

import argparse
import json
import sys
from typing import Any

from stages.errors import UserError, run_cli
from stages.params import load_params
from stages.reporting.markdown import markdown_table
from stages.reporting.search_text import best_table, recommendation, searches_table, statements
from stages.reporting.terminal import print_search
from stages.search_files import (
    RepeatsAnswer,
    SearchAnswer,
    find_repeats,
    finished_studies,
    is_of_these_images,
    read_answer,
)


def main() -> None:
    """Print what the searches say."""
    parser = argparse.ArgumentParser(prog="python -m stages.recommend", description=__doc__)
    parser.add_argument("study", nargs="*", help="such as sgd; without one, all that have been run")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything as one JSON object, a key for each study")
    form.add_argument("--markdown", action="store_true", help="print it as Markdown, for a README or a review")
    options = parser.parse_args()
    names = options.study or finished_studies()
    if not names:
        raise UserError("metrics/search/ has no answer yet: run `make search`")
    found = {name: (find_answer(name), find_repeats(name)) for name in names}
    for name, (answer, _) in found.items():
        if not is_of_these_images(answer):
            print(f"warning: the search {name} was of other images: run `make search STUDY={name}`", file=sys.stderr)
    if options.json:
        print(json.dumps({name: as_json(*of_study) for name, of_study in found.items()}, indent=2))
    elif options.markdown:
        print("\n\n".join(as_markdown(*of_study) for of_study in found.values()))
    else:
        for number, of_study in enumerate(found.values()):
            if number:
                print()
            print_search(*of_study)


def find_answer(study: str) -> SearchAnswer:
    """Return what a search has left.

    Raises:
        UserError: the search has not run, there is no such study, or its answer is damaged.
    """
    if study not in finished_studies():
        load_params().search.study(study)  # a misspelt name needs no search
    return read_answer(study)


def as_json(answer: SearchAnswer, repeats: RepeatsAnswer | None) -> dict[str, Any]:
    """Return everything that a search says."""
    return {
        "recommendation": recommendation(answer, repeats),
        "statements": statements(answer, repeats),
        "answer": answer.model_dump(mode="json"),
        "repeats": repeats.model_dump(mode="json") if repeats else None,
    }


def as_markdown(answer: SearchAnswer, repeats: RepeatsAnswer | None) -> str:
    """Return what a search says as Markdown."""
    tables = [rows for rows in (best_table(answer), searches_table(repeats)) if rows]
    return "\n\n".join(
        [
            f"### Which rates to take, by the search `{answer.study}`",
            f"**{recommendation(answer, repeats)}**",
            *(markdown_table(list(rows[0]), [list(row.values()) for row in rows]) for rows in tables),
            "\n".join(f"- {sentence}" for sentence in statements(answer, repeats)),
        ]
    )


if __name__ == "__main__":
    run_cli(main)
