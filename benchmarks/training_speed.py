"""Measure the real training loop against the bare network, in one process, taking turns.

The real loop indexes the memory-mapped array, normalizes, trains, and counts loss and accuracy. The bare loop does
forward, backward and step on one batch that is ready in memory. Their ratio is what the loop costs.

    python -m benchmarks.training_speed
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

from stages.data.batches import Samples, batch_sizes, open_samples
from stages.data.splits import split_replicates
from stages.data.store import open_prepared
from stages.errors import run_cli
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import Params, Policy, load_params
from stages.prepare import prepare
from stages.rates.freezing import train_mode
from stages.rates.optimizers import build_optimizer, build_param_groups
from stages.rates.policies import plan_policy
from stages.training.loop import RunningMetrics, train_epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns that each loop takes (default: 5)")
    rounds = parser.parse_args().rounds
    params = load_params()
    compute = set_up_compute(params.train)
    samples = training_images(params, compute.device)
    batch_size = params.train.batch_size
    steps = len(samples) // batch_size

    network = build_network(params.model, 2, seed=1)
    network.module.to(compute.device)
    plan = plan_policy(Policy(uniform=1e-9), list(network.groups))
    param_groups = build_param_groups(params.optimizer, network.module, network.groups, plan)
    optimizer = build_optimizer(params.optimizer, param_groups, list(param_groups))
    pixels, labels = next(iter(samples.batches(batch_size)))
    images = network.preprocessing(pixels)

    def real() -> float:
        started = time.perf_counter()
        batches = samples.shuffled_batches(params.train, seed=1, epoch=1)
        lr_multipliers = [1.0] * len(batch_sizes(len(samples), batch_size))
        running = RunningMetrics.zeros(compute.device)
        for _ in train_epoch(network, optimizer, batches, lr_multipliers, params, compute, running):
            pass
        return len(samples) / (time.perf_counter() - started)

    def bare() -> float:
        train_mode(network.module, params.train)
        synchronise(compute.device)
        started = time.perf_counter()
        for _ in range(steps):
            optimizer.zero_grad()
            with compute.autocast():
                loss = nn.functional.cross_entropy(network.module(images), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        synchronise(compute.device)
        return steps * batch_size / (time.perf_counter() - started)

    real()  # the first turns warm up
    bare()
    turns = [(real(), bare()) for _ in range(rounds)]
    ratios = [ours / theirs for ours, theirs in turns]
    ours, theirs = (statistics.median(speeds) for speeds in zip(*turns, strict=True))
    print(
        f"{params.model.name}, {params.data.image_size} px, batch {batch_size}, {compute.device.type}, {compute.dtype}"
    )
    print(f"real loop {ours:.1f} images/s, bare network {theirs:.1f} images/s, medians of {rounds} turns")
    print(f"ratio {statistics.median(ratios):.3f} (lowest {min(ratios):.3f}, highest {max(ratios):.3f})")


def training_images(params: Params, device: torch.device) -> Samples:
    """Prepare the images, and return those that the first replicate trains on."""
    seed = params.train.seeds[0]
    with tempfile.TemporaryDirectory() as folder:
        prepare(params.data, Path(folder) / "prepared")
        prepared = open_prepared(Path(folder) / "prepared")
        splits = split_replicates(prepared.samples, params.data, [seed])[1]
        return open_samples(prepared.of_replicate(splits[seed]), ["train"], device)["train"]


def synchronise(device: torch.device) -> None:
    """Wait for the device, so that the clock does not stop before it does."""
    if device.type == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    run_cli(main)
