"""One training shared by several processes, as torchrun starts them: each takes its part of every batch.

The batches are those of one process, in the same order, and the gradient is the mean over the whole batch
(DistributedDataParallel). Of one process alone nothing here changes a bit.
"""

import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from stages.data.batches import Samples
from stages.errors import UserError
from stages.models.compute import Compute
from stages.models.inference import predict_logits
from stages.models.network import Classifier
from stages.params import Train
from stages.signals import Interrupted, Signals

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
LOST = re.compile("peer|gloo|nccl|socket|connection", re.IGNORECASE)  # in what torch says of a lost process


@dataclass(frozen=True)
class Processes:
    """The processes that share one training.

    Attributes:
        rank: of this one; the first is 0, and writes what there is to write.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    def shares(self, images: int) -> bool:
        """Whether a batch is shared. One too small for two images each is taken whole by every process."""
        return self.size > 1 and images >= 2 * self.size

    def part(self, whole: Tensor) -> Tensor:
        """Return this process's part of something with a row for each image of a batch, or of a split."""
        return whole.tensor_split(self.size)[self.rank] if self.shares(len(whole)) else whole

    def gather(self, part: Tensor, images: int) -> Tensor:
        """Return the whole of which every process has its part, as floating-point numbers, in the order of the images.

        Args:
            part: this process's rows.
            images: rows of the whole.
        """
        if not self.shares(images):
            return part
        whole = part.new_zeros(images, *part.shape[1:])
        self.part(whole).copy_(part)
        dist.all_reduce(whole)
        return whole

    def mean(self, here: Tensor, images: int) -> Tensor:
        """Return the mean over all processes of what each has of its part of a batch of so many images."""
        if self.shares(images):
            dist.all_reduce(here)
            here /= self.size
        return here

    def from_first(self, here: bytes | None, device: torch.device) -> bytes | None:
        """Return what the first process has, as bytes, which no process has to unpickle."""
        if self.size == 1:
            return here
        length = torch.tensor(-1 if here is None else len(here), device=device)
        dist.broadcast(length, 0)
        if int(length) < 0:
            return None
        content = torch.empty(int(length), dtype=torch.uint8, device=device)
        if self.rank == 0 and here:
            content.copy_(torch.frombuffer(bytearray(here), dtype=torch.uint8))
        dist.broadcast(content, 0)
        return content.cpu().numpy().tobytes()

    def any(self, here: bool, device: torch.device) -> bool:
        """Whether something is so in any process."""
        found = torch.tensor(float(here), device=device)
        if self.size > 1:
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def wrap(self, classifier: Classifier, train: Train) -> Classifier:
        """Return a classifier whose gradients are the mean over all processes; of one process, the classifier itself.

        Args:
            classifier: whose parameters that learn are marked, and stay marked as long as it is used.
            train: the section of params.yaml.
        """
        return _Shared(classifier, train.ddp_batchnorm == "sync") if self.size > 1 else classifier

    def batchnorm(self, train: Train, images: int) -> AbstractContextManager[Any]:
        """Return the context in which BatchNorm sees a batch of so many images as params.yaml says."""
        return SyncBatchNorm() if self.shares(images) and train.ddp_batchnorm == "sync" else nullcontext()

    def predict_logits(self, classifier: Classifier, samples: Samples, compute: Compute) -> Tensor:
        """Return logits (samples, classes), of which each process has computed its part."""
        mine = Samples(samples.pixels, self.part(samples.rows), self.part(samples.labels))
        return self.gather(predict_logits(classifier, mine, compute), len(samples))


ALONE = Processes()


