"""Whether params.yaml still says what a stage, the run that it belongs to, or the run before, began with.

DVC reads params.yaml again when a stage has ended, and records what it finds then as what the stage was run with. An
editor, or a second `dvc exp run` in another terminal, may have changed it since.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from stages.errors import UserError
from stages.files import remove_leftovers, write_text
from stages.params import PARAMS_FILE, Params, load_params, read_params
from stages.signals import find_starter
from stages.yaml12 import read_yaml

LOCK_FILE = Path("dvc.lock")
AFTER_THE_RESULT = ("review", "report")  # stages that show it, some with parameters that do not change it
MAX_NAMED = 3  # parameters
PARAMS_OF_RUN = Path(".dvc/tmp/params_of_run")  # as its first stage has read them, with the number of DVC's process
ADVICE = (
    "run `dvc repro`, which keeps what was trained and goes on with what stands there now; an experiment beside a "
    "running one goes with `dvc exp run --temp`"
)


def note_params_of_run(params: Params) -> None:
    """Note what the first stage of a run of DVC has read, for those that follow; without DVC, nothing."""
    if run := find_starter():
        remove_leftovers(PARAMS_OF_RUN)
        write_text(_path_of(run.pid), json.dumps(_as_json(params)))


def check_same_run(params: Params, stage: str, study: str | None = None) -> None:
    """Check that a stage begins with what the first stage of the same run of DVC has read.

    Args:
        params: that the stage has read.
        stage: its name in dvc.yaml, or for a study in search/dvc.yaml.
        study: of the search.

    Raises:
        UserError: a parameter of the stage is another one.
    """
    run = find_starter()
    if run is None:
        return
    noted = _path_of(run.pid)
    if noted.exists() and noted.stat().st_mtime >= run.create_time():  # another process may have had its number
        _check_equal(json.loads(noted.read_text(encoding="utf-8")), _as_json(params), stage, study, "this run")
    else:
        note_params_of_run(params)


def check_unchanged(params: Params, stage: str, study: str | None = None) -> None:
    """Check that params.yaml still has what a stage has read from it.

    Args:
        params: that the stage has read.
        stage: its name in dvc.yaml, or for a study in search/dvc.yaml.
        study: of the search.

    Raises:
        UserError: a parameter of the stage is another one.
    """
    _check_equal(_as_json(params), _as_json(load_params()), stage, study, stage)


def changed_since_run() -> list[str]:
    """Return the dotted names of the parameters that are others than those that dvc.lock has of the result.

    There are some where a run has failed, or is yet to come.
    """
    try:
        lock = read_yaml(LOCK_FILE)
    except (OSError, yaml.YAMLError):
        return []  # without a record nobody can say
    return other_params(lock, read_params())


def other_params(lock: Any, written: dict[str, Any]) -> list[str]:
    """Return the dotted names of the parameters that a result was not made with.

    Args:
        lock: content of the dvc.lock that records how it was made.
        written: content of a params.yaml.
    """
    try:
        recorded = [
            (key, value)
            for stage, entry in lock["stages"].items()
            if stage not in AFTER_THE_RESULT
            for key, value in entry.get("params", {}).get(str(PARAMS_FILE), {}).items()
        ]
    except (KeyError, TypeError, AttributeError):
        return []
    changed = [name for key, value in recorded for name, _, _ in _differences(value, _value_of(written, key), key)]
    return list(dict.fromkeys(changed))


def warn_of_changed_params(changed: list[str]) -> None:
    """Say on stderr, in a line, that what is shown is of other parameters than params.yaml has; nothing of none."""
    if changed:
        print(
            f"warning: this is the result of an earlier run; {PARAMS_FILE} has another {_named(changed)} now: run "
            f"`dvc repro`",
            file=sys.stderr,
        )


def warn_of_revision(name: str, changed: list[str]) -> None:
    """Say likewise of a revision whose params.yaml was committed without a run."""
    if changed:
        print(
            f"warning: the metrics of {name} are of an earlier run; its {PARAMS_FILE}, which is compared here, has "
            f"another {_named(changed)}: compare with a commit that was made after `dvc repro`",
            file=sys.stderr,
        )


def _named(changed: list[str]) -> str:
    more = f" and {len(changed) - MAX_NAMED} more" if len(changed) > MAX_NAMED else ""
    return f"{', '.join(changed[:MAX_NAMED])}{more}"


def _value_of(content: Any, key: str) -> Any:
    """Return the value at a dotted key; None where there is none."""
    for name in key.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    return content


def listed_params(stage: str, study: str | None) -> list[str]:
    """Return the keys of params.yaml that a stage lists: of a pipeline's file, or of the search's."""
    stages = read_yaml(Path("search/dvc.yaml" if study else "dvc.yaml"))["stages"]
    entries = stages[stage].get("do", stages[stage])["params"]
    keys = [key for entry in entries for key in ([entry] if isinstance(entry, str) else entry[str(PARAMS_FILE)])]
    return [key.replace("${key}", study or "") for key in keys]


def _path_of(run: int) -> Path:
    return PARAMS_OF_RUN.with_name(f".{PARAMS_OF_RUN.name}.{run}")


def _as_json(params: Params) -> dict[str, Any]:
    return params.model_dump(mode="json")


def _check_equal(before: dict[str, Any], after: dict[str, Any], stage: str, study: str | None, begun: str) -> None:
    listed = listed_params(stage, study)
    changed = [
        f"{name} was {_shown(old)} when {begun} began and is {_shown(new)} now"
        for name, old, new in _differences(before, after)
        if any(f"{name}.".startswith(f"{key}.") for key in listed)
    ]
    if changed:
        raise UserError(f"{PARAMS_FILE}: {', '.join(changed)}: {ADVICE}")


def _differences(before: Any, after: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted name of every value that differs, and both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys([*before, *after]):
            yield from _differences(before.get(key), after.get(key), f"{name}.{key}" if name else str(key))
    elif before != after:
        yield name, before, after


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)
