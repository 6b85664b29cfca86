"""The schema of the JSON files under metrics/, and the one place that reads them.

What a stage writes there another one reads back: what is missing or of another kind is an error that names the file and
the key. An accuracy is a fraction, a loss is in nats, and a difference is differential − baseline.
"""

import math
from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.aggregate import Metrics
from stages.errors import UserError
from stages.files import METRICS, read_json
from stages.params import ARMS, Arm, Metric, Split

MIN_FOR_VERDICT, FEW = 10, 20  # effective numbers of groups, for a verdict and without a warning
# Differences that a metric can have.
LARGEST: dict[Metric, float] = {
    "accuracy": 1,
    "balanced_accuracy": 1,
    "macro_f1": 1,
    "roc_auc": 1,
    "loss": math.inf,
    "brier": 2,
}
LARGEST_GAP = 2  # a gap is a difference of accuracies, so two gaps lie twice as far apart as these at most
Decision = Literal["better", "worse", "no difference shown", "unstable"]


class Record(BaseModel):
    """A JSON object whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Summary(Record):
    """Metrics over replicates.

    Attributes:
        mean: metric -> mean.
        std: metric -> sample standard deviation; None of a single replicate.
        seeds: seed -> metrics of that replicate.
    """

    mean: Metrics
    std: dict[str, float | None]
    seeds: Annotated[dict[int, Metrics], Field(min_length=1)]


class DivergenceRecord(Record):
    """Where the loss of a replicate stopped being finite: epoch, step (0: a measurement), and layer group to blame."""

    epoch: int
    step: int
    group: str | None


class TrainingMetrics(Record):
    """metrics/ARM.json.

    Attributes:
        learning_rates: layer group -> rate before the schedule scales it, from input to head; 0 where it never learns.
        environment: processor, precision and versions that it was trained with; empty where an older file has none.
        trained_with: section of params.yaml -> digest of what the arm reads of it; older files have none.
        mean: over the replicates, of the last epoch; one that diverged counts as the majority class.
        std: likewise.
        seeds: each of them.
        diverged: seed -> where, of those that did.
    """

    learning_rates: Metrics
    environment: dict[str, str] = {}
    trained_with: dict[str, str] = {}
    mean: Metrics
    std: dict[str, float | None]
    seeds: Annotated[dict[int, Metrics], Field(min_length=1)]
    diverged: dict[int, DivergenceRecord] = {}


class PrepareMetrics(Record):
    """metrics/prepare.json.

    Attributes:
        images: that can be used.
        skipped: images that cannot.
        image_size: height and width in pixels.
        channels: 1 for gray, 3 for RGB.
        classes: class -> images.
        groups: of images; 0 where the source names none.
        near_duplicate_images: images that look almost like another, whatever the number of pairs that they make.
        checks: check -> findings; of `near_duplicate_pair`, pairs of these images.
    """

    images: int
    skipped: int
    image_size: int
    channels: Literal[1, 3]
    classes: dict[str, int]
    groups: int
    near_duplicate_images: int
    checks: dict[str, int]


class SplitMetrics(Record):
    """metrics/splits.json, numbers of images.

    Attributes:
        replicates: that draw their splits.
        folds: so many replicates test every image once; None where all share the test images.
        part: of the images that the experiment uses.
        development: images set aside for choosing rates.
        train: of the first replicate; others may have a few more or less.
        val: likewise.
        test: likewise.
        tested: by any replicate.
        tested_groups: groups of these.
        unused: neither trained on, nor validated, nor tested, by any.
    """

    replicates: int
    folds: int | None
    part: Literal["main", "development"]
    development: int
    train: int
    val: int
    test: int
    tested: int
    tested_groups: int
    unused: int


class Interval(Record):
    """An estimate and what chance leaves open.

    Attributes:
        estimate: differential − baseline.
        low: lower end of the interval; None where there is none.
        high: its upper end.
        level: of the interval.
        minimum_detectable_difference: the true difference that data like these would show with a power of about 80 %.
        reason: why there is no interval.
    """

    estimate: float
    low: float | None = None
    high: float | None = None
    level: float | None = None
    minimum_detectable_difference: float | None = None
    reason: str | None = None

    def clipped(self, most: float) -> "Interval":
        """Return the interval without what no difference can reach, from -most to most."""
        if self.low is None or self.high is None:
            return self
        return self.model_copy(update={"low": max(self.low, -most), "high": min(self.high, most)})


class Look(Record):
    """What was decided after so many replicates, by an interval at the level of that look."""

    replicates: int
    interval: Interval
    decision: Decision


class PlannedInterval(Record):
    """What to expect of so many replicates and test images, with a range (80 %).

    Attributes:
        replicates: of each arm.
        images: that are tested.
        half_width: of the interval.
        half_width_low: lower end of its range.
        half_width_high: upper end.
        shown: the true difference that would be shown with a power of 80 %.
        shown_low: lower end of its range.
        shown_high: upper end.
    """

    replicates: int
    images: int
    half_width: float
    half_width_low: float
    half_width_high: float
    shown: float
    shown_low: float
    shown_high: float


class ArmsApart(Interval):
    """The verdict's metric on some of the test images.

    Attributes:
        arms: arm -> mean over the replicates.
    """

    arms: dict[Arm, float]


class Verdict(Interval):
    """What the evidence says, by a rule that is fixed beforehand.

    Attributes:
        decision: of the first look that decides; unstable where some replicates of an arm failed and others did not.
        metric: of which.
        power: with which the minimum detectable difference would be shown.
        looks: that have been reached, in their order; the interval above is the last one's.
        reached_at: replicates at the look that decided; None where none did.
        units: what was drawn, images by themselves or groups of them.
        effective_units: how many of equal size would say as much.
        standard_errors: of the estimate: the part of the replicates, and that of the images that they share.
        near_duplicates: test images that look like a training or validation image of their replicate, on average.
        without_near_duplicates: the metric of both arms, and the difference, without these.
    """

    decision: Decision
    metric: Metric
    power: float
    looks: list[Look]
    reached_at: int | None
    units: Literal["images", "groups"]
    effective_units: float
    standard_errors: dict[str, float]
    near_duplicates: float
    without_near_duplicates: ArmsApart | None


class GoalMetric(Record):
    """One metric of a goal: its mean, whether that meets the threshold, and how many replicates do."""

    value: float
    met: bool
    replicates_meeting: int


Content = TypeVar("Content")


class ByArm(Record, Generic[Content]):
    """The same of both arms."""

    baseline: Content
    differential: Content

    def arm(self, arm: Arm) -> Content:
        """Return that of one arm."""
        return self.baseline if arm == "baseline" else self.differential


class ArmGoal(Record):
    """How an arm stands to the goal: in the mean, in so many replicates, and by each metric."""

    met: bool
    replicates_meeting: int
    val_accuracy: GoalMetric
    train_accuracy: GoalMetric


class GoalResult(ByArm[ArmGoal]):
    """The thresholds, and how both arms stand to them."""

    val_accuracy_above: float
    train_accuracy_below: float


class ArmFailures(Record):
    """Seeds of an arm whose loss was not finite, and seeds whose network takes every test image for one class."""

    diverged: list[int] = []
    collapsed: list[int] = []

    @property
    def seeds(self) -> list[int]:
        """All of them."""
        return sorted({*self.diverged, *self.collapsed})


class Failures(ByArm[ArmFailures]):
    """The replicates that failed. They count: one that diverged as the majority class, with a loss of ln C."""

    def of(self, arm: Arm) -> list[int]:
        """Return the seeds of an arm that failed."""
        return self.arm(arm).seeds


class McNemar(Record):
    """Images that one arm alone gets right, and McNemar's exact p of whether they are as many."""

    baseline_only_correct: int
    differential_only_correct: int
    p_value: float


