"""Write one self-contained page for people, report/index.html, and the README's picture, metrics/curves.svg.

The page answers first and explains after: the verdict, the goal, the curves, the rates and what they did to each layer
group, where the arms err and disagree, all numbers, and what it was made from. It opens from disk, asks the network
for nothing, and shows its charts also where scripts are switched off.
"""

import argparse
import base64
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stages.data.store import open_prepared
from stages.errors import UserError, run
from stages.files import write_text
from stages.params import ARMS, load_params
from stages.reporting import results as told
from stages.reporting.disagreements import find_disagreements
from stages.reporting.figures import (
    Chart,
    as_specification,
    as_svg,
    class_balance,
    confusion_matrix,
    group_marks,
    learning_curves,
    rate_curves,
    reliability_diagram,
    side_by_side,
)
from stages.reporting.provenance import provenance
from stages.reporting.results import METRICS, PAGE, load_results

CONTACT_SHEET = Path("data/contact_sheet.svg")
TEXT = ("image", "actual", "predicted", "class")  # columns of names, which may be numbers such as 01
PATHS = ("data.path", "data.table", "model.weights")  # in params.yaml, perhaps absolute
HEIGHT = 240  # pixels, of a chart


@dataclass(frozen=True)
class Picture:
    """A chart twice: as a picture that is always there, and as what a script makes of it."""

    label: str
    svg: Markup
    specification: Markup


@dataclass(frozen=True)
class Section:
    """A heading, what to know, and charts."""

    title: str
    words: str
    pictures: list[Picture]


def main() -> None:
    """Write the page."""
    argparse.ArgumentParser(prog="python -m stages.report", description=__doc__).parse_args()
    results = load_results()
    curves = {arm: _read_csv(METRICS / f"{arm}_curves.csv") for arm in ARMS}
    steps = {arm: _read_csv(METRICS / f"{arm}_rates.csv") for arm in ARMS}
    predictions = {arm: _read_csv(METRICS / f"{arm}_predictions.csv") for arm in ARMS}
    classes = list(results.prepare["val"]["classes"])
    rates = {arm: results.training[arm]["learning_rates"] for arm in ARMS}
    moved = {arm: results.evaluation["movement"][arm]["mean"] for arm in ARMS}
    alike = {arm: results.evaluation["similarity"][arm]["mean"] for arm in ARMS}

    sections = [
        section(
            "Learning curves",
            "The line is the mean over the seeds, the band is one standard deviation to each side. Training figures "
            "are counted while the network learns, as the story counts them.",
            [learning_curves(curves, part, figure) for figure in ("accuracy", "loss") for part in ("train", "val")],
        ),
        section(
            "Learning rates",
            "Of each layer group from input to head, then step by step as the schedule scales them. What is frozen "
            "has no mark and no line.",
            [group_marks(rates, "learning rate"), *(rate_curves(steps[arm], arm) for arm in ARMS)],
        ),
        section(
            "How far each layer group moved",
            "First the weights: L2 norm of their change over that of the first weights. Then what they make of 128 "
            "validation images: linear CKA of the features before and after training; 1 means the same up to rotation "
            "and scale. Means over the seeds.",
            [group_marks(moved, "relative movement"), group_marks(alike, "similarity (CKA)", logarithmic=False)],
        ),
        section(
            "Confusion on validation",
            "Share of the images of each actual class, over all seeds.",
            [confusion_matrix(predictions[arm], classes, arm) for arm in ARMS],
        ),
        section(
            "Reliability on validation",
            "How often an arm is right where it is so sure. On the dashed line it would be right as often as it says; "
            "below, it is too sure.",
            [reliability_diagram(_read_csv(METRICS / "reliability.csv"))],
        ),
    ]
    balance = section(
        "Images of each class in each part",
        "A few images of each class in each part, as the network sees them, and how many there are.",
        [class_balance(_read_csv(METRICS / "class_balance.csv"))],
    )
    page = Environment(
        loader=PackageLoader("stages.reporting", "."), autoescape=True, undefined=StrictUndefined
    ).get_template("page.html.j2")
    counts = results.prepare
    write_text(
        PAGE,
        page.render(
            verdict=told.verdict(results),
            goal=told.goal_sentence(results),
            goal_rows=told.goal_table(results),
            arms=ARMS,
            columns=[*ARMS, "difference"],
            sections=sections,
            balance=balance,
            contact_sheet=_as_url(CONTACT_SHEET),
            checks=told.checks_table(results),
            disagreements=find_disagreements(predictions, open_prepared()),
            averaged_over=told.averaged_over(results),
            rows=told.result_table(results),
            mcnemar=told.mcnemar_table(results),
            parts=told.part_tables(results),
            groups=told.group_table(results),
            by_class=_by_class(_read_csv(METRICS / "per_class.csv")),
            made_from={
                "images": f"{counts['images']} at {counts['image_size']} pixels: "
                + ", ".join(f"{counts[part]['images']} {part}" for part in ("train", "val", "test")),
                **provenance(),
            },
            params={
                key: without_folders(value) if key in PATHS else value
                for key, value in pd.json_normalize(load_params().model_dump(exclude={"review"})).iloc[0].items()
            },
            script=Markup(
                vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
            ),
            height=HEIGHT,
        ),
    )
    accuracy = [learning_curves(curves, part, "accuracy") for part in ("train", "val")]
    write_text(METRICS / "curves.svg", as_svg(side_by_side(accuracy)))
    print(told.verdict(results))
    print(f"wrote {PAGE}")


def section(title: str, words: str, charts: list[Chart]) -> Section:
    """Draw the charts of a section."""
    return Section(
        title,
        words,
        [
            Picture(
                label=f"{title}: {_title(chart)}",
                svg=Markup(as_svg(chart.properties(width=320, height=HEIGHT))),
                specification=Markup(as_specification(chart, HEIGHT)),
            )
            for chart in charts
        ],
    )


def without_folders(value: object) -> object:
    """Give a value of params.yaml; of an absolute path the last name, for the page goes to others."""
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return f"…/{Path(str(value)).name}" if is_path else value


def _title(chart: Chart) -> str:
    """Say what a chart shows: its title, or that of its upright axis."""
    described = chart.to_dict()
    return str(described.get("title") or described.get("encoding", {}).get("y", {}).get("title") or "accuracy")


def _as_url(path: Path) -> str:
    """Give an SVG file as a URL that needs no file."""
    try:
        return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError:
        raise UserError(f"{path} is missing: run `dvc repro`, which makes it") from None


def _by_class(table: pd.DataFrame) -> list[dict[str, str]]:
    """Give precision, recall and F1 on test, mean over the seeds, a row for each class and arm."""
    figures = ["precision", "recall", "f1"]
    tested = table[table["part"] == "test"].groupby(["class", "arm", "samples"], sort=False)[figures]
    means, spreads = (summary.reset_index().to_dict("records") for summary in (tested.mean(), tested.std().fillna(0)))
    return [
        {
            "class": str(mean["class"]),
            "arm": mean["arm"],
            "samples": f"{mean['samples']:,}",
            **{figure: f"{100 * mean[figure]:.1f} ± {100 * spread[figure]:.1f} %" for figure in figures},
        }
        for mean, spread in zip(means, spreads, strict=True)
    ]


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, keep_default_na=False, dtype=dict.fromkeys(TEXT, str))
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or damaged: run `dvc repro`, which makes it") from None


if __name__ == "__main__":
    run(main)
