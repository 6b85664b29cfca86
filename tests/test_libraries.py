import subprocess
import sys

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


def test_operators_are_declared_only_where_the_compiled_part_does_not_load():
    assert (libraries.declared is None) is libraries.compiled_operators_load()


def test_the_compiled_part_is_found_where_it_loads(monkeypatch):
    loaded = []
    monkeypatch.setattr(torch.ops, "load_library", loaded.append)
    assert libraries.compiled_operators_load()
    assert [path.name for path in loaded] == ["_C.so"]
