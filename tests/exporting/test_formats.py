"""The formats, each used as anyone would who has nothing but its files."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from stages.data.images import read_pixels
from stages.exporting.formats import timm_transform
from stages.libraries import timm
from stages.models.checkpoint import load_checkpoint
from tests.checkpoints import PHOTOGRAPHS, make_checkpoint, needs_onnx
from tests.conftest import ROOT, one_line_of
from tests.exporting.snippets import printed_by_snippets


def logits_of(checkpoint, images=PHOTOGRAPHS):
    loaded = load_checkpoint(checkpoint)
    wanted = loaded.description
    pixels = torch.from_numpy(np.stack([read_pixels(image, wanted.image_size, wanted.channels) for image in images]))
    loaded.network.module.eval()
    with torch.inference_mode():
        return loaded.network.logits(pixels), pixels


def test_timm_alone_loads_the_folder_and_gives_the_same_logits(alone, run_stage):
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors")
    network = timm.create_model(f"local-dir:{alone.folder / 'export'}", pretrained=True).eval()
    transform = timm_transform(network)
    inputs = torch.stack([transform(Image.open(image).convert("RGB")) for image in PHOTOGRAPHS])
    expected, _ = logits_of(alone.folder / "seed-1.safetensors")
    with torch.inference_mode():
        assert torch.allclose(network(inputs), expected, atol=1e-5)
    assert network.num_classes == 2
    assert network.pretrained_cfg["label_names"] == ["good", "bad"]


def test_the_folder_has_every_file_that_timm_pushes_to_the_hub(alone, run_stage, monkeypatch, tmp_path):
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors")
    pushed = {}

    class Hub:
        def __init__(self, **_):
            pass

        def create_repo(self, name, **_):
            return type("Repository", (), {"repo_id": name})

        def file_exists(self, **_):
            return False

        def upload_folder(self, folder_path, **_):
            pushed.update({path.name: path.read_bytes() for path in type(tmp_path)(folder_path).iterdir()})

    monkeypatch.setattr("timm.models._hub.HfApi", Hub)
    network = timm.create_model(f"local-dir:{alone.folder / 'export'}", pretrained=True)
    timm.models.push_to_hf_hub(network, "owner/name", safe_serialization=True)
    assert set(pushed) == {"README.md", "config.json", "model.safetensors"}
    assert set(pushed) <= {path.name for path in (alone.folder / "export").iterdir()}
    assert pushed["model.safetensors"] == alone.read("export/model.safetensors")
    theirs, ours = json.loads(pushed["config.json"]), alone.read_json("export/config.json")
    for key in ("architecture", "num_classes", "num_features", "global_pool", "model_args", "pretrained_cfg"):
        found = theirs[key]
        if key == "pretrained_cfg":  # where timm keeps the labels that it has read, too
            found = {name: value for name, value in found.items() if name in ours[key]}
        assert found == ours[key], key


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "P"])
@pytest.mark.parametrize("channels", [1, 3])
def test_timm_prepares_a_plain_image_to_the_same_bits(tmp_path, run_stage, alone, mode, channels):
    """One without EXIF, transparency or more than 8 bits, and no JPEG beyond twice the size."""
    make_checkpoint(tmp_path / "seed-1.safetensors", channels=channels)
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors")
    transform = timm_transform(timm.create_model(f"local-dir:{tmp_path / 'export'}", pretrained=True))
    colors = np.random.default_rng(0).integers(0, 256, (150, 90, 3), dtype=np.uint8)
    path = tmp_path / ("image.tiff" if mode == "CMYK" else "image.png")
    Image.fromarray(colors).convert(mode).save(path)
    loaded = load_checkpoint(tmp_path / "seed-1.safetensors")
    ours = loaded.network.preprocessing(torch.from_numpy(read_pixels(path, 32, channels).copy())[None])[0]
    theirs = transform(Image.open(path).convert("L" if channels == 1 else "RGB").convert("RGB"))
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_timm_prepares_a_large_photograph_almost_and_a_turned_one_otherwise(tmp_path, run_stage, alone):
    """What the model card says: a JPEG is decoded smaller here, and EXIF is heeded."""
    make_checkpoint(tmp_path / "seed-1.safetensors")
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors")
    transform = timm_transform(timm.create_model(f"local-dir:{tmp_path / 'export'}", pretrained=True))
    preprocessing = load_checkpoint(tmp_path / "seed-1.safetensors").network.preprocessing

    def differences(path):
        ours = preprocessing(torch.from_numpy(read_pixels(path, 32, 1).copy())[None])[0]
        difference = (ours - transform(Image.open(path).convert("L").convert("RGB"))).abs() * preprocessing.std[0] * 255
        return float(difference.mean())  # in steps of 256

    with Image.open(PHOTOGRAPHS[3]) as photograph:
        photograph.save(tmp_path / "large.jpg", quality=95)
        exif = Image.Exif()
        exif[0x0112] = 6
        photograph.save(tmp_path / "turned.png", exif=exif)
    assert 0 < differences(tmp_path / "large.jpg") < 3
    assert differences(tmp_path / "turned.png") > 10


def test_torch_export_gives_the_same_logits_for_any_number_of_images(alone, run_stage):
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors", "--format", "torch")
    program = torch.export.load(alone.folder / "export/model.pt2").module()
    expected, pixels = logits_of(alone.folder / "seed-1.safetensors")
    for number in (1, 3, len(pixels)):
        assert torch.allclose(program(pixels[:number]), expected[:number], atol=1e-5)


# Whatever else is installed for torch.
WITHOUT_TORCH = """
import runpy, sys
for name in ("torch", "torchvision", "timm", "safetensors", "pandas", "scipy", "sklearn", "dvc", "huggingface_hub"):
    sys.modules[name] = None  # importing it raises
