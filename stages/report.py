"""Write one self-contained page for people, report/index.html, and the README's picture, metrics/curves.svg.

It holds the verdict, the result table, the learning curves of both arms, their rates and how far each layer group
moved, the confusion matrices, and the parameters. It opens from disk and asks the network for nothing.
"""

import argparse
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from stages.errors import UserError, run
from stages.files import write_text
from stages.params import ARMS, load_params
from stages.reporting.figures import as_svg, confusion_matrix, group_marks, learning_curves, rate_curves
from stages.reporting.results import METRICS, PAGE, averaged_over, load_results, result_table, verdict


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(prog="python -m stages.report", description=__doc__).parse_args()
    results = load_results()
    curves = {arm: _read_csv(METRICS / f"{arm}_curves.csv") for arm in ARMS}
    predictions = {arm: _read_csv(METRICS / f"{arm}_predictions.csv") for arm in ARMS}
    classes = [name for name in results.prepare["val"] if name != "all"]
    rates = {arm: results.training[arm]["learning_rates"] for arm in ARMS}
    per_step = {arm: _read_csv(METRICS / f"{arm}_rates.csv") for arm in ARMS}
    moved = {arm: results.evaluation["movement"][arm]["mean"] for arm in ARMS}

    pictures = {figure: as_svg(learning_curves(curves, figure)) for figure in ("accuracy", "loss")}
    figures = [
        {
            "title": "Learning curves",
            "words": "The line is the mean over the seeds, the band runs from the lowest seed to the highest.",
            "svgs": list(pictures.values()),
        },
        {
            "title": "Learning rates",
            "words": "Of each layer group from input to head, then step by step as the schedule scales them, on a "
            "logarithmic axis. What is frozen has no mark and no line.",
            "svgs": [as_svg(group_marks(rates, "learning rate")), as_svg(rate_curves(per_step))],
        },
        {
            "title": "How far each layer group moved",
            "words": "L2 norm of the change of its weights over that of its first weights, mean over the seeds, "
            "on a logarithmic axis.",
            "svgs": [as_svg(group_marks(moved, "relative movement"))],
        },
        {
            "title": "Confusion on validation",
            "words": "Share of each actual class, over all seeds.",
            "svgs": [as_svg(confusion_matrix(predictions[arm], classes, arm)) for arm in ARMS],
        },
    ]
    page = Environment(
        loader=PackageLoader("stages.reporting", "."), autoescape=True, undefined=StrictUndefined
    ).get_template("page.html.j2")
    counts = results.prepare
    write_text(
        PAGE,
        page.render(
            verdict=verdict(results),
            averaged_over=averaged_over(results),
            columns=[*ARMS, "difference"],
            rows=result_table(results),
            figures=figures,
            images=counts["images"],
            image_size=counts["image_size"],
            parts=", ".join(f"{counts[part]['all']} {part}" for part in ("train", "val", "test")),
            params=pd.json_normalize(load_params().model_dump(exclude={"review"})).iloc[0].to_dict(),
        ),
    )
    write_text(METRICS / "curves.svg", pictures["accuracy"])
    print(f"wrote {PAGE}")


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False)
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or damaged: run `dvc repro`, which makes it") from None


if __name__ == "__main__":
    run(main)
