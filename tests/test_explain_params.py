"""What is said of a parameter is said once, in params.yaml and the schema: for people and for editors."""

import json

import jsonschema
import pytest

from stages.explain_params import params_schema, read_comments
from stages.params import Params, Section
from stages.yaml12 import parse_yaml, read_yaml
from tests.conftest import ROOT, Project, one_line_of, set_params

SCHEMA_FILE = ROOT / "params.schema.json"
FIRST_LINE = "# yaml-language-server: $schema=params.schema.json"


@pytest.fixture
def project(tmp_path):
    """Only params.yaml, committed."""
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    project = Project(tmp_path)
    for command in ("init --quiet", "config user.name Test", "config user.email test@example.com"):
        project.run("git", *command.split())
    project.commit("params")
    return project


@pytest.fixture
def explain(project, run_stage):
    """Return a function that returns what is said of parameters, by their names."""

    def run(*names):
        return json.loads(run_stage(project, "params", "--explain", *names, "--json").stdout)

    return run


def keys_of(section, prefix=""):
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from keys_of(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_the_command_prints_what_a_parameter_does_and_may_be_and_is(project):
    set_params(project.folder, {"lr.layer_decay": 0.75})
    shown = project.run("env", f"PYTHONPATH={ROOT}", "python", "-m", "stages.params", "--explain", "lr.layer_decay")
    lines = [line.strip() for line in shown.stdout.splitlines()]
    assert lines[0] == "lr.layer_decay"
    assert "in place of backbone: each layer group at the next one's rate times this, from the head down" in lines
    assert "The differential arm's:" in lines
    assert lines[1].startswith("lr: learning rates, per step")
    assert lines[-3:] == ["allowed:   number, above 0, at most 1; or null", "committed: null", "now:       0.75"]


def test_every_parameter_of_the_schema_is_explained(explain):
    told = explain()
    assert list(told) == list(keys_of(Params))
    assert not [name for name, one in told.items() if not one["text"] or not one["allowed"]]


def test_a_section_has_its_parameters_and_no_others(explain):
    assert list(explain("lr")) == [name for name in keys_of(Params) if name.startswith("lr.")]
    assert list(explain("data.split", "lr.head")) == [
        "data.split.train",
        "data.split.val",
        "data.split.test",
        "lr.head",
    ]


def test_without_git_there_is_no_committed_value(tmp_path, run_stage):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    told = json.loads(run_stage(Project(tmp_path), "params", "--explain", "train.epochs", "--json").stdout)
    assert told["train.epochs"]["committed"] == "missing"
    assert told["train.epochs"]["value"] == read_yaml(ROOT / "params.yaml")["train"]["epochs"]


def test_a_broken_file_is_explained_too(project, explain):
    set_params(project.folder, {"lr.head": "fast"})
    assert explain("lr.head")["lr.head"]["value"] == "fast"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("layer_decay", "did you mean lr.layer_decay?"),
        ("lr.layr_decay", "did you mean lr.layer_decay?"),
        ("trian", "did you mean train?"),
        ("lr.seed", "did you mean data.seed or search.seed?"),
        ("xyz", "sections are data, model, lr"),
    ],
)
def test_an_unknown_name_says_what_was_probably_meant(project, run_stage, name, says):
    done = run_stage(project, "params", "--explain", name, check=False)
    one_line_of(done, f"error: --explain: there is no parameter {name}; {says}")


def test_comments_are_read_as_they_stand():
    text = """
# of the file
a:             # a section
  b: "x # y"   # of b,
               # in two lines
  # Heading:
  c: [1, 2]    # of c
  d:           # of d
    e: 1
  f: {g: 1}    # of f
# of nothing
h: 1
"""
    assert read_comments(text) == {
        "a": "a section",
        "a.b": "of b,\nin two lines",
        "a.c": "Heading:\nof c",
        "a.d": "Heading:\nof d",
        "a.f": "Heading:\nof f",
    }


def test_the_schema_for_editors_is_the_one_of_the_code_and_the_comments(project, run_stage):
    """Mend it with `python -m stages.params --schema > params.schema.json`."""
    assert SCHEMA_FILE.read_text() == run_stage(project, "params", "--schema").stdout


def test_editors_find_the_schema(project):
    assert (ROOT / "params.yaml").read_text().splitlines()[0] == FIRST_LINE
    assert (ROOT / FIRST_LINE.partition("$schema=")[2]).is_file()


def validator():
    schema = json.loads(SCHEMA_FILE.read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def with_changes(changes):
    content = read_yaml(ROOT / "params.yaml")
    for name, value in changes.items():
        *sections, key = name.split(".")
        place = content
        for section in sections:
            place = place[section]
        place[key] = value
    return content


def test_the_committed_params_fit_the_schema_for_editors():
    validator().validate(read_yaml(ROOT / "params.yaml"))


@pytest.mark.parametrize("preset", sorted((ROOT / "experiments").iterdir()), ids=lambda path: path.name)
def test_a_preset_fits_the_schema_for_editors(preset):
    settings = [line.split("=", 1) for line in preset.read_text().splitlines() if line and line[0] != "#"]
    validator().validate(with_changes({name: parse_yaml(value) for name, value in settings}))


@pytest.mark.parametrize(
    "changes",
    [
        {"lr.baseline": {"head": 0.01, "layer_decay": 0.75}},
        {"lr.groups": {"stage4": 0.003, "stem": 0}},
        {"lr.range": [0.001, 0.01]},
        {"train.workers": 2},
        {"search.pruning": {"after_epoch": 1, "loss_above": 1.0}},
        {"data.folds": None},
    ],
)
def test_what_the_code_takes_editors_take(changes):
    validator().validate(with_changes(changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"lr.haed": 0.1},
        {"surprise": 1},
        {"lr.head": "fast"},
        {"lr.head": -1},
        {"lr.layer_decay": 1.5},
        {"lr.range": [0.1]},
        {"lr.baseline": {"haed": 0.1}},
        {"train.epochs": 0},
        {"train.epochs": 2.5},
        {"train.seeds": []},
        {"train.augment": ["flip"]},
        {"train.workers": "many"},
        {"schedule.name": "sine"},
        {"data.split.train": 1},
        {"data.allow_leaks": "yes"},
        {"search.studies": {}},
        {"search.studies": {"Bad Name": {"space": {}}}},
        {"lr": None},
    ],
)
def test_a_typical_mistake_does_not_fit_the_schema_for_editors(changes):
    assert not validator().is_valid(with_changes(changes))


def test_a_missing_key_does_not_fit_the_schema_for_editors():
    content = read_yaml(ROOT / "params.yaml")
    del content["train"]["epochs"]
    assert not validator().is_valid(content)


def test_every_parameter_has_its_comment_as_description(monkeypatch):
    monkeypatch.chdir(ROOT)
    described = params_schema()["properties"]["lr"]["properties"]
    assert described["head"]["description"].endswith("for the new head (exercise: 0.01)")


def test_an_experiment_keeps_the_line_that_editors_read(clone):
    cloned = clone()
    cloned.run("dvc", "exp", "run", "-S", "lr.head=0.02", "--single-item", "check_params")
    text = (cloned.folder / "params.yaml").read_text()
    assert text.splitlines()[0] == FIRST_LINE
    assert "head: 0.02 " in text