sys.argv = ["predict", *sys.argv[1:]]
runpy.run_module("stages.predict", run_name="__main__")
"""


@needs_onnx
@pytest.mark.parametrize("channels", [1, 3])
def test_onnx_predicts_the_same_without_torch(alone, run_stage, channels):
    make_checkpoint(alone.folder / "seed-1.safetensors", channels=channels)
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors", "--format", "onnx")
    images = [str(image) for image in PHOTOGRAPHS[:5]]
    arguments = ["--checkpoint", str(alone.folder / "export/model.onnx"), "--batch-size", "2", "--json", *images]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = run_stage(alone, "predict", "--checkpoint", "seed-1.safetensors", "--json", *images).stdout
    for found, line in zip(done.stdout.splitlines(), expected.splitlines(), strict=True):
        assert json.loads(found)["image"] == json.loads(line)["image"]
        assert json.loads(found)["probabilities"] == pytest.approx(json.loads(line)["probabilities"], abs=1e-5)


def test_a_checkpoint_without_torch_says_what_to_do(alone):
    arguments = ["--checkpoint", str(alone.folder / "seed-1.safetensors"), str(PHOTOGRAPHS[0])]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    one_line_of(done, "needs torch", "pip install -r requirements.txt", "an exported .onnx file")


@needs_onnx
def test_onnx_states_its_opset_and_leaves_the_number_of_images_free(alone, run_stage):
    import onnx

    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors", "--format", "onnx")
    model = onnx.load(alone.folder / "export/model.onnx")
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert alone.read_json("export/export.json")["onnx_opset"] == 18
    (pixels,), (logits,) = model.graph.input, model.graph.output
    assert [side.dim_param or side.dim_value for side in pixels.type.tensor_type.shape.dim] == ["batch", 32, 32, 1]
    assert [side.dim_param or side.dim_value for side in logits.type.tensor_type.shape.dim] == ["batch", 2]
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8


@needs_onnx
def test_no_file_says_where_it_was_made(alone, run_stage):
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors", "--format", "timm", "onnx", "torch")
    folders = [str(ROOT).encode(), str(alone.folder).encode(), b"site-packages", b".py"]
    for path in (alone.folder / "export").iterdir():
        members = [path.read_bytes()]
        if path.suffix == ".pt2":
            with zipfile.ZipFile(path) as archive:
                members = [archive.read(name) for name in archive.namelist()]
        assert not [folder for folder in folders for member in members if folder in member], path.name


@needs_onnx
def test_the_snippets_of_the_card_give_what_predict_gives(alone, run_stage):
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors", "--format", "timm", "onnx")
    image = str(PHOTOGRAPHS[7])
    done = run_stage(alone, "predict", "--checkpoint", "seed-1.safetensors", "--json", image)
    printed = list(printed_by_snippets(alone.folder / "export", image))
    assert len(printed) == 2
    for probabilities in printed:
        assert probabilities == pytest.approx(json.loads(done.stdout)["probabilities"], abs=1e-5)


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "name", "size"),
    [
        ("timm", "resnet18", 64),
        ("timm", "convnext_atto", 64),
        ("timm", "vit_tiny_patch16_224", 224),
        ("timm", "mobilenetv3_small_050", 64),
        ("torchvision", "resnet18", 64),
        ("torchvision", "squeezenet1_1", 64),
        ("torchvision", "swin_t", 64),
    ],
)
def test_networks_of_every_kind_go_out_in_every_format(alone, run_stage, library, name, size):
    make_checkpoint(alone.folder / "seed-1.safetensors", library=library, name=name, size=size, channels=3)
    formats = ["onnx", "torch", *(["timm"] if library == "timm" else [])]
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors", "--format", *formats)
    differences = alone.read_json("export/export.json")["differences"]
    assert set(differences) == set(formats)
    assert max(differences.values()) < 1e-4
