"""The pipeline's own stages in a clone: prepare, split, both arms, evaluate. Then its loop's speeds by all cores."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import joblib
from dvc.utils.serialize import modify_yaml

from benchmarks.peers.common import BACKBONE, BATCH_SIZE, HEAD, UNIFORM, WEIGHTS, Clock, Job
from stages.data.batches import open_samples
from stages.data.store import open_prepared, open_splits
from stages.models.compute import set_up_compute
from stages.models.inference import predict_logits
from stages.models.network import build_network
from stages.params import Policy, load_params
from stages.rates.optimizers import build_optimizer, build_param_groups
from stages.rates.policies import plan_policy
from stages.training.loop import RunningMetrics, train_epoch
from stages.training.trainer import count_steps

STAGES = (["prepare"], ["split"], ["train", "baseline"], ["train", "differential"], ["evaluate"])


def main() -> None:
    job, clock = Job.from_command(), Clock()
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", ".", str(clone)], check=True)
        set_params(clone, job)
        with clock.measured("whole", 1):
            for stage in STAGES:
                subprocess.run([sys.executable, "-m", f"stages.{stage[0]}", *stage[1:]], cwd=clone, check=True)
        os.chdir(clone)
        measure_speeds(clock)
    speeds = {split: values for split, values in clock.speeds.items() if split != "whole"}
    print(json.dumps({**Clock(speeds).medians(), "whole_s": 1 / clock.speeds["whole"][0]}))


def set_params(clone: Path, job: Job) -> None:
    """Let the clone do the job with one replicate."""
    library, weights = WEIGHTS[job.network]
    with modify_yaml(str(clone / "params.yaml")) as params:
        params["data"].update(source="folder", path=str(job.data.resolve()), image_size=job.size, allow_leaks=True)
        params["data"].update(development=0.0, folds=None)
        params["model"].update(library=library, name=job.network, weights=weights)
        params["lr"].update(uniform=UNIFORM, backbone=BACKBONE, head=HEAD)
        params["train"].update(epochs=job.epochs, batch_size=BATCH_SIZE, seeds=[1])
        params["evidence"].update(looks=None)


def measure_speeds(clock: Clock, passes: int = 2) -> None:
    """Time passes of one replicate over both splits, with as many threads as there are cores."""
    params = load_params()
    params = params.model_copy(update={"train": params.train.model_copy(update={"threads": joblib.cpu_count()})})
    compute = set_up_compute(params.train)
    prepared = open_prepared()
    replicate = prepared.of_replicate(open_splits(prepared, [1])[1])
    samples = open_samples(replicate, ("train", "val"), compute.device)
    network = build_network(params.model, len(prepared.classes), seed=1)
    network.module.to(compute.device)
    plan = plan_policy(Policy(uniform=UNIFORM), list(network.groups))
    groups = build_param_groups(params.optimizer, network.module, network.groups, plan)
    optimizer = build_optimizer(params.optimizer, groups, list(groups))
    multipliers = [1.0] * count_steps(params.train, samples["train"])
    for epoch in range(1, passes + 1):
        batches = samples["train"].shuffled_batches(params.train, seed=1, epoch=epoch)
        with clock.measured("train", len(samples["train"])):
            running = RunningMetrics.zeros(compute.device)
            for _ in train_epoch(network, optimizer, batches, multipliers, params, compute, running):
                pass
        with clock.measured("val", len(samples["val"])):
            predict_logits(network, samples["val"], compute)


if __name__ == "__main__":
    main()
