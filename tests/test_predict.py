"""Predicting many images, from one network or several, wherever they come from."""

import csv
import io
import json
import shutil

import numpy as np
import pytest

from tests.checkpoints import PHOTOGRAPHS, make_checkpoint, needs_onnx
from tests.conftest import one_line_of


@pytest.fixture
def photographs(alone):
    """A project with a checkpoint, and a folder of photographs with a folder and something hidden in it."""
    (alone.folder / "photographs/more").mkdir(parents=True)
    for name, image in zip(("b.png", "a[1].png", "more/c.png", ".hidden.png"), PHOTOGRAPHS, strict=False):
        shutil.copyfile(image, alone.folder / "photographs" / name)
    return alone


NAMES = ["photographs/a[1].png", "photographs/b.png", "photographs/more/c.png"]


def answers(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


def predict(run_stage, project, *arguments, checkpoint="seed-1.safetensors"):
    return answers(run_stage(project, "predict", "--checkpoint", checkpoint, "--json", *arguments))


def test_a_folder_stands_for_all_that_lies_in_it_and_below(photographs, run_stage):
    found = predict(run_stage, photographs, "photographs")
    assert [answer["image"] for answer in found] == NAMES
    assert set(found[0]) == {"image", "probabilities"}


def test_what_prepare_leaves_out_of_a_folder_is_no_image_here_either(photographs, run_stage):
    for name in ("Thumbs.db", "more/desktop.ini", "more/b.png.dvc", "__MACOSX/b.png", "@eaDir/b.png"):
        (photographs.folder / "photographs" / name).parent.mkdir(exist_ok=True)
        (photographs.folder / "photographs" / name).touch()
    found = predict(run_stage, photographs, "photographs")
    assert [answer["image"] for answer in found] == NAMES


def test_a_pattern_stands_for_the_files_that_match_unless_a_file_has_that_name(photographs, run_stage):
    assert [one["image"] for one in predict(run_stage, photographs, "photographs/**/[bc].png")] == NAMES[1:]
    assert [one["image"] for one in predict(run_stage, photographs, "photographs/a[1].png")] == NAMES[:1]


def test_a_dash_stands_for_the_names_on_stdin(photographs, run_stage, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("photographs/b.png\n\nphotographs/a[1].png\nphotographs/b.png\n"))
    names = [one["image"] for one in predict(run_stage, photographs, "-")]
    assert names == [NAMES[1], NAMES[0], NAMES[1]]


def test_the_size_of_a_batch_changes_no_more_than_rounding(photographs, run_stage):
    each = [predict(run_stage, photographs, "--batch-size", size, "photographs") for size in ("1", "2", "32")]
    for answer, other, third in zip(*each, strict=True):
        assert answer["image"] == other["image"] == third["image"]
        assert answer["probabilities"] == pytest.approx(other["probabilities"], abs=1e-6)
        assert answer["probabilities"] == pytest.approx(third["probabilities"], abs=1e-6)


def test_bad_images_are_named_at_the_end_and_the_others_are_predicted(photographs, run_stage):
    (photographs.folder / "photographs/aa.png").write_text("no image")
    (photographs.folder / "photographs/empty.png").touch()
    done = run_stage(
        photographs, "predict", "--checkpoint", "seed-1.safetensors", "--json", "photographs", "gone.png", check=False
    )
    assert done.returncode == 1
    assert [answer["image"] for answer in answers(done)] == NAMES
    assert done.stderr.splitlines() == [
        "error: 3 of 6 files could not be predicted: mend them, or leave them out",
        "       photographs/aa.png (no image format that is known here)",
        "       photographs/empty.png (the file has no bytes)",
        "       gone.png (there is no such file)",
    ]


def test_what_names_no_file_is_refused_in_one_line(photographs, run_stage, monkeypatch):
    (photographs.folder / "hollow").mkdir()
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    for name, said in (("hollow", "'hollow'"), ("*.jpg", "'*.jpg'"), ("", "''"), ("-", "stdin")):
        done = run_stage(photographs, "predict", "--checkpoint", "seed-1.safetensors", name, check=False)
        one_line_of(done, f"IMAGE: {said} names no file")
        assert done.stdout == ""


@pytest.fixture
def ensemble(photographs):
    """Four seeds in a folder, with the logits that an experiment leaves beside them."""
    for seed in range(1, 5):
        make_checkpoint(photographs.folder / f"seeds/seed-{seed}.safetensors", seed=seed)
        shutil.copyfile(
            photographs.folder / "seed-1.safetensors", photographs.folder / f"seeds/seed-{seed}.logits.safetensors"
        )
    return photographs


def test_a_folder_of_checkpoints_is_the_ensemble_of_its_seeds(ensemble, run_stage):
    together = predict(run_stage, ensemble, "photographs", checkpoint="seeds")
    apart = [
        predict(run_stage, ensemble, "photographs", checkpoint=f"seeds/seed-{seed}.safetensors") for seed in range(1, 5)
    ]
    disagreements = set()
    for answer, *each in zip(together, *apart, strict=True):
        good = np.array([one["probabilities"]["good"] for one in each])
        mean = answer["probabilities"]["good"]
        assert mean == pytest.approx(good.mean(), abs=1e-6)
        assert answer["standard_deviations"]["good"] == pytest.approx(good.std(ddof=1), abs=1e-6)
        assert answer["share_that_disagrees"] == ((good >= 0.5) != (mean >= 0.5)).mean()
        assert answer["networks"] == 4
        disagreements.add(answer["share_that_disagrees"])
    assert disagreements != {0.0}  # or the line above says nothing


def test_several_checkpoints_are_an_ensemble_whatever_image_size_they_take(photographs, run_stage):
    make_checkpoint(photographs.folder / "color.safetensors", channels=3, size=48)
    done = run_stage(
        photographs, "predict", "--checkpoint", "seed-1.safetensors", "--checkpoint", "color.safetensors", "--json",
        "photographs",
    )  # fmt: skip
    gray, color = (predict(run_stage, photographs, "photographs", checkpoint=name) for name in
                   ("seed-1.safetensors", "color.safetensors"))  # fmt: skip
    for answer, one, other in zip(answers(done), gray, color, strict=True):
        mean = (one["probabilities"]["bad"] + other["probabilities"]["bad"]) / 2
        assert answer["probabilities"]["bad"] == pytest.approx(mean, abs=1e-6)


def test_csv_has_what_json_has(ensemble, run_stage):
    expected = predict(run_stage, ensemble, "photographs", checkpoint="seeds")
    done = run_stage(ensemble, "predict", "--checkpoint", "seeds", "--csv", "photographs")
    for row, answer in zip(csv.DictReader(io.StringIO(done.stdout)), expected, strict=True):
        assert row["image"] == answer["image"]
        assert row["class"] == max(answer["probabilities"], key=answer["probabilities"].get)
        for name in ("good", "bad"):
            assert float(row[f"probability of {name}"]) == answer["probabilities"][name]
            assert float(row[f"standard deviation of {name}"]) == answer["standard_deviations"][name]
        assert float(row["share that disagrees"]) == answer["share_that_disagrees"]
    alone_ = run_stage(ensemble, "predict", "--checkpoint", "seed-1.safetensors", "--csv", "photographs").stdout
    assert alone_.splitlines()[0] == "image,class,probability of good,probability of bad"


def test_the_table_tells_how_many_networks_disagree(ensemble, run_stage):
    table = run_stage(ensemble, "predict", "--checkpoint", "seeds", "photographs").stdout
    assert table.count(" of 4") == 3
    assert "standard deviation" in table
    assert "deviation" not in run_stage(ensemble, "predict", "--checkpoint", "seed-1.safetensors", "photographs").stdout


def test_the_table_shows_a_long_name_whole(ensemble, run_stage):
    name = "far/" * 20 + "away.png"
    (ensemble.folder / name).parent.mkdir(parents=True)
    shutil.copyfile(PHOTOGRAPHS[0], ensemble.folder / name)
    table = run_stage(ensemble, "predict", "--checkpoint", "seeds", name).stdout
    assert "…" not in table
    assert "".join(row.split("│")[1].strip() for row in table.splitlines() if row.startswith("│")) == name


@pytest.mark.parametrize("format_", ["timm", pytest.param("onnx", marks=needs_onnx)])
def test_an_exported_folder_is_its_network(photographs, run_stage, format_):
    run_stage(photographs, "export", "--checkpoint", "seed-1.safetensors", "--format", format_)
    found = predict(run_stage, photographs, "photographs", checkpoint="export")
    for answer, expected in zip(found, predict(run_stage, photographs, "photographs"), strict=True):
        assert answer["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)


@pytest.mark.parametrize(
    ("checkpoint", "says"),
    [
        ("", ("--checkpoint: the name is empty", "models/differential")),
        ("nowhere", ("nowhere is missing",)),
        ("photographs", ("photographs holds no checkpoint", "give a checkpoint")),
        (".", (". holds no checkpoint",)),
        ("broken.onnx", ("broken.onnx is not an ONNX file",)),
        ("export", ("export/model.pt2 is for torch.export.load",)),
        ("export/model.pt2", ("export/model.pt2 is for torch.export.load",)),
        ("theirs", ("theirs was not exported by this project",)),
        ("damaged", ("damaged", "export it anew")),
    ],
)
def test_a_checkpoint_that_predicts_nothing_is_refused_in_one_line(photographs, run_stage, checkpoint, says):
    if checkpoint.startswith("broken"):
        pytest.importorskip("onnxruntime")
    folder = photographs.folder
    run_stage(photographs, "export", "--checkpoint", "seed-1.safetensors", "--format", "torch")
    run_stage(photographs, "export", "--checkpoint", "seed-1.safetensors", "--out", "damaged")
    (folder / "damaged/model.safetensors").write_bytes((folder / "damaged/model.safetensors").read_bytes()[:5000])
    (folder / "broken.onnx").write_text("no ONNX")
    (folder / "theirs").mkdir()
    (folder / "theirs/config.json").write_text('{"architecture": "resnet18"}')
    (folder / "seed-1.safetensors").rename(folder / "photographs/more/kept")
    done = run_stage(photographs, "predict", "--checkpoint", checkpoint, "photographs", check=False)
    one_line_of(done, *says)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("models/difrential", "models/differential"),
        ("model/differential", "models/differential"),
        ("models/diferential/seed-1.safetensors", "models/differential/seed-1.safetensors"),
        ("models/differential/seed1.safetensors", "models/differential/seed-1.safetensors"),
    ],
)
def test_a_name_that_is_almost_right_is_answered_with_the_right_one(photographs, run_stage, typed, meant):
    (photographs.folder / "models/differential").mkdir(parents=True)
    (photographs.folder / "seed-1.safetensors").rename(photographs.folder / "models/differential/seed-1.safetensors")
    commands = [("predict", "photographs")] + ([("export",)] if typed.endswith("tensors") else [])
    for command, *images in commands:
        done = run_stage(photographs, command, "--checkpoint", typed, *images, check=False)
        one_line_of(done, f"{typed} is missing: did you mean {meant}?")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("models/baseline/seed-7.safetensors", "run `dvc repro`, or `dvc pull`"),
        ("elsewhere/x", "give a checkpoint, such as models/differential/seed-11.safetensors"),
        ("models/nope", "give a checkpoint, such as models/differential/seed-11.safetensors"),
    ],
)
def test_a_name_that_is_like_none_is_answered_with_how_to_make_it_where_something_makes_it(
    photographs, run_stage, typed, says
):
    done = run_stage(photographs, "predict", "--checkpoint", typed, "photographs", check=False)
    one_line_of(done, f"{typed} is missing: {says}")


@pytest.mark.parametrize(("command", "images"), [("predict", ["photographs"]), ("export", [])])
def test_a_file_that_is_no_checkpoint_by_its_name_is_not_said_to_come_from_a_run(
    photographs, run_stage, command, images
):
    (photographs.folder / "notes.txt").write_text("none")
    done = run_stage(photographs, command, "--checkpoint", "notes.txt", *images, check=False)
    one_line_of(done, "notes.txt is not a checkpoint, whose name ends in .safetensors: give one of those under models/")


def test_a_folder_of_folders_names_those_that_hold_checkpoints(reproduced, run_stage):
    done = run_stage(reproduced, "predict", "--checkpoint", "models", "README.md", check=False)
    one_line_of(done, "models holds no checkpoint", "give models/baseline or models/differential")


def test_networks_that_do_not_belong_together_are_refused(photographs, run_stage):
    make_checkpoint(photographs.folder / "other.safetensors", classes=("bad", "good"))
    one = ("predict", "--checkpoint", "seed-1.safetensors", "--checkpoint")
    one_line_of(run_stage(photographs, *one, "other.safetensors", "photographs", check=False), "different classes")
    one_line_of(run_stage(photographs, *one, "./seed-1.safetensors", "photographs", check=False), "is given twice")
