"""Trains the small network of the tests in as many processes as torchrun has started; the first writes what it saw.

    torchrun --nproc-per-node=2 -m tests.train_in_processes sync curves.json '{"mixup": 0.4}'

Noise is no pattern to be learnt, so small rates keep two roundings from drifting apart.
"""

import json
import sys
from dataclasses import astuple
from pathlib import Path

import numpy as np
import torch

from stages.data.batches import Samples
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import Policy, load_params
from stages.rates.policies import plan_policy
from stages.rates.schedules import lr_multipliers
from stages.training.distributed import ALONE, Processes, is_started_by_torchrun, joined
from stages.training.trainer import Trainer, count_steps
from tests.conftest import ROOT
from tests.training.conftest import SMALL, with_params

# 27 images in batches of 8 leave 3: too few for two processes to have two each.
TRAIN, VAL, BATCH = 27, 14, 8


def small_samples() -> dict[str, Samples]:
    random = np.random.default_rng(0)
    pixels = torch.from_numpy(random.integers(0, 255, size=(TRAIN + VAL, 32, 32, 1)).astype(np.uint8))
    labels = torch.arange(TRAIN + VAL) % 2
    rows = torch.arange(TRAIN + VAL)
    return {
        "train": Samples(pixels, rows[:TRAIN], labels[:TRAIN]),
        "val": Samples(pixels, rows[TRAIN:], labels[TRAIN:]),
    }


def main() -> None:
    batchnorm, out, given = sys.argv[1:]
    changes = json.loads(given)
    backbone = changes.pop("backbone", 0.0005)
    params = load_params(ROOT / "params.yaml").model_copy(update={"model": SMALL})
    train = {"epochs": 2, "batch_size": BATCH, "threads": 1, "device": "cpu", "ddp_batchnorm": batchnorm}
    params = with_params(params, "train", **train | changes)
    compute = set_up_compute(params.train)

    def train_in(processes: Processes) -> None:
        samples, network = small_samples(), build_network(params.model, 2, seed=1)
        plan = plan_policy(Policy(backbone=backbone, head=0.001), list(network.groups))
        steps = count_steps(params.train, samples["train"])
        multipliers = lr_multipliers(params.schedule, params.train.epochs, steps)
        trainer = Trainer(network, plan, 1, params, multipliers, samples, compute, processes=processes)
        result = trainer.fit()
        logits = trainer.predictions()["val"]
        if processes.rank == 0:
            seen = {
                "curves": [[*astuple(epoch.train), *astuple(epoch.val)] for epoch in result.epochs],
                "logits": logits.tolist(),
                "running_means": [
                    tensor.tolist() for name, tensor in network.module.state_dict().items() if "running_mean" in name
                ],
            }
            Path(out).write_text(json.dumps(seen))

    if is_started_by_torchrun():
        with joined(compute.device) as processes:
            train_in(processes)
    else:
        train_in(ALONE)


if __name__ == "__main__":
    main()
