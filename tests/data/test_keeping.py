import pytest

from stages.data.keeping import note_on_keeping
from tests.conftest import clone_project
from tests.data.bad_images import picture

FOLDER = "data/raw/photographs"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A clone with two images of the user's own, as `cp` puts them there."""
    project = clone_project(tmp_path / "project", {})
    for name in ("cats", "dogs"):
        (project.folder / FOLDER / name).mkdir(parents=True)
        picture(len(name)).save(project.folder / FOLDER / name / "1.png")
    monkeypatch.chdir(project.folder)
    return project


@pytest.fixture
def note(data):
    """Return a function that gives the note on a path."""
    return lambda path, **changes: note_on_keeping(
        data.model_copy(update={"source": "folder", "path": str(path), **changes})
    )


@pytest.mark.parametrize("source", ["folder", "table", "torchvision"])
@pytest.mark.parametrize("absolute", [False, True])
def test_what_git_ignores_and_dvc_does_not_have_is_named_with_the_command(project, note, source, absolute):
    path = str(project.folder / FOLDER) if absolute else FOLDER
    assert note(path, source=source) == (
        f"{path} is kept by neither Git nor DVC, so `dvc exp run --temp` or `--queue` misses it: run `dvc add {FOLDER}`"
    )


def test_so_is_what_git_does_not_ignore_and_has_not_been_told_of(project, note):
    (project.folder / FOLDER).rename(project.folder / "my photographs")
    assert note("my photographs").endswith("run `dvc add 'my photographs'`")
    project.run("git", "add", "my photographs")
    assert note("my photographs") == ""


@pytest.mark.parametrize("path", [FOLDER, f"{FOLDER}/cats"])
def test_the_command_is_one_that_dvc_takes_and_then_there_is_no_note(project, note, path):
    """Also of a folder in one that Git ignores, where DVC would make no file."""
    assert note(path).endswith(f"run `dvc add {FOLDER}`")
    project.run("dvc", "add", FOLDER)
    assert note(path) == ""


def test_in_a_folder_in_which_git_keeps_a_file_the_command_is_one_that_dvc_takes(project, note):
    assert project.run("dvc", "add", "data/raw", check=False).returncode
    assert note("data/raw").endswith("run `dvc add data/raw/*`")
    project.run("sh", "-c", "dvc add data/raw/*")
    assert note("data/raw") == ""


def test_a_link_is_nothing_that_dvc_adds(project, note, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (project.folder / "data/raw/link").symlink_to(tmp_path / "elsewhere")
    assert note("data/raw/link").endswith(f"set data.path to {tmp_path / 'elsewhere'}, where it leads")


def test_images_elsewhere_and_those_of_packages_need_no_note(project, note, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    assert note(tmp_path / "elsewhere") == note("../elsewhere") == ""
    assert note("data/raw", source="elpv") == note("data/raw", source="fake") == ""
    monkeypatch.chdir(tmp_path)
    assert note("project/data/raw/photographs") == ""  # here is no project
