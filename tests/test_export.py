"""What `python -m stages.export` leaves, and what it refuses."""

import importlib.util

import pytest
import torch
from huggingface_hub import ModelCard

from stages.exporting.check import TOLERANCE
from stages.exporting.formats import PixelsToLogits
from stages.models.checkpoint import load_checkpoint, save_checkpoint
from stages.reporting.provenance import provenance
from stages.reporting.tables import load_results, verdict_sentence
from tests.checkpoints import make_checkpoint, needs_onnx
from tests.conftest import one_line_of

ALONE = ("export", "--checkpoint", "seed-1.safetensors")
OF_THE_PROJECT = ("export", "--checkpoint", "models/differential/seed-2.safetensors")


def card_of(project, folder="export"):
    return ModelCard.load(project.folder / folder / "README.md")


@pytest.mark.parametrize("name", ["torch", pytest.param("onnx", marks=needs_onnx)])
@pytest.mark.parametrize("mistake", ["no normalization", "statistics of the batch", "not finite"])
def test_an_export_whose_outputs_differ_leaves_nothing(alone, run_stage, monkeypatch, name, mistake):
    run_stage(alone, *ALONE)  # the export before
    before = alone.fingerprints("export")

    def forward(self, pixels):
        values = pixels.permute(0, 3, 1, 2).float().expand(-1, 3, -1, -1) / 255
        if mistake == "no normalization":
            return self.module(values)
        if mistake == "not finite":
            return self.module((values - self.mean) / self.std) * torch.nan
        statistics = values.mean(dim=(0, 2, 3), keepdim=True), values.std(dim=(0, 2, 3), keepdim=True)
        return self.module((values - statistics[0]) / statistics[1])

    monkeypatch.setattr(PixelsToLogits, "forward", forward)
    line = one_line_of(run_stage(alone, *ALONE, "--format", name, check=False), f"--format {name}: ", "differ")
    assert "nothing is kept" in line
    assert alone.fingerprints("export") == before
    assert sorted(path.name for path in alone.folder.iterdir()) == ["export", "seed-1.safetensors"]


def test_mistakes_are_far_beyond_the_tolerance(alone):
    """Not only the two above: BatchNorm in training mode, and colors in another order, where there are any."""
    path = make_checkpoint(alone.folder / "color.safetensors", name="resnet18", channels=3)
    network = load_checkpoint(path).network
    pixels = torch.randint(0, 256, (32, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    network.module.eval()
    with torch.inference_mode():
        right, swapped = network.logits(pixels), network.logits(pixels.flip(3))
        network.module.train()
        training = network.logits(pixels)
    for wrong in (swapped, training):
        assert (wrong - right).abs().max() > 100 * TOLERANCE * right.abs().max()


def test_an_export_of_a_checkpoint_alone_says_what_is_not_known(alone, run_stage):
    run_stage(alone, *ALONE)
    card = card_of(alone)
    assert card.data.license == "unknown"
    assert card.data.library_name == "timm"
    assert card.data.datasets is None
    assert "Nothing is known of how it was trained" in card.text
    assert "Which images it was trained on is not known" in card.text
    assert "no license is claimed" in card.text
    assert "accuracy" not in card.text
    assert "prepared data" not in card.text


def test_the_card_carries_what_the_experiment_measured(reproduced, run_stage, tmp_path, monkeypatch):
    run_stage(reproduced, *OF_THE_PROJECT, "--out", str(tmp_path / "out"))
    card = ModelCard.load(tmp_path / "out/README.md")
    monkeypatch.chdir(reproduced.folder)
    results = load_results()
    own = results.evaluation.test.differential.seeds[2]
    assert verdict_sentence(results).replace("|", "\\|") in card.text
    assert provenance()["prepared data"] in card.text
    assert f"| accuracy          | {100 * own['accuracy']:>11.1f} % |".replace(" ", "") in card.text.replace(" ", "")
    tested = results.splits.test
    assert f"It is right on {round(own['accuracy'] * tested)} of {tested} test images" in card.text
    assert "95 % interval of" in card.text
    assert "the replicate with seed 2 of the differential arm, one of 2" in card.text
    assert card.data.license == "cc-by-nc-sa-4.0"
    assert card.data.datasets == ["elpv-dataset"]
    assert "It was trained without pretrained weights" in card.text
    assert "jane" not in card.content


@pytest.mark.parametrize(
    "changed", ["metrics/evaluation.json", "metrics/differential.json", "models/differential/seed-1.safetensors"]
)
def test_metrics_that_may_be_of_another_network_do_not_get_into_the_card(project, run_stage, changed):
    path = project.folder / changed
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b"\n")
    run_stage(project, *OF_THE_PROJECT)
    text = card_of(project).text
    assert (
        f"{changed if changed.startswith('metrics') else 'models/differential'} is not as dvc.lock records it" in text
    )
    assert "interval" not in text


def test_of_ones_own_images_no_license_is_claimed(project, run_stage):
    lock = project.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace("data.source: elpv", "data.source: folder"))
    run_stage(project, *OF_THE_PROJECT)
    card = card_of(project)
    assert card.data.license == "unknown"
    assert card.data.datasets is None
    assert "nothing is claimed of their license" in card.text
    assert "elpv" not in card.text


