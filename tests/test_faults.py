"""Full disks, folders that cannot be written, files that vanish, bits that flip: one line, and what was good stays."""

import os
import resource
import shutil
import socket
import subprocess
import sys

import pytest

from tests.conftest import one_line_of

KEPT = ("metrics", "models", "data", "report")


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
@pytest.mark.parametrize("stage", [("train", "baseline"), ("evaluate",)], ids=" ".join)
def test_a_flipped_bit_in_the_prepared_data_is_noticed(project, run_stage, name, stage):
    flip(project.folder / "data/prepared" / name)
    before = project.fingerprints(*KEPT)
    done = run_stage(project, *stage, check=False)
    one_line_of(done, f"data/prepared/{name} is not as `prepare` wrote it", "dvc repro --force prepare")
    assert project.fingerprints(*KEPT) == before


@pytest.mark.parametrize("at", [0.02, 0.5, 0.999])
def test_a_flipped_bit_in_a_checkpoint_is_noticed(project, run_stage, at):
    flip(project.folder / "models/baseline/seed-1.safetensors", at)
    before = project.fingerprints(*KEPT)
    one_line_of(run_stage(project, "evaluate", check=False), "models/baseline/seed-1.safetensors")
    assert project.fingerprints(*KEPT) == before


@pytest.mark.parametrize("name", ["images.npy", "samples.csv", "checksums.json"])
def test_a_file_that_vanishes_is_named_with_what_makes_it(project, run_stage, name):
    (project.folder / "data/prepared" / name).unlink()
    done = run_stage(project, "train", "baseline", check=False)
    one_line_of(done, f"data/prepared/{name} is missing: run `dvc repro")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "limit"), [(("prepare",), 50_000), (("train", "baseline"), 200_000), (("report",), 100_000)]
)
def test_a_file_that_may_not_grow_further_stops_the_stage_with_what_was_there_whole(project, stage, limit):
    """The quota of a process, which fails as a full disk does."""
    before = project.fingerprints(*KEPT)
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]],
        cwd=project.folder, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    one_line_of(done, "File too large: raise the limit on the size of files")
    assert project.fingerprints(*KEPT) == before
    assert leftovers(project) == []


def leftovers(project):
    return [path for folder in KEPT for path in (project.folder / folder).rglob(".*.[0-9]*")]


@pytest.fixture
def small_disk(project):
    """A file system of a fifth of a megabyte in the place of models/, where this user may mount one."""
    models = project.folder / "models"
    shutil.rmtree(models)
    models.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(models)]
    if not sys.platform.startswith("linux") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may mount no tmpfs here")
    yield models
    subprocess.run(["umount", models], check=True)


@pytest.mark.slow
def test_a_full_disk_stops_training_with_one_line_and_leaves_nothing(project, run_stage, small_disk):
    one_line_of(run_stage(project, "train", "baseline", check=False), "No space left", "free some room")
    assert list(small_disk.iterdir()) == []


@pytest.mark.slow
def test_a_read_only_folder_stops_training_with_one_line(project, run_stage, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = run_stage(project, "train", "baseline", check=False)
    one_line_of(done, "models", "Read-only file system: make it writable")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_ones_own_stops_the_stage_with_one_line(project, run_stage):
    (project.folder / "metrics").chmod(0o500)
    done = run_stage(project, "review", check=False)
    (project.folder / "metrics").chmod(0o700)
    one_line_of(done, "metrics", "Permission denied")
