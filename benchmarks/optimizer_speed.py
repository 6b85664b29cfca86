"""Measure a step of each optimizer in torch's three ways: fused, foreach, and parameter by parameter.

python -m benchmarks.optimizer_speed
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import optim

from benchmarks.training_speed import synchronise
from stages.errors import run_cli
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import Policy, load_params
from stages.rates.optimizers import build_param_groups
from stages.rates.policies import plan_policy

OPTIMIZERS: dict[str, tuple[Callable[..., optim.Optimizer], dict[str, float]]] = {
    "sgd": (optim.SGD, {"momentum": 0.9}),
    "adam": (optim.Adam, {}),
    "adamw": (optim.AdamW, {}),
}
WAYS = {"fused": {"fused": True}, "foreach": {"foreach": True}, "one by one": {"foreach": False}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="turns that each way takes (default: 7)")
    parser.add_argument("--steps", type=int, default=30, help="steps in a turn (default: 30)")
    options = parser.parse_args()
    params = load_params()
    device = set_up_compute(params.train).device
    network = build_network(params.model, 2, seed=1)
    network.module.to(device)
    for parameter in network.module.parameters():
        parameter.grad = torch.full_like(parameter, 1e-9)
    plan = plan_policy(Policy(uniform=1e-9), list(network.groups))
    param_groups = build_param_groups(params.optimizer, network.module, network.groups, plan)

    print(f"{params.model.name}, {device.type}; milliseconds a step, medians of {options.rounds} turns")
    for name, (optimizer_class, config) in OPTIMIZERS.items():
        optimizers = {
            way: optimizer_class(
                [dict(entry) for parts in param_groups.values() for entry in parts], **config, **switch
            )
            for way, switch in WAYS.items()
        }

        def turn(optimizer: optim.Optimizer) -> float:
            synchronise(device)
            started = time.perf_counter()
            for _ in range(options.steps):
                optimizer.step()
            synchronise(device)
            return float(1000 * (time.perf_counter() - started) / options.steps)

        for optimizer in optimizers.values():  # the first turns warm up
            turn(optimizer)
        turns = [{way: turn(optimizer) for way, optimizer in optimizers.items()} for _ in range(options.rounds)]
        print(name, *(f"{way} {statistics.median(times[way] for times in turns):.2f}" for way in WAYS), sep=", ")


if __name__ == "__main__":
    run_cli(main)
