"""Logits beside their checkpoint: what was written comes back, and nothing else passes for it."""

import pytest
import torch

from stages.errors import UserError
from stages.models.checkpoint import load_checkpoint
from stages.models.predictions import load_predictions, predictions_path, probabilities_of, save_predictions

DATA = {"images.npy": "1", "samples.csv": "2"}
LOGITS = {"train": torch.randn(5, 3), "val": torch.randn(2, 3)}


@pytest.fixture
def checkpoint(tmp_path):
    """A checkpoint with its logits beside it."""
    path = tmp_path / "seed-1.safetensors"
    path.write_bytes(b"weights")
    save_predictions(path, LOGITS, DATA)
    return path


def test_they_come_back_to_the_last_bit(checkpoint):
    found = load_predictions(checkpoint, DATA)
    assert set(found) == set(LOGITS)
    assert all(torch.equal(found[split], LOGITS[split]) for split in LOGITS)
    assert [path.name for path in checkpoint.parent.iterdir() if path != checkpoint] == ["seed-1.logits.safetensors"]


def test_the_same_logits_make_the_same_bytes(checkpoint):
    before = predictions_path(checkpoint).read_bytes()
    save_predictions(checkpoint, LOGITS, DATA)
    assert predictions_path(checkpoint).read_bytes() == before


@pytest.mark.parametrize("at", [0, 20, 200, -1])
def test_a_flipped_bit_is_noticed(checkpoint, at):
    path = predictions_path(checkpoint)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"seed-1\.logits\.safetensors is damaged: run"):
        load_predictions(checkpoint, DATA)


def test_those_of_another_checkpoint_are_refused(checkpoint):
    checkpoint.write_bytes(b"other weights")
    with pytest.raises(UserError, match="is not as it was written with"):
        load_predictions(checkpoint, DATA)


def test_those_of_other_images_are_refused(checkpoint):
    with pytest.raises(UserError, match="was trained on other images"):
        load_predictions(checkpoint, {**DATA, "images.npy": "3"})


def test_missing_ones_are_named(checkpoint):
    predictions_path(checkpoint).unlink()
    with pytest.raises(UserError, match=r"seed-1\.logits\.safetensors is missing: run `dvc repro`"):
        load_predictions(checkpoint, DATA)


def test_logits_are_not_taken_for_a_checkpoint(checkpoint):
    with pytest.raises(UserError, match="holds tensors but is not a checkpoint of this project"):
        load_checkpoint(predictions_path(checkpoint))


def test_probabilities_add_up_to_one():
    assert torch.allclose(probabilities_of(LOGITS["train"]).sum(1), torch.ones(5, dtype=torch.float64))
