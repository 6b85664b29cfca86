"""What can be seen of a training while it runs: curves that move, their page, and the time that is left."""

import re
import subprocess
import sys
import time

import pandas as pd
import pytest

from stages.params import ARMS
from stages.progress import LIVE
from stages.train import what_follows
from stages.training import curves as curves_module
from stages.training import replicate_progress
from stages.training.curves import LiveCurves
from stages.training.loop import EpochMetrics
from stages.training.replicate_progress import (
    COLUMNS,
    RUNNING,
    STEPS,
    Afterwards,
    ReplicateProgress,
    TimeLeft,
    finished_epochs,
)
from stages.training.replicate_store import ReplicateStore
from stages.training.state import Epoch
from stages.training.workers import SharedRows
from tests.conftest import set_params

CURVES = f"{LIVE}/baseline_curves.csv"
SEEDS = [1, 2]
EPOCHS = [Epoch(EpochMetrics(0.5 + 0.1 * number, 1.0), EpochMetrics(0.5, 1.0)) for number in range(3)]


def test_when_the_training_has_ended_the_live_curves_are_the_curves(reproduced):
    for arm in ("baseline", "differential"):
        assert reproduced.read(f"{LIVE}/{arm}_curves.csv") == reproduced.read(f"metrics/{arm}_curves.csv")


def test_neither_git_nor_dvc_keeps_them(reproduced):
    assert str(LIVE) not in reproduced.run("git", "ls-files").stdout
    assert reproduced.run("git", "status", "--porcelain").stdout == ""
    assert str(LIVE) not in reproduced.read("dvc.lock").decode()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_the_curves_grow_while_replicates_train(project, workers):
    set_params(
        project.folder,
        {"train.epochs": 150, "train.workers": workers},
    )
    (project.folder / CURVES).unlink()
    running = subprocess.Popen(
        [sys.executable, "-m", "stages.train", "baseline"], cwd=project.folder, stdout=subprocess.PIPE, text=True
    )
    lengths = set()
    while running.poll() is None:
        if (project.folder / CURVES).exists():
            table = pd.read_csv(project.folder / CURVES)
            assert table.notna().all(axis=None)
            lengths.add(len(table))
        time.sleep(0.05)
    assert running.returncode == 0, running.communicate()
    assert len(lengths - {0, 150, 300}) > 1  # not only where a replicate has ended
    assert project.read(CURVES) == project.read("metrics/baseline_curves.csv")


def test_an_epoch_shows_as_soon_as_it_has_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(curves_module, "LOOK_EVERY", 0)
    path = tmp_path / "live/curves.csv"
    live = LiveCurves(path, SEEDS)
    live.look(dict)
    assert not path.exists()
    live.look(lambda: {1: [], 2: EPOCHS[:1]})
    assert pd.read_csv(path)[["seed", "epoch"]].to_numpy().tolist() == [[2, 1]]
    live.take(2, EPOCHS)  # it is over; what was seen of it before tells nothing any more
    live.look(lambda: {1: EPOCHS[:2], 2: EPOCHS[:2]})
    shown = pd.read_csv(path)
    assert shown[["seed", "epoch"]].to_numpy().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2], [2, 3]]
    assert shown["train_accuracy"].tolist() == [0.5, 0.6, 0.5, 0.6, 0.7]


def test_what_a_worker_tells_of_its_epochs_reaches_the_process_that_looks():
    rows = SharedRows(2, epochs=3).rows
    progress = ReplicateProgress(rows[1])
    progress.begin(4)
    assert finished_epochs(rows[1]) == []
    progress.tell_epochs(EPOCHS[:2])  # at once, as where it goes on from an earlier run
    assert finished_epochs(rows[1]) == EPOCHS[:2]
    progress.tell_epochs(EPOCHS)
    assert finished_epochs(rows[1]) == EPOCHS
    assert finished_epochs(rows[0]) == []


