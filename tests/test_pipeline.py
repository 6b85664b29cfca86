"""What the pipeline leaves behind, and what a change makes it do, in a tiny experiment that real DVC has reproduced.

`test_end_to_end.py` holds what needs a whole run of its own.
"""

import json
import re
import shutil
import sys

import elpv_dataset
import pandas as pd
import pytest
import torch
from dvc.utils.hydra import apply_overrides
from safetensors import safe_open

from stages.data.batches import open_samples
from stages.data.store import open_prepared, open_splits, replicate_checksums, verified_checksums
from stages.models.checkpoint import CHECKPOINTS, checkpoint_name, load_checkpoint
from stages.models.compute import set_up_compute
from stages.models.inference import predict_logits
from stages.models.predictions import load_predictions
from stages.params import SPLITS, load_params
from stages.reporting.charts import confusion_matrix
from tests.conftest import TINY, TINY_GROUPS, one_line_of, set_params, stages_run

ELPV = f"{elpv_dataset.__path__[0]}/data"
ARMS = ("baseline", "differential")
METRIC_NAMES = ["accuracy", "balanced_accuracy", "macro_f1", "loss", "brier", "calibration_error", "roc_auc"]
METRICS_FILES = {
    "params_check.txt",
    "prepare.json",
    "prepare_checks.csv",
    "splits.json",
    "class_balance.csv",
    "baseline.json",
    "baseline_curves.csv",
    "baseline_predictions.csv",
    "baseline_rates.csv",
    "differential.json",
    "differential_curves.csv",
    "differential_predictions.csv",
    "differential_rates.csv",
    "evaluation.json",
    "per_class.csv",
    "reliability.csv",
    "review.json",
    "curves.svg",
    "differences.svg",
}


def test_the_flow_writes_what_it_promises(reproduced):
    assert {path.name for path in (reproduced.folder / "metrics").iterdir()} == METRICS_FILES
    for arm in ARMS:
        checkpoints = {path.name for path in (reproduced.folder / "models" / arm).iterdir()}
        assert checkpoints == {
            f"seed-{seed}{end}" for seed in (1, 2) for end in (".safetensors", ".logits.safetensors")
        }
    tracked = reproduced.run("git", "ls-files").stdout.splitlines()
    assert {f"metrics/{name}" for name in METRICS_FILES} <= set(tracked)
    assert not [name for name in tracked if name.endswith((".safetensors", ".npy", ".html"))]


def test_nothing_is_left_to_do_and_dvc_says_so_without_torch(project):
    code = "import sys, dvc.cli; print(dvc.cli.main(['repro']), 'torch' in sys.modules)"
    done = project.run(sys.executable, "-c", code)
    assert "up to date" in done.stdout
    assert done.stdout.splitlines()[-1] == "0 False"
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_metrics_hold_what_a_reviewer_reads(reproduced):
    evaluation = reproduced.read_json("metrics/evaluation.json")
    for split in ("train", "val", "test"):
        for arm in (*ARMS, "difference"):
            metrics = evaluation[split][arm]
            assert set(metrics) == {"mean", "std", "seeds"}
            assert set(metrics["seeds"]) == {"1", "2"}
            assert list(metrics["mean"]) == METRIC_NAMES
        for metric, interval in evaluation[split]["interval"].items():
            assert interval["estimate"] == pytest.approx(evaluation[split]["difference"]["mean"][metric], abs=2e-6)
            assert ("low" in interval) != ("reason" in interval)
            assert "low" not in interval or interval["low"] <= interval["estimate"] <= interval["high"]
        assert set(evaluation[split]["mcnemar"]) == {"1", "2"}
    assert evaluation["verdict"]["estimate"] == evaluation["test"]["interval"]["accuracy"]["estimate"]
    assert evaluation["verdict"]["metric"] == "accuracy"
    assert evaluation["verdict"]["decision"] in {"better", "worse", "no difference shown", "unstable"}
    assert [look["replicates"] for look in evaluation["verdict"]["looks"]] == [2]
    for measured in ("relative_weight_change", "linear_cka"):
        for arm in ARMS:
            assert list(evaluation[measured][arm]["mean"]) == TINY_GROUPS


