import subprocess
import sys

PROBE = """
import torch, torch.ops
{before}
from stages import libraries
network = libraries.torchvision.models.resnet18(num_classes=2)
print(libraries.declared is not None, network(torch.zeros(1, 3, 32, 32)).shape[1])
"""


def declared(before: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(before=before)], capture_output=True, text=True, check=True
    )
    answer, outputs = done.stdout.split()
    assert outputs == "2"
    return answer == "True"


def test_operators_are_declared_where_the_compiled_part_does_not_load():
    assert declared("def refuse(path): raise OSError('not for this torch')\ntorch.ops.load_library = refuse")


def test_nothing_is_declared_where_the_compiled_part_loads():
    # A stand-in for the compiled part: loading it gives the operators.
    assert not declared(
        """
kept = torch.library.Library("torchvision", "DEF")
def load(path, done=[]):
    if not done:
        for name in ("nms", "qnms"):
            kept.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        kept.define("_cuda_version() -> int")
        kept.impl("_cuda_version", lambda: -1, "CompositeExplicitAutograd")
        done.append(path)
torch.ops.load_library = load
"""
    )
