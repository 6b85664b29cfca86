"""The house: which way imports run, what each stage reads, and what starts without torch."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from stages.params import Params, Section, Train
from stages.tuning import space
from tests.conftest import ROOT

STUDY = "sgd"


def stages_of(name):
    """The stages of a pipeline, those of the search as they are for one study."""
    stages = YAML(typ="safe", pure=True).load(ROOT / name)["stages"]
    return {stage: with_study(content["do"] if "foreach" in content else content) for stage, content in stages.items()}


def with_study(content):
    if isinstance(content, dict):
        return {with_study(key): with_study(value) for key, value in content.items()}
    if isinstance(content, list):
        return [with_study(entry) for entry in content]
    return content.replace("${key}", STUDY) if isinstance(content, str) else content


PIPELINE = stages_of("dvc.yaml")
SEARCH = {f"search {name}": stage for name, stage in stages_of("search/dvc.yaml").items()}
STAGES = PIPELINE | SEARCH
ROOMS = ["data", "models", "rates", "training", "evaluation", "reporting", "tuning", "exporting"]

# What carries values and words but decides no result: a change there needs no rerun.
CARRIERS = {"stages.errors", "stages.params", "stages.progress", "stages.signals", "stages.unchanged", "stages.yaml12"}

MAY_IMPORT = {
    "data": set(),
    "models": {"data"},
    "rates": set(),
    "training": {"data", "models", "rates"},
    "evaluation": {"models"},
    "reporting": {"data"},
    "tuning": {"rates"},
    "exporting": {"data", "models", "reporting"},
}


def modules():
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "stages").rglob("*.py"))}


def imported(tree):
    """The modules that code imports, in functions too, but for what only types need."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)  # where these are modules
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        else:
            yield from imported(node)


def test_imports_between_rooms_run_one_way():
    for path, tree in modules().items():
        place = path.relative_to(ROOT / "stages").parts
        rooms = {name.split(".")[1] for name in imported(tree) if name.startswith("stages.")} & set(ROOMS)
        if len(place) > 1:
            assert rooms - {place[0]} <= MAY_IMPORT[place[0]], f"{path} imports {rooms}"


@pytest.mark.parametrize("module", ["check_params", "review", "summary"])
def test_the_cheap_scripts_start_without_torch(module):
    assert not {"torch", "pandas", "sklearn"} & loaded_by(module)


def test_preparing_solar_cells_needs_no_torch():
    assert "torch" not in loaded_by("prepare")


def loaded_by(module):
    """The modules in memory after a script has been imported."""
    code = f"import sys, stages.{module}; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


def code_of(stage):
    """The files of all modules that a stage's script imports, and that those import."""
    trees = {".".join(path.relative_to(ROOT).with_suffix("").parts): tree for path, tree in modules().items()}
    found, left = set(), [stage["cmd"].split()[2]]
    while left:
        name = left.pop()
        if name in trees and name not in found | CARRIERS:
            found.add(name)
            left.extend(imported(without_options(stage["cmd"], name, trees[name])))
    return {Path(*name.split(".")).with_suffix(".py") for name in found}


# What a script does for an option, which the stages with other commands do not use.
OPTIONS = {"stages.review": ("print_review", "--against"), "stages.split": ("for_search", "--search"),
           "stages.search": ("tell_first_look", "--trials")}  # fmt: skip


def without_options(command, name, tree):
    """A script without what it imports for an option that its stage does not use."""
    function, option = OPTIONS.get(name, ("", ""))
    if not function or option in command:
        return tree
    (unused,) = [node for node in tree.body if getattr(node, "name", "") == function]
    return ast.Module([node for node in tree.body if node is not unused], [])


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_code_that_decides_its_result_and_on_no_other(name):
    code = code_of(STAGES[name])
    listed = {Path(dependency) for dependency in STAGES[name]["deps"] if dependency.startswith("stages/")}
    carriers = {Path(*carrier.split(".")).with_suffix(".py") for carrier in CARRIERS}
    assert not {file for file in code if not listed & {file, *file.parents}}, "dvc.yaml does not list them"
    assert not {entry for entry in listed - carriers if not any(entry in (file, *file.parents) for file in code)}


def test_training_depends_on_the_code_that_says_what_a_policy_means():
    assert Path("stages/rates/policies.py") in code_of(PIPELINE["train_baseline"])
    assert "stages/rates" in PIPELINE["train_baseline"]["deps"]


def listed_params(stage):
    """The keys of params.yaml that a stage depends on."""
    param_groups = ([entry] if isinstance(entry, str) else entry["params.yaml"] for entry in stage["params"])
    return [key for keys in param_groups for key in keys]


def test_training_depends_on_every_key_of_its_section_that_can_change_a_replicate():
    listed = {key.removeprefix("train.") for key in listed_params(PIPELINE["train_baseline"])}
    elsewhere = {"engine", "on_divergence", "workers", "ddp_batchnorm"}  # where it is trained, and what is done then
    assert set(Train.model_fields) - listed == elsewhere
    for name in ("search trials", "search repeats"):  # whose seeds are the search's own
        listed = {key.removeprefix("train.") for key in listed_params(SEARCH[name])}
        assert set(Train.model_fields) - listed == elsewhere | {"seeds"}


def test_nothing_of_the_experiment_depends_on_the_search():
    made = {next(iter(out)) if isinstance(out, dict) else out for stage in SEARCH.values() for out in stage["outs"]}
    for name, stage in PIPELINE.items():
        assert not made & set(stage["deps"]), name
        assert name == "check_params" or not [
            entry for entry in stage["deps"] if "tuning" in entry or "search" in entry
        ]
        assert not [key for key in listed_params(stage) if key.startswith("search")] if "params" in stage else True