def test_curves_of_an_earlier_run_do_not_stay(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text("of an earlier run\n")
    LiveCurves(path, SEEDS)
    assert not path.exists()


def test_a_place_that_cannot_be_written_ends_no_training(tmp_path, capsys):
    (tmp_path / "file").write_text("where a folder should be\n")
    live = LiveCurves(tmp_path / "file/curves.csv", SEEDS)
    live.take(1, EPOCHS)
    live.take(2, EPOCHS)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("warning: ") and "file/curves.csv" in line


def test_the_page_shows_both_arms_and_loads_itself_anew(project, run_stage):
    assert "moves while a training runs" in run_stage(project, "live", "--once").stdout
    page = project.read(f"{LIVE}/index.html").decode()
    assert '<meta http-equiv="refresh"' in page
    for title in ("training accuracy", "validation accuracy", "training loss", "validation loss"):
        assert f">{title}</text>" in page
    for arm in ("baseline", "differential"):
        assert re.search(rf'<th scope="row">{arm}</th><td>2</td><td>4</td>', page)


def test_before_the_first_epoch_the_page_says_so(project, run_stage):
    for path in project.folder.glob(f"{LIVE}/*.csv"):
        path.unlink()
    (project.folder / CURVES).write_text("seed,epoch,train_accuracy,train_loss,val_accuracy,val_loss\n")
    run_stage(project, "live", "--once")
    assert "No epoch has ended yet" in project.read(f"{LIVE}/index.html").decode()


def test_the_time_left_counts_both_arms_the_evaluation_and_the_stages_to_start(monkeypatch):
    """Two replicates of ten steps here, the first over after 40 seconds; two later, one of which is half done here."""
    now = 1008.0
    monkeypatch.setattr(replicate_progress.time, "time", lambda: now)
    monkeypatch.setattr(replicate_progress.psutil.Process, "create_time", lambda self: 1000.0)
    rows = SharedRows(3, epochs=2).rows
    left = TimeLeft(rows, wanted=2, steps=10, afterwards=Afterwards(trained=2, evaluated=4, starts=3))
    left.look()
    assert left.seconds() is None  # nothing is measured
    rows[:, RUNNING] = 1
    left.look()
    now = 1048.0
    rows[:, STEPS] = 10, 5, 5
    # 20 steps in 40 seconds, 20 to come; four evaluations; three starts of 8 seconds each.
    evaluating = replicate_progress.EVALUATING * 4 * 10
    assert left.seconds() == pytest.approx(2 * (20 + evaluating) + 3 * 8)


def test_what_an_earlier_run_has_trained_does_not_count_as_fast(monkeypatch):
    now = 1000.0
    monkeypatch.setattr(replicate_progress.time, "time", lambda: now)
    monkeypatch.setattr(replicate_progress.psutil.Process, "create_time", lambda self: 1000.0)
    rows = SharedRows(2, epochs=2).rows[:, :COLUMNS]
    rows[:] = [[8, 8, 0, 0, 1, 0], [0, 0, 0, 0, 1, 0]]
    left = TimeLeft(rows, wanted=2, steps=10, afterwards=Afterwards(trained=0, evaluated=0, starts=0))
    left.look()
    now = 1010.0
    rows[:, STEPS] = 10, 3
    assert left.seconds() == pytest.approx(2 * 7)


def test_whichever_arm_is_trained_first_the_other_counts_until_it_is_in_the_store(tmp_path):
    """DVC begins with either."""
    keeps, keeps_none = (ReplicateStore(max_gib, tmp_path) for max_gib in (1, 0))
    for arm in ARMS:
        first, second = what_follows(arm, 3, 4, keeps), what_follows(arm, 0, 4, keeps)
        assert (first.trained, second.trained) == (3, 0)
        assert first.starts == second.starts + 1
        assert first.evaluated == second.evaluated == 8
    assert [what_follows(arm, 4, 4, keeps_none).trained for arm in ARMS] == [4, 0]


def test_the_time_left_is_told_once_where_there_is_no_terminal(project, run_stage):
    told = run_stage(project, "train", "baseline").stdout.splitlines()
    (line,) = [line for line in told if "left of the pipeline" in line]
    assert re.fullmatch(r"about (\d+:)?\d\d:\d\d left of the pipeline", line)
