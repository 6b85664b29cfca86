"""The space of a search: which arm draws what, from where, and the parameters that a draw comes to."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from stages.errors import UserError
from stages.params import Arm, Data, Params, SearchArm, SearchRange, Study, check_schema, schema_problems
from stages.rates.policies import policy_problems


@dataclass(frozen=True)
class ArmSpace:
    """What makes an arm of the search.

    Attributes:
        rates: the parameters that it needs and no other arm draws.
        trains_as: the arm whose rules it is trained by.
        cleared: keys of `lr` that would stand in the way of its rates.
    """

    rates: tuple[str, ...]
    trains_as: Arm
    cleared: tuple[str, ...]


ARM_SPACES: dict[SearchArm, ArmSpace] = {
    "baseline": ArmSpace(("lr.uniform",), "baseline", ("baseline",)),
    "differential": ArmSpace(("lr.head", "lr.backbone"), "differential", ("layer_decay", "range")),
    "layer_decay": ArmSpace(("lr.head", "lr.layer_decay"), "differential", ("range",)),
}
RATES = {rate for space in ARM_SPACES.values() for rate in space.rates}
# Whose numbers may be drawn: none changes the images or the first weights, which all trials share.
DRAWN_SECTIONS = ("lr", "optimizer", "schedule", "train")
SET_SECTIONS = (*DRAWN_SECTIONS, "model")  # what a study may change; the images are the same for all
FIXED = {"train.seeds", "train.workers", "train.threads"}
DIGITS = 3  # significant ones of a draw, so that what is pasted is what was tried
SEEDS_APART = 100_000  # of the trials of two arms
FIRST_REPEAT = 900_000  # of the seeds of the winners that are trained again


@dataclass(frozen=True)
class Draw:
    """The parameters that one trial of an arm has drawn.

    Attributes:
        arm: that drew them.
        number: of the trial, counted from 0.
        seeds: of its replicates, which no other trial has.
        drawn: dotted name -> what the sampler gave.
        values: dotted name -> the parameter that it means.
    """

    arm: SearchArm
    number: int
    seeds: tuple[int, ...]
    drawn: Mapping[str, float]
    values: Mapping[str, float]

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"{self.arm}, trial {self.number + 1}"


def drawn_ranges(study: Study) -> dict[str, SearchRange]:
    """Return dotted name -> range of everything that a study draws."""
    return {f"{section}.{key}": found for section, keys in study.space.items() for key, found in keys.items()}


def search_arms(study: Study) -> list[SearchArm]:
    """Return the arms whose rates a study draws."""
    return [arm for arm, space in ARM_SPACES.items() if drawn_ranges(study).keys() >= set(space.rates)]


def ranges_of(study: Study, arm: SearchArm) -> dict[str, SearchRange]:
    """Return what an arm draws: its own rates, and what all arms draw, each for itself."""
    ranges = drawn_ranges(study)
    shared = [name for name in ranges if name not in RATES]
    return {name: ranges[name] for name in (*ARM_SPACES[arm].rates, *shared)}


def trial_seeds(params: Params, arm: SearchArm, number: int) -> tuple[int, ...]:
    """Return the seeds of a trial's replicates. They do not depend on how many trials there are."""
    replicates = params.search.replicates
    first = params.search.seed + list(ARM_SPACES).index(arm) * SEEDS_APART + number * replicates
    return tuple(range(first, first + replicates))


def repeat_seeds(params: Params) -> list[int]:
    """Return the seeds of the winners of every independent search; of a single one, none is trained again.

    With folds, as many searches count as make whole rounds of them, so that every image is tested equally often.
    """
    repeats, folds = params.search.repeats, params.data.folds or 1
    used = repeats - repeats % folds if repeats > 1 else 0
    return [params.search.seed + FIRST_REPEAT + number for number in range(used)]


def search_seeds(params: Params) -> list[int]:
    """Return the seeds of all trials of all arms of all studies, which share them."""
    taken = {arm for study in params.search.studies.values() for arm in search_arms(study)}
    numbers = range(params.search.trials)
    return [
        seed for arm in ARM_SPACES if arm in taken for number in numbers for seed in trial_seeds(params, arm, number)
    ]


def search_data(data: Data) -> Data:
    """Return which images the trials train and validate on: the development part; without one, all but the test part.

    Raises:
        UserError: every image is tested by some replicate, so that none is left.
    """
    if data.development:
        split = data.split.model_copy(update={"test": 0.0, **_of_both(data.split.train, data.split.val)})
        return data.model_copy(update={"part": "development", "folds": None, "split": split})
    if data.folds:
        raise UserError(
            "data.folds: every image is tested, so none is left for the search: set data.development above 0, such as "
            "0.33, or data.folds to null"
        )
    return data


def _of_both(train: float, val: float) -> dict[str, float]:
    return {"train": train / (train + val), "val": val / (train + val)}


