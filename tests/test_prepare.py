"""What `prepare` does with the images that it finds, in one process."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.data.checks import CHECKS, as_table
from stages.data.splits import split_replicates
from stages.data.store import open_prepared
from stages.data.user_images import printable
from stages.errors import UserError
from stages.params import MaxImages, SplitFractions, load_params
from stages.prepare import check_and_decode, prepare, summarize
from tests.conftest import PATIENCE, ROOT, TINY, clone_project
from tests.data.bad_images import make_folder, picture


@pytest.fixture
def data(tmp_path):
    """The section `data` for a folder of the user's own."""
    changes = {
        "source": "folder",
        "path": str(tmp_path / "photographs"),
        "image_size": 32,
        "development": 0.0,
        "split": SplitFractions(train=0.5, val=0.25, test=0.25),
    }
    return load_params(ROOT / "params.yaml").data.model_copy(update=changes)


def test_every_kind_of_bad_image_is_named_and_none_is_waited_for(tmp_path, data):
    kinds = make_folder(tmp_path / "photographs", watched=False)
    result = check_and_decode(data.model_copy(update={"on_bad_image": "skip"}), folder=None)
    found = {finding.image.rstrip("/"): finding.check for finding in result.findings}
    assert found == {f"odd/{printable(name)}": check for name, check in kinds.items() if check}
    assert result.problems == []
    usable = [check for check in kinds.values() if check is None or CHECKS[check].consequence == "noted"]
    assert result.samples["usable"].sum() == 24 + len(usable)


def pictures(root, **classes):
    for label, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(100 * label + number).save(root / name / f"{number:02}.png")


def test_by_hash_a_bad_image_moves_no_other(tmp_path, data):
    """So to mend it later changes nothing else."""
    root = tmp_path / "photographs"
    pictures(root, cats=20, dogs=20)
    data = data.model_copy(update={"on_bad_image": "skip", "split_by": "hash", "development": 0.2})

    def splits():
        samples = check_and_decode(data, folder=None).samples
        parts, of_seeds = split_replicates(samples, data, [1, 2])
        return of_seeds.assign(part=parts).set_index(samples["image"])

    before = splits()
    (root / "cats/05.png").write_bytes(b"")
    after = splits()
    assert after.drop("cats/05.png").equals(before.drop("cats/05.png"))
    assert (after.loc["cats/05.png"] == "").all()


