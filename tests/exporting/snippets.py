"""Runs the Python that a model card shows."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT


def printed_by_snippets(folder: Path, image: str) -> Iterator[object]:
    """What each snippet of the card in an exported folder prints of an image, both paths as that folder sees them."""
    for snippet in re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), flags=re.DOTALL):
        code = snippet.replace("FOLDER", ".").replace("IMAGE", image)
        if "timm" in code:  # which fails by itself where torchvision does not fit torch
            code = f"import sys; sys.path.append({str(ROOT)!r}); import stages.libraries\n{code}"
        ran = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        yield ast.literal_eval(ran.stdout)
