"""Full disks, folders that cannot be written, files that vanish, bits that flip: one line, and what was good stays."""

import os
import resource
import shutil
import socket
import subprocess
import sys

import pytest

from tests.conftest import TINY, clone_project


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory):
    """A clone in a folder with a telling name, reproduced by a user with one."""
    folder = tmp_path_factory.mktemp("home-of-jane-doe") / "clone"
    folder.mkdir()
    project = clone_project(folder, {**TINY, "train.seeds": [1]})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("USER", "jane-doe")
        patch.setenv("LOGNAME", "jane-doe")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "jane-doe-secret")
        project.run("dvc", "repro")
    return project


@pytest.fixture
def project(reproduced, tmp_path):
    """A copy of it, to be damaged."""
    shutil.copytree(reproduced.folder, tmp_path / "clone", symlinks=True)
    reproduced_there = type(reproduced)(tmp_path / "clone")
    for link in (tmp_path / "clone/data/prepared").iterdir():
        link.chmod(0o644)
    return reproduced_there


KEPT = ("metrics", "models", "data", "report")


def ends_with_one_line(project, done, *words):
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith("error: ")
    for word in words:
        assert word in line
    assert "Traceback" not in done.stdout + done.stderr


def test_nothing_says_who_made_it_and_where(reproduced):
    host = socket.gethostname()
    secrets = ["jane-doe", str(reproduced.folder), *([host] if len(host) > 5 else [])]  # "vm" is in any two megabytes
    for name, content in reproduced.fingerprints(*KEPT).items():
        for secret in secrets:
            assert secret.encode() not in content, f"{name} holds {secret}"


def flip(path, at=0.5):
    content = bytearray(path.read_bytes())
    content[int(len(content) * at)] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", ["images.npy", "samples.csv"])
@pytest.mark.parametrize("stage", [("train", "baseline"), ("evaluate",)])
def test_a_flipped_bit_in_the_prepared_data_is_noticed(project, name, stage):
    flip(project.folder / "data/prepared" / name)
    before = project.fingerprints(*KEPT)
    done = project.stage(*stage, check=False)
    ends_with_one_line(project, done, f"data/prepared/{name} is not as `prepare` wrote it", "dvc repro --force prepare")
    assert project.fingerprints(*KEPT) == before


@pytest.mark.parametrize("at", [0.02, 0.5, 0.999])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(project, at):
    checkpoint = project.folder / "models/baseline/seed-1.safetensors"
    checkpoint.chmod(0o644)
    flip(checkpoint, at)
    before = project.fingerprints(*KEPT)
    ends_with_one_line(project, project.stage("evaluate", check=False), "models/baseline/seed-1.safetensors")
    assert project.fingerprints(*KEPT) == before


@pytest.mark.parametrize("name", ["images.npy", "samples.csv", "checksums.json"])
def test_a_file_that_vanishes_is_named_with_what_makes_it(project, name):
    (project.folder / "data/prepared" / name).unlink()
    done = project.stage("train", "baseline", check=False)
    ends_with_one_line(project, done, f"data/prepared/{name} is missing: run `dvc repro")


@pytest.mark.parametrize(
    ("stage", "limit"), [(("prepare",), 50_000), (("train", "baseline"), 1_000_000), (("report",), 100_000)]
)
def test_a_file_that_may_not_grow_further_stops_the_stage_with_what_was_there_whole(project, stage, limit):
    """The quota of a process, which fails as a full disk does."""
    before = project.fingerprints(*KEPT)
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]],
        cwd=project.folder, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    ends_with_one_line(project, done, "File too large: raise the limit on the size of files")
    assert project.fingerprints(*KEPT) == before
    assert leftovers(project) == []


def leftovers(project):
    return [path for folder in KEPT for path in (project.folder / folder).rglob(".*.[0-9]*")]


@pytest.fixture
def small_disk(project):
    """A file system of one megabyte in the place of models/, where this user may mount one."""
    models = project.folder / "models"
    shutil.rmtree(models)
    models.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(models)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may mount nothing")
    yield models
    subprocess.run(["umount", models], check=True)


def test_a_full_disk_stops_training_with_one_line_and_leaves_nothing(project, small_disk):
    ends_with_one_line(project, project.stage("train", "baseline", check=False), "No space left", "free some room")
    assert list(small_disk.iterdir()) == []


def test_a_read_only_folder_stops_training_with_one_line(project, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = project.stage("train", "baseline", check=False)
    ends_with_one_line(project, done, "models", "Read-only file system: make it writable")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ones_own_stops_the_stage_with_one_line(project):
    (project.folder / "metrics").chmod(0o500)
    done = project.stage("review", check=False)
    (project.folder / "metrics").chmod(0o700)
    ends_with_one_line(project, done, "metrics", "Permission denied")
