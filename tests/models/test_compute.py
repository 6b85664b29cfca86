import pytest
import torch

from stages.errors import UserError
from stages.models.compute import report_out_of_memory, set_up_compute
from stages.params import load_params
from tests.conftest import ROOT


@pytest.fixture
def train():
    yield load_params(ROOT / "params.yaml").train
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_cuda_where_there_is_none_has_one_line(train):
    with pytest.raises(UserError, match="train.device: torch sees no CUDA device here; set auto or cpu"):
        set_up_compute(train.model_copy(update={"device": "cuda"}))


def test_the_cpu_computes_in_float32_on_the_threads_asked_for(train):
    compute = set_up_compute(train.model_copy(update={"device": "cpu", "threads": 1}))
    assert (compute.device.type, compute.dtype) == ("cpu", torch.float32)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("grad_accum_steps", "says"),
    [
        (
            1,
            "32 images in pieces of 32 do not fit the GPU's memory; set train.grad_accum_steps to 2, which keeps the",
        ),
        (8, "32 images in pieces of 4 do not fit the GPU's memory; set train.grad_accum_steps to 16, which keeps"),
        (16, "in pieces of 2 do not fit the GPU's memory; its pieces can be no smaller: set a smaller data.image_size"),
    ],
)
def test_too_little_gpu_memory_is_told_with_what_to_set(train, grad_accum_steps, says):
    train = train.model_copy(update={"batch_size": 32, "grad_accum_steps": grad_accum_steps, "workers": 1})
    with pytest.raises(UserError, match=says), report_out_of_memory(train):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_workers_that_share_a_gpu_are_told_to_leave_it_to_one(train):
    says = "where several workers share it, set train.workers to 1; else set train.grad_accum_steps to 2"
    with pytest.raises(UserError, match=says), report_out_of_memory(train.model_copy(update={"workers": "auto"})):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_cuda_computes_in_bfloat16(train, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    compute = set_up_compute(train)
    assert (compute.device.type, compute.dtype) == ("cuda", torch.bfloat16)


def test_bfloat16_reaches_the_layers(train):
    compute = set_up_compute(train.model_copy(update={"device": "cpu", "precision": "bfloat16"}))
    with compute.autocast():
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.bfloat16
