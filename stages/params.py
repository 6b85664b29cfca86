"""The schema of params.yaml: the one place that knows every parameter, its type and its bounds."""

import difflib
import itertools
import math
import re
import reprlib
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from stages.errors import UserError, has_password, run_cli, without_passwords
from stages.yaml12 import read_yaml

PARAMS_FILE = Path("params.yaml")

Arm = Literal["baseline", "differential"]
ARMS: tuple[Arm, ...] = get_args(Arm)

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

Augmentation = Literal[
    "horizontal_flip", "vertical_flip", "quarter_turn", "random_resized_crop", "color_jitter", "random_erasing"
]

Granularity = Literal["stages", "blocks"]


def _without_repeats(values: list[Any]) -> list[Any]:
    if twice := [value for value, times in Counter(values).items() if times > 1]:
        raise ValueError(f"{twice[0]} stands there twice")
    return values


def _one_group(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression ({error})") from None
    if groups != 1:
        raise ValueError(f"{pattern!r} should have one pair of brackets around what names the group, has {groups}")
    return pattern


def _some_or_none(alpha: float) -> float:
    if 0 < alpha < SMALLEST_ALPHA:
        raise ValueError(f"{alpha:g} is too small to draw with; set 0 for none, or {SMALLEST_ALPHA:g} at least")
    return alpha


SMALLEST_ALPHA = 0.001
Alpha = Annotated[float, Field(ge=0, le=1000), AfterValidator(_some_or_none)]
Count = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
PositiveRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A part of params.yaml: its keys are all known, its types are taken at their word, its values stay."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SplitFractions(Section):
    """Fractions of the images."""

    train: Fraction
    val: Fraction
    test: Fraction


class MaxImages(Section):
    """The most images that are taken; null takes all."""

    train: Count | None
    val: Count | None
    test: Count | None
    per_class: Count | None


class Data(Section):
    """Which images, at which size, split how, and what to do about those that cannot be used."""

    source: Literal["elpv", "fake", "folder", "table", "torchvision"]
    path: Annotated[str, Field(min_length=1)]
    table: Annotated[str, Field(min_length=1)] | None
    dataset: Annotated[str, Field(min_length=1)] | None
    group_pattern: Annotated[str, Field(min_length=1), AfterValidator(_one_group)] | None
    labels: Literal["confident", "all"]
    threshold: Annotated[float, Field(ge=0, lt=1)]
    # Five halvings, as in every network of the ResNet line, leave less than one pixel of anything smaller.
    image_size: Annotated[int, Field(ge=32, le=4096)]
    color: Literal["auto", "gray", "rgb"]
    development: Annotated[float, Field(ge=0, lt=1)]
    part: Literal["main", "development"]
    split: SplitFractions
    folds: Annotated[int, Field(ge=2, le=100)] | None
    split_by: Literal["stratified", "hash"]
    max_images: MaxImages
    seed: Seed
    on_bad_image: Literal["error", "skip"]
    allow_leaks: bool
    max_megapixels: Annotated[float, Field(gt=0, allow_inf_nan=False)]

    @model_validator(mode="after")
    def _the_source_is_named_whole(self) -> Self:
        for source, key in (("table", "table"), ("torchvision", "dataset")):
            if self.source == source and getattr(self, key) is None:
                raise ValueError(f"{key} must be set where source is {source}")
        return self

    @model_validator(mode="after")
    def _the_fractions_fit(self) -> Self:
        test = 1 / self.folds if self.folds else self.split.test
        total = math.fsum((self.split.train, self.split.val, test))
        if total > 1 + 1e-9:
            folds = f", with 1/{self.folds} for each of the folds," if self.folds else ""
            raise ValueError(f"the fractions of split{folds} add up to {total:g}, which is more than 1")
        return self

    @model_validator(mode="after")
    def _there_is_a_development_part(self) -> Self:
        if self.part == "development" and not self.development:
            raise ValueError("part is development, which is empty: set development above 0")
        return self


class Model(Section):
    """Which network, with which weights to start from."""

    # `model_` is an ordinary beginning of a name here.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    library: Literal["timm", "torchvision"]
    name: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    layer_groups: Granularity


def _ascending(ends: list[float]) -> list[float]:
    if ends[0] > ends[1]:
        raise ValueError(f"goes from the stem's rate up to the head's, so {ends} is the wrong way round")
    return ends


LayerDecay = Annotated[float, Field(gt=0, le=1)]
GroupName = Annotated[str, Field(min_length=1)]
LearningRateRange = Annotated[list[PositiveRate], Field(min_length=2, max_length=2), AfterValidator(_ascending)]


class Policy(Section):
    """The keys that give the layer groups of one arm their rates, per step, and their first epochs.

    `stages/rates/policies.py` says which of them may stand together and what they mean.
    """

    uniform: Rate | None = None
    backbone: Rate | None = None
    head: Rate | None = None
    layer_decay: LayerDecay | None = None
    range: LearningRateRange | None = None
    groups: dict[GroupName, Rate] | None = None
    head_only_epochs: Annotated[int, Field(ge=0)] = 0
    gradual_unfreezing: bool = False


class LearningRates(Section):
    """The learning rates of both arms. The baseline reads `uniform` and `baseline`, the differential arm the rest."""

    uniform: Rate
    backbone: Rate
    head: Rate
    layer_decay: LayerDecay | None
    range: LearningRateRange | None
    groups: dict[GroupName, Rate] | None
    head_only_epochs: Annotated[int, Field(ge=0)]
    gradual_unfreezing: bool
    baseline: Policy | None


class Optimizer(Section):
    """The rule that turns gradients and rates into steps."""

    name: Literal["sgd", "adam", "adamw"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    weight_decay_on_bias_and_norm: bool
    clip_grad_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.name == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum; set momentum above 0")
        return self


class Schedule(Section):
    """How the rates change from step to step: one multiplier for all of them."""

    name: Literal["constant", "cosine", "linear", "one_cycle", "step"]
    warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    warmup_unit: Literal["epochs", "steps"]
    step_size: Annotated[int, Field(ge=1)]
    gamma: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _one_warmup(self) -> Self:
        if self.name == "one_cycle" and self.warmup:
            raise ValueError("one_cycle warms up by itself; set warmup to 0")
        return self


class Train(Section):
    """How long, how, and on what each replicate is trained."""

    epochs: Annotated[int, Field(ge=1, le=100_000)]
    # BatchNorm needs two images to speak of a variance.
    batch_size: Annotated[int, Field(ge=2)]
    grad_accum_steps: Annotated[int, Field(ge=1)]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_without_repeats)]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    workers: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)]
    threads: Annotated[int, Field(ge=1, le=1024)]
    engine: Literal["local", "ray"]
    augment: Annotated[list[Augmentation], AfterValidator(_without_repeats)]
    crop_area: Fraction
    color_strength: Fraction
    mixup: Alpha
    cutmix: Alpha
    batchnorm: Literal["update", "freeze"]
    frozen_batchnorm: Literal["freeze", "update"]
    ddp_batchnorm: Literal["sync", "local"]
    on_divergence: Literal["stop", "record"]

    @model_validator(mode="after")
    def _every_piece_has_two_images(self) -> Self:
        if 2 * self.grad_accum_steps > self.batch_size:
            raise ValueError(
                f"grad_accum_steps: {self.grad_accum_steps} pieces of a batch of {self.batch_size} have fewer than two "
                f"images; set it to {self.batch_size // 2} at most"
            )
        return self


