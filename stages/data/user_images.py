"""A user's own images: a folder with a folder for each class, or a table that names files and labels."""

import numbers
import os
import re
import stat
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from stages.data.checks import MAX_LISTED, Finding
from stages.data.image_set import ImageFiles, ImageSet, sample_table
from stages.data.litter import is_housekeeping, left_out_as
from stages.errors import UserError, first_line
from stages.params import Data, Split

# How people call the splits, in folders and in tables.
SPLIT_NAMES: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test",
}  # fmt: skip
NUMBER = re.compile(r"[0-9]{1,15}|-?[0-9]{1,15}\.[0-9]{1,15}")  # in the name of a class: a whole one, or a decimal
COLUMNS = ("path", "label", "split", "group")  # of a table


def load_folder(data: Data) -> ImageSet:
    """Find images in `PATH/class/…`, or in `PATH/{train,val,test}/class/…`, at any depth below the class.

    Raises:
        UserError: there is no such folder, it holds fewer than two classes, or a split stands beside classes.
    """
    root = _root(data)
    findings: list[Finding] = []
    paths = list(_files(root, findings))
    split_as_given = _comes_in_splits(root)
    depth = 2 if split_as_given else 1
    folders = [Path(path).parts[:-1] for path in paths]
    table = pd.DataFrame(
        {
            "path": paths,
            "label": [names[depth - 1] if len(names) >= depth else "" for names in folders],
            "split": [SPLIT_NAMES[names[0].lower()] if split_as_given and names else "" for names in folders],
            "group": "",
        },
        dtype=object,  # text with bytes that are no UTF-8, as file names may have, fits no other
    )
    if data.group_pattern:
        found = table["path"].str.extract(data.group_pattern, expand=False)
        if len(found) and found.isna().all():
            raise UserError(
                f"data.group_pattern: {data.group_pattern} finds no group in any path below {root}; mend it, or set it "
                f"to null"
            )
        findings += [Finding("no_group", printable(path)) for path in table["path"][found.isna()]]
        table["group"] = found.fillna("")
    above = [root / split for split in _folders(root)] if split_as_given else [root]
    classes = {name for folder in above for name in _folders(folder)}
    if not classes:
        where = " and ".join(f"{folder}/" for folder in above)
        raise UserError(f"data.path: no folders in {where}: put the images of each class into a folder of its own")
    if len(classes) == 1:
        (only,) = classes
        deeper = not split_as_given and len(_folders(root / only)) > 1
        what_to_do = f"set data.path to {root / only} if its folders are the classes" if deeper else "add another"
        raise UserError(f"data.path: {root} holds one class, {printable(only)}, and needs two: {what_to_do}")
    return _image_set(root, table, classes, findings)


def load_table(data: Data) -> ImageSet:
    """Find images by a table with the columns `path` and `label`, and if need be `split` and `group`.

    Paths are relative to the table.

    Raises:
        UserError: the table is missing, lies elsewhere, cannot be read, lacks a column, or names too few classes.
    """
    root = _root(data)
    inside = _inside(root)
    if not inside(str(data.table)):
        raise UserError(f"data.table: {data.table} leaves {root}, which DVC watches; put it there")
    table = _read_table(root / str(data.table))
    labels = set(table["label"]) - {""}
    if len(labels) < 2:
        has = f"one label, {printable(labels.pop())}" if labels else "no label in any row" if len(table) else "no rows"
        raise UserError(f"data.table: {root / str(data.table)} has {has}: list images of two classes at least")
    beside = os.path.dirname(str(data.table))  # noqa: PTH120  # as text, for paths with bytes that are no UTF-8
    if beside:
        table["path"] = [f"{beside}/{path}" if path and path[0] != "/" else path for path in table["path"]]

    kept = pd.Series([inside(path) for path in table["path"]], index=table.index, dtype=bool)
    findings = [Finding("outside", printable(path)) for path in table["path"][~kept]]
    _check_separators(root, table["path"][kept])
    given = table["split"].str.lower()
    if given.ne("").any():
        unknown = kept & ~given.isin(SPLIT_NAMES)
        findings += [
            Finding("unknown_split", printable(path), repr(split))
            for path, split in table.loc[unknown, ["path", "split"]].itertuples(index=False)
        ]
        kept &= ~unknown
        table["split"] = given.map(SPLIT_NAMES)
    table = table[kept].reset_index(drop=True)
    again = _listed_again(root, table, str(data.table))
    findings += [Finding("listed_twice", name) for name in dict.fromkeys(again.dropna())]
    return _image_set(root, table[again.isna()].reset_index(drop=True), labels, findings)


