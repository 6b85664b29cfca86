"""One training in several processes: the batches, the order and, with BatchNorm over all, the loss of one."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from stages.training.distributed import ALONE, Processes, sync_batch_norm
from tests.conftest import PATIENCE, ROOT, set_params
from tests.training.conftest import with_params

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]


@given(st.integers(1, 9), st.integers(2, 60))
def test_the_parts_of_all_processes_are_the_batch_or_each_has_it_whole(size, images):
    batch = torch.arange(images)
    parts = [Processes(rank, size).part(batch) for rank in range(size)]
    if images >= 2 * size:
        assert torch.equal(torch.cat(parts), batch)
        assert min(len(part) for part in parts) >= 2  # BatchNorm wants two
    else:
        assert all(torch.equal(part, batch) for part in parts)


@pytest.mark.parametrize("changes", [{"augment": ["horizontal_flip", "color_jitter"]}, {"mixup": 0.4, "cutmix": 1.0}])
def test_processes_take_their_parts_of_the_batches_of_one(params, samples, changes):
    train = with_params(params, "train", **changes).train
    whole = list(samples["train"].shuffled_batches(train, seed=1, epoch=2, first_batch=1))
    parts = [
        list(samples["train"].shuffled_batches(train, 1, 2, first_batch=1, part=Processes(rank, 3).part))
        for rank in range(3)
    ]
    for number, (pixels, labels) in enumerate(whole):
        assert torch.equal(torch.cat([part[number][0] for part in parts]), pixels)
        assert all(torch.equal(part[number][1], labels) for part in parts)


def test_alone_nothing_is_wrapped_gathered_or_averaged(params):
    tensor, classifier = torch.ones(3), object()
    assert ALONE.part(tensor) is tensor
    assert ALONE.gather(tensor, 3) is tensor
    assert ALONE.mean(tensor, 3) is tensor
    assert ALONE.wrap(classifier, params.train) is classifier
    assert ALONE.from_first(b"state", torch.device("cpu")) == b"state"
    assert not ALONE.any(False, torch.device("cpu"))


@pytest.fixture
def group_of_one(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("shape", [(6, 4, 5, 5), (7, 4)])
@pytest.mark.parametrize("training", [True, False])
def test_batchnorm_over_all_processes_does_what_torchs_does(group_of_one, shape, training):
    generator = torch.Generator().manual_seed(0)
    inputs = 3 + 2 * torch.randn(shape, generator=generator)
    results = []
    for batch_norm in (functional.batch_norm, sync_batch_norm):
        values = inputs.clone().requires_grad_()
        weight, bias = torch.arange(1.0, 5).requires_grad_(), torch.ones(4).requires_grad_()
        mean, variance = torch.zeros(4), torch.ones(4)
        outputs = batch_norm(values, mean, variance, weight, bias, training, 0.1, 1e-5)
        (outputs * torch.arange(outputs.numel()).view(shape)).sum().backward()
        results.append([outputs.detach(), mean, variance, values.grad, weight.grad, bias.grad])
    for torchs, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, torchs, rtol=1e-4, atol=2e-3)


def trained(tmp_path, mode, processes, **changes):
    """What a training came to; `processes: None` starts it without torchrun."""
    out = tmp_path / f"{mode}-{processes}.json"
    start = [sys.executable] if processes is None else [*TORCHRUN, f"--nproc-per-node={processes}"]
    command = [*start, "-m", "tests.train_in_processes", mode, str(out), json.dumps(changes)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)
    return json.loads(out.read_text())


def largest_difference(one, other, key):
    flat = [np.concatenate([np.ravel(row) for row in found[key]]) for found in (one, other)]
    return float(np.abs(flat[0] - flat[1]).max())


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.4}], ids=["as it is", "mixed images"])
def test_with_sync_the_loss_curve_is_that_of_one_process_to_rounding(tmp_path, changes):
    alone = trained(tmp_path, "sync", None, **changes)
    for processes in (1, 2, 4):
        shared = trained(tmp_path, "sync", processes, **changes)
        assert largest_difference(alone, shared, "curves") < 1e-4, processes
        assert largest_difference(alone, shared, "logits") < 1e-3, processes
        assert largest_difference(alone, shared, "running_means") < 1e-3, processes


@pytest.mark.slow
def test_with_local_each_process_sees_the_statistics_of_its_part(tmp_path):
    """Else the test above could not fail."""
    alone, shared = (trained(tmp_path, "local", processes) for processes in (None, 2))
    assert largest_difference(alone, shared, "running_means") > 0.01
    assert largest_difference(alone, shared, "curves") > 1e-3


@pytest.mark.slow
def test_a_head_on_a_frozen_backbone_is_shared_as_well(tmp_path):
    """Whose features stand in the place of the images."""
    alone, shared = (trained(tmp_path, "sync", processes, backbone=0.0, augment=[]) for processes in (None, 2))
    assert largest_difference(alone, shared, "curves") < 1e-4


def start_stage(project, processes):
    return subprocess.Popen(
        [*TORCHRUN, f"--nproc-per-node={processes}", "-m", "stages.train", "baseline"],
        cwd=project.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_for_state(project):
    """Wait until a replicate has saved a state, and return its file."""
    for _ in range(600):
        if states := list((project.folder / ".resume").glob("baseline-seed-1-*.sync")):
            return states[0]
        time.sleep(0.1)
    raise AssertionError("no state was saved")


@pytest.mark.slow
def test_the_first_process_alone_writes_and_says_how_many_there_were(project):
    running = start_stage(project, 2)
    told, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, told
    assert len(re.findall("baseline, seed 1: training", told)) == 1
    assert json.loads(project.read("metrics/baseline.json"))["environment"]["processes"] == "2, BatchNorm sync"
    assert not list((project.folder / ".resume").glob("*"))


@pytest.mark.slow
def test_a_lost_process_ends_the_run_with_one_line_and_another_number_of_them_goes_on(project):
    set_params(project.folder, {"train.epochs": 400, "train.seeds": [1], "resume.save_every_minutes": 0.02})
    before = project.read("metrics/baseline.json")
    running = start_stage(project, 3)
    state = wait_for_state(project)
    workers = [child for child in psutil.Process(running.pid).children() if "stages.train" in child.cmdline()]
    assert len(workers) == 3
    workers[-1].kill()
    told, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0
    assert len(re.findall("^error: a process of this training was lost", told, re.MULTILINE)) == 1
    assert state.exists()
    assert project.read("metrics/baseline.json") == before

    set_params(project.folder, {"train.epochs": 400})
    running = start_stage(project, 2)
    told = ""
    for line in running.stdout:
        told += line
        if "goes on in epoch" in line:
            os.kill(running.pid, signal.SIGTERM)
            break
    rest, _ = running.communicate(timeout=PATIENCE)
    assert "seed 1: goes on in epoch" in told, told + rest
    assert len(re.findall("^interrupted; what was trained is kept", told + rest, re.MULTILINE)) == 1
    assert state.exists()
