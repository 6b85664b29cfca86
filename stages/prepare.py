"""Check, decode, resize and split the images once, so that training never does.

Writes data/prepared/ (the array and the table of samples), data/contact_sheet.svg, metrics/prepare.json (counts of the
images and of all that the checks found), metrics/prepare_checks.csv (what they found, image by image) and
metrics/class_balance.csv.
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

from stages.data.checks import CHECKS, Finding, as_table, count, follows, stopping
from stages.data.decoding import Job, decode_all
from stages.data.image_set import ImageSet
from stages.data.likeness import near_duplicates, same_pixels
from stages.data.sources import load_source
from stages.data.splits import UNUSED, class_balance, few_samples, groups_in_two_parts, parts_too_small, split_samples
from stages.data.store import PREPARED, make_array, open_prepared, write_samples
from stages.errors import UserError, run
from stages.files import whole_directory, write_csv, write_json, write_text
from stages.params import PARTS, Data, load_params
from stages.progress import steps
from stages.reporting.thumbnails import contact_sheet

METRICS, CONTACT_SHEET = Path("metrics"), Path("data/contact_sheet.svg")
EXAMPLES = 20  # of what each check found, in a rehearsal for people


@dataclass(frozen=True)
class Outcome:
    """What became of the images.

    Attributes:
        samples: a row for each image of the array, with its `class` and its `part`; a skipped one has no part.
        source: where they came from.
        balance: a row for each part and class, with the number of its images.
        findings: of every check.
        problems: why params.yaml does not allow to go on, in lines for people; none where it does.
    """

    samples: pd.DataFrame
    source: ImageSet
    balance: pd.DataFrame
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
    data = load_params().data

    if options.dry_run:
        rehearse(data, as_json=options.json)
        return
    outcome = prepare(data)
    counts = summarise(outcome, data)
    write_text(CONTACT_SHEET, contact_sheet(open_prepared()))
    write_csv(METRICS / "class_balance.csv", outcome.balance)
    write_csv(METRICS / "prepare_checks.csv", as_table(outcome.findings, data))
    write_json(METRICS / "prepare.json", counts)
    print("prepared", in_a_line(counts))
    for check, found in counts["checks"].items():
        if found and CHECKS[check].consequence in ("skipped", "leak", "warned"):
            print(f"{check}: {found:,} ({CHECKS[check].means}); see {METRICS / 'prepare_checks.csv'}")


def prepare(data: Data, folder: Path = PREPARED) -> Outcome:
    """Write the prepared images into a folder, whole or not at all.

    Raises:
        UserError: what was found does not allow to go on.
    """
    with whole_directory(folder) as beside:
        outcome = check_and_decode(data, beside)
        if outcome.problems:
            raise UserError("\n       ".join(outcome.problems))
        write_samples(beside, outcome.samples)
    return outcome


def rehearse(data: Data, as_json: bool) -> None:
    """Say what `prepare` would do and what is wrong, and write nothing.

    Raises:
        UserError: it would stop.
    """
    outcome = check_and_decode(data, folder=None)
    if as_json:
        findings = as_table(outcome.findings, data).to_dict("records")
        print(json.dumps({**summarise(outcome, data), "findings": findings, "problems": outcome.problems}))
    else:
        print_for_people(outcome, data)
    if outcome.problems:
        raise UserError("\n       ".join(outcome.problems))


def check_and_decode(data: Data, folder: Path | None) -> Outcome:
    """Find the images, give each its part, decode those that are used, and look for what is wrong.

    Args:
        data: the section of params.yaml.
        folder: where the array is written; None writes and downloads nothing.
    """
    source = load_source(data, may_download=folder is not None)
    parts = split_samples(source.samples, data)
    rows = list(parts.index[parts != UNUSED])
    samples = source.samples.loc[rows].reset_index(drop=True)
    samples["class"] = [source.classes[label] for label in samples["label"]]
    samples["part"] = parts[rows].to_numpy()

    array = make_array(folder, (len(rows), data.image_size, data.image_size, source.channels)) if folder else None
    names = source.samples["image"].tolist()
    job = Job(source.images, names, rows, data.image_size, source.channels, data.max_megapixels, array)
    with steps(len(rows), unit=" images") as bar:
        bar.set_description("preparing")
        decoded = decode_all(job, on_images=bar.update)

    good = samples[decoded.good]
    same, under_two_labels = same_pixels(good, decoded.digests[good.index])
    good = good.drop(index=under_two_labels)
    samples.loc[samples.index.difference(good.index), "part"] = UNUSED
    balance = class_balance(good, source.classes)
    findings = [
        *source.findings,
        *decoded.findings,
        *same,
        *near_duplicates(good, decoded.digests[good.index], decoded.hashes[good.index]),
        *groups_in_two_parts(good),
        *few_samples(balance),
    ]
    findings = list(dict.fromkeys(findings))  # a table may list a file twice
    problems = [*stopping(findings, data), *parts_too_small(balance)]
    return Outcome(samples, source, balance, findings, problems)


def summarise(outcome: Outcome, data: Data) -> dict[str, Any]:
    """Give the counts of metrics/prepare.json."""
    checks = count(outcome.findings)
    by_part = {part: of_part.set_index("class")["images"] for part, of_part in outcome.balance.groupby("part")}
    return {
        "images": int(outcome.balance["images"].sum()),
        "skipped": int((outcome.samples["part"] == UNUSED).sum()) + checks["no_label"],
        "left_over": len(outcome.source.samples) - len(outcome.samples),
        "image_size": data.image_size,
        "channels": outcome.source.channels,
        **{part: {"images": int(by_part[part].sum()), "classes": by_part[part].to_dict()} for part in PARTS},
        "checks": checks,
    }


def in_a_line(counts: dict[str, Any]) -> str:
    """Say how many images there are of each part, from the content of metrics/prepare.json."""
    of_parts = ", ".join(f"{counts[part]['images']:,} {part}" for part in PARTS)
    beside = "".join(f", {counts[key]:,} {key.replace('_', ' ')}" for key in ("skipped", "left_over") if counts[key])
    return f"{counts['images']:,} images at {counts['image_size']} px: {of_parts}{beside}"


def print_for_people(outcome: Outcome, data: Data) -> None:
    """Print what would be made and what was found, as tables. Names are text, never markup."""
    console = Console()
    console.print("would prepare", in_a_line(summarise(outcome, data)), highlight=False)
    balance = outcome.balance.pivot_table(index="class", columns="part", values="images", sort=False)
    table = Table("class", *(Column(part, justify="right") for part in PARTS))
    for name, counts in balance.iterrows():
        table.add_row(Text(str(name)), *(f"{int(counts[part]):,}" for part in PARTS))
    console.print(table)

    findings = as_table(outcome.findings, data)
    for check in findings["check"].unique():
        found = findings[findings["check"] == check]
        says = f"\n{check}: {len(found):,} {follows(check, data)}; {CHECKS[check].means}"
        console.print(Text(says), soft_wrap=True)
        for row in found.head(EXAMPLES).itertuples(index=False):
            console.print(Text(f"  {row.image}" + (f": {row.detail}" if row.detail else "")), soft_wrap=True)
        if len(found) > EXAMPLES:
            console.print(f"  … and {len(found) - EXAMPLES:,} more; --json lists all", highlight=False)
    if not outcome.findings:
        console.print("every check passed")


if __name__ == "__main__":
    run(main)
