"""What params.yaml may say, and what is said of what it may not: a line for each problem."""

import math
import re

import pytest

from stages.check_params import find_problems
from stages.errors import UserError
from stages.params import load_params, read_params
from tests.conftest import ROOT, Project, one_line_of, set_params

# Whatever the committed experiment is.
PLAIN = {
    "data.folds": None,
    "schedule.warmup": 0,
    "train.epochs": 5,
    "train.seeds": list(range(12)),
    "evidence.looks": [3, 6, 12],
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    return tmp_path


def problems(folder):
    return find_problems(read_params(folder / "params.yaml"))


@pytest.fixture
def somebody(nobody, monkeypatch):
    """A user whom Git knows."""
    for name in ("GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "ada@example.com")


def test_the_committed_params_are_in_order(folder, run_stage, somebody):
    assert run_stage(Project(folder), "check_params").stdout == "params.yaml is in order\n"


def test_who_is_unknown_to_git_is_told_what_to_type_before_dvc_needs_it(folder, run_stage, nobody):
    (line,) = run_stage(Project(folder), "check_params").stdout.splitlines()[1:]
    assert line.startswith("note: the next `dvc exp run` would stop, for Git does not know who you are")
    assert 'git config --global user.name "Ada Lovelace"; git config --global user.email "ada@example.com"' in line


@pytest.mark.slow
def test_what_the_note_says_to_type_lets_dvc_run(project, nobody):
    for key in ("user.name", "user.email"):
        project.run("git", "config", "--unset", key)
    set_params(project.folder, {"review.arm": "baseline"})
    refused = project.run("dvc", "exp", "run", "review", check=False)
    assert "Git user name and email must be configured" in refused.stderr
    project.run("git", "config", "user.name", "Ada Lovelace")
    project.run("git", "config", "user.email", "ada@example.com")
    assert "Running stage 'review'" in project.run("dvc", "exp", "run", "review").stdout


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr.haed": 0.1}, "lr.haed: unknown key; did you mean head?"),
        ({"surprise": 1}, "surprise: unknown key; known are data, model, lr"),
        ({"train.epochs": "five"}, "train.epochs: should be a valid integer, is 'five'"),
        ({"train.epochs": 0}, "train.epochs: should be greater than or equal to 1, is 0"),
        ({"train.epochs": 10**20}, "train.epochs: should be less than or equal to 100000, is 100000000000000000000"),
        ({"train.threads": 100_000}, "train.threads: should be less than or equal to 1024, is 100000"),
        ({"train.mixup": 5e-324}, "train.mixup: 4.94066e-324 is too small to draw with; set 0 for none, or 0.001 at"),
        ({"train.batch_size": True}, "train.batch_size: should be a valid integer, is True"),
        ({"lr.head": -0.1}, "lr.head: should be greater than or equal to 0, is -0.1"),
        ({"lr.head": math.inf}, "lr.head: should be a finite number, is inf"),
        ({"lr.backbone": math.nan}, "lr.backbone: should be"),
        ({"lr.uniform": 0}, "lr: baseline: uniform is 0, so this arm would train nothing; set a rate above 0"),
        ({"lr.backbone": 0, "lr.head": 0}, "lr: differential: backbone and head are 0, so this arm would"),
        ({"data.split": {"train": 0.8, "val": 0.2, "test": 0.2}}, "data: the fractions of split add up to 1.2, which"),
        (
            {"data.folds": 3, "data.split": {"train": 0.6, "val": 0.1, "test": 0.1}},
            "data: the fractions of split, with 1/3 for each of the folds, add up to 1.03333",
        ),
        ({"data.folds": 1}, "data.folds: should be greater than or equal to 2, is 1"),
        (
            {"data.folds": 5, "data.split": {"train": 0.4, "val": 0.2, "test": 0.2}},
            "data.folds: 12 replicates do not test each image equally often; let train.seeds and",
        ),
        (
            {"data.folds": 4, "data.split": {"train": 0.4, "val": 0.2, "test": 0.2}, "evidence.looks": [3, 12]},
            "data.folds: 3 replicates do not test each image equally often; let train.seeds and evidence.looks have",
        ),
        ({"data.development": 1.0}, "data.development: should be less than 1, is 1.0"),
        (
            {"data.development": 0.0, "data.part": "development"},
            "data: part is development, which is empty: set development above 0",
        ),
        ({"data.part": "test"}, "data.part: should be 'main' or 'development', is 'test'"),
        ({"evidence.metric": "calibration_error"}, "evidence.metric: should be 'accuracy', 'balanced_accuracy', 'm"),
        ({"evidence.looks": [3, 6]}, "evidence.looks: 12 seeds in train.seeds are none of the declared looks [3, 6]"),
        ({"evidence.looks": [12, 6]}, "evidence.looks: should grow from look to look, is [12, 6]"),
        ({"evidence.looks": [12, 12]}, "evidence.looks: should grow from look to look, is [12, 12]"),
        ({"evidence.looks": [1, 12]}, "evidence.looks.0: should be greater than or equal to 2, is 1"),
        ({"evidence.looks": []}, "evidence.looks: should have at least 1 item"),
        ({"train.seeds": [7]}, "evidence.looks: 1 seeds in train.seeds are none of the declared looks [3, 6, 12]; tr"),
        ({"data.image_size": 8}, "data.image_size: should be greater than or equal to 32, is 8"),
        ({"review.arm": "both"}, "review.arm: should be 'baseline' or 'differential', is 'both'"),
        ({"train.seeds": [1, 1]}, "train.seeds: 1 stands there twice"),
        ({"train.augment": ["blur"]}, "train.augment.0: should be 'horizontal_flip'"),
        ({"lr.layer_decay": 1.5}, "lr.layer_decay: should be less than or equal to 1, is 1.5"),
        ({"lr.range": [0.1, 0.01]}, "lr.range: goes from the stem's rate up to the head's, so [0.1, 0.01] is"),
        ({"lr.range": [0.1]}, "lr.range: should have at least 2 items"),
        ({"lr.layer_decay": 0.5, "lr.range": [0.01, 0.1]}, "lr: layer_decay and range both take the place of backbone"),
        ({"lr.groups": {"stem": -1.0}}, "lr.groups.stem: should be greater than or equal to 0, is -1.0"),
        (
            {"lr.baseline": {"layer_decay": 0.5}},
            "lr: baseline: give uniform, or backbone and head, or head and layer_decay, or",
        ),
        ({"lr.baseline": {"haed": 0.5}}, "lr.baseline.haed: unknown key; did you mean head?"),
        ({"lr.head_only_epochs": 5}, "lr.head_only_epochs: 5 leaves the backbone none of the 5 epochs; set it below"),
        (
            {"lr.head": 0.0, "lr.head_only_epochs": 1},
            "lr: differential: the head's rate is 0, but head_only_epochs trains it alone",
        ),
        (
            {"lr.baseline": {"groups": {"head": 0}, "gradual_unfreezing": True}},
            "lr: baseline: the head's rate is 0, but g",
        ),
        ({"lr.baseline": "slow"}, "lr.baseline: should hold keys with values, is 'slow'"),
        ({"lr.groups": {1: 0.1}}, "lr.groups.1: should be a valid string, is 1"),
        ({"schedule.warmup": 5}, "schedule.warmup: 5 epochs leave nothing of the 5 epochs; set it below"),
        (
            {"lr.baseline": {"head_only_epochs": 7}},
            "lr.baseline.head_only_epochs: 7 leaves the backbone none of the 5 epochs",
        ),
        ({"optimizer.nesterov": True, "optimizer.momentum": 0.0}, "optimizer: nesterov looks ahead along the"),
        ({"optimizer.clip_grad_norm": 0.0}, "optimizer.clip_grad_norm: should be greater than 0, is 0.0"),
        ({"schedule.name": "one_cycle", "schedule.warmup": 1}, "schedule: one_cycle warms up by itself; set warmup"),
        ({"schedule.gamma": 1.0}, "schedule.gamma: should be less than 1, is 1.0"),
        ({"schedule.name": "sine"}, "schedule.name: should be 'constant', 'cosine', 'linear', 'one_cycle' or"),
        ({"train.frozen_batchnorm": "keep"}, "train.frozen_batchnorm: should be 'freeze' or 'update', is 'keep'"),
        ({"model.layer_groups": "layers"}, "model.layer_groups: should be 'stages' or 'blocks', is 'layers'"),
        ({"optimizer.name": "lion"}, "optimizer.name: should be 'sgd', 'adam' or 'adamw'"),
        ({"train.batch_size": 16, "train.grad_accum_steps": 9}, "train: grad_accum_steps: 9 pieces of a batch of 16"),
        ({"data.source": "table"}, "data: table must be set where source is table"),
        ({"data.source": "torchvision"}, "data: dataset must be set where source is torchvision"),
        ({"data.group_pattern": "(a"}, "data.group_pattern: '(a' is no regular expression"),
        ({"data.group_pattern": "abc"}, "data.group_pattern: 'abc' should have one pair of brackets"),
        ({"data.max_images.train": 0}, "data.max_images.train: should be greater than or equal to 1, is 0"),
        ({"data.on_bad_image": "ignore"}, "data.on_bad_image: should be 'error' or 'skip', is 'ignore'"),
    ],
)
def test_wrong_input_has_one_line_that_names_the_parameter(folder, changes, says):
    set_params(folder, {**PLAIN, **changes})
    (line,) = problems(folder)
    assert line.startswith(says)