def test_what_training_measured_after_its_last_epoch_is_what_the_checkpoint_gives(reproduced):
    evaluation = reproduced.read_json("metrics/evaluation.json")
    for arm in ARMS:
        training = reproduced.read_json(f"metrics/{arm}.json")
        for seed, metrics in training["seeds"].items():
            assert metrics["val_accuracy"] == evaluation["val"][arm]["seeds"][seed]["accuracy"]
            assert metrics["val_loss"] == pytest.approx(evaluation["val"][arm]["seeds"][seed]["loss"], abs=1e-5)
        goal = evaluation["goal"][arm]
        assert set(goal) == {"met", "replicates_meeting", "val_accuracy", "train_accuracy"}
        assert goal["val_accuracy"]["value"] == training["mean"]["val_accuracy"]
        assert list(training["learning_rates"]) == TINY_GROUPS


def test_what_training_wrote_of_its_images_is_to_the_last_bit_what_the_checkpoint_says_of_them(reproduced, monkeypatch):
    monkeypatch.chdir(reproduced.folder)
    compute = set_up_compute(load_params().train)
    checksums, prepared = verified_checksums(), open_prepared()
    splits = open_splits(prepared, TINY["train.seeds"])
    for seed in TINY["train.seeds"]:
        samples = open_samples(prepared.of_replicate(splits[seed]), ("train", "val"), compute.device)
        for arm in ARMS:
            path = CHECKPOINTS / arm / checkpoint_name(seed)
            network = load_checkpoint(path).network
            written = load_predictions(path, replicate_checksums(checksums, splits[seed]))
            assert set(written) == {"train", "val"}
            for split, logits in written.items():
                assert torch.equal(predict_logits(network, samples[split], compute), logits)


def test_the_arms_of_a_replicate_share_all_images_and_replicates_share_the_test_images_alone(reproduced):
    splits = pd.read_csv(reproduced.folder / "data/splits.csv", keep_default_na=False)
    one, other = ({split: set(splits.index[splits[f"seed-{seed}"] == split]) for split in SPLITS} for seed in (1, 2))
    assert one["test"] == other["test"] == set(splits.index[splits["part"] == "test"])
    assert one["train"] != other["train"]
    assert one["val"] != other["val"]
    for arm in ARMS:
        predictions = pd.read_csv(reproduced.folder / f"metrics/{arm}_predictions.csv")
        for seed, of_seed in ((1, one), (2, other)):
            assert set(predictions[predictions["seed"] == seed]["image"]) == set(splits["image"][list(of_seed["val"])])


def test_the_overfitting_gap_in_evaluation_mode_is_training_minus_validation_accuracy(reproduced):
    evaluation = reproduced.read_json("metrics/evaluation.json")
    for arm in ARMS:
        for seed, metrics in evaluation["eval_mode"][arm]["seeds"].items():
            train, val = (evaluation[split][arm]["seeds"][seed]["accuracy"] for split in ("train", "val"))
            assert metrics["overfitting_gap"] == pytest.approx(train - val, abs=2e-6)


def test_every_image_is_counted_in_the_tables(reproduced):
    counts = reproduced.read_json("metrics/splits.json")
    by_class = pd.read_csv(reproduced.folder / "metrics/per_class.csv")
    assert len(by_class) == 3 * 2 * 2 * 2  # splits, arms, seeds, classes
    bins = pd.read_csv(reproduced.folder / "metrics/reliability.csv")
    assert (bins.groupby(["arm", "seed"])["samples"].sum() == counts["val"]).all()
    splits = pd.read_csv(reproduced.folder / "data/splits.csv", keep_default_na=False)
    for split in SPLITS:
        assert counts[split] == (splits["seed-1"] == split).sum() == (splits["seed-2"] == split).sum()
    assert counts["train"] == pytest.approx(0.03 * len(splits), abs=5)  # one for each class and cell type
    balance = pd.read_csv(reproduced.folder / "metrics/class_balance.csv").groupby("split")["images"].sum()
    assert balance.to_dict() == {split: counts[split] for split in SPLITS}
    assert len(splits) == reproduced.read_json("metrics/prepare.json")["images"]


def floats_in(value):
    if isinstance(value, dict):
        return [number for inner in value.values() for number in floats_in(inner)]
    return [value] if isinstance(value, float) else []


