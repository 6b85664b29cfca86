"""Print the result of the experiment as a table, from what the stages left under metrics/."""

import argparse
import json
from typing import Any

from rich.console import Console
from rich.table import Table

from stages.errors import UserError, run_cli
from stages.metrics_files import MIN_FOR_VERDICT, Record
from stages.params import ARMS
from stages.reporting.markdown import markdown_table
from stages.reporting.search_text import search_lines
from stages.reporting.tables import (
    PAGE,
    Results,
    averaged_over,
    conditions_sentence,
    environment_sentence,
    goal_sentence,
    guessing_sentence,
    load_results,
    looks_sentence,
    looks_table,
    near_duplicates_sentence,
    plan_sentence,
    plan_table,
    replicates_for,
    result_table,
    verdict_sentence,
)
from stages.reporting.terminal import as_rich
from stages.unchanged import changed_since_run, warn_of_changed_params

COLUMNS = (*ARMS, "difference")


def main() -> None:
    """Print the result."""
    parser = argparse.ArgumentParser(prog="python -m stages.summary", description=__doc__)
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help="print the metrics behind the table as one JSON object, and which parameters have been changed since",
    )
    form.add_argument(
        "--environment",
        action="store_true",
        help="print instead whether the arms were trained with other processors or versions; nothing where not",
    )
    form.add_argument("--markdown", action="store_true", help="print the table as Markdown, for a README or a review")
    parser.add_argument(
        "--fail-unless-goal", action="store_true", help="end with code 1 where the differential arm misses the goal"
    )
    parser.add_argument(
        "--plan", action="store_true", help="print instead what more replicates and more test images would bring"
    )
    parser.add_argument(
        "--replicates-for",
        type=_positive,
        metavar="DIFFERENCE",
        help="print instead how many replicates would show a true difference of so many points (where the metric is no "
        "percentage: of so much)",
    )
    options = parser.parse_args()
    results = load_results()
    if options.environment:  # which is of the networks, whatever params.yaml has now
        if sentence := environment_sentence(results):
            print(sentence)
        return
    changed = changed_since_run()
    warn_of_changed_params(changed)

    if options.replicates_for:
        print(replicates_for(results, options.replicates_for))
    elif options.plan:
        print_plan(results)
    elif options.json:
        print(json.dumps({**as_json(results), "changed_since_run": changed}, indent=2))
    elif options.markdown:
        print(as_markdown(results))
    else:
        print_for_people(results)
    if options.fail_unless_goal and not results.evaluation.goal.differential.met:
        raise UserError(f"goal: {goal_sentence(results)} Change `lr`, or the thresholds of `goal`")


def _positive(text: str) -> float:
    """Return a number above 0, as argparse wants it."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no difference; give a number above 0")
    return number


def as_json(results: Results) -> dict[str, Any]:
    """Return what stands in metrics/splits.json, metrics/ARM.json and metrics/evaluation.json."""
    arms: dict[str, Record] = {str(arm): results.training[arm] for arm in ARMS}
    files = {"splits": results.splits, **arms, "evaluation": results.evaluation}
    return {name: content.model_dump(mode="json", exclude_unset=True) for name, content in files.items()}


def as_markdown(results: Results) -> str:
    """Return the result table as Markdown."""
    rows = [[row["metric"], *(row[column] for column in COLUMNS)] for row in result_table(results)]
    return markdown_table(["", *COLUMNS], rows)


def print_for_people(results: Results) -> None:
    """Print the verdict, the table, and where the page is."""
    console = Console()
    console.print(verdict_sentence(results), soft_wrap=True, highlight=False, style="bold")
    table = Table(title=averaged_over(results), title_justify="left")
    table.add_column("")
    for column in COLUMNS:
        table.add_column(column, justify="right")
    for row in result_table(results):
        table.add_row(row["metric"], *(_colored(row[column]) for column in COLUMNS))
    console.print(table)
    if len(results.evaluation.verdict.looks) > 1:
        console.print(as_rich(looks_table(results), title="The looks, declared beforehand"))
        if sentence := looks_sentence(results):
            console.print(sentence, soft_wrap=True, highlight=False)
    for sentence in (
        goal_sentence(results),
        guessing_sentence(results),
        near_duplicates_sentence(results),
        environment_sentence(results),
        conditions_sentence(results),
    ):
        if sentence:
            console.print(sentence, soft_wrap=True, highlight=False)
    for sentence in search_lines():
        console.print(sentence, soft_wrap=True, highlight=False)
    if PAGE.exists():
        console.print(f"The whole report: {PAGE}", soft_wrap=True)


def print_plan(results: Results) -> None:
    """Print the half-width of the interval to expect of more replicates and images."""
    rows = plan_table(results)
    if not rows:
        verdict = results.evaluation.verdict
        advice = ["append seeds to train.seeds"] if results.evaluation.replicates < 2 else []
        if verdict.units == "groups" and verdict.effective_units < MIN_FOR_VERDICT:
            advice.append("test images of more groups")
        raise UserError(
            f"nothing can be planned: {verdict.reason}: {' and '.join(advice) if advice else 'test more images'}"
        )
    title = "Half-width to expect (80 % range), and the true difference that is shown four times in five"
    console = Console()
    console.print(as_rich(rows, title))
    if sentence := plan_sentence(results):
        console.print(sentence, soft_wrap=True, highlight=False)


def _colored(cell: str) -> str:
    return {"met": "[green]met", "not met": "[red]not met"}.get(cell, cell)


if __name__ == "__main__":
    run_cli(main)
