import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_sample_images

from stages.errors import UserError
from stages.libraries import timm
from stages.models import torchvision_networks
from stages.models.network import build_network, check_image_size, empty_network
from stages.models.preprocessing import IMAGENET, UNIT_RANGE
from stages.models.weights import PACKAGES, pretrained_weights, read_tensors
from stages.params import Model
from tests.conftest import Malicious

PALACE, DAISY = 698, 985  # positions of these classes in ImageNet


def test_the_default_weights_are_really_pretrained(default_model):
    network = empty_network("timm", default_model.name, classes=1000)
    names = list(network.module.state_dict())
    network.module.load_state_dict(pretrained_weights(default_model, names, dict))
    # Cut and resized as timm evaluates this network; normalized by us.
    config = timm.data.resolve_data_config(model=network.module)
    view = timm.data.create_transform(**config | {"mean": (0, 0, 0), "std": (1, 1, 1)})
    china, flower = (
        (view(Image.fromarray(image)) * 255).round().byte().permute(1, 2, 0)[None]
        for image in load_sample_images().images
    )
    network.module.eval()
    with torch.inference_mode():
        assert network.logits(china).argmax().item() == PALACE
        assert network.logits(flower).argmax().item() == DAISY


def test_the_backbone_is_pretrained_and_the_head_is_new(default_model):
    network = build_network(default_model, classes=2, seed=1)
    names = list(network.module.state_dict())
    weights = pretrained_weights(default_model, names, dict)
    for name, tensor in network.module.state_dict().items():
        assert (name in network.groups["head"]) or torch.equal(tensor, weights[name])
    # torch's nn.Linear draws from ±1/sqrt(features).
    head = network.module.get_parameter("classifier.weight")
    assert head.shape == (2, 1280)
    assert head.abs().max() <= 1280**-0.5


def test_the_seed_alone_decides_the_new_head(default_model):
    def head(seed):
        torch.rand(seed + 7)  # what was drawn before does not matter
        return build_network(default_model, classes=2, seed=seed).module.get_parameter("classifier.weight")

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_building_a_network_leaves_torchs_generator_alone(default_model):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_network(default_model, classes=2, seed=1)
    assert torch.equal(torch.rand(3), expected)


def test_normalisation_belongs_to_the_weights(default_model):
    assert build_network(default_model, 2, 1).preprocessing.mean == (0.5, 0.5, 0.5)
    assert build_network(default_model, 2, 1).preprocessing.std == (0.5, 0.5, 0.5)
    resnet = Model(library="torchvision", name="resnet18", weights="none", layer_groups="stages")
    assert build_network(resnet, 2, 1).preprocessing == UNIT_RANGE
    assert empty_network("torchvision", "resnet18", 2).preprocessing == IMAGENET
    assert torchvision_networks.preprocessing("efficientnet_v2_l").mean == (0.5, 0.5, 0.5)


