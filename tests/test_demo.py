"""`make demo`: the real pipeline on a few images, in a folder of its own."""

import shutil

import pytest

from stages.adopt import write_values
from stages.demo import NEXT, read_preset
from stages.params import load_params
from tests.conftest import ROOT, clone_project, one_line_of, stages_run
from tests.test_end_to_end import STAGES

DEMO = ("make", "-o", ".venv/ready", "demo")


def assert_it_ends_with_the_verdict_the_page_and_what_to_do_next(project, output):
    lines = output[output.rindex("\n\n") :].strip().splitlines()
    assert "differential − baseline is " in lines[0]
    assert lines[1].startswith("That is 4 replicates of 160 training images each")
    place = lines[2].removeprefix("The page: ")
    assert "<svg" in (project.folder / place).read_text()
    assert lines[3] == "Next:"
    assert all(line.strip().startswith(what) for line, what in zip(lines[4:], NEXT, strict=True))


@pytest.mark.slow
def test_it_runs_the_committed_network_and_leaves_a_dirty_workspace_alone(tmp_path):
    project = clone_project(tmp_path, {})
    (project.folder / "README.md").write_text("something that the user was writing\n")
    (project.folder / "data/raw/mine.txt").write_text("not to be copied\n")
    before = project.run("git", "status", "--porcelain").stdout
    done = project.run(*DEMO)
    assert sorted(stages_run(done.stdout)) == sorted(STAGES)
    assert_it_ends_with_the_verdict_the_page_and_what_to_do_next(project, done.stdout)
    assert project.run("git", "status", "--porcelain").stdout == before
    assert not [name for name in ("dvc.lock", ".replicates", "data/prepared") if (project.folder / name).exists()]
    assert not (project.folder / "demo/data/raw/mine.txt").exists()
    assert project.run("dvc", "stage", "list", "--all").stdout.count("train_baseline") == 1  # the demo's is not ours

    again = project.run(*DEMO)
    assert stages_run(again.stdout) == []
    assert again.stdout.splitlines()[-6:] == done.stdout.splitlines()[-6:]


@pytest.mark.slow
def test_it_needs_no_git_as_after_a_download_of_an_archive(clone):
    project = clone({"data.image_size": 64})
    shutil.rmtree(project.folder / ".git")
    done = project.run(*DEMO)
    assert_it_ends_with_the_verdict_the_page_and_what_to_do_next(project, done.stdout)


def test_a_folder_of_somebody_elses_is_left_as_it_is(clone, run_stage):
    project = clone()
    (project.folder / "demo").mkdir()
    (project.folder / "demo/thesis.txt").write_text("mine\n")
    one_line_of(run_stage(project, "demo", check=False), "demo: ", "move it away")
    assert project.fingerprints("demo") == {"demo/thesis.txt": b"mine\n"}


@pytest.mark.parametrize("preset", sorted((ROOT / "experiments").iterdir()), ids=lambda path: path.name)
def test_every_preset_is_in_order(preset, clone, monkeypatch):
    project = clone()
    monkeypatch.chdir(project.folder)
    values = read_preset(preset)
    write_values(values)
    params = load_params().model_dump()
    for name, value in values.items():
        section, key = name.split(".")
        assert params[section][key] == value
