"""The schema of what the search leaves under metrics/search/, and the one place that reads it.

Rates are per step, accuracies are fractions, losses are in nats, and a difference is differential − baseline.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.errors import UserError
from stages.files import METRICS
from stages.hashing import hash_file
from stages.metrics_files import Interval, Record, SplitMetrics, read_record
from stages.params import STUDY_NAME, Metric, Objective, Sampler, SearchArm

if TYPE_CHECKING:
    import pandas as pd  # which takes seconds, and a summary does without

FOLDER = METRICS / "search"
CHECKSUMS_FILE = Path("data/prepared/checksums.json")  # of all that `prepare` wrote
RULE_OF_THUMB = (0.0001, 0.01)  # rates of backbone and head, which people copy
Values = dict[str, float]  # dotted name of a parameter, or name of a metric -> value


class Edge(Record):
    """A range at whose end the best of an arm lies.

    Attributes:
        parameter: its dotted name.
        end: of its range.
        value: of that end; of a share of another parameter, as a share.
    """

    parameter: str
    end: Literal["low", "high"]
    value: float


class Trial(Record):
    """A trial that stands for its arm.

    Attributes:
        trial: its number, from 1.
        values: the parameters that it drew.
        metrics: that it came to.
        edges: of the space that it lies at.
    """

    trial: int
    values: Values
    metrics: Values
    edges: list[Edge]


class ArmTrials(Record):
    """The trials of one arm.

    Attributes:
        trials: their number.
        diverged: of them.
        pruned: of them.
        best: by the objective, whose own metrics flatter it: they chose it.
        chosen: where the surface of all trials expects the most, so that the luck of one counts less; the best itself
            where there is no surface, or the arm does not lie on it.
    """

    trials: int
    diverged: int
    pruned: int
    best: Trial
    chosen: Trial


class CurvePoint(Record):
    """How far the best of k trials is ahead of that of as many of the baseline; None where a band is not finite."""

    k: int
    low: float | None
    difference: float
    high: float | None


class Curves(Record):
    """What the tuning curves say of the objective.

    Attributes:
        level: at which the bands of all arms hold together, for all k.
        reach: the largest k at which all bands are finite.
        reach_of_twice: the same of twice as many trials.
        differences: arm -> difference of the medians, arm − baseline, for k from 1 to `reach`.
    """

    level: float
    reach: int
    reach_of_twice: int
    differences: dict[SearchArm, list[CurvePoint]]


class Estimate(Record):
    """What the surface says of one thing: the posterior's mean, and where it is with 95 %."""

    mean: float
    low: float
    high: float


class Place(Record):
    """A pair of rates on the surface.

    Attributes:
        backbone: its rate.
        head: its rate.
        val_accuracy: to expect.
        behind_best: how much lower that is than at the best pair or single rate that the surface expects.
    """

    backbone: float
    head: float
    val_accuracy: Estimate
    behind_best: Estimate


class Span(Record):
    """The lowest and the highest of the rates that cannot be told from the best."""

    low: float
    high: float


class Chance(Record):
    """Whether two rates are ahead of one on the surface by a margin, and what that comes to where they are not.

    Attributes:
        margin: of validation accuracy.
        chance: that the plane's best is ahead of the diagonal's by so much, by the posterior.
        without_gain: the same, on average over simulated searches in which the second rate brings nothing.
        as_high_without_gain: the share of those that have a chance as high.
        simulations: their number.
    """

    margin: float
    chance: float
    without_gain: float
    as_high_without_gain: float
    simulations: int


class SurfaceAnswer(Record):
    """What the surface says.

    Attributes:
        noise: standard deviation of a single trial's validation accuracy around the surface.
        ahead: by one point of validation accuracy.
        uniform: single rates that cannot be told from the best, with 90 %.
        backbone: of the pairs that cannot, the backbone's rates.
        head: likewise.
        places: `baseline` and `differential`, where their chosen trials lie, and `rule_of_thumb`, if it lies within.
    """

    noise: float
    ahead: Chance
    uniform: Span
    backbone: Span
    head: Span
    places: dict[str, Place]