@pytest.mark.parametrize("name", [*ARMS, "evaluation", "review"])
def test_floats_are_rounded_to_six_digits(reproduced, name):
    numbers = floats_in(reproduced.read_json(f"metrics/{name}.json"))
    assert numbers
    assert all(number == round(number, 6) for number in numbers)


def test_the_arms_end_apart(reproduced):
    baseline, differential = (reproduced.read(f"models/{arm}/seed-1.safetensors") for arm in ARMS)
    assert len(baseline) == len(differential)
    assert baseline != differential


def test_equal_rates_give_bit_identical_arms(project, run_stage):
    set_params(project.folder, {"lr.backbone": TINY["lr.uniform"]})
    run_stage(project, "train", "differential")
    baseline, differential = (
        [
            project.read(f"metrics/{arm}.json"),
            project.read(f"metrics/{arm}_curves.csv"),
            *project.fingerprints(f"models/{arm}").values(),
        ]
        for arm in ARMS
    )
    assert baseline == differential


@pytest.mark.parametrize(
    ("changes", "rerun"),
    [
        ({"lr.head": 0.02}, ["train_differential", "evaluate", "report"]),
        ({"lr.layer_decay": 0.5}, ["train_differential", "evaluate", "report"]),
        ({"lr.uniform": 0.02}, ["train_baseline", "evaluate", "report"]),
        ({"lr.baseline": {"head": 0.02, "layer_decay": 0.5}}, ["train_baseline", "evaluate", "report"]),
        ({"review.arm": "baseline"}, ["review"]),
        ({"goal.val_accuracy_above": 0.9}, ["evaluate", "report"]),
        ({"train.on_divergence": "record", "resume.save_every_minutes": 1}, ["report"]),
        ({"data.image_size": 64}, ["prepare", "report"]),
        ({"data.split": {"train": 0.04, "val": 0.02, "test": 0.02}}, ["split", "report"]),
        ({"train.seeds": [1, 3]}, ["split", "train_baseline", "train_differential", "evaluate", "report"]),
        ({"optimizer.momentum": 0.5}, ["train_baseline", "train_differential", "evaluate", "report"]),
    ],
    ids=",".join,
)
def test_a_change_runs_again_what_reads_it_and_nothing_else(project, changes, rerun):
    """What reads their outputs runs after them, where these come to something else: `test_end_to_end.py`."""
    set_params(project.folder, changes)
    assert sorted(stages_run(project.run("dvc", "repro", "--dry").stdout)) == sorted(["check_params", *rerun])


def cells(markdown):
    """Markdown without the spaces that align its columns."""
    return re.sub(" +", " ", markdown)


def last_rates(project, arm):
    """The rate of each layer group at the last step, and at the first."""
    rates = pd.read_csv(project.folder / f"metrics/{arm}_rates.csv")
    by_step = rates.pivot_table(index="step", columns="layer_group", values="learning_rate")
    return by_step.iloc[-1].to_dict(), by_step.iloc[0].to_dict()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["lr.layer_decay=0.5"], {"head": 0.01, "stage5": 0.005, "stem": 0.01 / 2**6}),
        (["lr.range=[0.0001,0.01]"], {"head": 0.01, "stem": 0.0001}),
        (["lr.groups={stage5: 0.003, stem: 0}"], {"head": 0.01, "stage5": 0.003, "stage4": 0.0001, "stem": 0}),
        (["+lr.groups.stage5=0.003"], {"head": 0.01, "stage5": 0.003, "stem": 0.0001}),
        (["lr.head_only_epochs=1", "lr.gradual_unfreezing=true"], {"head": 0.01, "stage5": 0.0001, "stage4": 0}),
    ],
    ids=" ".join,
)
def test_every_policy_of_the_differential_arm_is_one_word_away(project, run_stage, overrides, expected):
    """As `dvc exp run -S` writes it into params.yaml, by DVC's own code."""
    apply_overrides(project.folder / "params.yaml", overrides)
    run_stage(project, "train", "differential")
    rates = project.read_json("metrics/differential.json")["learning_rates"]
    last, first = last_rates(project, "differential")
    assert {group: rates[group] for group in expected} == pytest.approx(expected)
    assert {group: last[group] for group in expected} == pytest.approx(expected)
    if "lr.head_only_epochs=1" in overrides:
        assert {group for group, rate in first.items() if rate} == {"head"}


