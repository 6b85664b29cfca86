"""Measure an epoch of the head on a frozen backbone: on its features, computed once, against on images every time.

python -m benchmarks.frozen_backbone
"""

import argparse
import statistics
import time

from benchmarks.training_speed import synchronise, training_images
from stages.data.batches import Samples, batch_sizes
from stages.errors import run_cli
from stages.models.compute import set_up_compute
from stages.models.network import Classifier, build_network
from stages.params import Policy, load_params
from stages.rates.freezing import freeze_all_but
from stages.rates.optimizers import build_optimizer, build_param_groups
from stages.rates.policies import plan_policy, trainable_groups
from stages.training.frozen_features import head_on_features
from stages.training.loop import RunningMetrics, train_epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns that each way takes (default: 3)")
    rounds = parser.parse_args().rounds
    params = load_params()
    compute = set_up_compute(params.train)
    images = training_images(params, compute.device)

    network = build_network(params.model, 2, seed=1)
    network.module.to(compute.device)
    plan = plan_policy(Policy(backbone=0.0, head=0.01), list(network.groups))
    param_groups = build_param_groups(params.optimizer, network.module, network.groups, plan)
    optimizer = build_optimizer(params.optimizer, param_groups, trainable_groups(plan, epoch=1))
    freeze_all_but(network.module, network.groups["head"])
    lr_multipliers = [1.0] * len(batch_sizes(len(images), params.train.batch_size))

    def epoch(classifier: Classifier, samples: Samples) -> float:
        synchronise(compute.device)
        started = time.perf_counter()
        batches = samples.shuffled_batches(params.train, seed=1, epoch=1)
        running = RunningMetrics.zeros(compute.device)
        for _ in train_epoch(classifier, optimizer, batches, lr_multipliers, params, compute, running):
            pass
        synchronise(compute.device)
        return time.perf_counter() - started

    started = time.perf_counter()
    found = head_on_features(network, {"train": images}, params.train, compute)
    assert found, "params.yaml augments the images, or lets frozen BatchNorm move: there is nothing to compare"
    head, features = found[0], found[1]["train"]
    once = time.perf_counter() - started
    epoch(network, images)  # the first turns warm up
    epoch(head, features)
    slow, fast = zip(*((epoch(network, images), epoch(head, features)) for _ in range(rounds)), strict=True)
    print(f"{params.model.name}, {params.data.image_size} px, {len(images)} images, {compute.device.type}")
    print(f"on images {statistics.median(slow):.2f} s an epoch, on features {statistics.median(fast):.4f} s")
    faster = statistics.median(slow) / statistics.median(fast)
    print(f"{faster:.0f} times faster, after {once:.1f} s once for the features")


if __name__ == "__main__":
    run_cli(main)
