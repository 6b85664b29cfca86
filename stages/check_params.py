"""Check params.yaml against its schema, with its policies and the space of its searches; say all that is wrong."""

import argparse
from typing import Any

from stages.errors import run_cli
from stages.params import ARMS, PARAMS_FILE, LearningRates, check_schema, params_error, read_params, schema_problems
from stages.rates.policies import policy_problems
from stages.tuning.space import space_problems


def main() -> None:
    """Check params.yaml."""
    argparse.ArgumentParser(prog="python -m stages.check_params", description=__doc__).parse_args()
    if problems := find_problems(read_params()):
        raise params_error(problems)
    print(f"{PARAMS_FILE} is in order")


def find_problems(content: dict[str, Any]) -> list[str]:
    """Return everything that is wrong with the content of params.yaml, each as `lr.head: what is wrong`."""
    problems = schema_problems(content)
    if any(problem.startswith(("lr", "train:", "train.epochs")) for problem in problems):
        return problems  # a policy can be judged where its keys are sound
    rates = LearningRates.model_validate(content["lr"])
    problems += [problem for arm in ARMS for problem in policy_problems(arm, rates, content["train"]["epochs"])]
    return problems or space_problems(check_schema(content))


if __name__ == "__main__":
    run_cli(main)
