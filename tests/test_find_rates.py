"""Range tests over a real network, and what `find_rates` prints, writes and refuses."""

import json
import re

import pandas as pd
import pytest
import torch

from stages.data.batches import Samples
from stages.find_rates import find_rates, make_step, print_suggestions
from stages.models.compute import set_up_compute
from stages.models.network import build_network
from stages.params import load_params
from stages.progress import progress_bar
from stages.rates.lr_finder import RangeTestStep
from tests.conftest import ROOT, one_line_of, set_params
from tests.training.conftest import SMALL

PARAMS = load_params(ROOT / "params.yaml")
TINY = PARAMS.model_copy(
    update={
        "model": SMALL,
        "train": PARAMS.train.model_copy(update={"batch_size": 8, "threads": 1, "device": "cpu", "augment": []}),
    }
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
    trials = find_rates(network, two_kinds_of_noise(), TINY, compute, 1, 24, progress_bar(0, ""))
    assert {"head", "all"} <= set(trials)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weights(network).items())


def test_each_test_trains_the_part_that_it_names_and_no_other():
    compute = set_up_compute(TINY.train)
    for groups in (["head"], ["stage3", "stage4"]):
        network = build_network(TINY.model, 2, seed=1)
        before = weights(network)
        take_step = make_step(network, two_kinds_of_noise(), compute, 1, groups, TINY)
        for _ in range(2):
            take_step(0.1)
        after = weights(network)
        changed = {
            group
            for group, names in network.groups.items()
            if any(not torch.equal(after[name], before[name]) for name in names)
        }
        assert changed == set(groups)


def test_the_loss_is_of_the_same_images_at_every_step():
    """At a rate of nothing it does not move, though every batch is another."""
    network, compute = build_network(TINY.model, 2, seed=1), set_up_compute(TINY.train)
    take_step = make_step(network, two_kinds_of_noise(), compute, 1, list(network.groups), TINY)
    losses = [take_step(1e-30) for _ in range(3)]
    assert max(losses) - min(losses) < 1e-6


CURVE = [RangeTestStep(rate=0.01, loss=1.0, smoothed=1.0)]


@pytest.mark.parametrize(
    ("lr", "pasted"),
    [
        ({}, ["-S lr.backbone=0.0012 -S lr.head=0.046", "-S lr.uniform=0.0078"]),
        (
            {"layer_decay": 0.5, "baseline": {"head": 0.02, "layer_decay": 0.5}},
            [
                "-S lr.backbone=0.0012 -S lr.head=0.046 -S lr.layer_decay=null",
                "-S lr.uniform=0.0078 -S lr.baseline=null",
            ],
        ),
    ],
)
def test_suggestions_can_be_pasted_and_null_what_would_keep_them_from_counting(capsys, tmp_path, lr, pasted):
    rates = type(PARAMS.lr).model_validate({**PARAMS.lr.model_dump(), **lr})
    suggestions = {"head": 0.04567, "backbone": 0.001234, "all": 0.0078}
    print_suggestions(suggestions, dict.fromkeys(suggestions, CURVE), rates, tmp_path)
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("-S ")] == pasted


def test_where_no_rate_is_suggested_none_is_pasted(capsys, tmp_path):
    print_suggestions({}, {"head": CURVE, "all": []}, PARAMS.lr, tmp_path)
    out = capsys.readouterr().out
    assert "-S" not in out
    assert "head: suggests nothing" in out
    assert "backbone: not tested" in out


@pytest.mark.slow
def test_the_command_writes_curves_and_touches_nothing_else(project, run_stage):
    before = project.fingerprints("metrics", "models", "data/prepared")
    done = run_stage(project, "find_rates", "--steps", "40")
    assert "The curves: report/find_rates.svg, report/find_rates.csv" in done.stdout
    trials = pd.read_csv(project.folder / "report/find_rates.csv")
    assert {"head", "all"} <= set(trials["part"]) <= {"head", "backbone", "all"}
    assert trials["learning_rate"].between(1e-6, 1).all()
    assert project.read("report/find_rates.svg").startswith(b"<svg")
    suggested = json.loads(run_stage(project, "find_rates", "--steps", "40", "--json").stdout)
    assert re.findall(r"^(\w+): suggests ([\d.e-]+) ", done.stdout, re.MULTILINE) == [
        (part, f"{rate:.2g}") for part, rate in suggested.items()
    ]
    assert project.fingerprints("metrics", "models", "data/prepared") == before
    assert project.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--steps", "3"], "error: --steps: 3 steps show no curve"),
        (["--seed", "-1"], "error: --seed: -1 is no seed"),
        (["--out", "README.md"], "error: --out: README.md is no folder"),
    ],
)
def test_odd_options_are_refused_before_it_works(project, run_stage, arguments, says):
    assert one_line_of(run_stage(project, "find_rates", *arguments, check=False)).startswith(says)


@pytest.mark.parametrize(
    "changes", [{"data.image_size": 64}, {"data.split": {"train": 0.04, "val": 0.02, "test": 0.02}}], ids=",".join
)
def test_images_and_splits_that_params_yaml_no_longer_asks_for_are_refused(project, run_stage, changes):
    set_params(project.folder, changes)
    line = one_line_of(run_stage(project, "find_rates", check=False))
    assert line.startswith("error: data: the images and splits here are not those that params.yaml asks for: run `dvc ")