class Comparison(ByArm[Summary]):
    """Both arms over their replicates, their difference by seed, and its intervals.

    Attributes:
        interval: metric -> interval of the difference.
    """

    difference: Summary
    interval: dict[str, Interval]


class SplitComparison(Comparison):
    """A comparison on the images of one split, in evaluation mode.

    Attributes:
        interval: of every metric that may be the verdict's.
        mcnemar: seed -> its test; it concerns one pair of networks.
    """

    interval: dict[Metric, Interval]  # type: ignore[assignment]
    mcnemar: dict[int, McNemar]


class TrainingComparison(Record):
    """Differences of what was measured while training; the arms themselves stand in metrics/ARM.json."""

    difference: Summary
    interval: dict[str, Interval]


class Evaluation(Record):
    """metrics/evaluation.json.

    Attributes:
        verdict: on the test images.
        failures: replicates that diverged or collapsed.
        plan: what more replicates and test images would bring, for the verdict's metric.
        goal: the thresholds, and how the arms stand to them.
        training: differences of training metrics as counted while the network learns.
        eval_mode: the overfitting gap with both accuracies measured in evaluation mode.
        train: comparison on the training images.
        val: on the validation images.
        test: on the test images.
        relative_weight_change: of each layer group, L2 norm of the change over that of the first weights.
        linear_cka: of each layer group, similarity of its features before and after training.
    """

    verdict: Verdict
    failures: Failures
    plan: list[PlannedInterval]
    goal: GoalResult
    training: TrainingComparison
    eval_mode: Comparison
    train: SplitComparison
    val: SplitComparison
    test: SplitComparison
    relative_weight_change: ByArm[Summary]
    linear_cka: ByArm[Summary]

    def split(self, split: Split) -> SplitComparison:
        """Return the comparison on one split."""
        comparison: SplitComparison = getattr(self, split)
        return comparison

    @property
    def replicates(self) -> int:
        """How many seeds both arms were trained with."""
        return len(self.test.difference.seeds)


def failure_bound(replicates: int) -> float:
    """Return the rate of failures that is still possible, at 95 %, where none of so many replicates failed."""
    return float(1 - 0.05 ** (1 / replicates))


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_prepare_metrics() -> PrepareMetrics:
    """Read metrics/prepare.json."""
    return read_record(METRICS / "prepare.json", PrepareMetrics)


def read_split_metrics() -> SplitMetrics:
    """Read metrics/splits.json."""
    return read_record(METRICS / "splits.json", SplitMetrics)


def read_training_metrics() -> dict[Arm, TrainingMetrics]:
    """Read metrics/ARM.json of both arms."""
    return {arm: read_record(METRICS / f"{arm}.json", TrainingMetrics) for arm in ARMS}


def read_evaluation() -> Evaluation:
    """Read metrics/evaluation.json."""
    return read_record(METRICS / "evaluation.json", Evaluation)


def read_record(path: Path, schema: type[AnyRecord], command: str = "dvc repro") -> AnyRecord:
    """Read one file.

    Args:
        path: of the file.
        schema: of its content.
        command: that makes it.

    Raises:
        UserError: it is missing, is not JSON, or is not what the stage that makes it writes.
    """
    try:
        return schema.model_validate(read_json(path, command))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place}: {first['msg']}: run `{command}`, which makes it anew") from None
