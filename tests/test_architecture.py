"""The house: which way imports run, what each stage reads, and what starts without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from stages.params import Params, Train
from tests.conftest import ROOT, TINY, clone_project

PIPELINE = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
ROOMS = ["data", "models", "rates", "training", "evaluation", "reporting"]

# What carries values and words but decides no result: a change there needs no rerun.
CARRIERS = {"stages", "stages.errors", "stages.params", "stages.progress", "stages.signals"}

MAY_IMPORT = {
    "data": set(),
    "models": {"data"},
    "rates": set(),
    "training": {"data", "models", "rates"},
    "evaluation": {"models"},
    "reporting": {"data"},
}


def modules():
    return {path: ast.parse(path.read_text()) for path in sorted((ROOT / "stages").rglob("*.py"))}


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_between_rooms_run_one_way():
    for path, tree in modules().items():
        place = path.relative_to(ROOT / "stages").parts
        rooms = {name.split(".")[1] for name in imported(tree) if name.startswith("stages.")} & set(ROOMS)
        if len(place) > 1:
            assert rooms - {place[0]} <= MAY_IMPORT[place[0]], f"{path} imports {rooms}"


def loaded_by(module):
    """The modules in memory after a script has been imported."""
    code = f"import sys, stages.{module}; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.mark.parametrize("module", ["params", "review", "summary"])
def test_the_cheap_scripts_start_without_torch(module):
    assert not {"torch", "pandas", "sklearn"} & loaded_by(module)


def test_preparing_solar_cells_needs_no_torch():
    assert "torch" not in loaded_by("prepare")


@pytest.mark.parametrize("name", [name for name in PIPELINE if name != "check_params"])
def test_a_stage_depends_on_all_code_that_decides_its_result(name):
    stage = PIPELINE[name]
    module = stage["cmd"].split()[2].removeprefix("stages.")
    dependencies = [Path(dependency) for dependency in stage["deps"]]
    for loaded in loaded_by(module) - CARRIERS:
        if loaded.startswith("stages."):
            path = Path(*loaded.split("."))
            file = path.with_suffix(".py") if (ROOT / path).with_suffix(".py").exists() else path / "__init__.py"
            if file.name == "__init__.py":
                continue  # it holds a docstring
            covered = any(file == dependency or dependency in file.parents for dependency in dependencies)
            assert covered, f"{name} imports {file}, which dvc.yaml does not list"


def test_training_depends_on_the_code_that_says_which_key_of_lr_counts():
    assert "stages/params.py" in PIPELINE["train_baseline"]["deps"]


def listed_params(stage):
    """The keys of params.yaml that a stage depends on."""
    entries = ([entry] if isinstance(entry, str) else entry["params.yaml"] for entry in stage["params"])
    return [key for keys in entries for key in keys]


def test_training_depends_on_every_key_of_its_section_that_can_change_a_replicate():
    listed = {key.removeprefix("train.") for key in listed_params(PIPELINE["train_baseline"])}
    assert set(Train.model_fields) - listed == {"on_divergence"}


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


def test_evaluate_alone_opens_the_test_images():
    """Nothing that trains or chooses asks for the part `test`."""
    for path, tree in modules().items():
        place = path.relative_to(ROOT / "stages")
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open_samples":
                parts = {word.value for word in ast.walk(node) if isinstance(word, ast.Constant)}
                assert str(place) == "evaluate.py" or ("test" not in parts and parts), path
        if {"training", "rates", "models"} & set(place.parts) or place.name in ("train.py", "find_rates.py"):
            assert "test" not in {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}, path


READS = """
import sys
from pydantic import BaseModel
from stages.params import Section

read = set()
whole = BaseModel.__getattribute__
def reading(self, name):
    value = whole(self, name)
    if isinstance(self, Section) and name in type(self).model_fields:
        read.add((type(self).__name__.lower(), name))
    return value
Section.__getattribute__ = reading

import runpy
import stages.params
load = stages.params.load_params
def load_and_forget(*path):
    params = load(*path)
    read.clear()  # what the schema itself has read
    return params
stages.params.load_params = load_and_forget
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)
print("READ", *sorted(f"{section}.{name}" for section, name in read))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = clone_project(tmp_path_factory.mktemp("project"), {**TINY, "train.seeds": [1]})
    project.run("dvc", "repro")
    return project


@pytest.mark.parametrize("name", [name for name in PIPELINE if name != "check_params"])
def test_a_stage_reads_the_params_that_it_lists_and_no_others(project, name):
    stage = PIPELINE[name]
    done = project.run(sys.executable, "-c", READS, *stage["cmd"].split()[2:])
    read = done.stdout.splitlines()[-1].split()[1:]
    sections = {"params": "", "rates": "lr.", "split": "data.split.", "cap": "data.cap."}
    keys = set()
    for entry in read:
        section, _, field = entry.partition(".")
        if section == "policy":
            continue  # made of the keys of `lr` that were read for it
        keys.add(sections.get(section, f"{section}.") + field)
    keys -= {*type_sections(), "unfinished.save_every"}  # how often a state is saved changes no result
    listed = listed_params(stage)
    unlisted = {key for key in keys if not any(key == entry or key.startswith(f"{entry}.") for entry in listed)}
    unread = {entry for entry in listed if not any(key == entry or key.startswith(f"{entry}.") for key in keys)}
    unread -= {"train.crop_area", "train.color_strength"}  # read where images are augmented in these ways
    if name == "report":
        unread -= set(listed)  # it prints every parameter that made the result
    assert (unlisted, unread) == (set(), set())


def type_sections():
    return [name for name, field in Params.model_fields.items() if issubclass(field.annotation, BaseModel)]