def test_grey_images_become_three_equal_channels_in_channels_last_layout():
    pixels = torch.from_numpy(np.random.default_rng(0).integers(255, size=(2, 8, 8, 1), dtype=np.uint8))
    images = UNIT_RANGE(pixels)
    assert images.shape == (2, 3, 8, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    for channel in range(3):
        assert torch.equal(images[:, channel], pixels[..., 0] / 255)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(("library", "name"), [("torchvision", "resnet18"), ("timm", "resnet18")])
def test_weights_may_be_a_file(tmp_path, library, name, suffix):
    trained = empty_network(library, name, classes=7, seed=9).module.state_dict()
    path = tmp_path / f"weights{suffix}"
    trained = {name: tensor.contiguous() for name, tensor in trained.items()}
    (torch.save if suffix == ".pth" else save_file)(trained, path)
    network = build_network(
        Model(library=library, name=name, weights=str(path), layer_groups="stages"), classes=3, seed=1
    )
    assert torch.equal(network.module.get_parameter("conv1.weight"), trained["conv1.weight"])
    assert network.module.get_parameter("fc.weight").shape[0] == 3


def test_torchvisions_default_weights_come_from_its_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    trained = empty_network("torchvision", "resnet18", classes=1000, seed=9).module.state_dict()
    # torchvision's own file is older than BatchNorm's counters.
    trained = {name: tensor for name, tensor in trained.items() if "num_batches_tracked" not in name}
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(trained, tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    network = build_network(
        Model(library="torchvision", name="resnet18", weights="default", layer_groups="stages"), classes=10, seed=1
    )
    assert torch.equal(network.module.get_parameter("layer4.1.conv2.weight"), trained["layer4.1.conv2.weight"])


def test_no_network_and_no_cache_has_one_line_that_says_what_to_set(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # a port that nothing listens on
    with pytest.raises(
        UserError, match=r"model.weights: .*resnet18 could not be had .*; set model.weights to"
    ) as error:
        build_network(
            Model(library="torchvision", name="resnet18", weights="default", layer_groups="stages"), classes=10, seed=1
        )
    assert "\n" not in str(error.value)


def test_an_unknown_network_is_named_with_its_neighbours():
    with pytest.raises(UserError, match=r"model.name: torchvision has no network 'resnet19'; did you mean .*resnet18"):
        empty_network("torchvision", "resnet19", 2)
    with pytest.raises(UserError, match=r"model.name: timm has no network 'qqqq'"):
        empty_network("timm", "qqqq", 2)


def test_missing_weights_are_named(default_model):
    with pytest.raises(UserError, match=r"model.weights: no file nowhere.pth; give none, default, efficientnet"):
        build_network(default_model.model_copy(update={"weights": "nowhere.pth"}), 2, 1)


def test_weights_of_another_network_are_refused(default_model, tmp_path):
    with pytest.raises(UserError, match=r"holds weights of timm's tf_efficientnet_lite0, not of timm's resnet18"):
        build_network(default_model.model_copy(update={"name": "resnet18"}), 2, 1)
    torch.save(empty_network("timm", "resnet34", 2).module.state_dict(), tmp_path / "other.pth")
    other = Model(library="timm", name="resnet18", weights=str(tmp_path / "other.pth"), layer_groups="stages")
    with pytest.raises(UserError, match=r"other.pth does not fit resnet18: \d+ tensors unknown \(first layer"):
        build_network(other, 2, 1)


EVIL = Malicious(Path("executed"))


@pytest.mark.parametrize("content", [EVIL, {"conv1.weight": EVIL}, {"conv1.weight": 3}, [1, 2]])
def test_a_pickle_that_holds_more_than_tensors_is_refused_and_nothing_runs(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "weights.pth")
    with pytest.raises(UserError, match=r"model.weights: weights.pth") as error:
        build_network(Model(library="timm", name="resnet18", weights="weights.pth", layer_groups="stages"), 2, 1)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x02 this is neither", b"text", b"under", b"s"])
@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_a_damaged_weights_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="does not load as tensors only"):
        build_network(Model(library="timm", name="resnet18", weights=str(tmp_path / name), layer_groups="stages"), 2, 1)


def test_images_that_the_network_cannot_take_are_refused():
    model = Model(library="timm", name="vit_tiny_patch16_224", weights="none", layer_groups="stages")
    network = build_network(model, 2, 1)
    check_image_size(network, model, 224, 1)
    with pytest.raises(UserError, match=r"data.image_size: vit_tiny_patch16_224 cannot take images of 128 px"):
        check_image_size(network, model, 128, 1)


def test_a_network_whose_layers_timm_does_not_describe_has_one_line():
    with pytest.raises(UserError, match=r"model.name: timm does not describe the layers of poolformer_s12"):
        empty_network("timm", "poolformer_s12", 2)


@pytest.mark.parametrize("package", PACKAGES)
def test_packaged_weights_give_every_channel_of_batchnorm_a_spread(package):
    """Tensors of one shape in a wrong order would put means, which can be negative, where variances belong."""
    network = PACKAGES[package].network
    assert timm.is_model(network)
    model = Model(library="timm", name=network, weights=package, layer_groups="stages")
    state = build_network(model, 2, seed=1).module.state_dict()
    variances = torch.cat([tensor for name, tensor in state.items() if name.endswith("running_var")])
    means = torch.cat([tensor for name, tensor in state.items() if name.endswith("running_mean")])
    assert (variances >= 0).all()
    assert (means < 0).any()
    assert not torch.equal(variances, torch.ones_like(variances))


@pytest.mark.parametrize("package", PACKAGES)
def test_networks_of_packaged_weights_tell_a_temple_from_a_flower(package):
    """The two photographs that scikit-learn brings along, by the head of ImageNet that the weights came with."""
    network = timm.create_model(PACKAGES[package].network).eval()
    origin = importlib.util.find_spec(PACKAGES[package].module).origin
    tensors = read_tensors(Path(origin).parent / PACKAGES[package].file).values()
    network.load_state_dict(dict(zip(network.state_dict(), tensors, strict=True)))
    temple, flower = (
        torch.from_numpy(np.array(Image.fromarray(photograph).resize((224, 224)))).permute(2, 0, 1)[None] / 127.5 - 1
        for photograph in load_sample_images().images
    )
    buildings = [442, 483, 497, 538, 663, 698, 832]  # bell cote, castle, church, dome, monastery, palace, stupa
    with torch.inference_mode():
        of_temple, of_flower = (network(image).softmax(1)[0, buildings].sum() for image in (temple, flower))
    assert of_temple > 0.3
    assert of_flower < 0.05


@pytest.mark.parametrize(
    ("library", "name", "says"),
    [
        ("torchvision", "inception_v3", "model.name: inception_v3 has auxiliary heads, which cannot be trained here"),
        ("timm", "rdnet_tiny", "model.layer_groups: timm does not know the stages of rdnet_tiny; set blocks"),
    ],
)
def test_networks_that_cannot_be_taken_have_one_line(library, name, says):
    with pytest.raises(UserError, match=says):
        empty_network(library, name, 2)
