"""Markdown for reviews and documents."""

from collections.abc import Sequence

from tabulate import tabulate


def markdown_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column stands at the left and whose others stand at the right."""
    first, *others = ([cell.replace("|", "\\|") for cell in row] for row in (headers, *rows))
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(others, first, tablefmt="pipe", colalign=alignment, disable_numparse=True)