def test_what_decides_the_splits_changes_nothing_that_is_prepared(tmp_path, data):
    pictures(tmp_path / "photographs", cats=10, dogs=10)
    other = {
        "development": 0.4,
        "part": "development",
        "folds": 2,
        "split": SplitFractions(train=0.2, val=0.1, test=0.3),
        "split_by": "hash",
        "max_images": MaxImages(train=4, val=None, test=2, per_class=3),
        "seed": 7,
    }
    prepare(data, tmp_path / "one")
    prepare(data.model_copy(update=other), tmp_path / "two")
    for name in ("images.npy", "samples.csv", "checksums.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_what_belongs_together_and_what_looks_alike_is_written_down(tmp_path, data):
    root = tmp_path / "photographs"
    pictures(root, cats=10, dogs=10)
    shutil.copyfile(root / "cats/03.png", root / "cats/copy.png")
    picture(105).save(root / "dogs/again.jpg", quality=85)
    prepare(data.model_copy(update={"group_pattern": "cats/(0)[01]"}), tmp_path / "prepared")
    samples = open_prepared(tmp_path / "prepared").samples.set_index("image")
    units = samples.groupby("unit").groups
    assert sorted(list(images) for images in units.values() if len(images) > 1) == [
        ["cats/00.png", "cats/01.png"],
        ["cats/03.png", "cats/copy.png"],
    ]
    alike = samples[samples["near_duplicates"] != ""].groupby("near_duplicates").groups
    assert {name: list(images) for name, images in alike.items()} == {
        "cats/03.png": ["cats/03.png", "cats/copy.png"],
        "dogs/05.png": ["dogs/05.png", "dogs/again.jpg"],
    }
    assert set(samples["split"]) == {""}


def test_pairs_and_images_that_look_alike_are_two_numbers_each_under_its_name(tmp_path, run_stage):
    """Three copies of one picture make three pairs, and one of another makes one: 4 pairs among 5 images."""
    project = clone_project(tmp_path, {**TINY, "data.source": "folder", "data.path": "data/raw/photographs"})
    root = project.folder / "data/raw/photographs"
    pictures(root, cats=10, dogs=10)
    for name, number, quality in (("cats/a.jpg", 3, 90), ("cats/b.jpg", 3, 80), ("dogs/c.jpg", 105, 85)):
        picture(number).save(root / name, quality=quality)
    shutil.copyfile(root / "cats/07.png", root / "cats/same.png")  # the same pixels are another check's
    said = "near_duplicate_pair: 4 pairs among 5 images"
    assert f"{said}, warned; two almost alike" in run_stage(project, "prepare", "--dry-run").stdout
    assert f"{said} (two almost alike" in run_stage(project, "prepare").stdout
    counts = project.read_json("metrics/prepare.json")
    assert (counts["near_duplicate_images"], counts["checks"]["near_duplicate_pair"]) == (5, 4)
    table = pd.read_csv(project.folder / "metrics/prepare_checks.csv")
    assert (table["check"] == "near_duplicate_pair").sum() == 4


def test_images_of_twelve_bits_are_used_and_named_in_terminal_and_table(tmp_path, run_stage):
    project = clone_project(tmp_path, {**TINY, "data.source": "folder", "data.path": "data/raw/scans"})
    root = project.folder / "data/raw/scans"
    pictures(root, benign=10, malignant=10)
    for number in range(2):
        values = np.asarray(picture(number).convert("L")).astype(np.uint16) * 16
        Image.fromarray(values).save(root / f"benign/scan {number}.png")
    assert (
        "\nfew_gray_levels: 2, warned; it uses few of the gray levels"
        in run_stage(project, "prepare", "--dry-run").stdout
    )
    assert "\nfew_gray_levels: 2 (it uses few of the gray levels" in run_stage(project, "prepare").stdout
    counts = project.read_json("metrics/prepare.json")
    assert (counts["images"], counts["checks"]["few_gray_levels"], counts["checks"]["sixteen_bit"]) == (22, 2, 2)


def test_what_is_skipped_keeps_its_row_and_belongs_to_nothing(tmp_path, data):
    root = tmp_path / "photographs"
    pictures(root, cats=10, dogs=10)
    (root / "cats/05.png").write_bytes(b"")
    shutil.copyfile(root / "cats/03.png", root / "dogs/copy.png")
    prepare(data.model_copy(update={"on_bad_image": "skip"}), tmp_path / "prepared")
    prepared = open_prepared(tmp_path / "prepared")
    skipped = prepared.samples[~prepared.samples["usable"]]
    assert skipped["image"].tolist() == ["cats/03.png", "cats/05.png", "dogs/copy.png"]
    assert set(skipped["unit"]) == set(skipped["near_duplicates"]) == {""}
    assert "" not in set(prepared.samples.loc[prepared.samples["usable"], "unit"])
    assert len(prepared.images) == 21


def test_the_same_pixels_in_two_splits_that_the_source_gives_are_a_leak(tmp_path, data):
    root = tmp_path / "photographs"
    for split in ("train", "test"):
        pictures(root / split, cats=5, dogs=5)
    result = check_and_decode(data, folder=None)
    assert summarize(result, data)["checks"]["leak"] == 20
    assert "set data.allow_leaks to true" in result.problems[0]
    assert check_and_decode(data.model_copy(update={"allow_leaks": True}), folder=None).problems == []


def test_a_class_without_an_image_stops_prepare(tmp_path, data):
    """No label may be missing from the table, for the classes are counted there."""
    root = tmp_path / "photographs"
    pictures(root, cats=4, dogs=4)
    (root / "birds").mkdir()
    (problem,) = check_and_decode(data, folder=None).problems
    assert problem == "data.path: there is no image to use of birds: add some, or remove that class"
    (root / "birds/1.png").write_bytes(b"")
    skip = data.model_copy(update={"on_bad_image": "skip"})
    assert check_and_decode(skip, folder=None).problems == [problem]
    for path in root.glob("*/*.png"):
        path.write_bytes(b"")
    nothing = "data.path: there is no image to use of birds, cats, dogs: add some"
    assert check_and_decode(skip, folder=None).problems == [nothing]
    for path in root.glob("*/*.png"):
        path.unlink()
    assert check_and_decode(data, folder=None).problems == [nothing]


def test_every_row_of_a_table_is_used_or_skipped(tmp_path, data):
    """One that stands there three times counts once, and what is wrong with it is said once."""
    root = tmp_path / "photographs"
    pictures(root, cats=12, dogs=12)
    (root / "bad.png").touch()
    names = [f"{label}/{number:02}.png" for label in ("cats", "dogs") for number in range(12)]
    rows = [(name, name[:4]) for name in [*names, names[0], names[0]]]
    rows += [("bad.png", "cats"), ("bad.png", "cats"), (names[1], "")]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(root / "labels.csv", index=False)
    data = data.model_copy(update={"source": "table", "table": "labels.csv", "on_bad_image": "skip"})
    result = check_and_decode(data, folder=None)
    counts = summarize(result, data)
    assert (counts["images"], counts["skipped"]) == (24, 2)
    assert counts["classes"] == {"cats": 12, "dogs": 12}
    assert counts["checks"]["empty"] == counts["checks"]["no_label"] == 1
    assert (counts["checks"]["listed_twice"], counts["checks"]["duplicate"]) == (2, 0)
    assert sum(counts["checks"].values()) == len(as_table(result.findings, data)) == len(set(result.findings))


def test_a_stop_leaves_what_was_prepared_before(tmp_path, data):
    root, prepared = tmp_path / "photographs", tmp_path / "prepared"
    pictures(root, cats=20, dogs=20)
    prepare(data, prepared)
    before = {path.name: path.read_bytes() for path in prepared.iterdir()}
    (root / "cats/05.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"cats/05\.png"):
        prepare(data, prepared)
    assert {path.name: path.read_bytes() for path in prepared.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photographs", "prepared"]


@pytest.mark.slow
def test_ctrl_c_ends_prepare_at_once_and_quietly(tmp_path):
    project = clone_project(tmp_path, {**TINY, "data.image_size": 160})
    running = subprocess.Popen(
        [sys.executable, "-m", "stages.prepare"],
        cwd=project.folder, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # a background job ignores it
    )  # fmt: skip
    while not any(array.stat().st_blocks > 100 for array in project.folder.glob("data/.prepared.*/images.npy")):
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 130
    assert errors == ""
    assert not list(project.folder.glob("data/.prepared.*"))
    assert not (project.folder / "data/prepared").exists()