def _listed_again(root: Path, table: pd.DataFrame, name_of_table: str) -> "pd.Series[Any]":
    """Return the name of each image that an earlier row lists in the same split; nothing of all others.

    Raises:
        UserError: rows of an image give it different labels or groups.
    """
    named = table.assign(image=[printable(_below(root, path)) for path in table["path"]])[table["label"] != ""]
    for column in ("label", "group"):
        differs = named[named.groupby("image")[column].transform("nunique") > 1]
        if len(differs):
            names = list(dict.fromkeys(differs["image"]))
            values = " and ".join(map(printable, dict.fromkeys(differs[column][differs["image"] == names[0]])))
            more = f" (and {', '.join(names[1:MAX_LISTED])}" + (" …)" if len(names) > MAX_LISTED else ")")
            raise UserError(
                f"data.table: {name_of_table} lists {names[0]} twice, with the {column} {values}"
                f"{more if len(names) > 1 else ''}: keep one row of each image"
            )
    return named["image"].where(named.duplicated(["image", "split"])).reindex(table.index)


def _check_separators(root: Path, paths: "pd.Series[str]") -> None:
    r"""Check that no path has the separators of Windows, as a table that was made there may.

    Raises:
        UserError: a file is missing under the name that it is given, and there with / in place of \.
    """
    wrong = [
        path
        for path in paths
        if "\\" in path and not os.path.lexists(root / path) and os.path.lexists(root / path.replace("\\", "/"))
    ]
    if wrong:
        more = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        raise UserError(
            f"data.table: {printable(wrong[0])}{more}: write / between folders and file, as in "
            f"{printable(wrong[0].replace(chr(92), '/'))}"
        )


def _read_table(path: Path) -> pd.DataFrame:
    """Read the columns `path`, `label`, `split` and `group` as text; those that may be missing are empty then."""
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {".csv": _read_csv, ".parquet": _read_parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UserError(f"data.table: {path.name} should end in {' or '.join(readers)}")
    try:
        read = reader(path)
    except FileNotFoundError:
        raise UserError(f"data.table: {path} is missing; put it there, or name another") from None
    except Exception as error:  # the readers raise many kinds at damaged files
        anew = "save it anew" + (", in UTF-8 and with commas between the columns" if reader is _read_csv else "")
        raise UserError(f"data.table: {path} cannot be read as a table: {first_line(error)}; {anew}") from None
    for column in map(str, read):
        meant = column.strip().lower()
        if meant in COLUMNS and meant not in set(read):
            raise UserError(f"data.table: {path} has a column {column!r}; call it {meant}")
    lacking = {"path", "label"} - set(read)
    if lacking:
        raise UserError(
            f"data.table: {path} lacks the column {' and '.join(sorted(lacking))}; it has {', '.join(map(str, read))}; "
            f"name one so, with commas between the columns"
        )
    nothing = pd.Series("", index=read.index)
    return pd.DataFrame({name: _as_text(read[name]) if name in read else nothing for name in COLUMNS}, dtype=object)


def _read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV as text."""
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if not table.index.equals(pd.RangeIndex(len(table))):  # what is too much at the left, pandas makes an index of
        raise ValueError("a row has more cells than the header")
    return table


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path).reset_index(drop=True)


def _image_set(root: Path, table: pd.DataFrame, labels: set[str], findings: list[Finding]) -> ImageSet:
    """Return the images of a table with `path`, `label`, `split` and `group`, less those whose label is empty."""
    names = [printable(_below(root, path)) for path in table["path"]]
    for name, path in zip(names, table["path"], strict=True):
        if not _is_utf8(path):
            findings.append(Finding("not_utf8", name))
        elif not name.isascii() or "\\" in name:
            findings.append(Finding("not_ascii", name))
    unlabelled = table["label"] == ""
    findings += [Finding("no_label", names[row]) for row in table.index[unlabelled]]
    classes = sorted(labels, key=_by_number_or_name)
    label_of = {name: label for label, name in enumerate(classes)}
    kept = table[~unlabelled]
    return ImageSet(
        classes=[printable(name) for name in classes],
        channels=3,
        samples=sample_table(
            image=[names[row] for row in kept.index],
            label=[label_of[label] for label in kept["label"]],
            group=[printable(group) for group in kept["group"]],
            split=list(kept["split"]),
        ),
        images=ImageFiles(root, tuple(kept["path"])),
        findings=findings,
    )


def _below(root: Path, path: str) -> str:
    """Return a path as it leads down from the root: an absolute one would carry a user's name into the metrics."""
    given = Path(path)
    if not given.is_absolute():
        return os.path.normpath(path)
    return str(Path(os.path.relpath(os.path.realpath(given.parent), os.path.realpath(root))) / given.name)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def printable(text: str) -> str:
    """Return a name as text that any terminal, table and page can bear: what cannot be printed is escaped."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _root(data: Data) -> Path:
    root = Path(data.path)
    if not root.is_dir():
        raise UserError(f"data.path: {data.path} is no folder: set it to the folder of your images")
    return root


def _folders(folder: Path) -> list[str]:
    """Names of the folders in a folder that are neither left out nor links."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and not left_out_as(entry.name)
        )