class Resume(Section):
    """How often the state of a training is saved until it is finished. It changes no result."""

    save_every_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Ray(Section):
    """Which Ray cluster trains, where `train.engine` is ray. It changes no result."""

    address: Annotated[str, Field(min_length=1)] | None
    folder: Annotated[str, Field(min_length=1)] | None
    mix_processors: bool


class ReplicateStore(Section):
    """How much room finished replicates may take, which are then not trained again. It changes no result."""

    max_gib: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Goal(Section):
    """Thresholds that a goal sets for one arm, as fractions."""

    val_accuracy_above: Annotated[float, Field(ge=0, le=1)]
    train_accuracy_below: Annotated[float, Field(ge=0, le=1)]


Metric = Literal["accuracy", "balanced_accuracy", "macro_f1", "roc_auc", "loss", "brier"]
HIGHER_IS_BETTER: dict[Metric, bool] = {
    "accuracy": True,
    "balanced_accuracy": True,
    "macro_f1": True,
    "roc_auc": True,
    "loss": False,
    "brier": False,
}


def _ascending_looks(looks: list[int]) -> list[int]:
    if any(later <= earlier for earlier, later in itertools.pairwise(looks)):
        raise ValueError(f"should grow from look to look, is {looks}")
    return looks


class Evidence(Section):
    """What decides, and after how many replicates one looks."""

    metric: Metric
    looks: Annotated[list[Annotated[int, Field(ge=2)]], Field(min_length=1), AfterValidator(_ascending_looks)] | None


