"""The schema of params.yaml: the one place that knows every knob, its type and its bounds.

`python -m stages.params` checks the file and says everything that is wrong with it at once.
"""

import argparse
import difflib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.errors import UserError, run

PARAMS_FILE = Path("params.yaml")

Arm = Literal["baseline", "differential"]
ARMS: tuple[Arm, ...] = get_args(Arm)

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

Augmentation = Literal["horizontal_flip", "vertical_flip", "quarter_turn"]


def _without_repeats(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("an entry stands there twice")
    return values


Fraction = Annotated[float, Field(gt=0, lt=1)]
Rate = Annotated[float, Field(ge=0, allow_inf_nan=False)]
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


class Data(Section):
    """Which images, at which size, split how."""

    source: Literal["elpv", "fake"]
    labels: Literal["confident", "all"]
    # Five halvings, as in every network of the ResNet line, leave less than one pixel of anything smaller.
    image_size: Annotated[int, Field(ge=32, le=4096)]
    split: Split
    seed: Seed


class Model(Section):
    """Which network, with which weights to start from."""

    # `model_` is an ordinary beginning of a name here.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())

    library: Literal["timm", "torchvision"]
    name: Annotated[str, Field(min_length=1)]
    weights: Annotated[str, Field(min_length=1)]


class Rates(Section):
    """The learning rates of both arms, per step."""

    uniform: Rate
    backbone: Rate
    head: Rate

    @model_validator(mode="after")
    def _something_learns(self) -> Self:
        frozen = []
        if not self.uniform:
            frozen.append("uniform is 0, so the baseline would train nothing")
        if not self.backbone and not self.head:
            frozen.append("backbone and head are 0, so the differential arm would train nothing")
        if frozen:
            raise ValueError(f"{'; '.join(frozen)}; set a rate above 0")
        return self


class Optimizer(Section):
    """The rule that turns gradients and rates into steps."""

    name: Literal["sgd", "adam", "adamw"]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Train(Section):
    """How long, how, and on what each replicate is trained."""

    epochs: Annotated[int, Field(ge=1)]
    # BatchNorm needs two images to speak of a variance.
    batch_size: Annotated[int, Field(ge=2)]
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(_without_repeats)]
    device: Literal["auto", "cpu", "cuda"]
    precision: Literal["auto", "float32", "bfloat16"]
    threads: Annotated[int, Field(ge=1)]
    augment: Annotated[list[Augmentation], AfterValidator(_without_repeats)]


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
    train: Train
    goal: Goal
    review: Review


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
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
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
    place = ".".join(map(str, problem["loc"]))
    match problem["type"]:
        case "extra_forbidden":
            return f"{place}: unknown key{_nearest(problem['loc'])}"
        case "missing":
            return f"{place}: missing"
        case "value_error":
            return f"{place}: {problem['ctx']['error']}"
        case _:
            wish = problem["msg"].removeprefix("Input should be ")
            return f"{place}: should be {wish}, is {problem['input']!r}"


def _nearest(location: tuple[str | int, ...]) -> str:
    """The known keys at that place, the one that was probably meant first."""
    section: Any = Params
    for key in location[:-1]:
        section = section.model_fields[key].annotation
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
