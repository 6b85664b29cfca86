"""What can be wrong with images, in one table: what each check is called, what follows from it, what it means."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from stages.params import Data

if TYPE_CHECKING:
    import pandas as pd  # seldom needed, and slow to load

# refused: prepare stops | skipped: or it stops (data.on_bad_image) | leak: it stops, or goes on (data.allow_leaks)
# left out: never taken for an image | warned: used, and worth a look | noted: used, and converted where need be
Consequence = Literal["refused", "skipped", "leak", "left out", "warned", "noted"]


@dataclass(frozen=True)
class Check:
    """One thing that can be wrong.

    Attributes:
        consequence: what follows.
        description: in a few words, for people.
    """

    consequence: Consequence
    description: str


CHECKS = {
    "outside": Check("refused", "the path or the symbolic link leaves data.path"),
    "not_utf8": Check("refused", "the name is not UTF-8, which DVC cannot take"),
    "unknown_split": Check("refused", "the table's split is not train, val or test"),
    "missing": Check("skipped", "there is no such file"),
    "empty": Check("skipped", "the file has no bytes"),
    "not_an_image": Check("skipped", "no image format that is known here"),
    "truncated": Check("skipped", "the file ends before the image does"),
    "unreadable": Check("skipped", "the file or its pixels cannot be read"),
    "too_large": Check("skipped", "more pixels than data.max_megapixels"),
    "no_label": Check("skipped", "it stands in no class folder, or its label is empty"),
    "two_labels": Check("skipped", "the same pixels under another label too"),
    "leak": Check("leak", "the same pixels in another split too"),
    "group_in_two_splits": Check("leak", "its group is in another split too"),
    "hidden": Check("left out", "the name begins with a dot"),
    "litter": Check("left out", "what systems leave in folders, such as Thumbs.db"),
    "linked_folder": Check("left out", "a symbolic link to a folder"),
    "near_duplicate_pair": Check(
        "warned",
        "two almost alike; where one is tested and the other trained on, the verdict is also given without it",
    ),
    "duplicate": Check("warned", "the same pixels again; they stay in one split"),
    "few_gray_levels": Check(
        "warned",
        "it uses few of the gray levels, as 12 bits in a file of 16 do, which should be scaled to 16 first, or a blank "
        "image",
    ),
    "listed_twice": Check("warned", "the table lists the image more than once; it counts once"),
    "no_group": Check("warned", "data.group_pattern finds no group in its path, so it stands alone"),
    "wrong_extension": Check("noted", "the name says another format than the content"),
    "animated": Check("noted", "more than one frame; the first is used"),
    "cmyk": Check("noted", "CMYK, converted to RGB"),
    "sixteen_bit": Check("noted", "16 bits a channel, scaled to 8"),
    "palette_transparency": Check("noted", "a palette with transparency, put on white"),
    "gray_alpha": Check("noted", "gray with transparency, put on white"),
    "transparency": Check("noted", "colors with transparency, put on white"),
    "exif_orientation": Check("noted", "turned upright, as its EXIF says"),
    "extreme_shape": Check("noted", "one side more than ten times the other"),
    "not_ascii": Check("noted", "letters beyond ASCII in the name"),
}
STOPS = "stops prepare"
MAX_LISTED = 5  # findings that a message names


class Finding(NamedTuple):
    """One thing that a check found.

    Attributes:
        check: a key of `CHECKS`.
        image: the name of the image, of the file, or of the class.
        detail: what is to know beyond that, such as the other image.
        other: the other image, where a finding is of a pair.
    """

    check: str
    image: str
    detail: str = ""
    other: str = ""


def blocking_problems(findings: Sequence[Finding], data: Data) -> list[str]:
    """Return what params.yaml does not allow to go on with, and what to do: a line for each consequence."""
    advice: dict[Consequence, str] = {
        "refused": "mend them",
        "skipped": "mend or remove them, or set data.on_bad_image to skip",
        "leak": "keep one image of each, and each group in one split, or set data.allow_leaks to true",
    }
    problems = []
    for consequence, what_to_do in advice.items():
        found = [
            finding
            for finding in findings
            if CHECKS[finding.check].consequence == consequence and effective_consequence(finding.check, data) == STOPS
        ]
        if found:
            named = "; ".join(describe(finding) for finding in found[:MAX_LISTED])
            if len(found) > MAX_LISTED:
                named += f" and {len(found) - MAX_LISTED:,} more, listed by `python -m stages.prepare --dry-run --json`"
            problems.append(f"data: {named}: {what_to_do}")
    return problems


def describe(finding: Finding) -> str:
    """Return what was found, such as `cats/7.png (truncated: …)`."""
    description = CHECKS[finding.check].description
    return (
        f"{finding.image} ({description}: {finding.detail})" if finding.detail else f"{finding.image} ({description})"
    )


def count_findings(findings: Sequence[Finding]) -> dict[str, int]:
    """Return the number of findings of every check."""
    found = Counter(finding.check for finding in findings)
    return {check: found[check] for check in CHECKS}


def describe_count(check: str, found: int, near_duplicate_images: int) -> str:
    """Return how much a check found, for people: a pair is no image, so both are told where there are pairs."""
    if check != "near_duplicate_pair":
        return f"{found:,}"
    return f"{found:,} {'pair' if found == 1 else 'pairs'} among {near_duplicate_images:,} images"


def effective_consequence(check: str, data: Data) -> str:
    """Return what follows from a finding under these parameters, in a word or two."""
    consequence = CHECKS[check].consequence
    stops = {"refused": True, "skipped": data.on_bad_image == "error", "leak": not data.allow_leaks}
    return STOPS if stops.get(consequence) else "allowed" if consequence == "leak" else consequence


def as_table(findings: Sequence[Finding], data: Data) -> "pd.DataFrame":
    """Return a row for each finding, in the order of `CHECKS`, with what follows from it."""
    import pandas as pd

    order = {check: place for place, check in enumerate(CHECKS)}
    columns = ["check", "image", "detail"]
    table = pd.DataFrame(findings, columns=Finding._fields)[columns].sort_values(
        columns, key=lambda column: column.map(order) if column.name == "check" else column
    )
    table.insert(1, "consequence", [effective_consequence(check, data) for check in table["check"]])
    return table.reset_index(drop=True)
