"""The schema of params.yaml: the one place that knows every knob, its type and its bounds.

`python -m stages.params` checks the file and says everything that is wrong with it at once.
"""

import argparse
import difflib
import math
import re
import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML

from stages.errors import UserError, run

PARAMS_FILE = Path("params.yaml")

Arm = Literal["baseline", "differential"]
ARMS: tuple[Arm, ...] = get_args(Arm)

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

Augmentation = Literal[
    "horizontal_flip", "vertical_flip", "quarter_turn", "random_resized_crop", "color_jitter", "random_erasing"
]

Grain = Literal["stages", "blocks"]


def _without_repeats(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("an entry stands there twice")
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


class Split(Section):
    """Fractions of the images."""

    train: Fraction
    val: Fraction
    test: Fraction

    @model_validator(mode="after")
    def _fits(self) -> Self:
        total = math.fsum((self.train, self.val, self.test))
        if total > 1 + 1e-9:
            raise ValueError(f"the fractions add up to {total:g}, which is more than 1")
        return self


class Cap(Section):
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
    colour: Literal["auto", "grey", "rgb"]
    split: Split
    split_by: Literal["count", "hash"]
    cap: Cap
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


class Model(Section):
    """Which network, with which weights to start from."""

    # `model_` is an ordinary beginning of a name here.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    library: Literal["timm", "torchvision"]
    name: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]
    layer_groups: Grain


Decay = Annotated[float, Field(gt=0, le=1)]
GroupName = Annotated[str, Field(min_length=1)]
RateRange = Annotated[list[PositiveRate], Field(min_length=2, max_length=2)]


class Policy(Section):
    """How one arm gives each layer group its rate, per step, and from which epoch on.

    The rates come in one of four ways: `uniform`, `backbone` and `head`, `head` and `decay`, or `range`.
    """

    uniform: Rate | None = None
    backbone: Rate | None = None
    head: Rate | None = None
    decay: Decay | None = None
    range: RateRange | None = None
    groups: dict[GroupName, Rate] | None = None
    head_first: Annotated[int, Field(ge=0)] = 0
    gradual_unfreezing: bool = False

    def rates(self) -> dict[str, Any]:
        """Give the keys that say a rate, with what they say."""
        return self.model_dump(include=RATE_KEYS, exclude_none=True)

    @property
    def problem(self) -> str | None:
        """What keeps these keys from being a policy."""
        given, groups = self.rates(), self.groups or {}
        if set(given) not in ONE_WAY:
            return "give uniform, or backbone and head, or head and decay, or range, and no mixture of them"
        if self.range and self.range[0] > self.range[1]:
            return f"range goes from the stem's rate up to the head's, so {self.range} is the wrong way round"
        zero = [key for key in ("uniform", "backbone", "head") if given.get(key) == 0]
        if not self.range and len(zero) == len(set(given) - {"decay"}) and not any(groups.values()):
            are = f"{' and '.join(zero)} {'are' if len(zero) > 1 else 'is'} 0"
            return f"{are}, so this arm would train nothing; set a rate above 0"
        head = groups.get("head", 1 if self.range else given.get("head", self.uniform))
        if not head and (self.head_first or self.gradual_unfreezing):
            phase = "head_first" if self.head_first else "gradual_unfreezing"
            return f"the head's rate is 0, but {phase} trains it alone first; set it above 0"
        return None

    @property
    def freezes_the_backbone(self) -> bool:
        """Whether the head alone learns at all."""
        return self.backbone == 0 and not any(rate for group, rate in (self.groups or {}).items() if group != "head")


RATE_KEYS = {"uniform", "backbone", "head", "decay", "range"}
ONE_WAY = ({"uniform"}, {"backbone", "head"}, {"head", "decay"}, {"range"})


class Rates(Section):
    """The learning rates of both arms. The baseline reads `uniform` and `baseline`, the differential arm the rest."""

    uniform: Rate
    backbone: Rate
    head: Rate
    decay: Decay | None
    range: RateRange | None
    groups: dict[GroupName, Rate] | None
    head_first: Annotated[int, Field(ge=0)]
    gradual_unfreezing: bool
    baseline: Policy | None

    def policy(self, arm: Arm) -> Policy:
        """Give an arm's policy: what it says itself, or what the flat keys say."""
        if arm == "baseline":
            own = self.baseline or Policy()
            return own if own.rates() else own.model_copy(update={"uniform": self.uniform})
        return Policy(
            backbone=None if self.range or self.decay else self.backbone,
            head=None if self.range else self.head,
            decay=self.decay,
            range=self.range,
            groups=self.groups,
            head_first=self.head_first,
            gradual_unfreezing=self.gradual_unfreezing,
        )

    @model_validator(mode="after")
    def _every_arm_has_a_policy(self) -> Self:
        if self.decay and self.range:
            raise ValueError("decay and range both take the place of backbone; set one of them to null")
        problems = [f"{arm}: {problem}" for arm in ARMS if (problem := self.policy(arm).problem)]
        if problems:
            raise ValueError("; ".join(problems))
        return self


# Where params.yaml keeps what an arm's policy adds to its rates.
PLACES: dict[Arm, str] = {"baseline": "lr.baseline", "differential": "lr"}


