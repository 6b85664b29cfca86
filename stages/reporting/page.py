"""The report page: what stands on it, and in which order."""

import base64
import json
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path

import pandas as pd

from stages.data.store import Prepared
from stages.errors import UserError
from stages.files import METRICS
from stages.metrics_files import LARGEST
from stages.params import ARMS, SPLITS, Arm, Params, read_params
from stages.reporting import tables
from stages.reporting.charts import (
    class_balance,
    confusion_matrix,
    group_marks,
    learning_curves,
    metric_differences,
    planned_half_widths,
    rate_curves,
    reliability_diagram,
)
from stages.reporting.csv_tables import read_table
from stages.reporting.disagreements import find_disagreements
from stages.reporting.provenance import NOT_OF_THE_RESULT, provenance, run_command
from stages.reporting.sections import Section, draw_section, render
from stages.reporting.tables import Results, describe_environment
from stages.reporting.thumbnails import MAX_CLASSES

CONTACT_SHEET = Path("data/contact_sheet.svg")
INTERVAL_HEIGHT = 46  # pixels
PATH_PARAMS = ("data.path", "data.table", "model.weights")  # perhaps absolute


@dataclass(frozen=True)
class ResultFiles:
    """What stands under metrics/ as tables, and the contact sheet.

    Attributes:
        curves: arm -> metrics of every seed and epoch.
        rates: arm -> rate of each layer group over the steps.
        predictions: arm -> every validation image.
        per_class: precision, recall and F1.
        reliability: accuracy by confidence.
        balance: images of each class in each split.
        contact_sheet: an SVG as a URL.
    """

    curves: dict[Arm, pd.DataFrame]
    rates: dict[Arm, pd.DataFrame]
    predictions: dict[Arm, pd.DataFrame]
    per_class: pd.DataFrame
    reliability: pd.DataFrame
    balance: pd.DataFrame
    contact_sheet: str


def read_result_files() -> ResultFiles:
    """Read what the page shows as charts.

    Raises:
        UserError: a file is missing or damaged.
    """
    return ResultFiles(
        curves={arm: read_table(METRICS / f"{arm}_curves.csv") for arm in ARMS},
        rates={arm: read_table(METRICS / f"{arm}_rates.csv") for arm in ARMS},
        predictions={arm: read_table(METRICS / f"{arm}_predictions.csv") for arm in ARMS},
        per_class=read_table(METRICS / "per_class.csv"),
        reliability=read_table(METRICS / "reliability.csv"),
        balance=read_table(METRICS / "class_balance.csv"),
        contact_sheet=_as_url(CONTACT_SHEET),
    )


def render_page(results: Results, files: ResultFiles, prepared: Prepared, params: Params) -> str:
    """Return the page as HTML; every name in it is escaped."""
    return render(
        "page.html.j2",
        verdict=tables.verdict_sentence(results),
        interval=draw_section(
            "The verdict's interval",
            "",
            [metric_differences(results.evaluation, [results.evaluation.verdict.metric])],
            height=INTERVAL_HEIGHT,
        ),
        arms_rows=tables.arms_table(results),
        next=tables.next_sentence(results),
        command=run_command(read_params()),
        statements=[
            sentence
            for sentence in (
                tables.goal_sentence(results),
                tables.conditions_sentence(results),
                tables.guessing_sentence(results),
                tables.near_duplicates_sentence(results),
                tables.environment_sentence(results),
            )
            if sentence
        ],
        differences=draw_section(
            "Every difference",
            "Test metrics, differential − baseline, turned so that the differential arm is better on the right. The "
            "diamond is the mean, the line its interval (of the verdict's metric the last look's, else 95 %; no rule "
            "was fixed for the others), each dot a replicate.",
            [metric_differences(results.evaluation)],
        ),
        plan=draw_section(
            "How many more?",
            "The half-width of the verdict's interval to expect of more replicates and more test images; the band is "
            "its 80 % range, for few replicates tell little of how much they differ.",
            [
                planned_half_widths(
                    results.evaluation.plan,
                    tables.SCALES[results.evaluation.verdict.metric],
                    LARGEST[results.evaluation.verdict.metric],
                )
            ]
            if results.evaluation.plan
            else [],
        ),
        plan_rows=tables.plan_table(results),
        plan_note=tables.plan_sentence(results),
        looks=tables.looks_table(results),
        looks_note=tables.looks_sentence(results),
        goal_rows=tables.goal_table(results),
        arms=ARMS,
        columns=[*ARMS, "difference"],
        sections=chart_sections(results, files),
        balance=balance_section(files),
        contact_sheet=files.contact_sheet,
        checks=tables.checks_table(results),
        disagreements=find_disagreements(files.predictions, prepared),
        averaged_over=tables.averaged_over(results),
        rows=tables.result_table(results),
        mcnemar=tables.mcnemar_table(results),
        splits=tables.split_tables(results),
        groups=tables.group_table(results),
        by_class=class_table(files.per_class),
        made_from={"images": _describe_images(results), **provenance(), **trained_with(results)},
        params=shown_params(params),
    )


