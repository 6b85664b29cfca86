"""What the stage `split` writes and says."""

import json
import shutil

import pandas as pd
import pytest

from stages.data.splits import few_samples
from stages.data.store import make_array, open_prepared, open_splits, write_samples
from stages.params import SPLITS
from stages.split import fewest
from tests.conftest import ROOT, TINY, Project, one_line_of, set_params

CONFIG = {**TINY, "data.split": {"train": 0.5, "val": 0.25, "test": 0.25}, "train.seeds": [1, 2, 3, 4]}
WRITTEN = ("data/splits.csv", "metrics/splits.json", "metrics/class_balance.csv")


def table(count=80, groups=False):
    """Two classes of as many images, in groups of four or each by itself; the last image cannot be used."""
    samples = pd.DataFrame({"image": [f"{row:02}.png" for row in range(count)]})
    labels = [row // 4 % 2 for row in range(count)]
    group = [f"group-{row // 4}" if groups else "" for row in range(count)]
    return samples.assign(
        **{
            "label": labels,
            "class": ["01" if label else "cats" for label in labels],
            "stratum": "",
            "group": group,
            "unit": group if groups else samples["image"],
            "near_duplicates": "",
            "split": "",
            "usable": samples.index < count - 1,
        }
    )


@pytest.fixture
def write(tmp_path):
    """Return a function that makes a folder with parameters and prepared images."""

    def write(samples, changes=None):
        shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
        set_params(tmp_path, {**CONFIG, **(changes or {})})
        (tmp_path / "data/prepared").mkdir(parents=True)
        make_array(tmp_path / "data/prepared", (len(samples), 4, 4, 1))
        write_samples(tmp_path / "data/prepared", samples)
        return Project(tmp_path)

    return write


def opened(project, monkeypatch, seeds=(1, 2, 3, 4)):
    """What later stages read."""
    monkeypatch.chdir(project.folder)
    return open_splits(open_prepared(), seeds)


def test_a_row_for_each_image_and_a_column_for_each_replicate_is_written(write, run_stage, monkeypatch):
    project = write(table(), {"data.development": 0.25})
    run_stage(project, "split")
    splits = opened(project, monkeypatch)
    assert splits.shape == (80, 4)
    parts = pd.read_csv(project.folder / "data/splits.csv", keep_default_na=False)["part"]
    assert parts.value_counts().to_dict() == {"pool": 44, "development": 20, "test": 15, "": 1}
    assert (splits[parts.isin(["development", ""])] == "").all(axis=None)
    for seed in splits:
        assert (splits[seed] == "test").equals(parts == "test")


def test_the_counts_are_those_of_the_table(write, run_stage, monkeypatch):
    project = write(table(groups=True), {"data.development": 0.25, "data.max_images.train": 10})
    run_stage(project, "split")
    splits, counts = opened(project, monkeypatch), project.read_json("metrics/splits.json")
    parts = pd.read_csv(project.folder / "data/splits.csv", keep_default_na=False)["part"]
    assert [counts[split] for split in SPLITS] == [(splits[1] == split).sum() for split in SPLITS]
    assert counts["train"] == 10
    assert counts["development"] == (parts == "development").sum()
    assert counts["tested"] == counts["test"]
    assert counts["tested_groups"] == table(groups=True)["group"][splits[1] == "test"].nunique()
    assert counts["unused"] == ((splits == "").all(axis=1) & table()["usable"]).sum()
    assert (counts["replicates"], counts["folds"], counts["part"]) == (4, None, "main")


def test_the_class_balance_is_that_of_the_first_replicate(write, run_stage, monkeypatch):
    project = write(table())
    run_stage(project, "split")
    splits = opened(project, monkeypatch)
    balance = pd.read_csv(project.folder / "metrics/class_balance.csv", dtype={"class": str})
    assert balance[["split", "class"]].to_numpy().tolist() == [
        [split, name] for split in SPLITS for name in ("cats", "01")
    ]
    for split, name, images in balance.itertuples(index=False):
        assert images == ((splits[1] == split) & (table()["class"] == name)).sum()


def test_with_folds_every_image_is_tested_once_a_round(write, run_stage, monkeypatch):
    project = write(table(), {"data.folds": 2, "data.split": {"train": 0.3, "val": 0.2, "test": 0.5}})
    done = run_stage(project, "split")
    splits, counts = opened(project, monkeypatch), project.read_json("metrics/splits.json")
    for of_round in ([1, 2], [3, 4]):
        assert ((splits[of_round] == "test").sum(axis=1) == table()["usable"]).all()
    assert (counts["tested"], counts["folds"], counts["unused"]) == (79, 2, 0)
    assert "every 2 of them test 79 once" in done.stdout


def test_it_says_how_many_images_there_are_and_which_classes_have_few(write, run_stage):
    done = run_stage(write(table(), {"data.development": 0.25}), "split")
    said, *few = done.stdout.splitlines()
    assert said == (
        "4 replicates, each with 30 train and 14 val images, and the same 15 test images; "
        "20 are set aside for development"
    )
    assert [line.split(",")[0] for line in few] == [
        "cats: 7 images in val", "01: 7 images in val", "cats: 8 images in test", "01: 7 images in test",
    ]  # fmt: skip


def test_a_class_with_few_images_in_another_replicate_than_the_first_is_named():
    balances = [pd.DataFrame({"split": ["val"], "class": ["one"], "images": [images]}) for images in (12, 9, 11)]
    assert few_samples(fewest(dict(enumerate(balances)))) == [
        "one: 9 images in val, of which a metric of that class says little"
    ]


def test_within_the_development_part_it_says_so_and_uses_no_other(write, run_stage, monkeypatch):
    project = write(table(), {"data.development": 0.5})
    run_stage(project, "split")
    parts = pd.read_csv(project.folder / "data/splits.csv", keep_default_na=False)["part"]
    set_params(project.folder, {"data.part": "development"})
    done = run_stage(project, "split")
    assert "all within the development part" in done.stdout
    splits = opened(project, monkeypatch)
    assert ((splits != "").any(axis=1) == (parts == "development")).all()


@pytest.mark.parametrize("arguments", [("--dry-run",), ("--dry-run", "--json")])
def test_a_dry_run_writes_nothing(write, run_stage, arguments):
    project = write(table())
    before = project.fingerprints("data", "metrics")
    done = run_stage(project, "split", *arguments)
    assert project.fingerprints("data", "metrics") == before
    run_stage(project, "split")
    if "--json" in arguments:
        assert json.loads(done.stdout) == project.read_json("metrics/splits.json")
    else:
        assert "4 replicates, each with" in done.stdout


def test_json_is_for_a_dry_run(write, run_stage):
    done = run_stage(write(table()), "split", "--json", check=False)
    assert done.returncode == 2
    assert "--json goes with --dry-run" in done.stderr


def test_a_class_that_a_replicate_lacks_stops_it_in_one_line_with_nothing_written(write, run_stage):
    project = write(table()[lambda samples: (samples["label"] == 0) | (samples.index < 6)].reset_index(drop=True))
    before = project.fingerprints("data", "metrics")
    line = one_line_of(
        run_stage(project, "split", check=False),
        "data: 01 has 2 different images, and train, val and test need 3: add images of that class, or",
    )
    assert line.endswith("(replicate with seed 1)")
    assert project.fingerprints("data", "metrics") == before


def test_folds_and_test_images_of_the_source_do_not_go_together(write, run_stage):
    samples = table().assign(split=["train", "test"] * 40)
    project = write(samples, {"data.folds": 2, "data.split": {"train": 0.3, "val": 0.2, "test": 0.5}})
    one_line_of(run_stage(project, "split", check=False), "data.folds: the source gives test images", "null")


def test_without_prepared_images_it_says_what_makes_them(write, run_stage):
    project = write(table())
    shutil.rmtree(project.folder / "data/prepared")
    one_line_of(run_stage(project, "split", check=False), "is missing: run `dvc repro prepare`")


def test_more_replicates_change_nothing_for_those_there_are(write, run_stage, monkeypatch):
    project = write(table(groups=True), {"data.development": 0.25})
    run_stage(project, "split")
    before = opened(project, monkeypatch)
    set_params(project.folder, {"train.seeds": [9, 1, 2, 3, 4, 5]})
    run_stage(project, "split")
    assert opened(project, monkeypatch).equals(before)
    assert all((project.folder / name).exists() for name in WRITTEN)
