"""The schema of the files under metrics/: what the stages write satisfies it, and what is damaged has one line."""

import json

import pytest

from stages.metrics_files import (
    Evaluation,
    PrepareMetrics,
    SplitMetrics,
    TrainingMetrics,
    read_evaluation,
    read_prepare_metrics,
    read_split_metrics,
    read_training_metrics,
)
from tests.conftest import one_line_of


def test_what_the_stages_write_satisfies_the_schema(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    assert isinstance(read_prepare_metrics(), PrepareMetrics)
    assert isinstance(read_split_metrics(), SplitMetrics)
    assert [type(training) for training in read_training_metrics().values()] == [TrainingMetrics, TrainingMetrics]
    assert isinstance(read_evaluation(), Evaluation)


def test_what_is_read_is_what_stands_there(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    read = {
        "prepare": read_prepare_metrics(),
        "splits": read_split_metrics(),
        "baseline": read_training_metrics()["baseline"],
        "differential": read_training_metrics()["differential"],
        "evaluation": read_evaluation(),
    }
    for name, record in read.items():
        assert record.model_dump(mode="json", exclude_unset=True) == reproduced.read_json(f"metrics/{name}.json")


@pytest.mark.parametrize(
    ("name", "damage", "says"),
    [
        ("evaluation", lambda content: content["verdict"].pop("looks"), "verdict.looks: Field required"),
        ("evaluation", lambda content: content.update(plan=[{}]), "plan.0.replicates: Field required"),
        ("evaluation", lambda content: content["failures"].pop("baseline"), "failures.baseline: Field required"),
        ("evaluation", lambda content: content["test"].update(surprise=1), "test.surprise: Extra inputs"),
        ("evaluation", lambda content: content["verdict"].update(decision="perhaps"), "verdict.decision: "),
        ("evaluation", lambda content: content["test"]["difference"].update(seeds={}), "test.difference.seeds: "),
        ("baseline", lambda content: content["seeds"].update(one={}), "seeds.one"),
        ("baseline", lambda content: content["mean"].update(val_loss="low"), "mean.val_loss: "),
        ("prepare", lambda content: content.update(channels=2), "channels: "),
        ("prepare", lambda content: content.pop("classes"), "classes: Field required"),
        ("splits", lambda content: content.update(part="test"), "part: "),
        ("splits", lambda content: content.pop("tested"), "tested: Field required"),
    ],
)
def test_damaged_metrics_have_one_line_that_names_the_file_and_the_key(project, run_stage, name, damage, says):
    path = project.folder / f"metrics/{name}.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    one_line_of(run_stage(project, "summary", check=False), f"metrics/{name}.json: {says}", "run `dvc repro`")


@pytest.mark.parametrize("text", [None, "", "{", "[1]"])
def test_metrics_that_are_missing_or_no_json_have_one_line(project, run_stage, text):
    path = project.folder / "metrics/evaluation.json"
    path.unlink() if text is None else path.write_text(text)
    one_line_of(run_stage(project, "summary", check=False), "metrics/evaluation.json", "run `dvc repro`")
