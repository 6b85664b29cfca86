"""Whether Git or DVC keeps the images: an experiment in a folder of its own gets what they keep, and nothing else."""

import shlex
import subprocess
from pathlib import Path

from stages.data.litter import is_housekeeping
from stages.params import Data

OF_PACKAGES = ("elpv", "fake")  # sources that read nothing from data.path


def note_on_keeping(data: Data) -> str:
    """Return what to do where the images lie inside the repository and neither keeps them, else an empty text."""
    if data.source in OF_PACKAGES:
        return ""

    from dvc.exceptions import DvcException, OutputNotFoundError  # a quarter of a second, for this alone
    from dvc.repo import Repo

    path = Path(data.path)
    try:
        with Repo() as repo:
            root = Path(repo.root_dir)
            repo.find_outs_by_path(str(path), strict=False, recursive=True)
            return ""
    except OutputNotFoundError:
        pass
    except DvcException:  # here is no project of DVC's, or none that it could run
        return ""
    place = path.parent.resolve() / path.name
    if root not in place.parents:
        return ""
    kept = _git("ls-files", "--", str(place))
    if not all(is_housekeeping(Path(name).name) for name in kept):
        return ""
    what_to_do = f"run `dvc add {_what_dvc_takes(place, root)}{'/*' if kept else ''}`"
    if place.is_symlink():
        what_to_do = f"set data.path to {place.resolve()}, where it leads"
    return f"{data.path} is kept by neither Git nor DVC, so `dvc exp run --temp` or `--queue` misses it: {what_to_do}"


def _what_dvc_takes(place: Path, root: Path) -> str:
    """Return a folder, or the outermost one around it that Git ignores: below that DVC makes no file."""
    inside = place.relative_to(root)
    folders = [*reversed(inside.parents), inside][1:]
    ignored = _git("check-ignore", "--", *(str(root / folder) for folder in folders))
    outermost = folders[-len(ignored)] if ignored else inside  # Git ignores whatever is in it, too
    return shlex.quote(str(outermost))


def _git(*arguments: str) -> list[str]:
    """Return the lines that a command of Git prints; none where there is no repository of Git's."""
    command = ["git", "-c", "core.quotePath=false", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