def chart_sections(results: Results, files: ResultFiles) -> list[Section]:
    """Return the sections between the goal and the images."""
    evaluation = results.evaluation
    changing = any(files.rates[arm].groupby("layer_group")["learning_rate"].nunique().max() > 1 for arm in ARMS)
    weight_change = {arm: evaluation.relative_weight_change.arm(arm).mean for arm in ARMS}
    cka = {arm: evaluation.linear_cka.arm(arm).mean for arm in ARMS}
    classes = list(results.prepare.classes)
    seeds = tables.seeds_with_checkpoints(results)
    return [
        draw_section(
            "Learning curves",
            f"The line is the mean over {seeds}, the band is one standard deviation to each side. Training metrics "
            "are counted while the network learns.",
            [
                learning_curves(files.curves, split, metric)
                for metric in ("accuracy", "loss")
                for split in ("train", "val")
            ],
        ),
        draw_section(
            "Learning rates",
            "Of each layer group from input to head"
            + (", then step by step as the schedule scales them; what is frozen has no line." if changing else "."),
            [rate_curves(files.rates[arm], arm) for arm in ARMS] if changing else [],
            rows=tables.rate_table(results),
        ),
        draw_section(
            "How far each layer group changed",
            "First the weights: the norm of their change over that of the first weights. Then what they make of "
            "some images: linear CKA of the features before and after training; 1 means the same up to rotation and "
            f"scale. Means over {seeds}.",
            [
                group_marks(weight_change, "relative weight change"),
                group_marks(cka, "linear CKA", logarithmic=False),
            ],
        ),
        draw_section(
            "Confusion on validation",
            "Share of each actual class, over all seeds: a row adds up to all of its images.",
            [confusion_matrix(files.predictions[arm], classes, arm) for arm in ARMS],
        ),
        draw_section(
            "Reliability on validation",
            "How often an arm is right where it is so sure. On the dashed line it would be right as often as it says; "
            "below, it is too sure.",
            [reliability_diagram(files.reliability)],
        ),
    ]


def balance_section(files: ResultFiles) -> Section:
    """Return how many images each class has in each split."""
    return draw_section(
        "Images of each class in each split",
        "A few images of each class, as the network sees them, and how many there are in each split of the first "
        "replicate; metrics/class_balance.csv has every class.",
        [class_balance(files.balance, MAX_CLASSES)],
    )


def class_table(per_class: pd.DataFrame) -> list[dict[str, str]]:
    """Return precision, recall and F1 on test, mean over the seeds, a row for each class and arm."""
    metrics = ["precision", "recall", "f1"]
    tested = per_class[per_class["split"] == "test"].groupby(["class", "arm"], sort=False)
    return [
        {
            "class": str(name),
            "arm": str(arm),
            "samples": _from_to(rows["samples"].min(), rows["samples"].max()),
            **{metric: _mean_and_spread(100 * rows[metric]) for metric in metrics},
        }
        for (name, arm), rows in tested
    ]


def _from_to(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _mean_and_spread(values: "pd.Series[float]") -> str:
    """Return mean and standard deviation; of a single replicate the value alone."""
    return f"{values.mean():.1f} %" if len(values) < 2 else f"{values.mean():.1f} ± {values.std():.1f} %"


def trained_with(results: Results) -> dict[str, str]:
    """Return with which processor and versions the arms were trained: one row where they are the same."""
    described = {arm: describe_environment(results.training[arm].environment) for arm in ARMS}
    if len(set(described.values())) == 1:
        return {"trained with": next(iter(described.values()))}
    return {f"trained with, {arm}": text for arm, text in described.items()}


def shown_params(params: Params) -> dict[str, str]:
    """Return every parameter that made the result, by its dotted name, as params.yaml may have it."""
    flat = pd.json_normalize(params.model_dump(exclude=set(NOT_OF_THE_RESULT))).iloc[0].items()
    return {str(key): _as_yaml(without_folders(value) if key in PATH_PARAMS else value) for key, value in flat}


def _as_yaml(value: object) -> str:
    """Return a value as YAML has it, which reads all JSON; numbers may be NumPy's."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=methodcaller("item"))


def without_folders(value: object) -> object:
    """Return a value of params.yaml; of an absolute path the last name, for the page goes to others."""
    is_path = isinstance(value, str) and Path(value).is_absolute()
    return f"…/{Path(str(value)).name}" if is_path else value


def _describe_images(results: Results) -> str:
    prepared, splits = results.prepare, results.splits
    in_splits = ", ".join(f"{getattr(splits, split):,} {split}" for split in SPLITS)
    aside = f"; {splits.development:,} in the development part" if splits.development else ""
    return f"{prepared.images:,} at {prepared.image_size} pixels; of the first replicate {in_splits}{aside}"


def _as_url(path: Path) -> str:
    """Return an SVG file as a URL that needs no file."""
    try:
        return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
    except OSError:
        raise UserError(f"{path} is missing: run `dvc repro`, which makes it") from None