def test_a_problem_stops_the_command_with_its_line(folder, run_stage):
    set_params(folder, {"lr.haed": 0.1})
    done = run_stage(Project(folder), "check_params", check=False)
    assert one_line_of(done) == "error: params.yaml: lr.haed: unknown key; did you mean head?"


def test_the_schema_is_checked_wherever_params_are_read(folder):
    set_params(folder, {"lr.haed": 0.1})
    with pytest.raises(UserError, match=r"lr\.haed: unknown key"):
        load_params(folder / "params.yaml")


@pytest.mark.parametrize(
    "changes",
    [
        {"train.seeds": [1, 2, 3]},  # the first look
        {"train.seeds": list(range(6))},
        {"evidence.looks": None, "train.seeds": [1]},
        {"evidence.looks": [4, 12, 30]},  # a look that is not reached yet
        {"data.folds": 3, "data.split": {"train": 0.4, "val": 0.2, "test": 0.9}},  # in place of split.test
        {"data.folds": 2, "data.split": {"train": 0.4, "val": 0.1, "test": 0.1}, "evidence.looks": [4, 12]},
        {"data.part": "development", "data.development": 0.3},
    ],
)
def test_replicates_looks_and_folds_that_fit_are_in_order(folder, changes):
    set_params(folder, {**PLAIN, **changes})
    assert problems(folder) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"lr.backbone": 0, "lr.head_only_epochs": 9},  # the head alone learns anyway
        {"lr.baseline": {"uniform": 0.1, "groups": None}},
        {"lr.baseline": {"groups": {"stem": 0}}},
        {"lr.head": 0.0, "lr.groups": {"head": 0.1}, "lr.head_only_epochs": 1},
        {"lr.layer_decay": 0.5, "lr.groups": {"stage7": 1}},
    ],
)
def test_policies_may_be_mixed_where_it_makes_sense(folder, changes):
    set_params(folder, changes)
    assert problems(folder) == []


