"""The model card: Markdown with the metadata that the Hugging Face hub reads."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData
from scipy.stats import binomtest

from stages.exporting.description import ONNX_FILE, TORCH_FILE, Exported
from stages.exporting.evidence import Evidence
from stages.libraries import timm
from stages.models.weights import PACKAGES
from stages.params import ARMS
from stages.reporting.markdown import markdown_table
from stages.reporting.provenance import head, provenance
from stages.reporting.tables import (
    SPLIT_METRICS,
    averaged_over,
    conditions_sentence,
    describe_environment,
    percent,
    result_table,
    verdict_sentence,
)

MAX_LISTED = 20  # classes
# For a snippet, in the way of stages/data/images.py.
SCALED = """
def in_8_bits(image):
    if not image.mode.startswith("I"):  # whose pixels have 16 bits
        return image
    return Image.fromarray((np.asarray(image) // 257).astype(np.uint8))
"""
LIBRARY_OF = {"timm": "timm", "onnx": "onnx", "torch": "pytorch"}  # as the hub calls them, the first that is there


@dataclass(frozen=True)
class Terms:
    """The terms of what a network was made from.

    Attributes:
        dataset: its name in the card's metadata.
        license: as the hub abbreviates it; None where it has no word for it.
        text: for people.
    """

    dataset: str
    license: str | None
    text: str


# As in README.md, "Licenses".
IMAGES = {
    "elpv": Terms(
        "elpv-dataset",
        "cc-by-nc-sa-4.0",
        "It was trained on the images of the package `elpv-dataset` "
        "([Deitsch et al. 2019](https://doi.org/10.1016/j.solener.2019.02.067)), which are "
        "[CC BY-NC-SA 4.0](https://creativecommons.org/licenses/by-nc-sa/4.0/): not for commercial use.",
    )
}
WEIGHTS = {
    package: Terms(
        "imagenet-1k",
        None,
        f"It started from the weights of the package `{package}` (Apache 2.0), which were trained on ImageNet, whose "
        f"terms ask for non-commercial research use.",
    )
    for package in PACKAGES
}


def model_card(exported: Exported, checkpoint: Path, formats: Sequence[str], found: Evidence | str) -> str:
    """Return the card of an exported network.

    Args:
        exported: what the network says of itself.
        checkpoint: that it was made from.
        formats: that lie beside the card.
        found: what is known of the checkpoint, or why nothing is.
    """
    classes = ", ".join(_named(exported.classes)[:MAX_LISTED])
    if len(exported.classes) > MAX_LISTED:
        classes += f" and {len(exported.classes) - MAX_LISTED:,} more"
    parts = [
        f"---\n{_metadata(exported, formats, found)}\n---",
        f"# {escape(exported.name)}, fine-tuned",
        f"A classifier of {'gray' if exported.channels == 1 else 'color'} images, {exported.image_size} × "
        f"{exported.image_size} pixels, into {len(exported.classes):,} classes: {classes}. The network is "
        f"{exported.library}'s `{exported.name}`. It was made from `{escape(checkpoint.name)}`, SHA-256 "
        f"`{exported.checkpoint}`, by `python -m stages.export`, which has compared its outputs with torch's on real "
        f"images: `export.json`.",
        "## What was measured",
        _measured(found) if isinstance(found, Evidence) else _unknown(found),
        "## Data",
        _data(found) if isinstance(found, Evidence) else "Which images it was trained on is not known here.",
        "## Use",
        _use(exported, formats, _sixteen_bit_images(found)),
        "## Licenses",
        _licenses(found),
        "## Made with",
        _table(("", ""), _made_with(found)),
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: str) -> str:
    """Return a name that Markdown and HTML show as it is, in one line."""
    printable = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
    return re.sub(r"([\\`*_{}\[\]#|~!])", r"\\\1", html.escape(printable, quote=False))


def _named(classes: Sequence[str]) -> list[str]:
    """Return the names of classes for a list with commas, in quotes where one has a comma itself."""
    escaped = [escape(name) for name in classes]
    return [f"“{name}”" for name in escaped] if any("," in name for name in escaped) else escaped


def _metadata(exported: Exported, formats: Sequence[str], found: Evidence | str) -> str:
    images, weights = _terms(found)
    terms = [one for one in (images, weights) if one]
    data = ModelCardData(
        license=images.license if images and images.license else "unknown",
        library_name=next(name for format_, name in LIBRARY_OF.items() if format_ in formats),
        pipeline_tag="image-classification",
        tags=["image-classification", *(LIBRARY_OF[name] for name in formats)],
        datasets=[one.dataset for one in terms] or None,
        base_model=_base_model(exported, found),
        metrics=["accuracy"] if isinstance(found, Evidence) else None,
    )
    return str(data.to_yaml())


def _terms(found: Evidence | str) -> tuple[Terms | None, Terms | None]:
    """Return the terms of images and of first weights, where they are known."""
    if not isinstance(found, Evidence):
        return None, None
    return IMAGES.get(found.params["data.source"]), WEIGHTS.get(found.params["model"]["weights"])


def _base_model(exported: Exported, found: Evidence | str) -> str | None:
    """Return the network on the hub that training started from, where it is one."""
    if not isinstance(found, Evidence) or exported.library != "timm" or found.params["model"]["weights"] != "default":
        return None
    config: Any = timm.get_pretrained_cfg(exported.name)
    return config.hf_hub_id if config else None


def _unknown(reason: str) -> str:
    return (
        f"Nothing is known of how it was trained, on which images, at which rates, and how well it predicts: "
        f"{escape(reason)}. Measure it on images that it was not trained on before you use it."
    )


def _measured(evidence: Evidence) -> str:
    results, arm, seed = evidence.results, evidence.arm, evidence.seed
    rates = ", ".join(f"{group} {rate:.3g}" for group, rate in results.training[arm].learning_rates.items())
    own = results.evaluation.test.arm(arm).seeds[seed]
    every = results.evaluation.test.arm(arm)
    rows = [
        (name, f"{100 * own[metric]:.1f} %" if write is percent else f"{own[metric]:.3f}", write(every, metric))
        for name, metric, write in SPLIT_METRICS
    ]
    return "\n\n".join(
        [
            f"It is the replicate with seed {seed} of the {arm} arm, one of {results.evaluation.replicates} that "
            f"differ in seed and splits alone. Rates of its layer groups: {rates}.",
            f"On its test images, which it has not been trained or chosen on, beside all replicates of its arm "
            f"({averaged_over(results).lower()}):",
            markdown_table(("test metric", "this network", "all replicates"), rows),
            _accuracy_interval(evidence),
            "### The experiment it comes from",
            f"**{escape(verdict_sentence(results))}**",
            markdown_table(
                ["", *ARMS, "difference"],
                [[row["metric"], *(row[column] for column in (*ARMS, "difference"))] for row in result_table(results)],
            ),
            conditions_sentence(results),
        ]
    )


def _accuracy_interval(evidence: Evidence) -> str:
    """Return the interval of the network's own accuracy, which counts its test images alone."""
    if evidence.images is None:
        return "How many test images it had is not known here (data/splits.csv), so its accuracy has no interval."
    accuracy = evidence.results.evaluation.test.arm(evidence.arm).seeds[evidence.seed]["accuracy"]
    tested = evidence.images["test"]
    correct = round(accuracy * tested)
    counted = f"It is right on {correct:,} of {tested:,} test images"
    if evidence.results.evaluation.verdict.units == "groups":
        return f"{counted}; these come in groups, so its accuracy has no interval here."
    ends = binomtest(correct, tested).proportion_ci(0.95, method="wilson")
    return (
        f"{counted}: its accuracy has a 95 % interval of {100 * ends.low:.1f} to {100 * ends.high:.1f} % (Wilson), "
        f"which counts the choice of test images alone, as if each were drawn by itself."
    )


def _data(evidence: Evidence) -> str:
    prepare, splits = evidence.results.prepare, evidence.results.splits
    rows = {
        "source (`data.source`)": evidence.params["data.source"],
        "images": f"{prepare.images:,}, of these {splits.development:,} set aside for choosing rates",
        "images of each class": ", ".join(
            f"{name} {count:,}"
            for name, count in zip(_named(list(prepare.classes)), prepare.classes.values(), strict=True)
        ),
        **_split_sizes(evidence),
        "fingerprint of the prepared images": provenance()["prepared data"],
    }
    return _table(("", ""), rows)


def _split_sizes(evidence: Evidence) -> dict[str, str]:
    """Return the row of the network's own splits, or else of the first replicate's."""
    splits = evidence.results.splits
    first = {"train": splits.train, "val": splits.val, "test": splits.test}
    sizes = evidence.images or first
    name = "this network" if evidence.images else "the first replicate"
    return {name: f"{sizes['train']:,} to train, {sizes['val']:,} to validate, {sizes['test']:,} to test"}


def _licenses(found: Evidence | str) -> str:
    images, weights = _terms(found)
    lines = []
    if isinstance(found, Evidence):
        lines = [
            images.text
            if images
            else "Its images are not ones that this project brings along: nothing is claimed of their license.",
            weights.text
            if weights
            else f"It started from `model.weights: {escape(found.params['model']['weights'])}`.",
        ]
        if found.params["model"]["weights"] == "none":
            lines[1] = "It was trained without pretrained weights."
    else:
        lines = ["Of the images and of the weights that it started from nothing is known, so no license is claimed."]
    lines.append(
        "Whether the terms of images and of first weights bind a network that was trained with them is not decided "
        "here. The code that made it is under the MIT license."
    )
    return "\n".join(f"- {line}" for line in lines)


def _sixteen_bit_images(found: Evidence | str) -> int:
    """Return how many images of the experiment have 16 bits a channel, as far as that is known."""
    return found.results.prepare.checks.get("sixteen_bit", 0) if isinstance(found, Evidence) else 0


def _use(exported: Exported, formats: Sequence[str], sixteen_bit: int) -> str:
    """Return how the network is used.

    Args:
        exported: what the network says of itself.
        formats: that lie beside the card.
        sixteen_bit: images of the experiment with 16 bits a channel, which Pillow would cut off and not scale.
    """
    gray = '.convert("L").convert("RGB")' if exported.channels == 1 else '.convert("RGB")'
    mode = "L" if exported.channels == 1 else "RGB"
    size = exported.image_size
    shape = f"1, {size}, {size}, {exported.channels}"
    scaled = f"\n\n{SCALED}" if sixteen_bit else ""
    image = 'in_8_bits(Image.open("IMAGE"))' if sixteen_bit else 'Image.open("IMAGE")'
    parts = []
    if sixteen_bit:
        parts.append(
            f"**{sixteen_bit:,} of the images of its experiment have 16 bits a channel, which were scaled to 8.** "
            f"Scale 16 bits as `in_8_bits` below does: Pillow's `convert` cuts them off at 255, and the predictions "
            f"would be wrong."
        )
    if "timm" in formats:
        parts.append(f"""With timm, whose transforms resize as this network was trained:

```python
import {"numpy as np, timm, torch" if sixteen_bit else "timm, torch"}
from PIL import Image{scaled}

network = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # on the hub: "hf-hub:OWNER/NAME"
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
with torch.inference_mode():
    probabilities = network(transform({image}{gray})[None]).softmax(1)[0]
print(dict(zip(network.pretrained_cfg["label_names"], probabilities.tolist())))
```""")
    if "onnx" in formats:
        parts.append(f"""With onnxruntime, NumPy and Pillow; the normalization is in the graph:

```python
import json
import numpy as np, onnxruntime
from PIL import Image{scaled}

session = onnxruntime.InferenceSession("{ONNX_FILE}")
classes = json.loads(session.get_modelmeta().custom_metadata_map["differential_rates"])["classes"]
pixels = np.asarray({image}.convert("{mode}").resize(({size}, {size}), Image.Resampling.BILINEAR))
(logits,) = session.run(["logits"], {{"pixels": pixels.reshape({shape})}})[0]
powers = np.exp(logits - logits.max())
print(dict(zip(classes, (powers / powers.sum()).tolist())))
```""")
    if "torch" in formats:
        parts.append(
            f'With torch alone: `torch.export.load("{TORCH_FILE}").module()` takes uint8 pixels (batch, {size}, '
            f"{size}, {exported.channels}) and gives logits."
        )
        if sixteen_bit and len(formats) == 1:  # no snippet has it yet
            parts.append(f"```python\nimport numpy as np\nfrom PIL import Image{scaled}\n```")
    if exported.channels == 1:
        parts.append("Its images were gray: turn others gray first, as above.")
    if not sixteen_bit:
        parts.append(
            "Images of 16 bits a channel have to be scaled to 8 first, values divided by 257: Pillow's `convert` cuts "
            "them off at 255, and the predictions would be wrong. `python -m stages.predict` scales them."
        )
    parts.append(
        "Its images were resized to a square without keeping their shape, bilinearly. Before that they were turned as "
        "their EXIF says, and transparency was put on white, which no snippet above does; "
        "`python -m stages.predict` does."
    )
    return "\n\n".join(parts)


def _made_with(found: Evidence | str) -> dict[str, str]:
    """Return with what it was trained, where that is known, and with what it was exported: maybe elsewhere, later."""
    here = provenance()
    exported = {"exported with": here["software"], "exported on": here["machine"]}
    if not isinstance(found, Evidence):
        return exported
    return {
        "trained with": describe_environment(found.results.training[found.arm].environment),
        "exported at commit": head(),
        **exported,
    }


def _table(headers: Sequence[str], rows: Mapping[str, str]) -> str:
    return markdown_table(headers, [[name, str(value)] for name, value in rows.items()])
