import pytest
import torch

from stages.data.batches import Samples
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import Model, Policy
from stages.rates.freezing import freeze_all_but
from stages.training import trainer as trainer_module
from stages.training.frozen_features import head_on_features
from tests.training.conftest import train, with_params


@pytest.fixture(scope="module")
def params(params):
    return with_params(params, "train", epochs=3)


@pytest.fixture(scope="module")
def samples():
    """In color, and less far apart, so that rounding is not amplified beyond what the tests allow."""
    random = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    pixels = torch.randint(0, 120, (40, 32, 32, 3), generator=random) + 100 * labels[:, None, None, None]
    pixels = pixels.to(torch.uint8)
    return {
        "train": Samples(pixels, torch.arange(24), labels[:24]),
        "val": Samples(pixels, torch.arange(24, 40), labels[24:]),
    }


def frozen(library, name, params, weights="none"):
    network = build_network(Model(library=library, name=name, weights=weights, layer_groups="stages"), 2, 1)
    freeze_all_but(network.module, network.groups["head"])
    return network


FROZEN = Policy(backbone=0.0, head=0.1)
HEAD_FIRST = Policy(backbone=0.001, head=0.1, head_only_epochs=2)


@pytest.mark.parametrize(("policy", "head_only_epochs"), [(FROZEN, 3), (HEAD_FIRST, 2)])
def test_the_head_on_features_learns_what_it_learns_on_the_whole_network(
    params, samples, monkeypatch, policy, head_only_epochs
):
    """As long as it learns alone: where the backbone joins it, training amplifies the other rounding of features."""
    _, by_features = train(params, samples, policy)
    monkeypatch.setattr(trainer_module, "head_on_features", lambda *_: None)
    _, by_pixels = train(params, samples, policy)
    for one, other in zip(by_features.epochs[:head_only_epochs], by_pixels.epochs[:head_only_epochs], strict=True):
        assert one.train.loss == pytest.approx(other.train.loss, rel=1e-3)
        assert one.val.loss == pytest.approx(other.val.loss, rel=1e-3)


def test_the_head_on_features_ends_with_the_weights_that_it_has_on_the_whole_network(params, samples, monkeypatch):
    fast, _ = train(params, samples, FROZEN)
    monkeypatch.setattr(trainer_module, "head_on_features", lambda *_: None)
    slow, _ = train(params, samples, FROZEN)
    for name, tensor in slow.module.state_dict().items():
        assert torch.allclose(tensor, fast.module.state_dict()[name], rtol=1e-3, atol=1e-4), name


def test_the_backbone_sees_every_image_once_in_its_frozen_phase(params, samples, monkeypatch):
    seen = []
    build = trainer_module.head_on_features

    def spy(network, *rest):
        hook = network.module.register_forward_hook(lambda module, inputs, outputs: seen.append(len(inputs[0])))
        found = build(network, *rest)
        hook.remove()
        hooks.append(network.module.register_forward_hook(lambda *_: seen.append("again")))
        return found

    hooks = []
    monkeypatch.setattr(trainer_module, "head_on_features", spy)
    train(params, samples, Policy(backbone=0.0, head=0.1))
    # A batch in training and in evaluation mode, to see that they agree; then all of training and validation.
    assert seen == [24, 24, 24, 16]


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("timm", "resnet18"), ("timm", "tf_efficientnet_lite0"), ("timm", "convnext_atto"), ("timm", "regnety_002"),
        ("timm", "mobilenetv3_small_050"), ("torchvision", "resnet18"), ("torchvision", "mobilenet_v3_small"),
        ("torchvision", "efficientnet_b0"), ("torchvision", "densenet121"), ("torchvision", "shufflenet_v2_x0_5"),
    ],
)  # fmt: skip
def test_what_reaches_the_head_gives_the_networks_own_logits(params, samples, library, name):
    network = frozen(library, name, params)
    compute = set_up_compute(params.train)
    head, features = head_on_features(network, samples, params.train, compute)
    assert set(head.module.parameters()) == {network.module.get_parameter(name) for name in network.groups["head"]}
    network.module.eval()
    with torch.no_grad():
        for part, images in samples.items():
            assert torch.equal(features[part].labels, images.labels)
            expected = network.logits(images.pixels[images.rows])
            assert torch.allclose(head.logits(features[part].pixels), expected, rtol=1e-3, atol=1e-4)


def test_dropout_right_before_the_head_is_drawn_anew_at_each_pass(params, samples):
    network = frozen("torchvision", "efficientnet_b0", params)
    head, features = head_on_features(network, samples, params.train, set_up_compute(params.train))
    head.module.train()
    ones = torch.ones_like(features["train"].pixels)
    assert not torch.equal(head.logits(ones.clone()), head.logits(ones.clone()))


@pytest.mark.parametrize("changes", [{"augment": ["horizontal_flip"]}, {"frozen_batchnorm": "update"}])
def test_features_that_would_change_are_not_kept(params, samples, changes):
    network = frozen("timm", "resnet18", params)
    train = params.train.model_copy(update=changes)
    assert head_on_features(network, samples, train, set_up_compute(params.train)) is None


def test_statistics_that_batchnorm_freeze_holds_still_do_not_matter(params, samples):
    network = frozen("timm", "resnet18", params)
    train = params.train.model_copy(update={"frozen_batchnorm": "update", "batchnorm": "freeze"})
    assert head_on_features(network, samples, train, set_up_compute(params.train))


def test_more_than_the_head_cannot_learn_on_features(params, samples):
    network = frozen("timm", "resnet18", params)
    freeze_all_but(network.module, [*network.groups["stage4"], *network.groups["head"]])
    assert head_on_features(network, samples, params.train, set_up_compute(params.train)) is None


@pytest.mark.parametrize(
    ("library", "name", "why"),
    [
        ("torchvision", "alexnet", "dropout before the frozen part of its classifier"),
        ("torchvision", "squeezenet1_1", "layers after its head"),
    ],
)
def test_where_the_head_is_not_the_end_or_the_backbone_draws_the_whole_network_runs(
    params, samples, library, name, why
):
    network = frozen(library, name, params)
    big = {
        part: Samples(images.pixels.repeat(1, 2, 2, 1), images.rows, images.labels) for part, images in samples.items()
    }
    assert head_on_features(network, big, params.train, set_up_compute(params.train)) is None, why
