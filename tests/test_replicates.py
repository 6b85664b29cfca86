"""No replicate is trained twice, and none passes for what it is not; the command that shows and clears them."""

import json

import pytest

from tests.conftest import TINY, set_params

STORE = {"replicate_store.max_gib": 1.0}


def outputs(project, arm="baseline"):
    ours = (f"models/{arm}/", f"metrics/{arm}")
    return {name: digest for name, digest in project.fingerprints("models", "metrics").items() if name.startswith(ours)}


@pytest.fixture(scope="module")
def with_store(reproduced, tmp_path_factory):
    """The tiny experiment, whose baseline is in the store."""
    project = reproduced.copy_to(tmp_path_factory.mktemp("with-store") / "clone")
    set_params(project.folder, STORE)
    done = project.stage("train", "baseline")
    assert "is in .replicates/ from before" not in done.stdout
    return project


@pytest.fixture
def project(with_store, tmp_path):
    return with_store.copy_to(tmp_path / "clone")


def kept(project):
    return sorted(path.name for path in project.folder.glob(".replicates/*"))


def test_what_is_kept_gives_the_bytes_that_training_gave(project, run_stage):
    before = outputs(project)
    for path in project.folder.glob("models/baseline/*"):
        path.unlink()
    done = run_stage(project, "train", "baseline")
    assert done.stdout.count("is in .replicates/ from before") == 2
    assert "to train" not in done.stdout
    assert outputs(project) == before


def test_a_seed_more_trains_only_that_one(project, run_stage):
    set_params(project.folder, {"train.seeds": [1, 2, 3]})
    run_stage(project, "split")
    done = run_stage(project, "train", "baseline")
    assert "baseline: 1 to train, by 1 worker with 1 thread" in done.stdout
    assert "baseline, seed 2: is in .replicates/ from before" in done.stdout
    by_store = outputs(project)
    set_params(project.folder, {"replicate_store.max_gib": 0})
    assert "baseline: 3 to train" in run_stage(project, "train", "baseline").stdout
    assert outputs(project) == by_store


def test_going_back_to_an_earlier_rate_trains_none(project, run_stage):
    before = outputs(project)
    set_params(project.folder, {"lr.uniform": 0.02})
    assert "baseline: 2 to train" in run_stage(project, "train", "baseline").stdout
    assert outputs(project) != before
    set_params(project.folder, {"lr.uniform": 0.01})
    assert "to train" not in run_stage(project, "train", "baseline").stdout
    assert outputs(project) == before


def test_other_images_train_again_and_going_back_to_the_first_trains_none(project, run_stage):
    before = outputs(project)
    for split, told in (({"train": 0.04, "val": 0.02, "test": 0.02}, True), (TINY["data.split"], False)):
        set_params(project.folder, {"data.split": split})
        run_stage(project, "split")
        assert ("baseline: 2 to train" in run_stage(project, "train", "baseline").stdout) == told
        assert (outputs(project) != before) == told


def test_equal_rates_of_the_other_arm_are_the_same_replicates(project, run_stage):
    set_params(project.folder, {"lr.backbone": 0.01, "lr.head": 0.01})
    assert "to train" not in run_stage(project, "train", "differential").stdout
    for name in ("seed-1.safetensors", "seed-2.logits.safetensors"):
        assert project.read(f"models/differential/{name}") == project.read(f"models/baseline/{name}")


@pytest.mark.parametrize(
    ("file", "old", "new", "trains"),
    [
        ("stages/params.py", "The rule that turns gradients and rates into steps.", "How steps are made.", False),
        ("stages/reporting/page.py", '"""', '"""Now: ', False),
        ("stages/training/loop.py", '"""Take one step', '"""Take a single step', False),
        ("stages/training/loop.py", "optimizer.zero_grad()", "optimizer.zero_grad(set_to_none=True)", True),
        ("stages/rates/schedules.py", "import math", "import math\n\nUNUSED = 1", True),
    ],
)
def test_code_that_decides_trains_again_and_its_words_do_not(project, file, old, new, trains):
    path = project.folder / file
    source = path.read_text()
    assert old in source
    path.write_text(source.replace(old, new, 1))
    assert ("to train" in project.stage("train", "baseline").stdout) == trains


def test_another_processor_trains_again(project, monkeypatch):
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert "baseline: 2 to train" in project.stage("train", "baseline").stdout


def test_a_damaged_one_is_trained_again(project, run_stage):
    before = outputs(project)
    path = project.folder / ".replicates" / kept(project)[0] / "replicate.json"
    path.write_bytes(path.read_bytes().replace(b"0.", b"1.", 1))
    done = run_stage(project, "train", "baseline")
    assert done.stdout.count("was damaged and is removed; the replicate is trained again") == 1
    assert "baseline: 1 to train" in done.stdout
    assert outputs(project) == before


def test_a_divergence_is_kept_too(project, run_stage):
    set_params(project.folder, {"lr.uniform": 1e30, "train.on_divergence": "record"})
    first = run_stage(project, "train", "baseline").stdout
    before = outputs(project)
    again = run_stage(project, "train", "baseline").stdout
    assert first.count("the loss is not finite") == again.count("the loss is not finite") == 2
    assert "to train" not in again
    assert outputs(project) == before


def test_the_store_stays_within_its_bound(project, run_stage):
    one = max(sum(file.stat().st_size for file in folder.iterdir()) for folder in project.folder.glob(".replicates/*"))
    set_params(project.folder, {"train.seeds": [3, 4], "replicate_store.max_gib": 3.5 * one / 2**30})
    run_stage(project, "split")
    run_stage(project, "train", "baseline")
    assert len(kept(project)) == 3


def test_the_command_shows_what_is_kept(project, run_stage):
    shown = run_stage(project, "replicates").stdout
    assert "baseline, seed 1" in shown
    assert "2 replicates in .replicates/, " in shown
    lines = [json.loads(line) for line in run_stage(project, "replicates", "--json").stdout.splitlines()]
    assert sorted(line["fingerprint"] for line in lines) == kept(project)
    assert {line["trained_as"] for line in lines} == {"baseline, seed 1", "baseline, seed 2"}
    assert all(line["bytes"] > 0 and line["used_at"].startswith("20") for line in lines)


def test_the_command_clears_them(project, run_stage):
    assert run_stage(project, "replicates", "--clear").stdout.startswith("removed 2 replicates, ")
    assert kept(project) == []
    assert "0 replicates" in run_stage(project, "replicates").stdout
    assert run_stage(project, "replicates", "--json").stdout == ""


def test_nothing_of_it_is_git_s(project):
    assert ".replicates" not in project.run("git", "status", "--porcelain").stdout