class SearchAnswer(Record):
    """metrics/search/STUDY/answer.json.

    Attributes:
        study: its name.
        images: digest of the prepared images.
        objective: that chose.
        sampler: that drew.
        epochs: of a trial.
        train: images of a trial.
        val: likewise.
        arms: that were tuned.
        curves: None where the trials are not independent draws.
        surface: None where too few trials came to their end.
    """

    study: str
    images: str
    objective: Objective
    sampler: Sampler
    epochs: int
    train: int
    val: int
    arms: dict[SearchArm, ArmTrials]
    curves: Curves | None
    surface: SurfaceAnswer | None


class RepeatedSearch(Record):
    """One of the independent searches: what each arm's winner came to, with a fresh seed and on images of its own.

    Attributes:
        seed: fresh.
        values: arm -> the winner's parameters.
        scores: arm -> the metric on test images; one that diverged counts as the majority class.
        diverged: arms whose winner diverged.
    """

    seed: int
    values: dict[str, Values]
    scores: dict[str, float]
    diverged: list[str]


class RepeatsAnswer(Record):
    """metrics/search/STUDY/repeats.json: does tuning two rates beat tuning one?

    Attributes:
        study: its name.
        trials: of each arm in each search.
        metric: that is compared.
        interval: of the difference, over searches and test images; None where there was one search.
        tested: images.
        searches: each of them; none where one search was asked for.
    """

    study: str
    trials: int
    metric: Metric
    interval: Interval | None
    tested: int
    searches: list[RepeatedSearch]


def path_of(study: str, name: str) -> Path:
    """Return a file of a study.

    Raises:
        UserError: this can be no name of a study.
    """
    if not re.fullmatch(STUDY_NAME, study):
        raise UserError(f"'{study}' is no name of a study; give one of search.studies in params.yaml, such as sgd")
    return FOLDER / study / name


def read_answer(study: str) -> SearchAnswer:
    """Read metrics/search/STUDY/answer.json.

    Raises:
        UserError: it is missing or damaged.
    """
    return read_record(path_of(study, "answer.json"), SearchAnswer, _command(study))


def read_repeats(study: str) -> RepeatsAnswer:
    """Read metrics/search/STUDY/repeats.json.

    Raises:
        UserError: it is missing or damaged.
    """
    return read_record(path_of(study, "repeats.json"), RepeatsAnswer, _command(study))


def find_repeats(study: str) -> RepeatsAnswer | None:
    """Return what the repeated searches say; None where they have not been run."""
    return read_repeats(study) if path_of(study, "repeats.json").exists() else None


def images_digest() -> str | None:
    """Return the digest of the images that are prepared here; None where none are."""
    return hash_file(CHECKSUMS_FILE) if CHECKSUMS_FILE.exists() else None


def is_of_these_images(answer: SearchAnswer) -> bool:
    """Whether a search was of the images that are prepared here, as far as can be seen."""
    return images_digest() in {None, answer.images}


def read_search_splits() -> SplitMetrics:
    """Read metrics/search/splits.json.

    Raises:
        UserError: it is missing or damaged.
    """
    return read_record(FOLDER / "splits.json", SplitMetrics, "dvc repro search/dvc.yaml:split")


def read_table(study: str, name: str) -> "pd.DataFrame":
    """Read one of a study's tables: trials.csv, curves.csv or surface.csv.

    Raises:
        UserError: it is missing or damaged.
    """
    import pandas as pd

    path = path_of(study, name)
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run `{_command(study)}`, which makes it") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}): run `{_command(study)}`, which makes it anew") from None


def finished_studies() -> list[str]:
    """Return the studies that have an answer."""
    return sorted(path.parent.name for path in FOLDER.glob("*/answer.json"))


def _command(study: str) -> str:
    return f"make search STUDY={study}"


def as_values(row: "pd.Series[Any]", names: list[str]) -> Values:
    """Return some columns of a row of a table."""
    return {name: float(row[name]) for name in names}
