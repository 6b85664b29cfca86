"""A user's own images through the real pipeline: bad ones, leaks, tables with groups, a set of torchvision."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from stages.data.checks import CHECKS
from stages.data.user_images import printable
from tests.conftest import TINY, Project, build_once, clone_project, one_line_of, set_params
from tests.data.bad_images import make_folder, picture
from tests.data.test_torchvision_sets import fashion_files

FOLDER = {
    **TINY,
    "data.source": "folder",
    "data.path": "data/raw/photographs",
    "data.split": {"train": 0.5, "val": 0.25, "test": 0.25},
    "train.epochs": 1,
    "train.seeds": [1],
}
STAGES = [
    ("prepare",),
    ("split",),
    ("train", "baseline"),
    ("train", "differential"),
    ("evaluate",),
    ("review",),
    ("report",),
]


@pytest.fixture(scope="session")
def bad(tmp_path_factory):
    """A clone with a folder of every kind of bad image, reproduced with `on_bad_image: skip`; only read."""

    def reproduce(folder):
        project = clone_project(folder, {**FOLDER, "data.on_bad_image": "skip"})
        kinds = make_folder(folder / "data/raw/photographs", watched=True)
        (folder / "kinds.json").write_text(json.dumps(kinds))
        project.run("dvc", "repro")

    project = Project(build_once(tmp_path_factory, "bad-images", reproduce))
    return project, project.read_json("kinds.json")


def findings(project):
    table = pd.read_csv(project.folder / "metrics/prepare_checks.csv", keep_default_na=False)
    return {image: set(rows["check"]) for image, rows in table.groupby("image")}, table


def splits_of(project):
    """Of the first replicate, by the name of the image."""
    table = pd.read_csv(project.folder / "data/splits.csv", keep_default_na=False)
    return table.set_index("image")["seed-1"]


@pytest.mark.slow
def test_every_kind_of_bad_image_is_named_with_its_reason(bad):
    project, kinds = bad
    found, table = findings(project)
    assert sum(check is not None for check in kinds.values()) >= 30
    for name, check in kinds.items():
        told = found.get(f"odd/{printable(name)}", set()) | found.get(f"odd/{printable(name)}/", set())
        assert told == ({check} if check else set()), name
    assert not [image for image in found if "good-" in image]
    assert set(table["consequence"]) == {"skipped", "left out", "noted"}


@pytest.mark.slow
def test_whatever_is_found_is_counted(bad):
    project, kinds = bad
    counts = project.read_json("metrics/prepare.json")
    table = findings(project)[1]
    assert list(counts["checks"]) == list(CHECKS)
    for check, count in counts["checks"].items():
        assert count == (table["check"] == check).sum()
    skipped = {name for name, check in kinds.items() if check and CHECKS[check].consequence == "skipped"}
    left_out = {name for name, check in kinds.items() if check and CHECKS[check].consequence == "left out"}
    assert counts["skipped"] == len(skipped)
    assert counts["images"] == 24 + len(kinds) - len(skipped) - len(left_out)
    splits = project.read_json("metrics/splits.json")
    assert counts["images"] == sum(splits[split] for split in ("train", "val", "test"))


@pytest.mark.slow
def test_the_good_ones_train(bad):
    project, _ = bad
    splits = splits_of(project)
    images = np.load(project.folder / "data/prepared/images.npy", mmap_mode="r")
    assert all(images[row].any() for row in np.flatnonzero(splits != ""))
    predictions = pd.read_csv(project.folder / "metrics/differential_predictions.csv", keep_default_na=False)
    assert set(predictions["image"]) == set(splits.index[splits == "val"])
    assert (project.folder / "models/differential/seed-1.safetensors").exists()


@pytest.mark.slow
def test_dvc_and_the_page_show_the_images(bad, tmp_path):
    project = bad[0].copy_to(tmp_path / "clone")
    sheet = project.read("data/contact_sheet.svg").decode()
    classes = project.read_json("metrics/prepare.json")["classes"]
    assert sheet.count("<image ") == sum(min(images, 12) for images in classes.values()) == 24
    assert len(pd.read_csv(project.folder / "metrics/class_balance.csv")) == 2 * 3
    shown = project.run("dvc", "plots", "show", "--out", "shown")
    assert "index.html" in shown.stdout
    page = project.read("shown/index.html").decode()
    assert "Images of each class in each split" in page
    assert len(list((project.folder / "shown").rglob("*contact_sheet.svg"))) == 1
    page = project.read("report/index.html").decode()
    assert "data:image/svg+xml;base64," in page
    assert re.search(r"not an image</th><td>\d+</td>", page)


@pytest.mark.slow
def test_an_unchanged_set_is_not_prepared_again_and_a_changed_image_is_noticed(bad, tmp_path):
    project = bad[0].copy_to(tmp_path / "clone")
    assert "up to date" in project.run("dvc", "repro").stdout
    picture(4711).save(project.folder / "data/raw/photographs/good/good-00.png")
    assert "Running stage 'prepare'" in project.run("dvc", "repro", "--dry").stdout


@pytest.fixture
def photographs(clone):
    """A clone with 20 pictures of each of two classes, and what a user may do to them."""
    project = clone(FOLDER)
    root = project.folder / "data/raw/photographs"
    for label, name in enumerate(("cats", "<b>dogs & co")):
        (root / name).mkdir(parents=True)
        for number in range(20):
            picture(100 * label + number).save(root / name / f"{number:02}.png")
    return project, root


def everything(project):
    return project.fingerprints("data", "metrics", "models", "report")


def test_a_bad_image_stops_prepare_by_default_in_one_line_with_nothing_written(photographs, run_stage):
    project, root = photographs
    (root / "cats/00.png").write_bytes(b"")
    before = everything(project)
    assert one_line_of(run_stage(project, "prepare", check=False)) == (
        "error: data: cats/00.png (the file has no bytes): mend or remove them, or set data.on_bad_image to skip"
    )
    assert everything(project) == before


def test_a_dry_run_says_all_that_is_wrong_and_writes_nothing(photographs, run_stage):
    project, root = photographs
    (root / "cats/00.png").write_bytes(b"")
    (root / "cats/zz.png").write_bytes((root / "cats/01.png").read_bytes())
    (root / "cats/zz.txt").write_text("notes")
    before = everything(project)
    done = run_stage(project, "prepare", "--dry-run", check=False)
    assert done.returncode == 1
    for said in (
        "would stop; it could use 40 images at 32 px, 2 skipped",
        "<b>dogs & co",
        "empty: 1, stops prepare",
        "not_an_image: 1",
        "cats/zz.txt",
    ):
        assert said in done.stdout
    assert done.stderr.startswith("error: data: ")
    told = json.loads(run_stage(project, "prepare", "--dry-run", "--json", check=False).stdout)
    assert told["checks"]["empty"] == told["checks"]["not_an_image"] == 1
    assert {"check": "empty", "consequence": "stops prepare", "image": "cats/00.png", "detail": ""} in told["findings"]
    assert len(told["problems"]) >= 1
    assert everything(project) == before


def test_a_dry_run_of_good_images_ends_well(photographs, run_stage):
    done = run_stage(photographs[0], "prepare", "--dry-run")
    assert "would prepare 40 images at 32 px\n" in done.stdout
    assert "every check passed" in done.stdout


def test_one_image_in_two_splits_stops_prepare_unless_it_is_allowed(photographs, run_stage):
    project, root = photographs
    for split in ("train", "test"):
        (root / split).mkdir()
    for folder in ("cats", "<b>dogs & co"):
        shutil.copytree(root / folder, root / "test" / folder)
        (root / folder).rename(root / "train" / folder)
    picture(4711).save(root / "test/cats/01.png")
    done = run_stage(project, "prepare", check=False)
    assert done.returncode == 1
    assert re.match(r"error: data: \S.* \(the same pixels in another split too: here in \w+, and in", done.stderr)
    assert "set data.allow_leaks to true" in done.stderr
    set_params(project.folder, {"data.allow_leaks": True})
    run_stage(project, "prepare")
    run_stage(project, "split")
    assert sum("leak" in checks for checks in findings(project)[0].values()) == 2 * 39
    splits = splits_of(project)
    for image, split in splits.items():
        assert (split == "test") == image.startswith("test/")


def test_copies_of_an_image_stay_in_one_split(photographs, run_stage):
    project, root = photographs
    for number in range(20):
        shutil.copyfile(root / "cats" / f"{number:02}.png", root / "cats" / f"{number:02}-copy.png")
    set_params(project.folder, {"train.seeds": [1, 2]})
    run_stage(project, "prepare")
    run_stage(project, "split")
    assert project.read_json("metrics/prepare.json")["checks"]["duplicate"] == 20
    table = pd.read_csv(project.folder / "data/splits.csv", keep_default_na=False)
    for _, both in table.groupby(table["image"].str.replace("-copy", "")):
        assert (both.drop(columns="image").nunique() == 1).all()


def test_one_image_under_two_labels_is_used_under_neither(photographs, run_stage):
    project, root = photographs
    shutil.copyfile(root / "cats/03.png", root / "<b>dogs & co/copy.png")
    one_line_of(
        run_stage(project, "prepare", check=False),
        "<b>dogs & co/copy.png (the same pixels under another label too: here in <b>dogs & co, and in cats as",
    )
    set_params(project.folder, {"data.on_bad_image": "skip"})
    run_stage(project, "prepare")
    run_stage(project, "split")
    splits = splits_of(project)
    assert splits["cats/03.png"] == splits["<b>dogs & co/copy.png"] == ""
    assert project.read_json("metrics/prepare.json")["skipped"] == 2


def test_names_of_classes_are_text_wherever_they_are_shown(photographs, run_stage):
    project, _ = photographs
    for stage in STAGES:
        run_stage(project, *stage)
    page = project.read("report/index.html").decode()
    assert "<b>dogs" not in page
    assert "&lt;b&gt;dogs &amp; co" in page
    assert "<b>dogs" not in project.read("data/contact_sheet.svg").decode()


@pytest.mark.slow
def test_images_may_lie_outside_of_the_repository(photographs, tmp_path_factory):
    """Which DVC has to watch there."""
    project, root = photographs
    outside = tmp_path_factory.mktemp("outside") / "photographs"
    root.rename(outside)
    project.run("dvc", "exp", "run", "-S", f"data.path={outside}", "prepare")
    assert project.read_json("metrics/prepare.json")["images"] == 40
    assert str(outside) not in "".join(
        project.read(f"metrics/{name}").decode() for name in ("prepare.json", "prepare_checks.csv")
    )
    picture(4711).save(outside / "cats/00.png")
    assert "Running stage 'prepare'" in project.run("dvc", "repro", "--dry", "prepare").stdout


@pytest.mark.slow
def test_an_experiment_in_a_folder_of_its_own_finds_what_dvc_keeps_and_prepare_says_what_it_does_not(
    photographs, tmp_path_factory
):
    project, root = photographs
    elsewhere = root.rename(tmp_path_factory.mktemp("home") / "photographs")
    shutil.copytree(elsewhere, root)
    run = ("dvc", "exp", "run", "--temp", "-S", "data.seed=1", "split")
    assert "note: data/raw/photographs is kept by neither Git nor DVC" in project.run("dvc", "repro", "split").stdout
    project.commit("Images that nobody keeps")
    assert "No such file or directory" in project.run(*run, check=False).stderr

    shutil.rmtree(root)
    project.run("dvc", "add", str(elsewhere), "--out", "data/raw/photographs")  # as the README has it
    assert "note: " not in project.run("dvc", "repro", "--force", "split").stdout
    project.run("git", "add", ".")
    project.run("git", "commit", "--message", "Our photographs")
    assert project.run("git", "status", "--porcelain", "--", "data").stdout == ""
    assert "data/raw/photographs.dvc" in project.run("git", "ls-files", "data/raw").stdout.splitlines()
    assert "Ran experiment(s)" in project.run(*run).stdout


def test_a_table_with_groups_keeps_each_in_one_split(clone, run_stage):
    project = clone({**FOLDER, "data.source": "table", "data.path": "data/raw/cells", "data.table": "cells.parquet"})
    root = project.folder / "data/raw/cells"
    root.mkdir(parents=True)
    rows = []
    for number in range(60):
        picture(number).save(root / f"{number}.png")
        rows.append({"path": f"{number}.png", "label": number % 2, "group": f"module-{number // 5}"})
    pd.DataFrame(rows).to_parquet(root / "cells.parquet")
    run_stage(project, "prepare")
    run_stage(project, "split")
    assert project.read_json("metrics/prepare.json")["groups"] == 12
    assert project.read_json("metrics/splits.json")["tested_groups"] == 3
    splits = splits_of(project)
    assert len(splits) == 60
    groups = [f"module-{int(image.removesuffix('.png')) // 5}" for image in splits.index]
    assert (splits.groupby(groups).nunique() == 1).all()
    assert splits.value_counts().to_dict() == {"train": 30, "val": 15, "test": 15}


def test_a_set_of_torchvision_is_split_as_it_is_given(clone, run_stage):
    project = clone({**FOLDER, "data.source": "torchvision", "data.dataset": "FashionMNIST", "data.path": "data/raw"})
    raw = project.folder / "data/raw/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name, content in fashion_files().items():
        (raw / name).write_bytes(content)
    run_stage(project, "prepare")
    run_stage(project, "split")
    counts, splits = project.read_json("metrics/prepare.json"), project.read_json("metrics/splits.json")
    assert [splits[split] for split in ("train", "val", "test")] == [40, 20, 20]
    assert counts["channels"] == 1
    assert list(counts["classes"]) == ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal",
                                               "Shirt", "Sneaker", "Bag", "Ankle boot"]  # fmt: skip
    assert project.run("git", "status", "--porcelain", "--", "data").stdout == ""


def test_classes_that_are_called_by_numbers_train_and_are_shown(clone, run_stage):
    project = clone(FOLDER)
    for label, name in enumerate(("01", "2")):
        root = project.folder / "data/raw/photographs" / name
        root.mkdir(parents=True)
        for number in range(20):
            picture(100 * label + number).save(root / f"{number:02}.png")
    for stage in STAGES:
        run_stage(project, *stage)
    assert list(project.read_json("metrics/prepare.json")["classes"]) == ["01", "2"]
    assert b'"predicted": "01"' in project.read("report/index.html")
