"""Reading the tables under metrics/, in which a name may be a number such as 01."""

from io import StringIO
from pathlib import Path

import pandas as pd

from stages.errors import UserError

NAME_COLUMNS = ("image", "actual", "predicted", "class")  # text, whatever it looks like


def parse_table(source: Path | StringIO) -> pd.DataFrame:
    """Return the content of a table.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no table.
    """
    return pd.read_csv(source, keep_default_na=False, dtype=dict.fromkeys(NAME_COLUMNS, str))


def read_table(path: Path) -> pd.DataFrame:
    """Return the content of a table as it stands here.

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        return parse_table(path)
    except (OSError, ValueError):
        raise UserError(f"{path} is missing or damaged: run `dvc repro`, which makes it") from None
