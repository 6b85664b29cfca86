"""A user's own images through the real pipeline: bad ones, leaks, tables with groups, a set of torchvision."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from stages.data.checks import CHECKS
from stages.data.own_images import printable
from tests.conftest import TINY, clone_project
from tests.data.bad_images import make_folder, picture
from tests.data.test_torchvision_sets import fashion_files

FOLDER = {
    **TINY,
    "data.source": "folder",
    "data.path": "data/raw/photographs",
    "data.split": {"train": 0.5, "val": 0.25, "test": 0.25},
    "train.seeds": [1],
}


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    """A clone with a folder of every kind of bad image, reproduced with `on_bad_image: skip`."""
    folder = tmp_path_factory.mktemp("bad")
    project = clone_project(folder, {**FOLDER, "data.on_bad_image": "skip"})
    kinds = make_folder(folder / "data/raw/photographs", watched=True)
    project.run("dvc", "repro")
    return project, kinds


def findings(project):
    table = pd.read_csv(project.folder / "metrics/prepare_checks.csv", keep_default_na=False)
    return {image: set(rows["check"]) for image, rows in table.groupby("image")}, table


def test_every_kind_of_bad_image_is_named_with_its_reason(bad):
    project, kinds = bad
    found, table = findings(project)
    assert sum(check is not None for check in kinds.values()) >= 30
    for name, check in kinds.items():
        told = found.get(f"odd/{printable(name)}", set()) | found.get(f"odd/{printable(name)}/", set())
        assert told == ({check} if check else set()), name
    assert not [image for image in found if "good-" in image]
    assert set(table["consequence"]) == {"skipped", "left out", "noted"} | set(
        table.loc[table["check"] == "few_samples", "consequence"]
    )


def test_whatever_is_found_is_counted(bad):
    project, kinds = bad
    counts = json.loads(project.read("metrics/prepare.json"))
    table = findings(project)[1]
    assert list(counts["checks"]) == list(CHECKS)
    for check, count in counts["checks"].items():
        assert count == (table["check"] == check).sum()
    skipped = {name for name, check in kinds.items() if check and CHECKS[check].consequence == "skipped"}
    left_out = {name for name, check in kinds.items() if check and CHECKS[check].consequence == "left out"}
    assert counts["skipped"] == len(skipped)
    assert counts["images"] == 24 + len(kinds) - len(skipped) - len(left_out)
    assert counts["images"] == sum(counts[part]["images"] for part in ("train", "val", "test"))


def test_the_good_ones_train(bad):
    project, _ = bad
    samples = pd.read_csv(project.folder / "data/prepared/samples.csv", keep_default_na=False)
    used = samples[samples["part"] != ""]
    images = np.load(project.folder / "data/prepared/images.npy", mmap_mode="r")
    assert all(images[row].any() for row in used.index)
    predictions = pd.read_csv(project.folder / "metrics/differential_predictions.csv", keep_default_na=False)
    assert set(predictions["image"]) == set(used.loc[used["part"] == "val", "image"])
    assert (project.folder / "models/differential/seed-1.safetensors").exists()


def test_dvc_and_the_page_show_the_images(bad):
    project, _ = bad
    sheet = project.read("data/contact_sheet.svg").decode()
    balance = pd.read_csv(project.folder / "metrics/class_balance.csv")
    assert len(balance) == 2 * 3
    assert sheet.count("<image ") == balance["images"].clip(upper=4).sum() > 20
    shown = project.run("dvc", "plots", "show", "--out", "shown")
    assert "index.html" in shown.stdout
    page = project.read("shown/index.html").decode()
    assert "Images of each class in each part" in page
    assert len(list((project.folder / "shown").rglob("*contact_sheet.svg"))) == 1
    shutil.rmtree(project.folder / "shown")
    page = project.read("report/index.html").decode()
    assert "data:image/svg+xml;base64," in page
    assert re.search(r"not an image</th><td>\d+</td>", page)


def test_an_unchanged_set_is_not_prepared_again_and_a_changed_image_is_noticed(bad):
    project, _ = bad
    assert "up to date" in project.run("dvc", "repro").stdout
    changed = project.folder / "data/raw/photographs/good/good-00.png"
    before = changed.read_bytes()
    picture(4711).save(changed)
    ran = project.run("dvc", "repro", "--dry").stdout
    assert "Running stage 'prepare'" in ran
    changed.write_bytes(before)
    assert "Running" not in project.run("dvc", "repro", "--dry").stdout


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


def test_a_bad_image_stops_prepare_by_default_in_one_line_with_nothing_written(photographs):
    project, root = photographs
    (root / "cats/00.png").write_bytes(b"")
    before = everything(project)
    done = project.stage("prepare", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: data: cats/00.png (the file has no bytes): mend or remove them, or set data.on_bad_image to skip"
    ]
    assert everything(project) == before


def test_a_rehearsal_says_all_that_is_wrong_and_writes_nothing(photographs):
    project, root = photographs
    (root / "cats/00.png").write_bytes(b"")
    (root / "cats/zz.png").write_bytes((root / "cats/01.png").read_bytes())
    (root / "cats/zz.txt").write_text("notes")
    before = everything(project)
    done = project.stage("prepare", "--dry-run", check=False)
    assert done.returncode == 1
    for said in (
        "would prepare 40 images at 32 px: 19 train",
        "<b>dogs & co",
        "empty: 1 stops prepare",
        "not_an_image: 1",
        "cats/zz.txt",
    ):
        assert said in done.stdout
    assert done.stderr.startswith("error: data: ")
    told = json.loads(project.stage("prepare", "--dry-run", "--json", check=False).stdout)
    assert told["checks"]["empty"] == told["checks"]["not_an_image"] == 1
    assert {"check": "empty", "consequence": "stops prepare", "image": "cats/00.png", "detail": ""} in told["findings"]
    assert len(told["problems"]) >= 1
    assert everything(project) == before


def test_a_rehearsal_of_good_images_ends_well(photographs):
    project, _ = photographs
    done = project.stage("prepare", "--dry-run")
    assert "would prepare 40 images at 32 px: 20 train, 10 val, 10 test" in done.stdout


def test_one_image_in_two_parts_stops_prepare_unless_it_is_allowed(photographs):
    project, root = photographs
    for number in range(20):  # a copy of each: some fall into other parts
        shutil.copyfile(root / "cats" / f"{number:02}.png", root / "cats" / f"{number:02}-copy.png")
    done = project.stage("prepare", check=False)
    assert done.returncode == 1
    assert re.match(r"error: data: cats/\S+ \(the same pixels in another part too: here in \w+, and in", done.stderr)
    assert "set data.allow_leaks to true" in done.stderr
    project.run("dvc", "exp", "run", "-S", "data.allow_leaks=true", "prepare")
    found, _ = findings(project)
    leaks = [image for image, checks in found.items() if "leak" in checks]
    assert len(leaks) >= 2
    parts = pd.read_csv(project.folder / "data/prepared/samples.csv").set_index("image")["part"]
    for image in leaks:
        other = image.replace("-copy", "") if "-copy" in image else image.replace(".png", "-copy.png")
        assert parts[image] != parts[other]


def test_one_image_under_two_labels_is_used_under_neither(photographs):
    project, root = photographs
    shutil.copyfile(root / "cats/03.png", root / "<b>dogs & co/copy.png")
    done = project.stage("prepare", check=False)
    assert "<b>dogs & co/copy.png (the same pixels under another label too: here in <b>dogs & co, and in cats as" in (
        done.stderr
    )
    project.run("dvc", "exp", "run", "-S", "data.on_bad_image=skip", "prepare")
    parts = pd.read_csv(project.folder / "data/prepared/samples.csv", keep_default_na=False).set_index("image")["part"]
    assert parts["cats/03.png"] == parts["<b>dogs & co/copy.png"] == ""
    assert json.loads(project.read("metrics/prepare.json"))["skipped"] == 2


def test_names_of_classes_are_text_wherever_they_are_shown(photographs):
    project, _ = photographs
    project.run("dvc", "repro")
    page = project.read("report/index.html").decode()
    assert "<b>dogs" not in page
    assert "&lt;b&gt;dogs &amp; co" in page
    assert "<b>dogs" not in project.read("data/contact_sheet.svg").decode()


def test_images_may_lie_outside_of_the_repository(photographs, tmp_path_factory):
    project, root = photographs
    outside = tmp_path_factory.mktemp("outside") / "photographs"
    root.rename(outside)
    project.run("dvc", "exp", "run", "-S", f"data.path={outside}", "prepare")
    assert json.loads(project.read("metrics/prepare.json"))["images"] == 40
    assert str(outside) not in "".join(
        project.read(f"metrics/{name}").decode() for name in ("prepare.json", "prepare_checks.csv")
    )


def test_a_table_with_groups_keeps_each_in_one_part(clone):
    project = clone({**FOLDER, "data.source": "table", "data.path": "data/raw/cells", "data.table": "cells.parquet"})
    root = project.folder / "data/raw/cells"
    root.mkdir(parents=True)
    rows = []
    for number in range(60):
        picture(number).save(root / f"{number}.png")
        rows.append({"path": f"{number}.png", "label": number % 2, "group": f"module-{number // 5}"})
    pd.DataFrame(rows).to_parquet(root / "cells.parquet")
    project.run("dvc", "repro", "prepare")
    samples = pd.read_csv(project.folder / "data/prepared/samples.csv")
    assert len(samples) == 60
    assert (samples.groupby("group")["part"].nunique() == 1).all()
    assert samples["part"].value_counts()["train"] == 30


def test_a_set_of_torchvision_is_split_as_it_is_given(clone):
    project = clone({**FOLDER, "data.source": "torchvision", "data.dataset": "FashionMNIST", "data.path": "data/raw"})
    raw = project.folder / "data/raw/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name, content in fashion_files().items():
        (raw / name).write_bytes(content)
    project.run("dvc", "repro", "prepare")
    counts = json.loads(project.read("metrics/prepare.json"))
    assert [counts[part]["images"] for part in ("train", "val", "test")] == [40, 20, 20]
    assert counts["channels"] == 1
    assert list(counts["test"]["classes"]) == ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal",
                                               "Shirt", "Sneaker", "Bag", "Ankle boot"]  # fmt: skip
    assert project.run("git", "status", "--porcelain", "--", "data").stdout == ""


def test_classes_that_are_called_by_numbers_train_and_are_shown(clone):
    project = clone(FOLDER)
    for label, name in enumerate(("01", "2")):
        root = project.folder / "data/raw/photographs" / name
        root.mkdir(parents=True)
        for number in range(20):
            picture(100 * label + number).save(root / f"{number:02}.png")
    project.run("dvc", "repro")
    assert list(json.loads(project.read("metrics/prepare.json"))["val"]["classes"]) == ["01", "2"]
    assert b'"predicted": "01"' in project.read("report/index.html")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("data.source=table", "data: table must be set where source is table"),
        ("data.source=torchvision", "data: dataset must be set where source is torchvision"),
        ("data.group_pattern='(a'", "data.group_pattern: '(a' is no regular expression"),
        ("data.group_pattern=abc", "data.group_pattern: 'abc' should have one pair of brackets"),
        ("data.cap.train=0", "data.cap.train: "),
        ("data.on_bad_image=ignore", "data.on_bad_image: "),
    ],
)
def test_what_the_section_data_cannot_mean_is_refused(photographs, change, says):
    project, _ = photographs
    done = project.run("dvc", "exp", "run", "-S", change, "check_params", check=False)
    assert done.returncode != 0
    assert f"error: params.yaml: {says}" in done.stderr
