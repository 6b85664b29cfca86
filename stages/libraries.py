"""timm and torchvision, importable also where torchvision's compiled operators are missing.

torchvision declares the shapes of its operators `nms` and `qnms` at import and fails with "operator
torchvision::nms does not exist" where its compiled part does not fit the installed torch: a CUDA build of
torchvision beside a CPU build of torch, say. Classification uses neither operator, so declaring their names is
enough. Where the compiled part loads, nothing is declared. Import timm and torchvision from here.
"""

import importlib.util
from pathlib import Path

import torch

OPERATORS = ("nms", "qnms")
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


def compiled_operators_load() -> bool:
    """Whether torchvision's compiled part fits this torch. Loads it where it does."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.origin is None:
        return False
    for library in Path(package.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(library)  # type: ignore[no-untyped-call]
        except OSError:
            return False
        return True
    return False


declared = None
if not compiled_operators_load():
    # The declarations live as long as this object.
    declared = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for operator in OPERATORS:
        declared.define(operator + SIGNATURE)  # type: ignore[no-untyped-call]

import timm  # noqa: E402
import timm.models  # noqa: E402
import torchvision  # noqa: E402

__all__ = ["timm", "torchvision"]