class SearchRange(Section):
    """Where a parameter of the search is drawn from. Two whole numbers give whole numbers.

    Attributes:
        low: end of the range.
        high: end of the range.
        log: whether every factor is as likely as another, or every step.
        times: another parameter of the space, which the draw is multiplied by.
    """

    low: Annotated[int | float, Field(ge=0, allow_inf_nan=False)]
    high: Annotated[int | float, Field(gt=0, allow_inf_nan=False)]
    log: bool = True
    times: str | None = None

    @model_validator(mode="after")
    def _there_is_something_between(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low should be below high, is {self.low:g} and {self.high:g}")
        if self.log and not self.low:
            raise ValueError("low should be above 0 where log is true")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether whole numbers are drawn."""
        return isinstance(self.low, int) and isinstance(self.high, int) and self.times is None


Overrides = dict[str, dict[str, Any]]  # section -> key -> value
SearchSpace = dict[str, dict[str, SearchRange]]  # likewise


class Study(Section):
    """One search: what it changes in params.yaml, and what it draws, both section by section."""

    set: Overrides = {}
    space: SearchSpace


class TrialPruning(Section):
    """When a trial is given up: a validation loss above so many times that of guessing, from an epoch's end on."""

    after_epoch: Annotated[int, Field(ge=1)]
    loss_above: Annotated[float, Field(gt=0, allow_inf_nan=False)]


SearchArm = Literal["baseline", "differential", "layer_decay"]
Sampler = Literal["random", "qmc", "gp"]
Objective = Literal["val_loss", "val_accuracy"]
METRIC_OF: dict[Objective, Metric] = {"val_loss": "loss", "val_accuracy": "accuracy"}


def _without_password(storage: Any) -> Any:
    if has_password(str(storage)):
        raise ValueError(
            "a password does not belong here, where Git keeps it and everyone reads it; take it out of the URL, and "
            "set it in PGPASSWORD or ~/.pgpass"
        )
    return storage


# Before its type is looked at: a message about that would show it.
StorageUrl = Annotated[str, Field(min_length=1), BeforeValidator(_without_password)]
STUDY_NAME = r"^[a-z0-9][a-z0-9_-]*$"
StudyName = Annotated[str, Field(pattern=STUDY_NAME)]


class Search(Section):
    """How both arms are tuned alike."""

    trials: Annotated[int, Field(ge=2, le=10_000)]
    repeats: Annotated[int, Field(ge=1)]
    replicates: Annotated[int, Field(ge=1, le=100)]
    epochs: Annotated[int, Field(ge=1)] | None
    objective: Objective
    sampler: Sampler
    pruning: TrialPruning | None
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    storage: StorageUrl
    studies: Annotated[dict[StudyName, Study], Field(min_length=1)]

    def study(self, name: str) -> Study:
        """Return a study by its name.

        Raises:
            UserError: there is none of this name.
        """
        if name not in self.studies:
            raise UserError(
                f"search.studies: there is no {name or 'study without a name'}; known are {', '.join(self.studies)}"
            )
        return self.studies[name]

    @model_validator(mode="after")
    def _repeats_are_equally_long(self) -> Self:
        if self.trials % self.repeats or self.trials == self.repeats:
            raise ValueError(
                f"{self.trials} trials are no {self.repeats} searches of two trials or more, all equally long; let "
                f"trials be a multiple of repeats"
            )
        return self


class Review(Section):
    """What a reviewer compares."""

    arm: Arm


class Params(Section):
    """The whole of params.yaml."""

    data: Data
    model: Model
    lr: LearningRates
    optimizer: Optimizer
    schedule: Schedule
    train: Train
    resume: Resume
    ray: Ray
    replicate_store: ReplicateStore
    evidence: Evidence
    goal: Goal
    review: Review
    search: Search

    @model_validator(mode="after")
    def _warmup_is_shorter_than_training(self) -> Self:
        if self.schedule.warmup_unit == "epochs" and self.schedule.warmup >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup: {self.schedule.warmup:g} epochs leave nothing of the {self.train.epochs} epochs; "
                f"set it below train.epochs"
            )
        return self

    @model_validator(mode="after")
    def _looks_and_folds_fit_the_replicates(self) -> Self:
        replicates, looks, folds = len(self.train.seeds), self.evidence.looks, self.data.folds
        if looks and replicates not in looks:
            raise ValueError(
                f"evidence.looks: {replicates} seeds in train.seeds are none of the declared looks {looks}; train as "
                f"many as one of them, or set evidence.looks to null where {replicates} were fixed beforehand"
            )
        uneven = [number for number in [replicates, *(looks or [])] if folds and number % folds]
        if uneven:
            raise ValueError(
                f"data.folds: {uneven[0]} replicates do not test each image equally often; let train.seeds and "
                f"evidence.looks have multiples of {folds}"
            )
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read params.yaml and check it against the schema.

    Raises:
        UserError: the file is missing, is not YAML, or breaks the schema; every problem has its line.
    """
    return check_schema(read_params(path), path)


def read_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """Read params.yaml, and check nothing but that it has sections.

    Raises:
        UserError: the file is missing or is not YAML.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this in the project's folder") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; make it a file that you may read") from None
    except Exception as error:  # beside YAMLError, whatever its content can make int() and the stack raise
        reason = " ".join(without_passwords(str(error)).split())[:300]
        raise UserError(f"{path} cannot be read as YAML; mend it: {reason}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold sections such as `lr:`")
    return content


