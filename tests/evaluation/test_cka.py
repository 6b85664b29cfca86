import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.evaluation.activations import capture_activations
from stages.evaluation.cka import cka_of, gram, grams_of, hsic_terms, linear_cka
from stages.models.compute import set_up_compute
from stages.models.network import empty_network
from stages.params import load_params
from tests.conftest import ROOT


def cka(batches):
    """The CKA of two representations, batch by batch."""
    return cka_of(sum(hsic_terms(gram(one), gram(other)) for one, other in batches))


def features(seed, samples=40, size=5):
    return torch.randn(samples, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_same_features_are_alike():
    assert cka([(features(0), features(0))]) == pytest.approx(1)


@settings(max_examples=25)
@given(scale=st.floats(0.1, 10), shift=st.floats(-5, 5), seed=st.integers(0, 1000))
def test_rotation_scale_and_shift_change_nothing(scale, shift, seed):
    rotation, _ = torch.linalg.qr(features(seed, 5))
    turned = scale * features(1) @ rotation + shift
    assert cka([(features(1), turned)]) == pytest.approx(1, abs=1e-6)
    assert cka([(features(2), turned)]) == pytest.approx(cka([(turned, features(2))]))


def test_unrelated_features_are_near_zero_on_average():
    """Which the biased estimator would not give with so few samples."""
    values = [cka([(features(seed), features(10_000 + seed))]) for seed in range(60)]
    assert abs(sum(values) / len(values)) < 0.03


def test_a_case_worked_by_hand():
    """Centered, the classes of (1, 1, −1, −1) and of (1, −1, 1, −1) have nothing in common: the HSIC is the lowest.

    For four samples the estimator is (tr KL + sum K sum L / 6 − 1'KL1) / 4 with the diagonals set to 0. Here both
    Gram matrices have ones and minus ones only; tr KL = −4, both sums are −4, and 1'KL1 = 4.
    """
    one, other = torch.tensor([[1.0], [1], [-1], [-1]]), torch.tensor([[1.0], [-1], [1], [-1]])
    cross, own, same = hsic_terms(gram(one), gram(other)).tolist()
    assert cross == pytest.approx((-4 + 16 / 6 - 4) / 4)
    # With itself: tr KK = 12, the sums −4 each, 1'KK1 = 4.
    assert own == same == pytest.approx((12 + 16 / 6 - 4) / 4)


def test_batches_of_one_representation_add_up():
    batches = [
        (features(seed), features(seed) @ torch.diag(torch.tensor([3.0, 1, 1, 1, 1]).double())) for seed in range(4)
    ]
    whole = cka(batches)
    each = [cka([pair]) for pair in batches]
    assert min(each) <= whole <= max(each)


def test_features_that_do_not_vary_are_like_nothing():
    assert cka([(torch.ones(8, 3), features(0, 8))]) == 0


NETWORKS = [
    ("timm", "resnet18"), ("timm", "tf_efficientnet_lite0"), ("timm", "convnext_atto"), ("timm", "densenet121"),
    ("torchvision", "resnet18"), ("torchvision", "shufflenet_v2_x0_5"), ("torchvision", "vgg11"),
]  # fmt: skip


@pytest.mark.parametrize("granularity", ["stages", "blocks"])
@pytest.mark.parametrize(("library", "name"), NETWORKS)
def test_every_layer_group_has_an_output_on_which_a_network_agrees_with_itself(library, name, granularity):
    network = empty_network(library, name, 2, seed=1, granularity=granularity)
    compute = set_up_compute(load_params(ROOT / "params.yaml").train.model_copy(update={"device": "cpu", "threads": 1}))
    pixels = torch.randint(0, 255, (6, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    again = empty_network(library, name, 2, seed=1, granularity=granularity)
    similarities = linear_cka(grams_of(network, [pixels], compute), grams_of(again, [pixels], compute))
    assert list(similarities) == list(network.groups)
    assert all(value == pytest.approx(1, abs=1e-6) for value in similarities.values())


def test_a_stage_speaks_after_its_last_addition():
    """Not after its last layer, to which a residual is still added."""
    network = empty_network("torchvision", "resnet18", 2)
    expected = {}
    network.module.layer2.register_forward_hook(lambda module, inputs, output: expected.update(stage2=output))
    network.module.eval()
    with capture_activations(network.module, network.groups) as outputs:
        logits = network.logits(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert torch.equal(outputs["stage2"], expected["stage2"])
    assert torch.equal(outputs["head"], logits)
