import torch

from stages.data.batches import Samples
from stages.find_rates import find_rates, learner
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import load_params
from stages.progress import steps
from tests.conftest import ROOT

PARAMS = load_params(ROOT / "params.yaml")
TINY = PARAMS.model_copy(
    update={"train": PARAMS.train.model_copy(update={"batch_size": 8, "threads": 1, "device": "cpu"})}
)


def two_kinds_of_noise(count=32):
    labels = torch.arange(count) % 2
    noise = torch.randint(0, 120, (count, 32, 32, 3), generator=torch.Generator().manual_seed(0))
    pixels = (noise + 100 * labels[:, None, None, None]).to(torch.uint8)
    return Samples(pixels, torch.arange(count), labels)


def weights(network):
    return {name: tensor.clone() for name, tensor in network.module.state_dict().items()}


def test_the_range_tests_leave_the_weights_and_the_running_statistics_untouched():
    network, compute = build_network(TINY.model, 2, seed=1), set_up_compute(TINY.train)
    before = weights(network)
    trials = find_rates(network, two_kinds_of_noise(), TINY, compute, 1, 24, steps(0, ""))
    assert {"head", "all"} <= set(trials)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(network).items())


def test_each_test_trains_the_part_that_it_names_and_no_other():
    compute = set_up_compute(TINY.train)
    for groups in (["head"], ["stage3", "stage4"]):
        network = build_network(TINY.model, 2, seed=1)
        before = weights(network)
        take_step = learner(network, two_kinds_of_noise(), compute, 1, groups, TINY)
        for _ in range(2):
            take_step(0.1)
        after = weights(network)
        moved = {
            group
            for group, names in network.groups.items()
            if any(not torch.equal(after[name], before[name]) for name in names)
        }
        assert moved == set(groups)


def test_the_loss_is_of_the_same_images_at_every_step():
    """At a rate of nothing it does not move, though every batch is another."""
    network, compute = build_network(TINY.model, 2, seed=1), set_up_compute(TINY.train)
    take_step = learner(network, two_kinds_of_noise(), compute, 1, list(network.groups), TINY)
    losses = [take_step(1e-30) for _ in range(3)]
    assert max(losses) - min(losses) < 1e-6
