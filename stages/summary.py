"""Print the result of the experiment as a table, from what the stages left under metrics/."""

import argparse
import json

from rich.console import Console
from rich.table import Table

from stages.errors import UserError, run
from stages.params import ARMS
from stages.reporting.results import PAGE, Results, averaged_over, goal_sentence, load_results, result_table, verdict


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(prog="python -m stages.summary", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the figures behind the table as one JSON object")
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown, for a README or a review")
    parser.add_argument(
        "--fail-unless-goal", action="store_true", help="end with code 1 where the differential arm misses the goal"
    )
    options = parser.parse_args()
    results = load_results()

    if options.json:
        print(json.dumps({**results.training, "evaluation": results.evaluation}, indent=2))
    elif options.markdown:
        print(as_markdown(results))
    else:
        print_for_people(results)
    if options.fail_unless_goal and not results.evaluation["goal"]["differential"]["met"]:
        raise UserError(f"goal: {goal_sentence(results)}")


def as_markdown(results: Results) -> str:
    """Give the result table as Markdown."""
    columns = ["figure", *ARMS, "difference"]
    lines = [["", *columns[1:]], ["---"] + ["---:"] * (len(columns) - 1)]
    lines += [[row[column] for column in columns] for row in result_table(results)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def print_for_people(results: Results) -> None:
    """Print the verdict, the table, and where the page is."""
    console = Console()
    console.print(verdict(results), soft_wrap=True, highlight=False, style="bold")
    table = Table(title=averaged_over(results), title_justify="left")
    table.add_column("")
    for column in (*ARMS, "difference"):
        table.add_column(column, justify="right")
    for row in result_table(results):
        table.add_row(row["figure"], *(_coloured(row[column]) for column in (*ARMS, "difference")))
    console.print(table)
    console.print(goal_sentence(results), soft_wrap=True, highlight=False)
    if PAGE.exists():
        console.print(f"The whole report: {PAGE}", soft_wrap=True)


def _coloured(cell: str) -> str:
    return {"met": "[green]met", "not met": "[red]not met"}.get(cell, cell)


if __name__ == "__main__":
    run(main)