def _comes_in_splits(root: Path) -> bool:
    """Whether the folders in the root are the splits and not the classes."""
    folders = _folders(root)
    splits = [name for name in folders if name.lower() in SPLIT_NAMES]
    if not splits:
        return False
    if len(splits) < len(folders):
        beside = next(name for name in folders if name not in splits)
        raise UserError(
            f"data.path: {root} holds {splits[0]}/ beside {printable(beside)}/: are they splits, or classes? Rename "
            f"one of them"
        )
    if not any(SPLIT_NAMES[name.lower()] == "train" for name in splits):
        raise UserError(f"data.path: {root} holds {', '.join(splits)} and no train/; add one, or rename one")
    return True


def _files(root: Path, findings: list[Finding]) -> Iterator[str]:
    """Yield the path of every file that may be an image, in order, and record what is passed over."""
    inside = _inside(root)
    for folder, folders, names in os.walk(root, onerror=_refuse_folder):
        folders.sort()
        below = Path(folder).relative_to(root)
        for name in list(folders):
            path = str(below / name)
            link = (root / path).is_symlink()
            if left_out := left_out_as(name) or (("linked_folder" if inside(path) else "outside") if link else ""):
                findings.append(Finding(left_out, printable(path) + "/"))
                folders.remove(name)
        for name in sorted(names):
            path = str(below / name)
            if is_housekeeping(name):
                continue
            if left_out := left_out_as(name):
                findings.append(Finding(left_out, printable(path)))
            elif not inside(path):
                findings.append(Finding("outside", printable(path)))
            else:
                yield path


def _refuse_folder(error: OSError) -> None:
    raise UserError(
        f"data.path: {printable(str(error.filename))} cannot be read: {error.strerror}; make it readable for you"
    )


def _inside(root: Path) -> Callable[[str], bool]:
    """Return a function that says whether a path, with every link followed, stays below the root."""
    top = os.path.realpath(root)
    folder_of = cache(os.path.realpath)  # of a folder with many images, followed once

    def inside(path: str) -> bool:
        if "\0" in path:
            return False
        whole = root / path
        try:
            is_link = stat.S_ISLNK(os.lstat(whole).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            is_link = False
        except OSError:  # the name is too long for any file
            return False
        real = os.path.realpath(whole) if is_link else f"{folder_of(whole.parent)}{os.sep}{whole.name}"
        return whole.name != ".." and real.startswith(top + os.sep)

    return inside


def _as_text(column: "pd.Series[Any]") -> "pd.Series[str]":
    """Return the cells as text; a missing one is empty, and 1.0 is 1, for a hole turns integers into fractions."""
    if not all(map(pd.api.types.is_scalar, column)):
        raise UserError(f"data.table: the column {column.name} holds lists; it should hold one value in each row")
    cells = ["" if pd.isna(cell) else str(_whole(cell)).strip() for cell in column]
    return pd.Series(cells, index=column.index, dtype=str)


def _whole(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return cell.decode(errors="backslashreplace")
    is_number = isinstance(cell, numbers.Real) and not isinstance(cell, bool)
    return int(cell) if is_number and float(cell).is_integer() else cell


def _by_number_or_name(name: str) -> tuple[bool, Decimal, str]:
    """Sort 9 before 10, 0.5 before 1, and b after a."""
    number = NUMBER.fullmatch(name) is not None
    return (not number, Decimal(name) if number else Decimal(0), name)
