"""The formats that a network leaves in, each with how it is written and how it is read back to be checked."""

import importlib.util
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from stages.data.images import MODES
from stages.errors import UserError
from stages.exporting.description import (
    KEY,
    LOGITS,
    ONNX_FILE,
    PIXELS,
    TIMM_CONFIG,
    TIMM_WEIGHTS,
    TORCH_FILE,
    Exported,
)
from stages.exporting.predictors import INSTALL, open_onnx
from stages.libraries import timm
from stages.models.network import Network

OPSET = 18  # the one that torch's exporter is written in, so that nothing is converted; onnxruntime has it since 1.14
# What timm knows of the weights that it would download, which are no longer those of this network.
OF_OTHER_WEIGHTS = ("tag", "license", "description", "origin_url", "paper_name", "paper_ids", "notes", "label_names",
                    "label_descriptions")  # fmt: skip

Images = Sequence[Path]
ANY_NUMBER_OF_IMAGES = ({0: torch.export.Dim("batch", min=1)},)


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        packages: that it needs beside requirements.txt.
        write: puts its files into a folder.
        read: gives logits (images, classes) of image files, by the written files alone, and of the same images as
            uint8 pixels where it takes these.
    """

    packages: tuple[str, ...]
    write: Callable[[Network, Exported, Path], None]
    read: Callable[[Exported, Path, Images, Tensor], Tensor]


class PixelsToLogits(nn.Module):
    """A network with its preprocessing, in operations that every format has."""

    def __init__(self, network: Network) -> None:
        """Keep the network; it is put into evaluation mode."""
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.module = network.module.eval()
        self.register_buffer("mean", torch.tensor(network.preprocessing.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(network.preprocessing.std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """Return logits (batch, classes) for uint8 pixels (batch, height, width, 1 or 3); gray becomes three values."""
        values = pixels.permute(0, 3, 1, 2).float() / 255
        logits: Tensor = self.module((values - self.mean) / self.std)
        return logits


def check_available(name: str, library: str, network: str) -> None:
    """Check that a network can be written in a format.

    Raises:
        UserError: it cannot, or a package is missing.
    """
    if name == "timm" and library != "timm":
        raise UserError(f"--format timm: {network} is {library}'s, and timm has no folder for it: choose onnx or torch")
    missing = [package for package in FORMATS[name].packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"--format {name}: the package {missing[0]} is missing: {INSTALL}")


def _write_timm(network: Network, exported: Exported, folder: Path) -> None:
    """Write what timm's own `push_to_hf_hub` uploads, by the function that it writes it with."""
    module: Any = network.module.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    module.pretrained_cfg = {key: value for key, value in module.pretrained_cfg.items() if key not in OF_OTHER_WEIGHTS}
    timm.models.save_for_hf(
        module,
        str(folder),
        model_config={"label_names": list(exported.classes), KEY: exported.model_dump(mode="json")},
        safe_serialization=True,
        # Squashed to a square with nothing cut off, as `to_pixels` does.
        data_config={
            "input_size": (3, exported.image_size, exported.image_size),
            "mean": exported.mean,
            "std": exported.std,
            "interpolation": "bilinear",
            "crop_pct": 1.0,
            "crop_mode": "squash",
        },
    )
    shutil.copymode(folder / TIMM_CONFIG, folder / TIMM_WEIGHTS)  # safetensors lets none but the owner read it


def _read_timm(exported: Exported, folder: Path, images: Images, pixels: Tensor) -> Tensor:
    """Use the folder as anyone with timm would, its transforms included."""
    module = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    transform = timm_transform(module)
    inputs = []
    for path in images:
        with Image.open(path) as image:
            inputs.append(transform(image.convert(MODES[exported.channels]).convert("RGB")))
    logits: Tensor = module(torch.stack(inputs))
    return logits


def timm_transform(module: nn.Module) -> Callable[[Image.Image], Tensor]:
    """Return the preprocessing that timm makes of a network's configuration."""
    data: Any = timm.data
    transform: Callable[[Image.Image], Tensor] = data.create_transform(
        **data.resolve_model_data_config(module), is_training=False
    )
    return transform


def _write_onnx(network: Network, exported: Exported, folder: Path) -> None:
    import onnx

    written = torch.onnx.export(
        _trace(network, exported),
        input_names=[PIXELS],
        output_names=[LOGITS],
        dynamic_shapes=ANY_NUMBER_OF_IMAGES,
        opset_version=OPSET,
        verbose=False,
    )
    assert written is not None  # as it is where it writes no file
    written.model.metadata_props[KEY] = exported.model_dump_json()
    path = folder / ONNX_FILE
    written.save(path, external_data=False)
    onnx.checker.check_model(str(path))


def _read_onnx(exported: Exported, folder: Path, images: Images, pixels: Tensor) -> Tensor:
    logits = open_onnx(folder / ONNX_FILE).logits
    return _in_two_batches(lambda batch: torch.from_numpy(logits(batch.numpy())), pixels)


def _write_torch(network: Network, exported: Exported, folder: Path) -> None:
    program = _trace(network, exported)
    torch.export.save(program, folder / TORCH_FILE, extra_files={KEY: exported.model_dump_json()})


def _read_torch(exported: Exported, folder: Path, images: Images, pixels: Tensor) -> Tensor:
    return _in_two_batches(torch.export.load(folder / TORCH_FILE).module(), pixels)


def _trace(network: Network, exported: Exported) -> torch.export.ExportedProgram:
    """Return the network as a graph of operations that takes any number of images."""
    size = exported.image_size
    example = torch.zeros(2, size, size, exported.channels, dtype=torch.uint8)
    program = torch.export.export(PixelsToLogits(network), (example,), dynamic_shapes=ANY_NUMBER_OF_IMAGES)
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names the folders of this machine
    return program


def _in_two_batches(network: Callable[[Tensor], Tensor], pixels: Tensor) -> Tensor:
    """Show one image, then the others: the size of a batch is free."""
    return torch.cat([network(pixels[:1]), network(pixels[1:])])


FORMATS = {
    "timm": Format((), _write_timm, _read_timm),
    "onnx": Format(("onnx", "onnxscript", "onnxruntime"), _write_onnx, _read_onnx),
    "torch": Format((), _write_torch, _read_torch),
}