def check_schema(content: dict[str, Any], path: Path = PARAMS_FILE) -> Params:
    """Return the content of params.yaml as checked sections.

    Raises:
        UserError: it breaks the schema; every problem has its line.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise params_error(_problems(error), path) from None


def schema_problems(content: dict[str, Any]) -> list[str]:
    """Return everything in which the content of params.yaml breaks the schema, each as `lr.head: what is wrong`."""
    try:
        Params.model_validate(content)
    except ValidationError as error:
        return _problems(error)
    return []


def params_error(problems: list[str], path: Path = PARAMS_FILE) -> UserError:
    """Return the error that lists all problems of params.yaml, a line for each."""
    return UserError("\n       ".join(f"{path}: {problem}" for problem in problems))


def _problems(error: ValidationError) -> list[str]:
    # What is neither of two kinds of number is told once.
    floats = {(*problem["loc"][:-1], "int") for problem in error.errors() if problem["loc"][-1:] == ("float",)}
    return sorted({_describe_problem(problem) for problem in error.errors() if problem["loc"] not in floats})


def _describe_problem(problem: Any) -> str:
    """One problem that pydantic found, as `lr.head: what is wrong (is VALUE)`."""
    place = ".".join(str(key) for key in problem["loc"] if key != "[key]").removesuffix(".float")
    match problem["type"]:
        case "value_error" if not place:  # it concerns several sections, and names them itself
            return str(problem["ctx"]["error"])
        case "extra_forbidden":
            return f"{place}: unknown key{_closest_keys(problem['loc'])}"
        case "missing":
            return f"{place}: missing; `python -m stages.params --explain {place}` says what it is"
        case "value_error":
            return f"{place}: {problem['ctx']['error']}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{place}: should hold keys with values, is {reprlib.repr(problem['input'])}"
        case _:
            wish = re.sub("^(Input|List|Dictionary) ", "", problem["msg"]).split(" after validation")[0]
            return f"{place}: {wish}, is {reprlib.repr(problem['input'])}"


def _closest_keys(location: tuple[str | int, ...]) -> str:
    """The known keys at that place, the one that was probably meant first."""
    section: Any = Params
    for key in location[:-1]:
        is_dict = get_origin(section) is dict  # whose keys are the user's
        section = get_args(section)[1] if is_dict else section.model_fields[key].annotation
        if get_origin(section) is not dict:
            section = next((kind for kind in get_args(section) if kind is not type(None)), section)  # of `X | None`
    known = list(section.model_fields)
    meant = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {meant[0]}?" if meant else f"; known are {', '.join(known)}"


def main() -> None:
    """Explain parameters, or print their schema: `python -m stages.params`."""
    from stages.explain_params import main as explain  # which no stage needs

    explain()


if __name__ == "__main__":
    run_cli(main)
