"""Where and how exactly the arithmetic is done."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import joblib
import torch

from stages.errors import UserError
from stages.params import Train

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Compute:
    """A device and the precision of the products on it.

    Attributes:
        device: where tensors live.
        dtype: of convolutions and matrix products; weights and sums stay float32.
    """

    device: torch.device
    dtype: torch.dtype

    def autocast(self) -> torch.autocast:
        """Return the context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32)


def set_up_compute(train: Train) -> Compute:
    """Choose device and precision, fix the number of threads, and turn deterministic algorithms on.

    Raises:
        UserError: `cuda` is asked for where there is none.
    """
    cuda = torch.cuda.is_available()
    if train.device == "cuda" and not cuda:
        raise UserError("train.device: torch sees no CUDA device here; set auto or cpu")
    device = torch.device("cuda" if cuda and train.device != "cpu" else "cpu")
    precision = train.precision
    if precision == "auto":
        precision = "bfloat16" if device.type == "cuda" else "float32"

    if precision == "float32":
        torch.backends.cudnn.allow_tf32 = False  # whose products have bfloat16's range of error
    keep_freed_memory()
    torch.set_num_threads(train.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with this
    # CUDA lacks a deterministic way for a few layers, such as VGG's pooling; there a warning names the layer.
    torch.use_deterministic_algorithms(True, warn_only=device.type == "cuda")
    # Filling memory that is about to be overwritten costs a fifth of the speed and changes no result.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return Compute(device, PRECISIONS[precision])


def worker_limit(train: Train) -> int:
    """Return how many workers, each with the threads of params.yaml, there are cores for in this process."""
    return max(1, joblib.cpu_count() // train.threads) if train.workers == "auto" else train.workers


@contextmanager
def report_out_of_memory(train: Train) -> Iterator[None]:
    """Report that a GPU's memory is too small, with what to set.

    Raises:
        UserError: the GPU's memory is too small.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        smaller = 2 * train.grad_accum_steps
        advice = (
            f"set train.grad_accum_steps to {smaller}, which keeps the batch and takes it in smaller pieces"
            if 2 * smaller <= train.batch_size
            else "its pieces can be no smaller: set a smaller data.image_size or another model.name"
        )
        if train.workers != 1:
            advice = f"where several workers share it, set train.workers to 1; else {advice}"
        raise UserError(
            f"train.batch_size: {train.batch_size} images in pieces of {train.batch_size // train.grad_accum_steps} do "
            f"not fit the GPU's memory; {advice}"
        ) from None


def keep_freed_memory() -> None:
    """Let the C library keep freed memory for the next tensor, where it is glibc.

    It would hand every large block back to the system at once and have it zeroed anew at the next step, which costs
    a third of the speed on the CPU (mallopt(3); benchmarks/README.md has the measurements).
    """
    mmap_threshold, trim_threshold, arena_max = -3, -1, -8
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt:
        _ = mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, 1 << 25)  # older glibc takes no more
        mallopt(trim_threshold, (1 << 31) - 1)
        mallopt(arena_max, 1)  # the arenas of further threads keep no block of more than 64 MB
