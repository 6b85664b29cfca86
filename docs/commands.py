"""Write docs/commands.md: what `--help` says of every command, `make help`, exit codes, completion.

python docs/commands.py
"""

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

FOLDER = Path(__file__).parent
ROOT = FOLDER.parent
PAGE = FOLDER / "commands.md"
COLUMNS = "100"

GROUPS = {
    "What one asks for": [
        "demo", "summary", "params", "show_rates", "find_rates", "recommend", "adopt", "predict", "export", "verify",
        "replicates", "live", "plots_template",
    ],
    "The stages of the pipeline": ["check_params", "prepare", "split", "train", "evaluate", "review", "report"],
    "The stages of the search": ["search", "search_answer", "search_repeats", "search_report"],
}  # fmt: skip

EXIT_CODES = (
    (0, "done"),
    (
        1,
        "what you can mend, in one line on stderr: `error: `, what is wrong, what to do; with a traceback: a bug",
    ),
    (
        1,
        "`summary --fail-unless-goal`: the goal is missed; `verify`: a metric is different; `predict`: an image is bad",
    ),
    (2, "an option or argument that there is not"),
    (130, "Ctrl-C (128 + 2); what was trained is kept: [interruption](reproducibility.md#interruption-and-resume)"),
    (143, "SIGTERM (128 + 15); likewise"),
)

TEXT = """# Commands

Made by `python docs/commands.py` from the commands themselves; a test holds it current. All are run in the project's
folder, with its environment active. What is measured has [commands of its own](../benchmarks/README.md).

## Exit codes

{codes}

`dvc repro` ends with 255 where a stage fails, and `make` with 2, whatever the stage's own code.

## Completion

A shell completes by the first word, which is `python` here, so there is none for these commands. DVC brings its own:
`dvc completion --shell bash` (or `zsh`). The bash-completion that distributions have completes the targets of make.

## make

```
{make}
```
"""


def main() -> None:
    PAGE.write_text(page())


def page() -> str:
    codes = "\n".join(["| code | means |", "| --- | --- |", *(f"| {code} | {text} |" for code, text in EXIT_CODES)])
    sections = [TEXT.format(codes=codes, make=make_help())]
    for title, names in GROUPS.items():
        sections += [f"## {title}\n", *(f"### {name}\n\n```\n{help_of(name)}\n```\n" for name in names)]
    return "\n".join(sections)


def help_of(name: str) -> str:
    """Return what `python -m stages.NAME --help` prints."""
    module, shown = importlib.import_module(f"stages.{name}"), io.StringIO()
    with (
        mock.patch.object(sys, "argv", [name, "--help"]),
        mock.patch.dict(os.environ, COLUMNS=COLUMNS),
        contextlib.redirect_stdout(shown),
        contextlib.suppress(SystemExit),
    ):
        module.main()
    return shown.getvalue().strip()


def make_help() -> str:
    """Return what `make help` prints."""
    lines = (ROOT / "Makefile").read_text().splitlines()
    targets = [line.split(" ## ") for line in lines if " ## " in line and not line.startswith(("\t", "#"))]
    rows = [(f"make {target.partition(':')[0]}", text) for target, text in targets]
    width = max(len(command) for command, _ in rows)
    return "\n".join(f"{command:<{width}}  {text}" for command, text in rows)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