def test_all_problems_are_told_at_once_and_each_has_its_line(folder, run_stage):
    set_params(folder, {"lr.head": -1, "train.epochs": "five", "goal.surprise": 1, "review.arm": "both"})
    done = run_stage(Project(folder), "check_params", check=False)
    assert [line.strip().removeprefix("error: ").split(": ")[:2] for line in done.stderr.splitlines()] == [
        ["params.yaml", "goal.surprise"],
        ["params.yaml", "lr.head"],
        ["params.yaml", "review.arm"],
        ["params.yaml", "train.epochs"],
    ]


def test_both_arms_policies_are_judged_at_once(folder):
    set_params(folder, {"lr.uniform": 0, "lr.range": [0.01, 0.1], "lr.layer_decay": 0.5})
    assert len(problems(folder)) == 2


def test_a_missing_key_is_named(folder):
    first, *others = (folder / "params.yaml").read_text().split("\n  epochs: ", 2)  # the first is that of train
    without = [first, others[0].split("\n", 1)[1]]
    (folder / "params.yaml").write_text("\n  epochs: ".join(["\n".join(without), *others[1:]]))
    assert problems(folder) == [
        "train.epochs: missing; `python -m stages.params --explain train.epochs` says what it is"
    ]


@pytest.mark.parametrize("text", ["", "just text", "lr: [", "a: 1\na: 2", "!!python/object/apply:os.system [ls]"])
def test_a_file_that_is_no_params_file_has_one_line(folder, run_stage, text):
    (folder / "params.yaml").write_text(text)
    one_line_of(run_stage(Project(folder), "check_params", check=False), "params.yaml")


def test_a_missing_file_has_one_line(tmp_path, run_stage):
    done = run_stage(Project(tmp_path), "check_params", check=False)
    one_line_of(done, "params.yaml is missing: run this in the project's folder")


def test_a_rate_may_be_written_with_an_exponent_alone(folder):
    text = (folder / "params.yaml").read_text().splitlines()
    changed = ["  backbone: 1e-4" if line.startswith("  backbone:") else line for line in text]
    (folder / "params.yaml").write_text("\n".join(changed))
    assert load_params(folder / "params.yaml").lr.backbone == 0.0001


def test_comments_of_params_hold_for_any_value(folder):
    """None counts the images of a run: `-S data.split.train=0.6` would make it wrong."""
    comments = re.findall("#(.*)", (folder / "params.yaml").read_text())
    assert [text for text in comments if re.search(r"\d,\d{3}|\d+ (?:of the )?(?:images|steps|seeds)\b", text)] == []
