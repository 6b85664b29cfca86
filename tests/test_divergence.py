"""A loss that is not finite: the stage stops, or the replicate counts as the majority class and the verdict says so."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from stages.data.store import Prepared, open_prepared, open_splits
from stages.evaluate import weigh_evidence, without_network
from stages.evaluation.comparison import Pool, ScoredReplicate
from stages.metrics_files import Failures
from stages.params import ARMS, Evidence
from stages.train import majority_metrics
from tests.conftest import one_line_of, set_params

HOT = {"lr.uniform": 1e30}


def test_it_stops_the_stage_and_says_where_and_which_rate_to_lower(project, run_stage):
    set_params(project.folder, HOT)
    line = one_line_of(run_stage(project, "train", "baseline", check=False))
    assert line.startswith("error: lr: baseline, seed 1: the loss is not finite in epoch 1, step ")
    assert "weights had grown most: lower lr.uniform (the rates are stem 1e+30, " in line
    assert line.endswith("set train.on_divergence to record, and it counts as the majority class")
    assert not (project.folder / ".resume").exists()


def test_the_key_that_gives_the_rate_is_named_however_it_is_given(project, run_stage):
    set_params(project.folder, {"lr.groups": {"stage3": 1e30}})
    done = run_stage(project, "train", "differential", check=False)
    one_line_of(done, "stage3's weights had grown most: lower lr.groups.stage3 (")


def test_an_arm_of_which_every_replicate_diverges_is_recorded_and_not_compared(project, run_stage):
    set_params(project.folder, {**HOT, "train.on_divergence": "record"})
    done = run_stage(project, "train", "baseline")
    assert "baseline, seed 2: the loss is not finite" in done.stdout
    metrics = project.read_json("metrics/baseline.json")
    assert set(metrics["diverged"]) == set(metrics["seeds"]) == {"1", "2"}
    assert set(metrics["diverged"]["1"]) == {"epoch", "step", "group"}
    assert metrics["mean"]["val_loss"] == metrics["mean"]["train_loss"] == round(math.log(2), 6)
    assert not (project.folder / ".resume").exists()
    assert one_line_of(run_stage(project, "evaluate", check=False)) == (
        "error: lr: every replicate of the baseline arm diverged, so there is nothing to compare: lower its rates"
    )
    assert one_line_of(run_stage(project, "summary", check=False)) == (
        "error: lr: every replicate of the baseline arm diverged: lower its rates, then run `dvc repro`"
    )


def majority_share(prepared, splits, split):
    """The share of the images of a split that are of the class that most training images are of."""
    labels = prepared.samples["label"]
    return (labels[splits == split] == labels[splits == "train"].mode()[0]).mean()


@pytest.fixture
def one_diverged(project, run_stage, monkeypatch):
    """Seed 2 of the baseline as `train` records one that diverged, evaluated, reviewed and reported."""
    monkeypatch.chdir(project.folder)
    path = project.folder / "metrics/baseline.json"
    prepared = open_prepared()
    images = prepared.of_replicate(open_splits(prepared, [2])[2])
    metrics = json.loads(path.read_text())
    metrics["seeds"]["2"] = majority_metrics(images)
    path.write_text(json.dumps({**metrics, "diverged": {"2": {"epoch": 1, "step": 3, "group": "stage3"}}}))
    (project.folder / "models/baseline/seed-2.safetensors").unlink()
    for stage in ("evaluate", "review", "report"):
        run_stage(project, stage)
    return project


def test_a_replicate_that_diverged_counts_as_the_majority_class_on_every_split(one_diverged):
    prepared, evaluation = open_prepared(), one_diverged.read_json("metrics/evaluation.json")
    splits = open_splits(prepared, [2])[2]
    for split in ("train", "val", "test"):
        counted = evaluation[split]["baseline"]["seeds"]["2"]
        assert counted["accuracy"] == pytest.approx(majority_share(prepared, splits, split), abs=1e-6)
        assert counted["loss"] == pytest.approx(math.log(2), abs=1e-6)
        assert counted["balanced_accuracy"] == counted["roc_auc"] == 0.5
        assert set(evaluation[split]["difference"]["seeds"]) == {"1", "2"}
    recorded = one_diverged.read_json("metrics/baseline.json")["seeds"]["2"]
    assert recorded["val_accuracy"] == pytest.approx(evaluation["val"]["baseline"]["seeds"]["2"]["accuracy"], abs=1e-6)
    assert recorded["train_accuracy"] == pytest.approx(majority_share(prepared, splits, "train"))


def test_what_has_no_weights_is_left_out_where_weights_are_compared_and_there_alone(one_diverged):
    evaluation = one_diverged.read_json("metrics/evaluation.json")
    for measured in ("relative_weight_change", "linear_cka"):
        assert set(evaluation[measured]["baseline"]["seeds"]) == {"1"}
        assert set(evaluation[measured]["differential"]["seeds"]) == {"1", "2"}


def test_the_result_says_how_many_failed_and_which(one_diverged, run_stage):
    failures = one_diverged.read_json("metrics/evaluation.json")["failures"]
    assert failures["baseline"]["diverged"] == [2]
    assert failures["differential"]["diverged"] == []
    failed = len({2, *failures["baseline"]["collapsed"]})  # so small a network may take all for one class besides
    said = f"{failed} of 2 replicates of the baseline arm failed (diverged with seed 2"
    for shown in (run_stage(one_diverged, "summary").stdout, one_diverged.read("report/index.html").decode()):
        assert said in " ".join(shown.split())
    assert "The line is the mean over the seeds that did not diverge" in one_diverged.read("report/index.html").decode()


REPLICATES, TESTED = 12, 200


def experiment(failed):
    """Replicates whose differential arm is right more often wherever it lives, and fails with some seeds."""
    random = np.random.default_rng(0)
    labels = np.arange(TESTED) % 2
    samples = pd.DataFrame({"label": labels, "class": "", "split": "test", "near_duplicates": ""})
    samples = pd.concat([samples, samples.assign(split="train")], ignore_index=True)
    images = Prepared(np.zeros((len(samples), 1, 1, 1), np.uint8), samples)
    tested = {}
    for seed in range(1, REPLICATES + 1):
        of_arm = {}
        for arm, right in zip(ARMS, (0.7, 0.95), strict=True):
            predicted = np.where(random.random(TESTED) < right, labels, 1 - labels)
            of_arm[arm] = np.eye(2)[predicted] * 0.8 + 0.1
        if seed in failed:
            of_arm["differential"] = np.full((TESTED, 2), [0.5 + 1e-9, 0.5 - 1e-9])
        tested[seed] = ScoredReplicate(np.arange(TESTED), labels, of_arm)
    failures = Failures.model_validate({"baseline": {}, "differential": {"diverged": sorted(failed)}})
    pool = Pool(np.arange(len(samples)))
    evidence = Evidence(metric="accuracy", looks=[3, 6, REPLICATES])
    return weigh_evidence(tested, pool, failures, dict.fromkeys(tested, images), evidence)["verdict"]


def test_an_arm_that_is_better_wherever_it_lives_is_better_where_it_always_does():
    verdict = experiment(failed=set())
    assert verdict["decision"] == "better"
    assert verdict["reached_at"] < REPLICATES


@pytest.mark.parametrize("failed", [{REPLICATES}, {1}, {2, 7}], ids=str)
def test_an_arm_that_is_better_when_it_lives_and_fails_with_a_seed_is_never_called_better(failed):
    """Not even where its failure comes after a look that had decided."""
    verdict = experiment(failed)
    assert (verdict["decision"], verdict["reached_at"]) == ("unstable", None)


def test_each_failure_counts_against_the_arm_that_failed():
    estimates = [experiment(set(range(1, failed + 1)))["estimate"] for failed in range(REPLICATES)]
    assert estimates == sorted(estimates, reverse=True)
    assert estimates[0] > 0 > estimates[-1]


def test_the_majority_class_is_that_of_the_training_images_whatever_the_others_are():
    samples = pd.DataFrame(
        {"label": [1, 1, 0, 0, 0, 0], "class": list("bbaaaa"), "split": ["train"] * 3 + ["test"] * 3}
    )
    images = Prepared(np.zeros((6, 1, 1, 1), np.uint8), samples)
    probabilities = without_network(images)["test"]
    assert probabilities.argmax(1).tolist() == [1, 1, 1]
    assert probabilities == pytest.approx(0.5)
