"""Write the rates that a search found into params.yaml, so that the main pipeline confirms them with fresh seeds.

lr.uniform becomes the single rate that the study chose, lr.backbone and lr.head its pair, and what the study sets,
such as the optimizer, is set. Then `dvc repro` trains both with seeds, and tests them on images, that the search
never saw: its verdict is about these two chosen settings.
"""

import argparse
import io
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter

from stages.errors import UserError, run_cli
from stages.files import write_text
from stages.params import PARAMS_FILE, Params, check_schema, load_params
from stages.search_files import SearchAnswer, is_of_these_images, path_of, read_answer
from stages.tuning.space import RATES

CLEARED = ("layer_decay", "range", "baseline")  # keys of lr that would take the place of the adopted ones


def main() -> None:
    """Adopt the rates of one study."""
    parser = argparse.ArgumentParser(prog="python -m stages.adopt", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("study", help="one of search.studies in params.yaml, such as sgd")
    parser.add_argument("--dry-run", action="store_true", help="print the command that would do it, and write nothing")
    options = parser.parse_args()
    params = load_params()
    params.search.study(options.study)  # before its answer is looked for: a misspelt name needs no search
    answer = read_answer(options.study)
    if not is_of_these_images(answer):
        raise UserError(
            f"{path_of(options.study, 'answer.json')} is of other images: run `make search STUDY={options.study}`"
        )
    values = adopted_values(answer, params)
    if options.dry_run:
        print("dvc exp run " + " ".join(f"-S {name}={_as_text(value)}" for name, value in values.items()))
        return
    check_schema(_with(params.model_dump(), values))
    write_values(values)
    for name, value in values.items():
        print(f"{name}: {_as_text(value)}")
    for name in not_adopted(answer):
        print(f"{name} was drawn by each arm for itself, and both read one: it stays as it is")
    print("Confirm them with `dvc repro`")


def adopted_values(answer: SearchAnswer, params: Params) -> dict[str, Any]:
    """Return dotted name -> value of everything that is to be set and is not.

    Raises:
        UserError: the study is no longer in params.yaml.
    """
    study, arms = params.search.study(answer.study), answer.arms
    given = {f"{section}.{key}": value for section, keys in study.set.items() for key, value in keys.items()}
    cleared = {f"lr.{key}": None for key in CLEARED if getattr(params.lr, key) is not None}
    rates = {
        "lr.uniform": arms["baseline"].chosen.values["lr.uniform"],
        "lr.backbone": arms["differential"].chosen.values["lr.backbone"],
        "lr.head": arms["differential"].chosen.values["lr.head"],
    }
    return {**given, **cleared, **rates}


def write_values(values: Mapping[str, Any]) -> None:
    """Change values in params.yaml, and nothing else of it."""
    yaml = YAML()
    yaml.width = 4096  # characters, so that no list is broken into lines
    yaml.representer.add_representer(type(None), _as_null)
    content = yaml.load(PARAMS_FILE)
    text = io.StringIO()
    yaml.dump(_with(content, values), text)
    write_text(PARAMS_FILE, text.getvalue())


def _as_null(representer: RoundTripRepresenter, value: None) -> ScalarNode:
    """Write null as it stands there, where ruamel.yaml would leave the place empty."""
    node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:null", "null")
    return node


def not_adopted(answer: SearchAnswer) -> list[str]:
    """Return what both arms have drawn, each for itself."""
    return [name for name in answer.arms["baseline"].chosen.values if name not in RATES]


def _with(content: dict[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in values.items():
        section, key = name.split(".")
        content[section][key] = value
    return content


def _as_text(value: Any) -> str:
    return "null" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    run_cli(main)
