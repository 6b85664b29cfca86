"""What `prepare` does with the images that it finds, in one process."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from stages.data.checks import CHECKS, as_table
from stages.data.splits import UNUSED
from stages.data.user_images import printable
from stages.errors import UserError
from stages.params import SplitFractions, load_params
from stages.prepare import check_and_decode, prepare, summarize
from tests.conftest import ROOT, TINY, clone_project
from tests.data.bad_images import make_folder, picture


@pytest.fixture
def data(tmp_path):
    """The section `data` for a folder of the user's own."""
    changes = {
        "source": "folder",
        "path": str(tmp_path / "photographs"),
        "image_size": 32,
        "split": SplitFractions(train=0.5, val=0.25, test=0.25),
    }
    return load_params(ROOT / "params.yaml").data.model_copy(update=changes)


def test_every_kind_of_bad_image_is_named_and_none_is_waited_for(tmp_path, data):
    kinds = make_folder(tmp_path / "photographs", watched=False)
    result = check_and_decode(data.model_copy(update={"on_bad_image": "skip"}), folder=None)
    found = {finding.image.rstrip("/"): finding.check for finding in result.findings if finding.check != "few_samples"}
    assert found == {f"odd/{printable(name)}": check for name, check in kinds.items() if check}
    assert result.problems == []
    usable = [check for check in kinds.values() if check is None or CHECKS[check].consequence == "noted"]
    assert (result.samples["split"] != UNUSED).sum() == 24 + len(usable)


def pictures(root, **classes):
    for label, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(100 * label + number).save(root / name / f"{number:02}.png")


def test_a_bad_image_moves_no_other(tmp_path, data):
    """It is split before it is found to be bad, so to mend it later changes nothing else."""
    root = tmp_path / "photographs"
    pictures(root, cats=20, dogs=20)
    data = data.model_copy(update={"on_bad_image": "skip"})
    before = check_and_decode(data, folder=None).samples.set_index("image")["split"]
    (root / "cats/05.png").write_bytes(b"")
    after = check_and_decode(data, folder=None).samples.set_index("image")["split"]
    assert after.drop("cats/05.png").equals(before.drop("cats/05.png"))
    assert after["cats/05.png"] == UNUSED


def test_images_that_no_split_takes_are_not_decoded(tmp_path, data):
    root = tmp_path / "photographs"
    pictures(root, cats=20, dogs=20)
    capped = data.model_copy(update={"max_images": data.max_images.model_copy(update={"train": 4, "per_class": 3})})
    result = check_and_decode(capped, folder=None)
    assert result.samples["split"].value_counts().to_dict() == {"train": 4, "val": 6, "test": 6}
    assert len(result.source.samples) == 40


def test_every_row_of_a_table_is_used_or_skipped_or_unassigned(tmp_path, data):
    """One that stands there three times too; but what is wrong with it is said once."""
    root = tmp_path / "photographs"
    pictures(root, cats=12, dogs=12)
    (root / "bad.png").touch()
    names = [f"{label}/{number:02}.png" for label in ("cats", "dogs") for number in range(12)]
    rows = [(name, name[:4]) for name in [*names, names[0], names[0]]]
    rows += [("bad.png", "cats"), ("bad.png", "cats"), (names[1], "")]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(root / "labels.csv", index=False)
    config = {"source": "table", "table": "labels.csv", "on_bad_image": "skip", "split_by": "hash", "allow_leaks": True}
    data = data.model_copy(update=config)
    result = check_and_decode(data, folder=None)
    counts = summarize(result, data)
    assert (counts["images"], counts["skipped"], counts["unassigned"]) == (26, 3, 0)
    assert counts["checks"]["empty"] == counts["checks"]["no_label"] == 1
    assert sum(counts["checks"].values()) == len(as_table(result.findings, data)) == len(set(result.findings))


def test_a_stop_leaves_what_was_prepared_before(tmp_path, data):
    root, prepared = tmp_path / "photographs", tmp_path / "prepared"
    pictures(root, cats=20, dogs=20)
    prepare(data, prepared)
    before = {path.name: path.read_bytes() for path in prepared.iterdir()}
    (root / "cats/05.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"cats/05\.png"):
        prepare(data, prepared)
    assert {path.name: path.read_bytes() for path in prepared.iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photographs", "prepared"]


@pytest.mark.slow
def test_ctrl_c_ends_prepare_at_once_and_quietly(tmp_path):
    project = clone_project(tmp_path, {**TINY, "data.image_size": 160, "data.split.train": 0.9})
    running = subprocess.Popen(
        [sys.executable, "-m", "stages.prepare"],
        cwd=project.folder, start_new_session=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # a background job ignores it
    )  # fmt: skip
    while not any(array.stat().st_blocks > 100 for array in project.folder.glob("data/.prepared.*/images.npy")):
        assert running.poll() is None
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=30)
    assert running.returncode == 130
    assert errors == ""
    assert not list(project.folder.glob("data/.prepared.*"))
    assert not (project.folder / "data/prepared").exists()