def test_a_trial_depends_on_no_file_of_the_experiment_but_the_prepared_images():
    theirs = {
        next(iter(out)) if isinstance(out, dict) else out
        for stage in PIPELINE.values()
        for out in stage.get("outs", [])
    }
    assert theirs & set(SEARCH["search split"]["deps"]) == {"data/prepared"}
    assert theirs & set(SEARCH["search trials"]["deps"]) == {"data/prepared"}


def test_only_the_rates_differ_between_the_training_stages():
    baseline, differential = PIPELINE["train_baseline"], PIPELINE["train_differential"]
    assert baseline["deps"] == differential["deps"]
    assert [name for name in listed_params(baseline) if not name.startswith("lr.")] == [
        name for name in listed_params(differential) if not name.startswith("lr.")
    ]
    assert baseline["cmd"].replace("baseline", "differential") == differential["cmd"]


def test_the_code_asks_for_the_arm_only_where_rates_are_chosen_and_files_are_named():
    """Nothing in the rooms that train knows which arm it trains."""
    for path, tree in modules().items():
        if {"training", "models", "data"} & set(path.relative_to(ROOT / "stages").parts):
            words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
            assert not {"baseline", "differential"} & words, path


# What tests networks that have been chosen; what trains or chooses.
TESTS = ("evaluate.py", "search_repeats.py")
CHOOSES = ("train.py", "find_rates.py", "search.py", "search_answer.py", "answer.py", "draws.py", "records.py")


def test_nothing_that_trains_or_chooses_opens_the_test_images():
    """It does not ask for the split `test`."""
    for path, tree in modules().items():
        place = path.relative_to(ROOT / "stages")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open_samples":
                splits = {word.value for word in ast.walk(node) if isinstance(word, ast.Constant)}
                assert str(place) in TESTS or ("test" not in splits and splits), path
        if {"training", "rates", "models"} & set(place.parts) or place.name in CHOOSES:
            assert "test" not in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}, path


SECTIONS = {
    "params": "",
    "learningrates": "lr.",
    "splitfractions": "data.split.",
    "maximages": "data.max_images.",
    "replicatestore": "replicate_store.",
    "study": f"search.studies.{STUDY}.",
    "searchrange": f"search.studies.{STUDY}.space.",
    "trialpruning": "search.pruning.",
}
BEFORE = {"search trials": ["split --search"], "search answer": ["split --search", f"search {STUDY}"]}


@pytest.fixture
def keys_read_by(project, run_stage, monkeypatch):
    """Return a function that runs a stage and returns the keys of params.yaml whose values it has read."""

    def run(command):
        name, *arguments = command
        module = importlib.import_module(f"stages.{name}")
        read = set()
        value_of, load = Section.__getattribute__, module.load_params

        def reading(section, field):
            if field in type(section).model_fields:
                read.add((type(section).__name__.lower(), field))
            return value_of(section, field)

        def load_and_forget():
            params = load()
            read.clear()  # what the schema itself has read
            return params

        def not_counted(function):
            def call(*arguments):
                before = set(read)
                found = function(*arguments)
                read.intersection_update(before)
                return found

            return call

        with monkeypatch.context() as patch:
            patch.setattr(Section, "__getattribute__", reading, raising=False)
            patch.setattr(module, "load_params", load_and_forget)
            for place in (space, module):  # what checks parameters decides nothing, nor what may begin the other arm
                for check in ("check_schema", "space_problems", "check_unchanged", "replicates_ahead"):
                    if hasattr(place, check):
                        patch.setattr(place, check, not_counted(getattr(place, check)))
            run_stage(project, name, *arguments)
        # A policy is made of the keys of `lr` that were read for it.
        return {f"{SECTIONS.get(section, f'{section}.')}{field}" for section, field in read if section != "policy"}

    return run


@pytest.mark.parametrize("name", [name for name in PIPELINE if name != "check_params"] + ["search split", *BEFORE])
def test_a_stage_reads_the_params_that_it_lists_and_no_others(keys_read_by, project, run_stage, name):
    stage = STAGES[name]
    for command in BEFORE.get(name, ()):
        run_stage(project, *command.split())
    keys = keys_read_by(stage["cmd"].replace("stages.", "").split()[2:])
    assert keys or name == "report"  # it prints them all, by their names
    # How often a state is saved, by how many workers of which engine, and what is kept afterwards changes no result.
    keys -= {*type_sections(), "resume.save_every_minutes", "replicate_store.max_gib", "train.workers", "train.engine"}
    keys -= {"search.storage", "search.studies"}  # which has the study that is listed
    listed = listed_params(stage)
    unlisted = {key for key in keys if not any(key == entry or key.startswith(f"{entry}.") for entry in listed)}
    unread = {entry for entry in listed if not any(key == entry or key.startswith(f"{entry}.") for key in keys)}
    unread -= {"train.crop_area", "train.color_strength"}  # read where images are augmented in these ways
    if name == "search split":
        unlisted -= {"data.part"}  # without a development part, it can only be main
    if name == "search answer":
        unread -= {"train.epochs"}  # read where search.epochs is null
    if name == "report":
        unread -= set(listed)  # it prints every parameter that made the result
    if name == "prepare":
        unread -= {"data.path", "data.table", "data.dataset", "data.group_pattern", "data.seed"}  # of other sources
    assert (unlisted, unread) == (set(), set())


def type_sections():
    return [name for name, field in Params.model_fields.items() if issubclass(field.annotation, BaseModel)]