def current_processes() -> Processes:
    """Return the processes of this training, as `joined` has found them."""
    return Processes(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else ALONE


def is_started_by_torchrun() -> bool:
    """Whether torchrun has started this process, be it the only one."""
    return dist.is_available() and dist.is_torchelastic_launched()


def describe_processes(train: Train) -> dict[str, str]:
    """Return how many processes shared the training, where torchrun has started them, for people."""
    return {"processes": f"{dist.get_world_size()}, BatchNorm {train.ddp_batchnorm}"} if dist.is_initialized() else {}


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun has started, from here to the end of the block.

    Args:
        device: cpu, or cuda, of which each process of a machine takes its own.

    Raises:
        UserError: one of them was lost, or a machine has fewer GPUs than processes.
    """
    if device.type == "cuda":
        here = int(os.environ["LOCAL_RANK"])
        if here >= torch.cuda.device_count():
            raise UserError(
                f"--nproc-per-node: there are {torch.cuda.device_count()} GPUs here; start no more processes"
            )
        torch.cuda.set_device(here)
    dist.init_process_group(BACKENDS[device.type])
    try:
        yield current_processes()
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or LOST.search(str(error))):
            raise
        if dist.get_rank():  # one of them says it
            sys.exit(1)
        raise UserError(
            "a process of this training was lost: start it again, with as many as before or another number; it goes "
            "on from the state that was saved last"
        ) from None
    finally:
        dist.destroy_process_group()


class AgreedSignals(Signals):
    """Signals of one training in several processes: all of them end after the same step."""

    def __init__(self, processes: Processes, device: torch.device) -> None:
        """Nothing has arrived.

        Args:
            processes: that agree.
            device: where they compute.
        """
        super().__init__()
        self._processes, self._device = processes, device

    def _raise(self) -> None:
        """Wait until all agree."""

    def agree(self) -> None:
        """Raise what has arrived here or elsewhere.

        Raises:
            Interrupted: some process shall end, and so all do.
        """
        if self._processes.any(self.arrived, self._device):
            raise Interrupted(self._arrived or signal.SIGTERM)


class _Forward(nn.Module):
    """A classifier's way from inputs to logits as a module, which is what DistributedDataParallel takes."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.learns, self._logits = classifier.module, classifier.logits

    def forward(self, inputs: Tensor) -> Tensor:
        return self._logits(inputs)


class _Shared:
    """A classifier whose gradients are the mean over all processes.

    Attributes:
        module: what learns, the same as without.
        logits: for this process's part of a batch.
    """

    def __init__(self, classifier: Classifier, sync_batchnorm: bool) -> None:
        self.module = classifier.module
        # With sync, every process has the same running statistics; else the first one's count, as torch's do.
        self.logits: Callable[[Tensor], Tensor] = DistributedDataParallel(
            _Forward(classifier), forward_sync_buffers=not sync_batchnorm
        )


class SyncBatchNorm(TorchFunctionMode):
    """Lets every BatchNorm layer in training see the whole batch of which each process has a part.

    torch's own SyncBatchNorm wants a GPU, and takes the place of a layer: of timm's, which hold an activation too, it
    would lose that. What all such layers call is `torch.nn.functional.batch_norm`, and that is what is replaced.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call a function of torch's, or what stands for it."""
        if func is functional.batch_norm:
            return sync_batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


class _Sum(torch.autograd.Function):
    """The sum over all processes; what each contributes moves all of their losses."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        summed = tensor.clone()
        dist.all_reduce(summed)
        return summed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        summed = gradient.clone()
        dist.all_reduce(summed)
        return summed


def sync_batch_norm(
    inputs: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do what `torch.nn.functional.batch_norm` does, in training with the mean and the variance over all processes.

    Args:
        inputs: (this process's images, channels, …).
        running_mean: (channels,), moves; so does the variance.
        running_var: (channels,).
        weight: (channels,).
        bias: (channels,).
        training: whether the batch's own mean and variance count.
        momentum: how far the running ones move.
        eps: is added to the variance.
    """
    if not training:
        return functional.batch_norm(inputs, running_mean, running_var, weight, bias, training, momentum, eps)
    values = inputs.float()
    axes = [axis for axis in range(values.ndim) if axis != 1]
    shape = [1, -1] + [1] * (values.ndim - 2)
    count = torch.tensor([float(values.numel() // values.shape[1])], device=values.device)
    dist.all_reduce(count)

    def mean_over_all(tensor: Tensor) -> Tensor:
        summed: Tensor = _Sum.apply(tensor.sum(axes))  # type: ignore[no-untyped-call]
        return summed / count

    mean = mean_over_all(values)
    centered = values - mean.view(shape)
    variance = mean_over_all(centered.square())
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean, momentum)
            running_var.lerp_(variance * (count / (count - 1)), momentum)
    normalized = centered * (variance + eps).rsqrt().view(shape)
    if weight is not None:
        normalized = normalized * weight.view(shape)
    if bias is not None:
        normalized = normalized + bias.view(shape)
    return normalized.to(inputs.dtype)
