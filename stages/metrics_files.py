"""The schema of the JSON files under metrics/, and the one place that reads them.

What a stage writes there another one reads back: what is missing or of another kind is an error that names the file and
the key. An accuracy is a fraction, a loss is in nats, and a difference is differential − baseline.
"""

from pathlib import Path
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stages.aggregate import Metrics
from stages.errors import UserError
from stages.files import METRICS, read_json
from stages.params import ARMS, Arm, Split

Decision = Literal["better", "worse", "no difference shown"]


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
        mean: over the replicates that came to an end, of the last epoch; None where none did.
        std: likewise.
        seeds: each of them.
        diverged: seed -> where, of the others.
    """

    learning_rates: Metrics
    mean: Metrics | None = None
    std: dict[str, float | None] | None = None
    seeds: dict[int, Metrics] = {}
    diverged: dict[int, DivergenceRecord] = {}


class SplitCounts(Record):
    """How many images a split has, and of each class."""

    images: int
    classes: dict[str, int]


class PrepareMetrics(Record):
    """metrics/prepare.json.

    Attributes:
        images: in all splits.
        skipped: images that cannot be used.
        unassigned: images that no split takes.
        image_size: height and width in pixels.
        channels: 1 for gray, 3 for RGB.
        train: one of the splits.
        val: likewise.
        test: likewise.
        checks: check -> findings.
    """

    images: int
    skipped: int
    unassigned: int
    image_size: int
    channels: Literal[1, 3]
    train: SplitCounts
    val: SplitCounts
    test: SplitCounts
    checks: dict[str, int]

    def counts(self, split: Split) -> SplitCounts:
        """Return the counts of one split."""
        counts: SplitCounts = getattr(self, split)
        return counts


class Interval(Record):
    """An estimate and what chance leaves open.

    Attributes:
        estimate: differential − baseline.
        low: lower end of the interval; None where there is no spread to take it from: a single replicate, or arms that
            differ by the same everywhere.
        high: its upper end.
        minimum_detectable_difference: the true difference that data like these would show with a power of about 80 %.
    """

    estimate: float
    low: float | None
    high: float | None
    minimum_detectable_difference: float | None

    def clipped(self, most: float) -> "Interval":
        """Return the interval without what no difference can reach, from -most to most."""
        if self.low is None or self.high is None:
            return self
        return self.model_copy(update={"low": max(self.low, -most), "high": min(self.high, most)})


class Verdict(Interval):
    """What the evidence says, by a rule that is fixed beforehand.

    Attributes:
        decision: by the interval.
        metric: of which, on which images.
        level: of the interval.
        power: with which the minimum detectable difference would be shown.
    """

    decision: Decision
    metric: str
    level: float
    power: float


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
        mcnemar: seed -> its test.
    """

    mcnemar: dict[int, McNemar]


class TrainingComparison(Record):
    """Differences of what was measured while training; the arms themselves stand in metrics/ARM.json."""

    difference: Summary
    interval: dict[str, Interval]


class Evaluation(Record):
    """metrics/evaluation.json.

    Attributes:
        verdict: on the test images.
        diverged: arm -> seeds that did not come to an end, of the arms that have any.
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
    diverged: dict[Arm, list[int]] = {}
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
        """How many seeds came to an end in both arms."""
        return len(self.test.difference.seeds)


AnyRecord = TypeVar("AnyRecord", bound=Record)


def read_prepare_metrics() -> PrepareMetrics:
    """Read metrics/prepare.json."""
    return _read(METRICS / "prepare.json", PrepareMetrics)


def read_training_metrics() -> dict[Arm, TrainingMetrics]:
    """Read metrics/ARM.json of both arms."""
    return {arm: _read(METRICS / f"{arm}.json", TrainingMetrics) for arm in ARMS}


def read_evaluation() -> Evaluation:
    """Read metrics/evaluation.json."""
    return _read(METRICS / "evaluation.json", Evaluation)


def _read(path: Path, schema: type[AnyRecord]) -> AnyRecord:
    """Read one file.

    Raises:
        UserError: it is missing, is not JSON, or is not what the stage that makes it writes.
    """
    try:
        return schema.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{path}: {place}: {first['msg']}: run `dvc repro`, which makes it anew") from None
