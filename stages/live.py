"""Show a training while it runs: a page with the learning curves so far, .live/index.html, which loads itself anew.

Run it beside `dvc repro`, and open the page in a browser. It reads .live/ARM_curves.csv, which the training stages
rewrite whenever an epoch has ended, and writes the page alone. Ctrl-C ends it.
"""

import argparse
import time
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from stages.errors import run_cli
from stages.files import write_text
from stages.params import ARMS, Arm
from stages.progress import LIVE
from stages.reporting.charts import learning_curves
from stages.reporting.sections import draw_section, render

PAGE = LIVE / "index.html"
LOOK_EVERY = 1  # seconds, at the tables
RELOAD_EVERY = 5  # seconds, by the browser


def main() -> None:
    """Keep the page as the tables are."""
    parser = argparse.ArgumentParser(prog="python -m stages.live", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--once", action="store_true", help="write the page as it is now, and end")
    once = parser.parse_args().once
    print(f"{PAGE} moves while a training runs" + ("" if once else "; Ctrl-C ends it"), flush=True)
    shown = None
    while True:
        written = written_at()
        if written != shown:
            write_text(PAGE, render_live(read_curves(), written))
            shown = written
        if once:
            return
        time.sleep(LOOK_EVERY)


def written_at() -> dict[Arm, float]:
    """Return when the table of each arm was written, in seconds since 1970; an arm without one is left out."""
    paths = {arm: curves_path(arm) for arm in ARMS}
    return {arm: path.stat().st_mtime for arm, path in paths.items() if path.exists()}


def read_curves() -> dict[Arm, pd.DataFrame]:
    """Return the learning curves so far, by arm; one of which no epoch has ended is left out."""
    tables = {arm: pd.read_csv(curves_path(arm)) for arm in ARMS if curves_path(arm).exists()}
    return {arm: table for arm, table in tables.items() if len(table)}


def curves_path(arm: Arm) -> Path:
    """Return the path of an arm's table."""
    return LIVE / f"{arm}_curves.csv"


def render_live(curves: Mapping[Arm, pd.DataFrame], written: Mapping[Arm, float]) -> str:
    """Return the page as HTML.

    Args:
        curves: arm -> a row for each seed and epoch.
        written: arm -> when they were written, in seconds since 1970.
    """
    return render(
        "live.html.j2",
        every=RELOAD_EVERY,
        rows=[
            {
                "": arm,
                "replicates": table["seed"].nunique(),
                "epochs": len(table),
                "last one ended": time.strftime("%H:%M:%S", time.localtime(written[arm])),
            }
            for arm, table in curves.items()
        ],
        section=draw_section(
            "Learning curves",
            "The line is the mean over the replicates that have come so far, the band one standard deviation to each "
            "side. Training metrics are counted while the network learns.",
            [
                learning_curves(dict(curves), split, metric)
                for metric in ("accuracy", "loss")
                for split in ("train", "val")
            ],
        )
        if curves
        else None,
    )


if __name__ == "__main__":
    run_cli(main)
