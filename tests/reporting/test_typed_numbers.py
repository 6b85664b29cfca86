"""No number in a sentence is typed: it comes from the run that the page shows, or is a constant that is named here."""

import ast
import html
import json
import re

import pytest

from tests.conftest import ROOT

MODULES = ["changes", "charts", "page", "search_page", "search_text", "sections", "tables"]
TEMPLATES = ["page.html.j2", "search_page.html.j2"]
# What is fixed by the rule and the words: levels, a name, what CKA says of equal features, and the fewest searches.
FIXED = ["95 %", "90 %", "80 %", "50 %", "F1", "1 means the same", "5 or more, with 8 trials or more"]


def sentences_of(module):
    """The texts of a module that have words with a space between, but no docstrings."""
    tree = ast.parse((ROOT / "stages/reporting" / f"{module}.py").read_text())
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        text = getattr(node, "value", None)
        if isinstance(text, str) and id(node) not in docs and re.search(r"[a-z] [a-z]", text):
            yield text


def typed_numbers(text):
    for fixed in FIXED:
        text = text.replace(fixed, "")
    return re.findall(r"\d[\d.,]*", text)


@pytest.mark.parametrize("module", MODULES)
def test_no_sentence_has_a_number_that_was_typed(module):
    assert {text: found for text in sentences_of(module) if (found := typed_numbers(text))} == {}


@pytest.mark.parametrize("template", TEMPLATES)
def test_no_template_has_a_number_that_was_typed(template):
    text = (ROOT / "stages/reporting" / template).read_text()
    seen = re.sub(r"\{[{%].*?[}%]\}|<style>.*?</style>|<[^>]*>", " ", text, flags=re.DOTALL)
    assert typed_numbers(seen) == []


def written_as(value):
    """The ways in which a page may write a number."""
    if isinstance(value, dict):
        return set().union(*map(written_as, [*value.values(), *value]), {str(len(value))})
    if isinstance(value, list):
        return set().union(*map(written_as, value), {str(len(value))})
    if isinstance(value, str):
        return set(re.findall(r"\d[\d.]*", value))
    if value is None or isinstance(value, bool):
        return set()
    size = abs(value)
    formats = (".0f", ".1f", ".2f", ".3f", ".2g", ".3g", "g", ",.0f")
    return {f"{scale * size:{form}}" for scale in (1, 100) for form in formats}


@pytest.mark.parametrize("run", ["reproduced", pytest.param("reproduced_with_real_network", marks=pytest.mark.slow)])
def test_every_number_in_a_sentence_of_the_page_is_in_the_data(run, request):
    project = request.getfixturevalue(run)
    data = [project.read_json(str(path.relative_to(project.folder))) for path in project.folder.glob("metrics/*.json")]
    known = written_as(data)
    page = project.read("report/index.html").decode()
    body = html.unescape(page)
    body = re.sub(r"<(script|style|svg|figure|table)\b.*?</\1>", " ", body, flags=re.DOTALL)
    paragraphs = [re.sub(r"<[^>]*>", " ", text) for text in re.findall(r"<p\b.*?</p>", body, flags=re.DOTALL)]
    sentences = [text for text in paragraphs if "data:" not in text and "git checkout" not in text]
    assert len(sentences) > 8
    for sentence in sentences:
        unknown = [number for number in typed_numbers(sentence) if number.rstrip(".,") not in known]
        # The rate of failures that stays open follows from the number of replicates alone.
        bound = f"{100 * (1 - 0.05 ** (1 / len(data_seeds(project)))):.0f}"
        assert [number for number in unknown if number.rstrip(".,") != bound] == [], sentence


def data_seeds(project):
    return json.loads(project.read("metrics/baseline.json"))["seeds"]