def test_the_baseline_has_a_policy_of_its_own(project, run_stage):
    set_params(project.folder, {"lr.baseline": {"head": 0.02, "layer_decay": 0.5}})
    run_stage(project, "train", "baseline")
    rates = project.read_json("metrics/baseline.json")["learning_rates"]
    assert (rates["head"], rates["stage5"]) == (0.02, 0.01)
    assert "| 0.00031 … 0.01 / 0.02 | 0.0001 / 0.01 |" in cells(run_stage(project, "summary", "--markdown").stdout)


def test_what_too_few_epochs_never_unfreeze_is_said_and_counts_as_frozen(project, run_stage):
    set_params(project.folder, {"lr.gradual_unfreezing": True, "train.seeds": [1]})
    done = run_stage(project, "train", "differential")
    assert "2 epochs are too few to unfreeze stem, stage1, stage2, stage3, stage4, which stayed frozen" in done.stdout
    rates = project.read_json("metrics/differential.json")["learning_rates"]
    assert [group for group, rate in rates.items() if rate] == ["stage5", "head"]


def test_finer_layer_groups_reach_the_metrics(project, run_stage):
    set_params(project.folder, {"model.layer_groups": "blocks", "train.seeds": [1], "train.epochs": 1})
    for stage in (("train", "baseline"), ("train", "differential"), ("evaluate",)):
        run_stage(project, *stage)
    rates = project.read_json("metrics/differential.json")["learning_rates"]
    weight_change = project.read_json("metrics/evaluation.json")["relative_weight_change"]["differential"]["mean"]
    assert list(rates) == list(weight_change) == ["stem", *(f"block{number}" for number in range(1, 6)), "head"]


def test_an_unknown_layer_group_stops_with_those_that_exist(project, run_stage):
    set_params(project.folder, {"lr.groups": {"stage9": 0.1}})
    done = run_stage(project, "train", "differential", check=False)
    one_line_of(done, f"lr.groups: the network has no layer group stage9; it has {', '.join(TINY_GROUPS)}")


def test_the_review_metrics_are_those_of_the_arm_under_review(project, run_stage):
    for arm in ARMS:
        set_params(project.folder, {"review.arm": arm})
        run_stage(project, "review")
        reviewed = project.read_json("metrics/review.json")
        training = project.read_json(f"metrics/{arm}.json")["mean"]
        evaluation = project.read_json("metrics/evaluation.json")
        assert reviewed == {
            "val_accuracy": training["val_accuracy"],
            "val_loss": evaluation["val"][arm]["mean"]["loss"],
            "gap": training["overfitting_gap"],
            "test_accuracy": evaluation["test"][arm]["mean"]["accuracy"],
            "meeting_goal": evaluation["goal"][arm]["replicates_meeting"],
        }


def test_dvcs_table_of_metrics_fits_a_hundred_columns(reproduced):
    """However wide a terminal is: DVC cuts nothing here, so a longer line would wrap."""
    shown = reproduced.run("dvc", "metrics", "show").stdout
    assert max(map(len, shown.splitlines())) <= 100


