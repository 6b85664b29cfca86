import subprocess
import sys

import pytest
import torch

from stages import libraries

PROBE = """
import torch

def refuse(path):
    raise OSError("not for this torch")

torch.ops.load_library = refuse
from stages import libraries

network = libraries.torchvision.models.resnet18(num_classes=2)
print(libraries.declared is not None, network(torch.zeros(2, 3, 32, 32)).shape[1])
"""


def test_torchvision_works_where_its_compiled_part_does_not_load():
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "2"]


def test_a_declared_operator_does_nothing_and_a_compiled_one_works():
    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
    if libraries.declared is None:
        assert torch.ops.torchvision.nms(boxes, scores, 0.5).tolist() == [0]
    else:
        with pytest.raises(NotImplementedError):
            torch.ops.torchvision.nms(boxes, scores, 0.5)


def test_the_compiled_part_is_found_where_it_loads(monkeypatch):
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert libraries.compiled_operators_load()
    assert [path.name for path in loaded] == ["_C.so"]
