"""Check params.yaml against its schema, and the policies in it, and say everything that is wrong at once.

Where all of that is in order, check that its network can be built and takes images of its size.

What would stop a search but not the experiment, it only notes.
"""

import argparse
import os
import shutil
import subprocess
from typing import Any, NamedTuple

from stages.errors import run_cli
from stages.files import METRICS, write_text
from stages.network_check import network_problems
from stages.params import (
    ARMS,
    PARAMS_FILE,
    LearningRates,
    Model,
    check_schema,
    params_error,
    read_params,
    schema_problems,
)
from stages.rates.policies import policy_problems
from stages.tuning.space import space_problems
from stages.unchanged import note_params_of_run


class IdentityPart(NamedTuple):
    """Where Git looks for a part of who commits, before its configuration, and an example of it."""

    variable: str
    example: str


IDENTITY = {
    "user.name": IdentityPart("GIT_COMMITTER_NAME", "Ada Lovelace"),
    "user.email": IdentityPart("GIT_COMMITTER_EMAIL", "ada@example.com"),
}


def main() -> None:
    """Check params.yaml."""
    argparse.ArgumentParser(prog="python -m stages.check_params", description=__doc__).parse_args()
    content = read_params()
    if problems := find_problems(content):
        raise params_error(problems)
    print(f"{PARAMS_FILE} is in order")
    write_text(METRICS / "params_check.txt", f"{PARAMS_FILE} is in order\n")  # `prepare` waits for it
    params = check_schema(content)
    note_params_of_run(params)
    for problem in space_problems(params):
        print(f"note: a search would stop: {problem}")
    if missing := [key for key in IDENTITY if not is_known_to_git(key)]:
        typed = "; ".join(f'git config --global {key} "{IDENTITY[key].example}"' for key in missing)
        print(f"note: the next `dvc exp run` would stop, for Git does not know who you are: type {typed}")


def is_known_to_git(key: str) -> bool:
    """Whether DVC finds a part of the identity; where there is no Git, none is asked for."""
    if os.environ.get(IDENTITY[key].variable) or shutil.which("git") is None:
        return True
    return subprocess.run(["git", "config", key], capture_output=True, check=False).returncode == 0


def find_problems(content: dict[str, Any]) -> list[str]:
    """Return everything that is wrong with the content of params.yaml, each as `lr.head: what is wrong`."""
    problems = schema_problems(content)
    problems += problems_of_network(content, problems)
    if any(problem.startswith(("lr", "train:", "train.epochs")) for problem in problems):
        return problems  # a policy can be judged where its keys are sound
    rates = LearningRates.model_validate(content["lr"])
    return problems + [problem for arm in ARMS for problem in policy_problems(arm, rates, content["train"]["epochs"])]


def problems_of_network(content: dict[str, Any], found: list[str]) -> list[str]:
    """Return what is wrong with the network, where what is found so far leaves it to be judged."""
    if any(problem.startswith(("model", "data.image_size", "data: missing", "data: should hold")) for problem in found):
        return []
    return network_problems(Model.model_validate(content["model"]), content["data"]["image_size"])


if __name__ == "__main__":
    run_cli(main)
