"""What decides a replicate, as one digest. On a CPU the same digest means the same bytes."""

import ast
import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

from stages.hashing import hash_bytes
from stages.models.compute import Compute
from stages.params import Params
from stages.rates.policies import Plan

FORMAT = 1  # of what is kept; another number, and nothing that was kept before is taken
PACKAGES = ("torch", "torchvision", "timm", "numpy", "safetensors", "pydantic")  # the last two write checkpoints
ROOT = Path(__file__).parent.parent
# The code that decides a replicate. Whatever else it imports carries values, files and words.
DECIDING_CODE = (
    "data/augmentation.py",
    "data/batches.py",
    "data/store.py",
    "libraries.py",
    "models",
    "rates/freezing.py",
    "rates/optimizers.py",
    "rates/policies.py",
    "rates/schedules.py",
    "training/divergence.py",
    "training/frozen_features.py",
    "training/loop.py",
    "training/replicate.py",
    "training/resume.py",
    "training/state.py",
    "training/trainer.py",
)
# Of `train`: what decides which replicates there are and where they run, but none of them.
NOT_DECIDING = {"seeds", "on_divergence", "workers", "engine", "device", "precision", "ddp_batchnorm"}
# They choose among the instructions and the precisions that the processor has.
ENVIRONMENT = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "CUBLAS_WORKSPACE_CONFIG",
    "NVIDIA_TF32_OVERRIDE",
)


def fingerprint(
    params: Params, plan: Plan, seed: int, weights: str, checksums: Mapping[str, str], compute: Compute
) -> str:
    """Return a digest of everything that decides what a replicate comes to.

    Args:
        params: of which the sections model, optimizer, schedule and train count.
        plan: layer group -> rate and first epoch.
        seed: of the replicate.
        weights: digest of first weights, whatever they come from; those of another seed's head do as well.
        checksums: of the prepared data and of the replicate's splits.
        compute: device and precision.
    """
    inputs = {
        "params": {
            **params.model_dump(include={"model", "optimizer", "schedule"}),
            "train": params.train.model_dump(exclude=NOT_DECIDING),
        },
        "plan": {group: [entry.rate, entry.first_epoch] for group, entry in plan.items()},
        "seed": seed,
        "weights": weights,
        "data": dict(checksums),
        "code": code_digests(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "processor": _processor(compute),
        "format": FORMAT,
    }
    return hash_bytes(json.dumps(inputs, sort_keys=True).encode())


def describe_environment(compute: Compute) -> dict[str, str]:
    """Return what replicates are trained with here, for people and for a comparison with what others were.

    The digits behind the processor's name tell apart what the fingerprint tells apart.
    """
    digest = hash_bytes(json.dumps(_processor(compute), sort_keys=True).encode())[:8]
    name = torch.cpu.get_capabilities().get("cpu_name", platform.machine())
    gpus = f", {', '.join(map(str, _gpus()))}" if compute.device.type == "cuda" else ""
    return {
        "processor": f"{name}, {torch.backends.cpu.get_cpu_capability()}{gpus} ({digest})",
        "precision": str(compute.dtype).removeprefix("torch."),
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _processor(compute: Compute) -> list[object]:
    """Return what of the machine decides the last bits of a result."""
    return [
        {name: found for name, found in torch.cpu.get_capabilities().items() if not name.startswith("num_")},
        torch.backends.cpu.get_cpu_capability(),
        {name: os.environ.get(name) for name in ENVIRONMENT},
        _gpus() if compute.device.type == "cuda" else None,
        str(compute.dtype),
    ]


def _gpus() -> list[object]:
    """Return the names of all GPUs, any of which may train a replicate, and cuDNN's version."""
    names = sorted({torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())})
    return [*names, torch.backends.cudnn.version()]  # type: ignore[no-untyped-call]


@cache
def code_digests() -> dict[str, str]:
    """Return the digest of every module that decides, as it was when it was first asked for: files may change under us.

    Comments and docstrings do not count.
    """
    entries = (ROOT / entry for entry in DECIDING_CODE)
    files = (file for entry in entries for file in (sorted(entry.rglob("*.py")) if entry.is_dir() else [entry]))
    return {str(file.relative_to(ROOT)): code_digest(file.read_text(encoding="utf-8")) for file in files}


def code_digest(source: str) -> str:
    """Return a digest of what Python runs of a source."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                node.body = node.body[1:]
    return hash_bytes(ast.dump(tree).encode())
