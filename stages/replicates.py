"""Show the finished replicates that are kept under .replicates/, or remove them.

A replicate is found again by a digest of all that decides it: parameters, images, code, versions and processor.
Training takes it from there instead of training it again. params.yaml says how much room they may take
(replicate_store.max_gib).
"""

import argparse
import json

from rich.console import Console
from rich.table import Table
from rich.text import Text

from stages.errors import run_cli
from stages.params import load_params
from stages.training.replicate_store import STORE, KeptReplicate, ReplicateStore

MIB = 2**20


def main() -> None:
    """Show or remove what is kept."""
    parser = argparse.ArgumentParser(prog="python -m stages.replicates", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--clear", action="store_true", help="remove all of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each, one a line")
    options = parser.parse_args()
    max_gib = load_params().replicate_store.max_gib
    store = ReplicateStore(max_gib)
    kept = store.kept()
    if options.clear:
        store.clear()
        gone = [replicate for replicate in kept if not replicate.path.exists()]
        print(f"removed {len(gone)} replicates, {size_in_mib(gone):.0f} MiB")
    elif options.json:
        for replicate in kept:
            print(json.dumps(as_json(replicate)))
    else:
        print_for_people(kept, max_gib)


def as_json(replicate: KeptReplicate) -> dict[str, str | int]:
    """Return one replicate for programs."""
    return {
        "fingerprint": replicate.path.name,
        "trained_as": replicate.label,
        "bytes": replicate.size,
        "used_at": replicate.used_at.isoformat(timespec="seconds"),
    }


def print_for_people(kept: list[KeptReplicate], max_gib: float) -> None:
    """Print a table, the least recently used first, and how much room all take."""
    console = Console(highlight=False)
    if kept:
        table = Table("fingerprint", "trained as", "last used")
        table.add_column("MiB", justify="right")
        for replicate in kept:
            used_at = f"{replicate.used_at:%Y-%m-%d %H:%M}"
            table.add_row(replicate.path.name[:16], Text(replicate.label), used_at, f"{replicate.size / MIB:.1f}")
        console.print(table)
    console.print(f"{len(kept)} replicates in {STORE}/, {size_in_mib(kept):.0f} MiB of {max_gib * 1024:.0f}")


def size_in_mib(kept: list[KeptReplicate]) -> float:
    """Return how much room replicates take."""
    return sum(replicate.size for replicate in kept) / MIB


if __name__ == "__main__":
    run_cli(main)
