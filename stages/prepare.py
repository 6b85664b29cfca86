"""Check, decode and resize the images once, whatever the splits, so that training never does.

Writes data/prepared/ (the array and the table of samples), data/contact_sheet.svg, metrics/prepare.json (counts of the
images and of all that the checks found) and metrics/prepare_checks.csv (what they found, image by image).
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from stages.data.checks import (
    CHECKS,
    MAX_LISTED,
    Finding,
    as_table,
    blocking_problems,
    count_findings,
    describe_count,
    effective_consequence,
)
from stages.data.decoding import DecodeJob, decode_all
from stages.data.duplicates import near_duplicates, same_pixels, units
from stages.data.image_set import ImageSet
from stages.data.keeping import note_on_keeping
from stages.data.sources import load_source
from stages.data.splits import groups_in_two_splits
from stages.data.store import PREPARED, make_array, open_prepared, write_samples
from stages.errors import UserError, run_cli
from stages.files import METRICS, atomic_directory, write_csv, write_json, write_text
from stages.params import Data, load_params
from stages.progress import progress_bar
from stages.reporting.thumbnails import contact_sheet
from stages.unchanged import check_same_run, check_unchanged

CONTACT_SHEET = Path("data/contact_sheet.svg")
EXAMPLES = 20  # of what each check found, in a dry run for people


@dataclass(frozen=True)
class PrepareResult:
    """What became of the images.

    Attributes:
        samples: a row for each image of the array, as `store.Prepared` describes it.
        source: where they came from.
        findings: of every check.
        problems: why params.yaml does not allow to go on, in lines for people; none where it does.
    """

    samples: pd.DataFrame
    source: ImageSet
    findings: list[Finding]
    problems: list[str]


def main() -> None:
    """Prepare the images that params.yaml names."""
    parser = argparse.ArgumentParser(prog="python -m stages.prepare", description=__doc__)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what it would do and what is wrong, and write nothing"
    )
    parser.add_argument("--json", action="store_true", help="with --dry-run: print one JSON object instead of tables")
    options = parser.parse_args()
    if options.json and not options.dry_run:
        parser.error("--json goes with --dry-run")
    params = load_params()
    data = params.data

    if options.dry_run:
        dry_run(data, as_json=options.json)
        return
    check_same_run(params, "prepare")
    result = prepare(data)
    check_unchanged(params, "prepare")
    counts = summarize(result, data)
    write_text(CONTACT_SHEET, contact_sheet(open_prepared()))
    write_csv(METRICS / "prepare_checks.csv", as_table(result.findings, data))
    write_json(METRICS / "prepare.json", counts)
    print("prepared", describe_counts(counts))
    for check, found in counts["checks"].items():
        if found and CHECKS[check].consequence in ("skipped", "leak", "warned"):
            says = describe_count(check, found, counts["near_duplicate_images"])
            print(f"{check}: {says} ({CHECKS[check].description}); see {METRICS / 'prepare_checks.csv'}")
    if note := note_on_keeping(data):
        print(f"note: {note}")


def prepare(data: Data, folder: Path = PREPARED) -> PrepareResult:
    """Write the prepared images into a folder, whole or not at all.

    Raises:
        UserError: what was found does not allow to go on.
    """
    with atomic_directory(folder) as beside:
        result = check_and_decode(data, beside)
        if result.problems:
            raise UserError("\n       ".join(result.problems))
        write_samples(beside, result.samples)
    return result


def dry_run(data: Data, as_json: bool) -> None:
    """Print what `prepare` would do and what is wrong, and write nothing.

    Raises:
        UserError: it would stop.
    """
    result = check_and_decode(data, folder=None)
    if as_json:
        findings = as_table(result.findings, data).to_dict("records")
        print(json.dumps({**summarize(result, data), "findings": findings, "problems": result.problems}))
    else:
        print_for_people(result, data)
    if result.problems:
        raise UserError("\n       ".join(result.problems))


def check_and_decode(data: Data, folder: Path | None) -> PrepareResult:
    """Find the images, decode them, and look for what is wrong.

    Args:
        data: the section of params.yaml.
        folder: where the array is written; None writes and downloads nothing.
    """
    source = load_source(data, may_download=folder is not None)
    samples = source.samples.reset_index(drop=True)
    samples["class"] = [source.classes[label] for label in samples["label"]]

    array = make_array(folder, (len(samples), data.image_size, data.image_size, source.channels)) if folder else None
    names, rows = samples["image"].tolist(), list(range(len(samples)))
    job = DecodeJob(source.images, names, rows, data.image_size, source.channels, data.max_megapixels, array)
    with progress_bar(len(rows), unit=" images") as bar:
        bar.set_description("preparing")
        decoded = decode_all(job, on_images=bar.update)

    good = samples[decoded.good]
    same, under_two_labels = same_pixels(good, decoded.digests[good.index])
    good = good.drop(index=under_two_labels)
    digests = decoded.digests[good.index]
    alike, near_duplicate_of = near_duplicates(good, digests, decoded.hashes[good.index])
    samples["usable"] = samples.index.isin(good.index)
    samples["unit"] = units(good, digests).reindex(samples.index, fill_value="")
    samples["near_duplicates"] = near_duplicate_of.reindex(samples.index, fill_value="")
    # What is no image has no name to remark on, and no group.
    skipped = set(samples["image"]) - set(samples.loc[decoded.good, "image"])
    of_source = [
        one for one in source.findings if one.check not in ("no_group", "not_ascii") or one.image not in skipped
    ]
    findings = [*of_source, *decoded.findings, *same, *alike, *groups_in_two_splits(good)]
    findings = list(dict.fromkeys(findings))  # a table may list a file twice
    problems = blocking_problems(findings, data)
    if not problems:
        problems = classes_without_images(source.classes, good)
    return PrepareResult(samples, source, findings, problems)


def classes_without_images(classes: list[str], good: pd.DataFrame) -> list[str]:
    """Return which classes have no image that can be used, and what to do, in a line."""
    left = set(good["label"])
    empty = [name for label, name in enumerate(classes) if label not in left]
    if not empty:
        return []
    more = f" and {len(empty) - MAX_LISTED:,} more" if len(empty) > MAX_LISTED else ""
    what_to_do = "add some, or remove that class" if left else "add some"
    return [f"data.path: there is no image to use of {', '.join(empty[:MAX_LISTED])}{more}: {what_to_do}"]


def summarize(result: PrepareResult, data: Data) -> dict[str, Any]:
    """Return the counts of metrics/prepare.json."""
    checks = count_findings(result.findings)
    pairs = [(finding.image, finding.other) for finding in result.findings if finding.check == "near_duplicate_pair"]
    usable = result.samples[result.samples["usable"]]
    of_class = usable["label"].value_counts()
    groups = usable.loc[usable["group"] != "", "group"].nunique()
    return {
        "images": len(usable),
        "skipped": len(result.samples) - len(usable) + checks["no_label"],
        "image_size": data.image_size,
        "channels": result.source.channels,
        "classes": {name: int(of_class.get(label, 0)) for label, name in enumerate(result.source.classes)},
        "groups": int(groups),
        "near_duplicate_images": len({image for pair in pairs for image in pair}),
        "checks": checks,
    }


def describe_counts(counts: dict[str, Any]) -> str:
    """Return how many images there are, from the content of metrics/prepare.json."""
    groups = f" in {counts['groups']:,} groups" if counts["groups"] else ""
    skipped = f", {counts['skipped']:,} skipped" if counts["skipped"] else ""
    return f"{counts['images']:,} images{groups} at {counts['image_size']} px{skipped}"


def print_for_people(result: PrepareResult, data: Data) -> None:
    """Print what would be made and what was found, as tables. Names are text, never markup."""
    console = Console()
    counts = summarize(result, data)
    begin = "would stop; it could use" if result.problems else "would prepare"
    console.print(begin, describe_counts(counts), highlight=False)
    table = Table("class", Column("images", justify="right"))
    for name, images in counts["classes"].items():
        table.add_row(Text(name), f"{images:,}")
    console.print(table)

    findings = as_table(result.findings, data)
    for check in findings["check"].unique():
        found = findings[findings["check"] == check]
        says = describe_count(check, len(found), counts["near_duplicate_images"])
        says = f"\n{check}: {says}, {effective_consequence(check, data)}; {CHECKS[check].description}"
        console.print(Text(says), soft_wrap=True)
        for row in found.head(EXAMPLES).itertuples(index=False):
            console.print(Text(f"  {row.image}" + (f": {row.detail}" if row.detail else "")), soft_wrap=True)
        if len(found) > EXAMPLES:
            console.print(f"  … and {len(found) - EXAMPLES:,} more; --json lists all", highlight=False)
    if not result.findings:
        console.print("every check passed")


if __name__ == "__main__":
    run_cli(main)