def test_a_misspelt_key_stops_the_pipeline_before_anything_is_lost(project):
    before = project.fingerprints("metrics", "models", "data/prepared")
    set_params(project.folder, {"lr.haed": 0.01, "train.epochs": 3})
    done = project.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "error: params.yaml: lr.haed: unknown key; did you mean head?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert project.fingerprints("metrics", "models", "data/prepared") == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model.name": "tf_efficientnet_lite9"}, "model.name: timm has no network"),
        ({"model.weights": "nowhere.pth"}, "model.weights: no file nowhere.pth"),
        ({"train.device": "cuda"}, "train.device: torch sees no CUDA device"),
        ({"lr.uniform": 1e30}, "lr: baseline, seed 1: the loss is not finite in epoch 1, step "),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_a_stage_that_cannot_go_on_has_one_line_and_leaves_nothing_half_written(
    project, run_stage, monkeypatch, changes, says
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    set_params(project.folder, changes)
    before = project.fingerprints("metrics", "models")
    line = one_line_of(run_stage(project, "train", "baseline", check=False))
    assert line.startswith(f"error: {says}")
    assert project.fingerprints("metrics", "models") == before


def test_a_fraction_of_almost_nothing_is_an_image_of_each_class_which_is_said_and_by_hash_refused(project, run_stage):
    set_params(project.folder, {"data.split": {"train": 0.03, "val": 0.02, "test": 0.0001}})
    said = run_stage(project, "split").stdout
    for name in ("functional", "defective"):
        assert f"{name}: 1 image in test, of which a metric of that class says little" in said
    set_params(project.folder, {"data.split_by": "hash"})
    before = project.fingerprints("data", "metrics")
    line = one_line_of(run_stage(project, "split", check=False), "data.split_by: hash cannot promise one; set it to")
    assert line.startswith("error: data: test has no image of functional; test has no image of defective: ")
    assert project.fingerprints("data", "metrics") == before


def test_a_checkpoint_alone_predicts_anywhere(reproduced, run_stage, tmp_path):
    """In a folder that holds the checkpoint, an image, and nothing else; square brackets in its name are no markup."""
    shutil.copyfile(reproduced.folder / "models/baseline/seed-1.safetensors", tmp_path / "moved.safetensors")
    shutil.copyfile(f"{ELPV}/images/cell0001.png", tmp_path / "cell[b].png")
    elsewhere = type(reproduced)(tmp_path)
    arguments = ("predict", "--checkpoint", "moved.safetensors")
    answer = json.loads(run_stage(elsewhere, *arguments, "--json", "cell[b].png").stdout)
    assert answer["image"] == "cell[b].png"
    assert list(answer["probabilities"]) == ["functional", "defective"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    table = run_stage(elsewhere, *arguments, "cell[b].png", f"{ELPV}/images/cell0001.png").stdout
    assert table.count("functional") == table.count("defective") == 2
    assert table.count("%") == 4
    assert "cell[b].png" in table


def test_predictions_are_those_that_evaluate_counted(reproduced, run_stage):
    """The same image through `predict` and through the prepared array has the same probability."""
    counted = pd.read_csv(reproduced.folder / "metrics/baseline_predictions.csv").query("seed == 1").head(8)
    images = [f"{ELPV}/{name}" for name in counted["image"]]
    done = run_stage(reproduced, "predict", "--checkpoint", "models/baseline/seed-1.safetensors", "--json", *images)
    for line, expected in zip(done.stdout.splitlines(), counted.itertuples(), strict=True):
        probability = json.loads(line)["probabilities"][expected.predicted]
        assert probability == pytest.approx(expected.confidence, abs=1e-4)  # one image and a batch round otherwise


@pytest.mark.parametrize(
    ("checkpoint", "image", "says"),
    [
        ("README.md", "README.md", "README.md is not a checkpoint"),
        ("models/baseline/seed-9.safetensors", "README.md", "seed-9.safetensors is missing"),
        ("models/baseline/seed-1.safetensors", "README.md", "README.md (no image format that is known here)"),
    ],
)
def test_predict_refuses_what_it_cannot_read_in_one_line(reproduced, run_stage, checkpoint, image, says):
    done = run_stage(reproduced, "predict", "--checkpoint", checkpoint, image, check=False)
    one_line_of(done, says)
    assert done.stdout == ""


def test_checkpoints_say_nothing_of_who_made_them(reproduced):
    with safe_open(reproduced.folder / "models/baseline/seed-1.safetensors", framework="pt") as file:
        (text,) = file.metadata().values()
    description = {"library", "name", "classes", "image_size", "channels", "mean", "std", "layer_groups", "checksum"}
    assert set(json.loads(text)) == description


def test_the_rates_are_shown_before_training_as_a_table_and_as_json(project, run_stage):
    set_params(
        project.folder,
        {
            "lr.groups": {"stage5": 0.003, "stem": 0},
            "lr.head_only_epochs": 1,
            "optimizer.weight_decay": 0.1,
            "optimizer.weight_decay_on_bias_and_norm": False,
        },
    )
    shown = run_stage(project, "show_rates", "--json").stdout.splitlines()
    rows = {row["layer_group"]: row for row in map(json.loads, shown)}
    assert list(rows) == TINY_GROUPS
    assert rows["stem"]["differential"] == {"learning_rate": 0, "learns_from_epoch": None}
    assert rows["stem"]["baseline"] == {"learning_rate": 0.01, "learns_from_epoch": 1}
    assert rows["stage5"]["differential"] == {"learning_rate": 0.003, "learns_from_epoch": 2}
    assert rows["head"]["parameters"] == 256 * 2 + 2
    assert (rows["head"]["weight_decay"], rows["head"]["decayed_parameters"]) == (0.1, 256 * 2)
    table = run_stage(project, "show_rates").stdout
    for said in ("stage5", "frozen", "from epoch 2", "on 512", "99,710", "differential"):
        assert said in table
    assert max(map(len, table.splitlines())) <= 80


def test_the_summary_is_a_table_for_people_and_json_for_programs(reproduced, run_stage):
    table = run_stage(reproduced, "summary").stdout
    assert "validation accuracy" in table
    assert "report/index.html" in table
    metrics = json.loads(run_stage(reproduced, "summary", "--json").stdout)
    assert metrics.pop("changed_since_run") == []
    assert metrics == {name: reproduced.read_json(f"metrics/{name}.json") for name in ("splits", *ARMS, "evaluation")}


@pytest.mark.parametrize(("distance", "met"), [(0.01, True), (-0.01, False)], ids=["met", "missed"])
def test_the_summary_fails_where_the_goal_is_missed_and_only_there(project, run_stage, distance, met):
    """The thresholds lie a point to the one side, and to the other, of what was measured."""
    mean = project.read_json("metrics/differential.json")["mean"]
    set_params(
        project.folder,
        {
            "goal.val_accuracy_above": mean["val_accuracy"] - distance,
            "goal.train_accuracy_below": mean["train_accuracy"] + distance,
        },
    )
    run_stage(project, "evaluate")
    done = run_stage(project, "summary", "--fail-unless-goal", check=False)
    assert done.returncode == (0 if met else 1)
    if not met:
        assert "\nerror: goal: The differential arm does not meet the goal in the mean; " in done.stderr


def test_a_review_tells_verdict_goal_metrics_and_params_against_a_revision(project, run_stage):
    before = project.read_json("metrics/evaluation.json")
    set_params(project.folder, {"lr.head": 0.5})
    for stage in (("train", "differential"), ("evaluate",), ("review",)):
        run_stage(project, *stage)
    said = cells(run_stage(project, "review", "--against", "HEAD").stdout)
    after = project.read_json("metrics/evaluation.json")
    lines = said.splitlines()
    assert lines[0].startswith("**") and "differential − baseline is" in lines[0]
    goal = "meets" if after["goal"]["differential"]["met"] else "does not meet"
    assert f"The differential arm {goal} the goal" in said
    assert "| lr.head | 0.01 | 0.5 |" in said
    (row,) = [line for line in lines if line.startswith("| val_loss ")]
    assert re.search(r"\| (within chance|improved|deteriorated) \([^)]* to [^)]*\) \|$", row)
    of_test = [line for line in lines if line.startswith("| test_")]
    assert all(line.endswith("| |") for line in of_test)  # what is marked is tuned on
    decision = before["verdict"]["decision"]
    met = "met" if before["goal"]["differential"]["met"] else "not met"
    assert f"At `HEAD`: {decision}; the goal was {met} by the differential arm." in said


def test_a_revision_whose_params_were_committed_without_a_run_is_warned_of(project, run_stage):
    set_params(project.folder, {"lr.head": 0.5})
    project.commit("Other rates, not run")
    warned = run_stage(project, "review", "--against", "HEAD").stderr
    assert "warning: the metrics of HEAD are of an earlier run; its params.yaml" in warned
    assert "has another lr.head: compare with a commit" in warned
    assert "warning: the metrics of" not in run_stage(project, "review", "--against", "HEAD~1").stderr


def test_a_review_against_nothing_known_has_one_line(project, run_stage):
    done = run_stage(project, "review", "--against", "no-such-branch", check=False)
    assert one_line_of(done).startswith("error: --against: 'no-such-branch' cannot be read (")


@pytest.mark.parametrize("revision", ["", " ", "workspace"])
def test_a_review_against_what_is_no_revision_says_so(reproduced, run_stage, revision):
    done = run_stage(reproduced, "review", "--against", revision, check=False)
    one_line_of(done, f"error: --against: '{revision}' is no revision; give a commit, a branch, a tag or an experiment")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("recommend", ""), "search.studies: there is no study without a name; known are sgd"),
        (("recommend", "../sgd"), "search.studies: there is no ../sgd; known are sgd"),
        (("adopt", ""), "search.studies: there is no study without a name; known are sgd"),
        (("search_answer", ""), "'' is no name of a study"),
        (("search_repeats", ""), "'' is no name of a study"),
        (("search_report", ""), "search.studies: there is no study without a name; known are sgd"),
        (("search", ""), "search.studies: there is no study without a name; known are sgd"),
        (("verify", ""), "REV: Git knows no revision without a name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_name_that_is_empty_or_none_is_said_in_one_line(reproduced, run_stage, command, says):
    one_line_of(run_stage(reproduced, *command, check=False), f"error: {says}")


@pytest.mark.parametrize("command", [("find_rates", "--out", ""), ("review", "--picture", "x")], ids=" ".join)
def test_options_that_cannot_be_meant_are_refused(reproduced, run_stage, command):
    done = run_stage(reproduced, *command, check=False)
    assert done.returncode == 2
    assert "a folder without a name" in done.stderr or "--picture goes with --against" in done.stderr


def test_dvc_draws_the_curves_of_both_arms_in_one_picture(project):
    plots = json.loads(project.run("dvc", "plots", "show", "--json").stdout)
    assert not plots.get("errors")
    assert {"validation accuracy", "training accuracy", "validation loss"} <= set(plots["data"])
    for arm in ARMS:
        (rates,) = plots["data"][f"learning rates, {arm}"]
        assert {point["layer_group"] for point in rates["content"]["data"]["values"]} == set(TINY_GROUPS)
        (confusion,) = plots["data"][f"metrics/{arm}_predictions.csv"]
        assert {"actual", "predicted"} <= set(confusion["content"]["data"]["values"][0])
    (picture,) = plots["data"]["validation accuracy"]
    points = picture["content"]["data"]["values"]
    assert {point["filename"] for point in points} == {"baseline_curves.csv", "differential_curves.csv"}
    assert {point["seed"] for point in points} == {"1", "2"}


def test_dvc_and_the_page_draw_the_same_confusion(project):
    """Shares of each actual class, in both, and said in both titles."""
    plots = json.loads(project.run("dvc", "plots", "show", "--json").stdout)
    (drawn,) = plots["data"]["metrics/baseline_predictions.csv"]
    content = drawn["content"]
    (normalized,) = [step for step in content["spec"]["transform"] if "joinaggregate" in step]
    counted = pd.DataFrame(content["data"]["values"]).groupby(["actual", "predicted"]).size()
    of_dvc = counted / counted.groupby(level=normalized["groupby"]).transform("sum")
    classes = list(project.read_json("metrics/prepare.json")["classes"])
    predictions = pd.read_csv(project.folder / "metrics/baseline_predictions.csv", dtype={"actual": str})
    chart = confusion_matrix(predictions, classes, "baseline").to_dict()
    (shares,) = chart["datasets"].values()
    of_page = {(row["actual"], row["predicted"]): row["share"] for row in shares if row["share"]}
    assert of_page == pytest.approx(of_dvc.to_dict())
    encoding = content["spec"]["encoding"]
    assert (encoding["x"]["field"], encoding["y"]["field"]) == ("predicted", "actual")
    assert "share of each actual class" in content["title"]["text"]
    assert "Share of each actual class" in project.read("report/index.html").decode()


@pytest.mark.parametrize("stage", [("train", "baseline"), ("evaluate",), ("prepare",), ("split",)], ids=" ".join)
def test_without_a_terminal_there_is_no_progress_bar(project, run_stage, stage):
    done = run_stage(project, *stage)
    assert done.stderr == ""
    assert "\r" not in done.stdout


def test_at_a_terminal_there_is_a_bar_with_epoch_loss_accuracy_and_time_left(project):
    set_params(project.folder, {"train.epochs": 20, "train.seeds": [1]})
    shown = project.run_at_a_terminal(sys.executable, "-m", "stages.train", "baseline")
    assert re.search(r"baseline, seed 1, epoch \d+ of 20: .*<00:\d\d.*accuracy=.*, loss=", shown)