def test_weights_that_timm_downloads_are_the_base_model(project, run_stage):
    lock = project.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace("weights: none", "weights: default"))
    run_stage(project, *OF_THE_PROJECT)
    assert card_of(project).data.base_model == "timm/test_efficientnet.r160_in1k"


def test_names_of_classes_are_text_in_the_card(alone, run_stage):
    classes = ("<b>bold</b>", "a|b`c`", "two\nlines", "[link](x)", *map(str, range(30)))
    make_checkpoint(alone.folder / "seed-1.safetensors", classes=classes)
    run_stage(alone, *ALONE)
    text = card_of(alone).text
    assert "&lt;b&gt;bold&lt;/b&gt;, a\\|b\\`c\\`, two\\\\nlines, \\[link\\](x), 0, " in text
    assert "and 14 more." in text
    assert alone.read_json("export/config.json")["label_names"] == list(classes)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--checkpoint", ""), ("--checkpoint: the name is empty",)),
        (("--checkpoint", "."), ("--checkpoint: . is a folder", "give one of its files")),
        (("--checkpoint", "nowhere.safetensors"), ("nowhere.safetensors is missing",)),
        (("--checkpoint", "seed-1.safetensors", "--out", ""), ("--out: ", "the folder that you stand in")),
        (("--checkpoint", "seed-1.safetensors", "--out", "."), ("--out: ", "the folder that you stand in")),
        (("--checkpoint", "seed-1.safetensors", "--out", "mine"), ("--out: mine holds notes.txt", "another folder")),
        (("--checkpoint", "seed-1.safetensors", "--out", "theirs"), ("--out: theirs ", "another folder")),
        (("--checkpoint", "seed-1.safetensors", "--out", "file"), ("--out: file ", "another folder")),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line_and_nothing_is_written(alone, run_stage, arguments, says):
    """`theirs` is a timm folder of somebody else; `mine` is an export with something beside it."""
    run_stage(alone, *ALONE, "--out", "mine")
    (alone.folder / "mine/notes.txt").write_text("mine")
    (alone.folder / "theirs").mkdir()
    (alone.folder / "theirs/config.json").write_text("{}")
    (alone.folder / "file").write_text("mine")
    before = alone.fingerprints(".")
    one_line_of(run_stage(alone, "export", *arguments, check=False), *says)
    assert alone.fingerprints(".") == before


def test_an_export_takes_the_place_of_an_export_and_of_an_empty_folder(alone, run_stage):
    (alone.folder / "export").mkdir()
    run_stage(alone, *ALONE, "--format", "timm", "torch")
    run_stage(alone, *ALONE)
    assert sorted(path.name for path in (alone.folder / "export").iterdir()) == [
        "README.md",
        "config.json",
        "export.json",
        "model.safetensors",
    ]


def test_torchvision_has_no_timm_folder_and_goes_out_by_torch(alone, run_stage):
    make_checkpoint(
        alone.folder / "seed-1.safetensors", library="torchvision", name="squeezenet1_1", channels=3, size=64
    )
    done = run_stage(alone, *ALONE, check=False)
    one_line_of(done, "--format timm: squeezenet1_1 is torchvision's", "choose onnx or torch")
    assert not (alone.folder / "export").exists()
    run_stage(alone, *ALONE, "--format", "torch")
    assert card_of(alone).data.library_name == "pytorch"


def test_a_missing_package_is_named_with_the_file_that_has_it(alone, run_stage, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnxscript" else find(name, *a))
    done = run_stage(alone, *ALONE, "--format", "onnx", check=False)
    one_line_of(done, "the package onnxscript is missing: pip install -r requirements-export.txt")
    assert not (alone.folder / "export").exists()


def test_a_network_that_diverged_is_not_exported(alone, run_stage):
    path = alone.folder / "seed-1.safetensors"
    checkpoint = load_checkpoint(path)
    with torch.no_grad():
        next(checkpoint.network.module.parameters()).fill_(torch.nan)
    save_checkpoint(path, checkpoint.network, checkpoint.description)
    one_line_of(run_stage(alone, *ALONE, check=False), "nan")
    assert not (alone.folder / "export").exists()
