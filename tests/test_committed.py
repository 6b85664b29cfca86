"""What is committed is what the committed code gives, and the README and the documents say nothing else."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides

from stages.metrics_files import Interval
from stages.reporting.tables import interval, points
from stages.yaml12 import read_yaml
from tests.conftest import ROOT, Project

PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
WITH_COMMANDS = [*PAGES, *(path for path in (ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md") if path.exists())]


@pytest.fixture
def git_clone(tmp_path):
    """What a newcomer has: a clone without data."""
    subprocess.run(["git", "clone", "--quiet", ROOT, tmp_path / "clone"], check=True)
    clone = Project(tmp_path / "clone")
    clone.run("git", "config", "user.name", "Test")
    clone.run("git", "config", "user.email", "test@example.com")
    return clone


def test_the_lock_belongs_to_the_committed_code_and_parameters(git_clone):
    """In a clone that has no data yet, DVC finds nothing to run again."""
    for pipeline in ("dvc.yaml", "search/dvc.yaml"):
        done = git_clone.run("dvc", "repro", "--dry", "--allow-missing", pipeline)
        assert "Running stage" not in done.stdout
    assert git_clone.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
def test_a_clone_that_has_no_data_compares_the_arms_at_once(git_clone):
    done = git_clone.run("make", "compare", "-o", ".venv/ready")
    assert "val_accuracy" in done.stdout
    assert "stages.train" not in done.stdout


def test_the_readme_tells_the_committed_verdict(run_stage):
    verdict = json.loads(run_stage(Project(ROOT), "summary", "--json").stdout)["evaluation"]["verdict"]
    readme = (ROOT / "README.md").read_text()
    assert points(verdict["estimate"]) in readme
    ends = Interval(**{key: verdict[key] for key in Interval.model_fields})
    assert interval(ends, 100) in " ".join(readme.split())


def test_the_documented_results_are_the_committed_ones(run_stage):
    table = run_stage(Project(ROOT), "summary", "--markdown").stdout.strip()
    assert table in (ROOT / "docs/results.md").read_text()


def test_the_documented_searches_are_the_committed_ones(run_stage):
    shown = run_stage(Project(ROOT), "recommend", "--markdown").stdout.strip()
    assert shown in (ROOT / "docs/results.md").read_text()


def test_the_readme_tells_what_the_search_recommends(run_stage):
    told = json.loads(run_stage(Project(ROOT), "recommend", "sgd", "--json").stdout)["sgd"]["recommendation"]
    assert told in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_links_to_what_exists(page):
    links = re.findall(r"\]\(([^)\s]+)", page.read_text())
    local = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert not [link for link in local if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_links_to_headings_that_exist(page):
    links = re.findall(r"\]\(([^)\s]*#[^)\s]+)", page.read_text())
    for target, _, heading in (link.partition("#") for link in links if "://" not in link):
        text = (page.parent / target if target else page).read_text()
        assert heading in {anchor(line) for line in text.splitlines() if line.startswith("#")}, heading


def anchor(heading):
    """What GitHub makes of a heading."""
    words = re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower())
    return words.replace(" ", "-")


def mentioned(pattern):
    return sorted({match for page in WITH_COMMANDS for match in re.findall(pattern, page.read_text(), re.MULTILINE)})


@pytest.mark.parametrize("module", mentioned(r"python -m ((?:stages|benchmarks)\.\w+)"))
def test_a_documented_command_helps(monkeypatch, capsys, module):
    found = importlib.import_module(module)
    main = importlib.import_module(f"{module}.__main__").main if hasattr(found, "__path__") else found.main
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert not end.value.code
    assert "usage: " in capsys.readouterr().out


def test_the_documented_targets_of_make_exist():
    targets = mentioned(r"(?:^|`|&& |run --rm -it \S+ )make ([a-z][a-z0-9-]*)")
    assert {"repro", "test"} <= set(targets)
    defined = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(targets) <= set(defined)


def test_the_tests_that_the_documents_name_exist():
    named = set(mentioned(r"`(test_\w+)`"))
    assert named
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name in named if f"def {name}(" not in tests]


@pytest.mark.parametrize("workflow", sorted(ROOT.glob(".github/workflows/*.yml")), ids=lambda path: path.name)
def test_a_workflow_is_sound(workflow):
    done = subprocess.run(
        [Path(sys.executable).parent / "actionlint", workflow], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


QUOTED = (ROOT / "docs/daily-loop.md").read_text().partition("## Quoting -S")[2].partition("| it says")[0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.path", "data/raw/my photos (1)"),
        ("data.path", "data/raw/Ann's photos"),
        ("train.seeds", [1, 2, 3]),
        ("train.augment", []),
        ("lr.groups", {"stem": 0, "stage5": 0.003}),
        ("lr.groups.stem", 0),
        ("lr.groups", None),
        ("data.group_pattern", r"(\d+)_"),
    ],
    ids=str,
)
def test_what_the_page_quotes_reaches_params_yaml_as_it_says(key, value, tmp_path):
    """By a shell's rules and DVC's own code."""
    reached = []
    for typed in re.findall(r"`(-S [^`]*)`", QUOTED):
        _, override = shlex.split(typed)
        if override.lstrip("+").partition("=")[0] == key:
            shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
            apply_overrides(tmp_path / "params.yaml", [override])
            content = read_yaml(tmp_path / "params.yaml")
            for name in key.split("."):
                content = content[name]
            reached.append(content)
    assert value in reached
