"""Tables and sentences in a terminal."""

from rich.console import Console
from rich.table import Table

from stages.reporting.search_text import best_table, recommendation, searches_table, statements
from stages.search_files import RepeatsAnswer, SearchAnswer


def as_rich(rows: list[dict[str, str]], title: str) -> Table:
    """Return rows as a table for a terminal."""
    table = Table(title=title, title_justify="left")
    for name in rows[0]:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row.values())
    return table


def print_search(answer: SearchAnswer, repeats: RepeatsAnswer | None) -> None:
    """Print which rates to take, and what the search says besides."""
    console = Console()
    title = f"Which rates should I take? The search `{answer.study}` says:"
    console.print(title, soft_wrap=True, highlight=False)
    console.print(recommendation(answer, repeats), soft_wrap=True, highlight=False, style="bold")
    chosen = "what the surface chooses, and the accuracy to expect" if answer.surface else "which is chosen"
    console.print(as_rich(best_table(answer), f"The best trial, {chosen}"))
    if rows := searches_table(repeats):
        console.print(as_rich(rows, "The winners of independent searches, trained again, on test images"))
    for sentence in statements(answer, repeats):
        console.print(sentence, soft_wrap=True, highlight=False)
