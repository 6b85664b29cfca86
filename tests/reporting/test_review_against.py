import pytest

from stages.metrics_files import Interval
from stages.reporting.changes import MARKS_EXPLAINED, metric_rows, param_rows
from stages.reporting.revision import Revision, what_differs


def interval(low, high):
    return Interval(estimate=(low + high) / 2, low=low, high=high, level=0.95)


def test_a_change_of_a_validation_metric_is_marked_by_its_interval_and_nothing_else_is():
    before = {"val_accuracy": 0.85, "val_loss": 0.4, "test_accuracy": 0.2, "gone": 1.0, "same": 1.0}
    after = {"val_accuracy": 0.80, "val_loss": 0.3, "test_accuracy": 0.9, "new": 2, "same": 1.0}
    judged = {
        "val_accuracy": (interval(-0.07, 0.03), "no difference shown"),
        "val_loss": (interval(-0.15, -0.05), "better"),
    }
    assert metric_rows(before, after, judged) == [
        ["val_accuracy", "0.85", "0.8", "−0.05", "within chance (−0.07 to +0.03)"],
        ["val_loss", "0.4", "0.3", "−0.1", "improved (−0.15 to −0.05)"],
        ["test_accuracy", "0.2", "0.9", "+0.7", ""],
        ["new", "", "2", "", ""],
        ["gone", "1", "", "", ""],
    ]
    assert "Test metrics carry no mark" in MARKS_EXPLAINED


def test_a_change_without_an_interval_says_why():
    alone = Interval(estimate=0.1, reason="one replicate says nothing")
    rows = metric_rows({"val_loss": 0.5}, {"val_loss": 0.6}, {"val_loss": (alone, "no difference shown")})
    assert rows[0][-1] == "cannot be told: one replicate says nothing"


def test_parameters_that_changed_came_or_went_have_a_row():
    before, after = (
        {"lr.head": 0.01, "lr.layer_decay": None, "old": 1},
        {"lr.head": 0.02, "lr.layer_decay": None, "new": None},
    )
    assert param_rows(before, after) == [["lr.head", "0.01", "0.02"], ["new", "", "null"], ["old", "1", ""]]


HERE = {"processor": "A, AVX512 (1)", "torch": "2.13.0"}
DIGESTS = {"data/prepared": "aaaaaaaaaa.dir", "data/splits.csv": "bbbbbbbbbb"}


@pytest.mark.parametrize(
    ("digests", "environment", "says"),
    [
        (DIGESTS, HERE, []),
        (
            {**DIGESTS, "data/prepared": "cccccccccc.dir", "data/splits.csv": "dddddddddd"},
            HERE,
            ["other images (data/prepared: cccccccc there, aaaaaaaa here)"],
        ),
        (
            {**DIGESTS, "data/splits.csv": "dddddddddd"},
            HERE,
            ["other splits (data/splits.csv: dddddddd there, bbbbbbbb here)"],
        ),
        (DIGESTS, {**HERE, "processor": "B, AVX2 (2)"}, ["another processor (B, AVX2 (2) there, A, AVX512 (1) here)"]),
        (DIGESTS, {**HERE, "torch": "2.14.0"}, ["another torch (2.14.0 there, 2.13.0 here)"]),
        (DIGESTS, {}, ["what it was trained with is not recorded there"]),
        ({}, HERE, ["other images (data/prepared: unknown there, aaaaaaaa here)"]),
    ],
)
def test_images_splits_processor_and_versions_are_part_of_what_is_compared(digests, environment, says):
    training = {arm: {"environment": environment} for arm in ("baseline", "differential")}
    before = Revision("main", {}, {}, {}, {}, {}, training, {}, digests)
    assert what_differs(before, "baseline", DIGESTS, HERE) == says
