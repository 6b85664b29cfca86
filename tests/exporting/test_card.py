"""What the model card says of a network, and what its snippets do."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.exporting import card
from stages.exporting.card import model_card
from stages.exporting.description import Exported
from stages.exporting.evidence import Evidence
from tests.checkpoints import needs_onnx
from tests.data.bad_images import sixteen_bit
from tests.exporting.snippets import printed_by_snippets
from tests.reporting.test_reporting import build_results

EXPORTED = Exported(
    library="timm",
    name="test_efficientnet",
    classes=("good", "bad"),
    image_size=32,
    channels=1,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    checkpoint="0" * 64,
)
PARAMS = {"data.source": "folder", "model": {"weights": "none"}}


def card_text(checks=None, formats=("timm", "onnx"), **results):
    """The card of a small experiment whose checks found so much."""
    found = build_results(**results)
    found = replace(found, prepare=found.prepare.model_copy(update={"checks": checks or {}}))
    evidence = Evidence("differential", 2, found, PARAMS, images={"train": 50, "val": 22, "test": 30})
    return model_card(EXPORTED, Path("seed-2.safetensors"), formats, evidence)


def test_a_card_of_an_experiment_with_sixteen_bits_says_so_before_its_snippets():
    said = "**12 of the images of its experiment have 16 bits a channel, which were scaled to 8.**"
    text = card_text(checks={"sixteen_bit": 12})
    assert text.index("## Use") < text.index(said) < text.index("```python")
    assert text.count("def in_8_bits(image):") == text.count('in_8_bits(Image.open("IMAGE"))') == 2
    assert card_text(checks={"sixteen_bit": 12}, formats=("torch",)).count("def in_8_bits(image):") == 1


def test_any_other_card_says_beside_its_snippets_that_sixteen_bits_are_to_be_scaled():
    unknown = model_card(EXPORTED, Path("seed-2.safetensors"), ("timm",), "no records")
    for text in (card_text(), card_text(checks={"sixteen_bit": 0}), unknown):
        assert "Images of 16 bits a channel have to be scaled to 8 first, values divided by 257" in text
        assert "in_8_bits" not in text


def test_the_failures_of_an_unstable_experiment_are_told_once():
    failures = {"baseline": {"diverged": [2]}, "differential": {}}
    text = card_text(decision="unstable", failures=failures, reached_at=None)
    assert text.count("1 of 2 replicates of the baseline arm failed") == 1


def test_a_card_has_the_sizes_of_the_networks_own_splits_and_what_it_was_trained_with_where_these_are_known():
    text = re.sub(" +", " ", card_text())
    assert "| this network | 50 to train, 22 to validate, 30 to test |" in text
    assert "| trained with | " in text
    unknown = re.sub(" +", " ", model_card(EXPORTED, Path("seed-2.safetensors"), ("timm",), "no records"))
    assert "| trained with |" not in unknown
    assert "| exported with | Python " in unknown


def test_classes_with_commas_in_their_names_are_told_apart():
    classes = {"classes": ("cat, dog", "bird")}
    text = model_card(EXPORTED.model_copy(update=classes), Path("seed-2.safetensors"), ("timm",), "no records")
    assert "into 2 classes: “cat, dog”, “bird”." in text


@needs_onnx
@pytest.mark.parametrize("mode", ["sixteen bits", "eight bits"])
def test_the_snippets_scale_sixteen_bits_as_predict_does(alone, run_stage, monkeypatch, mode):
    monkeypatch.setattr(card, "_sixteen_bit_images", lambda found: 12)
    wide = sixteen_bit(3)
    picture = wide if mode == "sixteen bits" else Image.fromarray((np.asarray(wide) // 257).astype(np.uint8))
    picture.save(alone.folder / "scan.png")
    run_stage(alone, "export", "--checkpoint", "seed-1.safetensors", "--format", "timm", "onnx")
    done = run_stage(alone, "predict", "--checkpoint", "seed-1.safetensors", "--json", "scan.png")
    printed = list(printed_by_snippets(alone.folder / "export", "../scan.png"))
    assert len(printed) == 2
    for probabilities in printed:
        assert probabilities == pytest.approx(json.loads(done.stdout)["probabilities"], abs=1e-5)