def study_params(params: Params, name: str, epochs: int | None = None) -> Params:
    """Return the parameters of a study, before anything is drawn.

    Args:
        params: of the experiment.
        name: of the study.
        epochs: of each training; None: what params.yaml says.

    Raises:
        UserError: there is no such study, or what it sets is no parameter.
    """
    study, content = params.search.study(name), params.model_dump()
    for section, keys in study.set.items():
        content.setdefault(section, {}).update(keys)
    if epochs:
        content["train"]["epochs"] = epochs
    return check_schema(content)


def with_values(params: Params, arm: SearchArm, values: Mapping[str, Any]) -> Params:
    """Return parameters with what an arm has drawn."""
    return check_schema(_content_with(params, arm, values))


def _content_with(params: Params, arm: SearchArm, values: Mapping[str, Any]) -> dict[str, Any]:
    content = copy.deepcopy(params.model_dump())
    content["lr"].update(dict.fromkeys(ARM_SPACES[arm].cleared))
    for name, value in values.items():
        section, key = name.split(".", 1)
        content[section][key] = value
    return content


def space_problems(params: Params) -> list[str]:
    """Return what is wrong with the section `search`, each as `search.studies.NAME…: what is wrong`."""
    problems = _seed_problems(params)
    for name, study in params.search.studies.items():
        place = f"search.studies.{name}"
        if unknown := [section for section in study.set if section not in SET_SECTIONS]:
            problems += [f"{place}.set.{section}: a study changes {', '.join(SET_SECTIONS)}" for section in unknown]
            continue
        try:
            base = study_params(params, name, params.search.epochs)
        except UserError as error:
            problems.append(f"{place}.set: {' '.join(str(error).split())}")
            continue
        own = _study_problems(base, study)
        problems += [f"{place}.space.{problem}" for problem in own]
    return problems


def _seed_problems(params: Params) -> list[str]:
    trials, replicates = params.search.trials, params.search.replicates
    if trials * replicates > SEEDS_APART:
        return [f"search: {trials} trials of {replicates} replicates are more than the {SEEDS_APART} seeds of an arm"]
    shared = {*search_seeds(params), *repeat_seeds(params)} & set(params.train.seeds)
    if shared:
        return [f"search.seed: {min(shared)} would be a trial's seed and is in train.seeds: choose another"]
    return []


def _study_problems(base: Params, study: Study) -> list[str]:
    """Return what is wrong with the space of one study, without its place."""
    ranges, content = drawn_ranges(study), base.model_dump()
    problems = []
    for name, found in ranges.items():
        section, key = name.split(".", 1)
        value = content.get(section, {}).get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if section not in DRAWN_SECTIONS or name in FIXED or not (is_number or name in RATES or value is None):
            problems.append(f"{name}: is no number that a search can draw; those of {', '.join(DRAWN_SECTIONS)} are")
        if section == "lr" and name not in RATES:
            problems.append(f"{name}: is no rate that a search can draw; known are {', '.join(sorted(RATES))}")
        if found.times and (found.times not in ranges or ranges[found.times].times):
            problems.append(f"{name}.times: {found.times} is not drawn by this study, or is a share itself")
    arms = search_arms(study)
    lacking = [rate for arm in ("baseline", "differential") if arm not in arms for rate in ARM_SPACES[arm].rates]
    if lacking:
        problems.append(f"lr: both arms are tuned: give ranges for {', '.join(lacking)}")
    problems += [
        f"{name}.times: {found.times} is not drawn by the {arm} arm"
        for arm in arms
        for name, found in ranges_of(study, arm).items()
        if found.times in ranges and found.times not in ranges_of(study, arm)
    ]
    if problems:
        return problems
    for arm in arms:
        for end in ("low", "high"):
            problems += _problems_at(base, study, arm, end)
    return sorted(set(problems))


def _problems_at(base: Params, study: Study, arm: SearchArm, end: str) -> Iterator[str]:
    """Yield what the schema and the policies say of an end of all ranges of an arm."""
    values = _scaled({name: getattr(found, end) for name, found in ranges_of(study, arm).items()}, study)
    content = _content_with(base, arm, values)
    found = schema_problems(content)
    if not found:
        changed = check_schema(content)
        found = policy_problems(ARM_SPACES[arm].trains_as, changed.lr, changed.train.epochs)
    yield from (f"{problem} (at the {end} end of the {arm} arm's space)" for problem in found)


def values_of(drawn: Mapping[str, float], study: Study) -> dict[str, float]:
    """Return the parameters that a draw means: shares multiplied, and rounded to `DIGITS`."""
    return {
        name: value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")
        for name, value in _scaled(drawn, study).items()
    }


def _scaled(drawn: Mapping[str, float], study: Study) -> dict[str, float]:
    ranges = drawn_ranges(study)
    factors = {name: ranges[name].times for name in drawn}
    return {name: value * drawn[factor] if (factor := factors[name]) else value for name, value in drawn.items()}
