"""What a revision has recorded, asked of DVC, and whether it can be compared with what stands here."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.utils.flatten import flatten
from scmrepo.exceptions import SCMError

from stages.data.store import open_prepared
from stages.errors import UserError, first_line
from stages.files import METRICS
from stages.params import ARMS, PARAMS_FILE, Arm
from stages.reporting.csv_tables import parse_table
from stages.reporting.provenance import LOCK, output_digests
from stages.yaml12 import parse_yaml

NO_REVISION = ("", "workspace")  # to DVC, both are what stands here
REVIEW_METRICS = METRICS / "review.json"
# What both arms read, the images before what is drawn from them -> what a reader should know where it differs.
DATA = {"data/prepared": "other images", "data/splits.csv": "other splits"}


@dataclass(frozen=True)
class Revision:
    """What a commit, branch, tag or experiment has recorded; files may be older than today's schema.

    Attributes:
        name: as the user wrote it.
        metrics: content of metrics/review.json.
        evaluation: of metrics/evaluation.json.
        written: content of params.yaml.
        lock: content of dvc.lock.
        params: dotted name -> value.
        training: arm -> content of metrics/ARM.json.
        predictions: arm -> content of metrics/ARM_predictions.csv; None where it has none.
        digests: output of a stage -> DVC's digest of it.
    """

    name: str
    metrics: dict[str, Any]
    evaluation: dict[str, Any]
    written: dict[str, Any]
    lock: dict[str, Any]
    params: dict[str, Any]
    training: dict[Arm, dict[str, Any]]
    predictions: dict[Arm, pd.DataFrame | None]
    digests: dict[str, str]

    def reviewed_arm(self, otherwise: Arm) -> Arm:
        """Return whose metrics stand in metrics/review.json."""
        arm: Arm = self.params.get("review.arm", otherwise)
        return arm

    def environment(self, arm: Arm) -> dict[str, str]:
        """Return with what an arm was trained; nothing where an older file does not say."""
        found: dict[str, str] = self.training[arm].get("environment", {})
        return found


def read_revision(name: str) -> Revision:
    """Ask DVC for what a revision has recorded.

    Raises:
        UserError: it is no revision, Git knows none of this name, or it has no results.
    """
    if name.strip() in NO_REVISION:
        raise UserError(f"--against: '{name}' is no revision; give a commit, a branch, a tag or an experiment")
    try:
        files = DVCFileSystem(rev=name)
        read = {str(path): files.read_text(str(path)) for path in _wanted_files()}
        predictions = {arm: f"{METRICS}/{arm}_predictions.csv" for arm in ARMS}
        tables = {arm: files.read_text(path) if files.exists(path) else None for arm, path in predictions.items()}
    except (DvcException, SCMError, OSError) as error:
        raise UserError(
            f"--against: '{name}' cannot be read ({first_line(error)}); give a commit or a branch that has results"
        ) from None
    written, lock = parse_yaml(read[str(PARAMS_FILE)]), parse_yaml(read[str(LOCK)])
    return Revision(
        name,
        metrics=json.loads(read[str(REVIEW_METRICS)]),
        evaluation=json.loads(read[f"{METRICS}/evaluation.json"]),
        written=written,
        lock=lock,
        params=flatten(written),
        training={arm: json.loads(read[f"{METRICS}/{arm}.json"]) for arm in ARMS},
        predictions={arm: None if text is None else parse_table(io.StringIO(text)) for arm, text in tables.items()},
        digests=output_digests(lock),
    )


def _wanted_files() -> list[Path]:
    of_arms = [METRICS / f"{arm}.json" for arm in ARMS]
    return [PARAMS_FILE, LOCK, REVIEW_METRICS, METRICS / "evaluation.json", *of_arms]


def groups_of_images() -> dict[str, str]:
    """Return the group of each image that has one."""
    samples = open_prepared().samples
    grouped = samples[samples["group"] != ""]
    return dict(zip(grouped["image"], grouped["group"], strict=True))


def what_differs(
    before: Revision, before_arm: Arm, digests: Mapping[str, str], environment: Mapping[str, str]
) -> list[str]:
    """Return what makes the metrics of an arm incomparable with those of a revision, for people; nothing is well.

    Args:
        before: the revision.
        before_arm: whose metrics stand there.
        digests: output of a stage -> DVC's digest of it, here.
        environment: of the arm here.
    """
    differs = []
    for output, said in DATA.items():
        then, now = before.digests.get(output), digests.get(output)
        if then != now:
            differs.append(f"{said} ({output}: {_short(then)} there, {_short(now)} here)")
            break  # other images are split in another way, too
    there = before.environment(before_arm)
    if not there:
        return [*differs, "what it was trained with is not recorded there"]
    other = [name for name in environment if environment[name] != there.get(name)]
    return differs + [
        f"another {name} ({there.get(name, 'unknown')} there, {environment[name]} here)" for name in other
    ]


def _short(digest: str | None) -> str:
    return digest[:8] if digest else "unknown"
