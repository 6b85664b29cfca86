"""Files in a folder of images that nobody takes for images. Predicting needs this too, so it loads next to nothing."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

HOUSEKEEPING = (".gitignore", ".gitkeep", ".dvcignore", "*.dvc")  # of Git and DVC, which nobody takes for images

# What systems and programs leave in folders on their own, by patterns of the name without regard to case.
LITTER = (
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information",
    ".ds_store", "._*", "icon\r", "__macosx", ".appledouble", ".fseventsd", ".spotlight-v100", ".trashes",
    ".directory", ".trash-*", "@eadir", ".ipynb_checkpoints",
)  # fmt: skip


def is_housekeeping(name: str) -> bool:
    """Whether a file of this name is Git's or DVC's."""
    return _is_like(name, HOUSEKEEPING)


def left_out_as(name: str) -> str:
    """Return the check that leaves a file or folder of this name out, or an empty text."""
    return "litter" if _is_like(name, LITTER) else "hidden" if name.startswith(".") else ""


def _is_like(name: str, patterns: Iterable[str]) -> bool:
    """Whether a name is like one of some patterns, such as `*.dvc`, in small letters or large."""
    return any(fnmatchcase(name.lower(), pattern) for pattern in patterns)
