"""What Python finds in place of this package inside its folder, or where a script is started as a file: a hint.

`python -m stages.NAME` needs the project's folder, where `stages` is the package itself.
"""

import sys
from pathlib import Path

asked = sys.orig_argv[sys.orig_argv.index("-m") + 1] if sys.argv[0] == "-m" else Path(sys.argv[0]).stem
sys.exit(f"error: run `python -m stages.{asked.removeprefix('stages.')}` in the project's folder")