class Optimizer(Section):
    """The rule that turns gradients and rates into steps."""

    name: Literal["sgd", "adam", "adamw"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    nesterov: bool
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    decay_biases_and_norms: bool
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.name == "sgd" and self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum; set momentum above 0")
        return self


class Schedule(Section):
    """How the rates change from step to step: one scale for all of them."""

    name: Literal["constant", "cosine", "linear", "one_cycle", "step"]
    warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    warmup_unit: Literal["epochs", "steps"]
    step_every: Annotated[int, Field(ge=1)]
    step_factor: Annotated[float, Field(gt=0, lt=1)]

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
    accumulate: Annotated[int, Field(ge=1)]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_without_repeats)]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    threads: Annotated[int, Field(ge=1, le=1024)]
    augment: Annotated[list[Augmentation], AfterValidator(_without_repeats)]
    crop_area: Fraction
    color_strength: Fraction
    mixup: Alpha
    cutmix: Alpha
    batchnorm: Literal["update", "freeze"]
    frozen_batchnorm: Literal["freeze", "update"]
    on_divergence: Literal["stop", "record"]

    @model_validator(mode="after")
    def _every_piece_has_two_images(self) -> Self:
        if 2 * self.accumulate > self.batch_size:
            raise ValueError(
                f"accumulate: {self.accumulate} pieces of a batch of {self.batch_size} have fewer than two images; "
                f"set it to {self.batch_size // 2} at most"
            )
        return self


class Unfinished(Section):
    """How training keeps its state until it is finished. It changes no result."""

    save_every: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Goal(Section):
    """What the story asks for."""

    val_accuracy_above: Annotated[float, Field(ge=0, le=1)]
    train_accuracy_below: Annotated[float, Field(ge=0, le=1)]


class Review(Section):
    """What a reviewer compares."""

    arm: Arm


class Params(Section):
    """The whole of params.yaml."""

    data: Data
    model: Model
    lr: Rates
    optimizer: Optimizer
    schedule: Schedule
    train: Train
    unfinished: Unfinished
    goal: Goal
    review: Review

    @model_validator(mode="after")
    def _every_phase_has_its_epochs(self) -> Self:
        for arm, place in PLACES.items():
            policy = self.lr.policy(arm)
            if policy.head_first >= self.train.epochs and not policy.freezes_the_backbone:
                raise ValueError(
                    f"{place}.head_first: {policy.head_first} leaves the backbone none of the {self.train.epochs} "
                    f"epochs; set it below train.epochs, or the backbone's rate to 0 to train the head alone"
                )
        if self.schedule.warmup_unit == "epochs" and self.schedule.warmup >= self.train.epochs:
            raise ValueError(
                f"schedule.warmup: {self.schedule.warmup:g} epochs leave nothing of the {self.train.epochs} epochs; "
                f"set it below train.epochs"
            )
        return self


def load_params(path: Path = PARAMS_FILE) -> Params:
    """Read params.yaml and hold it against the schema.

    Raises:
        UserError: the file is missing, is not YAML, or breaks the schema; every problem has its line.
    """
    try:
        # YAML 1.2, as DVC reads it: to a YAML 1.1 reader 1e-4 would be text.
        content = YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: run this in the project's folder") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # beside YAMLError, whatever its content can make int() and the stack raise
        raise UserError(f"{path} cannot be read as YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold sections such as `lr:`")
    return check_params(content, path)


def check_params(content: dict[str, Any], path: Path = PARAMS_FILE) -> Params:
    """Hold the content of params.yaml against the schema.

    Raises:
        UserError: it breaks the schema; every problem has its line.
    """
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        problems = sorted({_in_the_users_words(problem) for problem in error.errors()})
        raise UserError("\n       ".join(f"{path}: {problem}" for problem in problems)) from None


def _in_the_users_words(problem: Any) -> str:
    """One problem that pydantic found, as `lr.head: what is wrong (is VALUE)`."""
    place = ".".join(str(key) for key in problem["loc"] if key != "[key]")
    match problem["type"]:
        case "value_error" if not place:  # it concerns several sections, and names them itself
            return str(problem["ctx"]["error"])
        case "extra_forbidden":
            return f"{place}: unknown key{_nearest(problem['loc'])}"
        case "missing":
            return f"{place}: missing"
        case "value_error":
            return f"{place}: {problem['ctx']['error']}"
        case "model_type" | "dict_type" | "model_attributes_type":
            return f"{place}: should hold keys with values, is {reprlib.repr(problem['input'])}"
        case _:
            wish = problem["msg"].removeprefix("Input ").removeprefix("List ").split(" after validation")[0]
            return f"{place}: {wish}, is {reprlib.repr(problem['input'])}"


def _nearest(location: tuple[str | int, ...]) -> str:
    """The known keys at that place, the one that was probably meant first."""
    section: Any = Params
    for key in location[:-1]:
        annotation = section.model_fields[key].annotation
        section = next((kind for kind in get_args(annotation) if kind is not type(None)), annotation)  # of `X | None`
    known = list(section.model_fields)
    meant = difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {meant[0]}?" if meant else f"; known are {', '.join(known)}"


def main() -> None:
    """Check params.yaml."""
    argparse.ArgumentParser(prog="python -m stages.params", description=__doc__.split("\n\n")[1]).parse_args()
    load_params()
    print(f"{PARAMS_FILE} is in order")


if __name__ == "__main__":
    run(main)
