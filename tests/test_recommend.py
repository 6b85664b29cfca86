"""`python -m stages.recommend`: which rates to take, in a terminal, as JSON and as Markdown."""

import json
import shutil

import pytest

from stages.files import write_json
from tests.conftest import ROOT, Project, one_line_of
from tests.search_answers import repeats_answer, search_answer


@pytest.fixture
def searched(tmp_path):
    """A folder with what two searches said; of one the independent searches are not tested yet."""
    for study in ("sgd", "adam"):
        folder = tmp_path / "metrics/search" / study
        write_json(folder / "answer.json", {}, exact=search_answer(study=study).model_dump())
    write_json(tmp_path / "metrics/search/sgd/repeats.json", {}, exact=repeats_answer().model_dump())
    return Project(tmp_path)


def test_every_study_is_told(searched, run_stage):
    shown = run_stage(searched, "recommend").stdout
    assert shown.count("Take 0.0102 for everything") == 2
    assert shown.index("`adam`") < shown.index("`sgd`")


def test_one_study_may_be_named(searched, run_stage):
    shown = run_stage(searched, "recommend", "adam").stdout
    assert "`sgd`" not in shown
    assert "by the tuning curves" in shown


def test_json_has_the_files_and_the_sentences(searched, run_stage):
    told = json.loads(run_stage(searched, "recommend", "--json").stdout)
    assert list(told) == ["adam", "sgd"]
    assert told["sgd"]["answer"] == search_answer().model_dump(mode="json")
    assert told["adam"]["repeats"] is None
    assert told["sgd"]["recommendation"].startswith("Take 0.0102")
    assert len(told["sgd"]["statements"]) > 3


def test_markdown_has_the_tables(searched, run_stage):
    shown = run_stage(searched, "recommend", "sgd", "--markdown").stdout
    assert "| one rate" in shown
    assert "**Take 0.0102" in shown
    assert "- In 6 independent searches" in shown


def test_a_search_of_other_images_is_told_with_a_warning(searched, run_stage):
    write_json(searched.folder / "data/prepared/checksums.json", {"images.npy": "another"})
    assert "warning: the search sgd was of other images" in run_stage(searched, "recommend", "sgd").stderr


def test_without_a_search_it_says_what_to_run(tmp_path, run_stage):
    one_line_of(run_stage(Project(tmp_path), "recommend", check=False), "run `make search`")


@pytest.mark.parametrize(
    ("study", "says"),
    [
        ("sgdd", "search.studies: there is no sgdd; known are sgd, adam"),
        ("adam", "metrics/search/adam/answer.json is missing: run `make search STUDY=adam`"),
    ],
)
def test_a_study_without_an_answer_is_told_from_a_misspelt_one(searched, run_stage, study, says):
    shutil.copyfile(ROOT / "params.yaml", searched.folder / "params.yaml")
    shutil.rmtree(searched.folder / "metrics/search/adam")
    one_line_of(run_stage(searched, "recommend", study, check=False), says)


def test_a_damaged_answer_is_one_line(searched, run_stage):
    (searched.folder / "metrics/search/sgd/answer.json").write_text('{"study": 3}')
    one_line_of(run_stage(searched, "recommend", "sgd", check=False), "metrics/search/sgd/answer.json", "make search")
