"""Print what each layer group is about to get: its size, its rate in each arm, its weight decay, and when it learns.

It builds the network without its pretrained weights, and trains nothing.
"""

import argparse
import json
import os
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from stages.data.sources import load_source
from stages.errors import run_cli
from stages.models.network import Network, empty_network
from stages.params import ARMS, Params, load_params
from stages.rates.optimizers import no_weight_decay
from stages.rates.policies import GroupPlan, plan_rates


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m stages.show_rates", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object for each layer group instead")
    as_json = parser.parse_args().json
    params = load_params()
    model = params.model
    classes = len(load_source(params.data).classes)
    network = empty_network(model.library, model.name, classes, granularity=model.layer_groups)

    rows = layer_group_rows(network, params)
    if as_json:
        for row in rows:
            print(json.dumps(row))
    else:
        print_for_people(rows, params)


def layer_group_rows(network: Network, params: Params) -> list[dict[str, Any]]:
    """Return a row for each layer group, from input to head: what it is and what it gets.

    Raises:
        UserError: a policy does not fit the network.
    """
    plans = {arm: plan_rates(arm, params.lr, list(network.groups), params.train.epochs) for arm in ARMS}
    kept = set() if params.optimizer.weight_decay_on_bias_and_norm else no_weight_decay(network.module)
    return [
        {
            "layer_group": group,
            "layers": _layers(names),
            "parameters": _count(network, names),
            "weight_decay": params.optimizer.weight_decay,
            "decayed_parameters": _count(network, [name for name in names if name not in kept])
            if params.optimizer.weight_decay and any(plan[group].learns(params.train.epochs) for plan in plans.values())
            else 0,
            **{
                arm: {"learning_rate": plan[group].rate, "learns_from_epoch": _first_epoch(plan[group], params)}
                for arm, plan in plans.items()
            },
        }
        for group, names in network.groups.items()
    ]


def print_for_people(rows: list[dict[str, Any]], params: Params) -> None:
    """Print the table, and what it does not say."""
    model, schedule = params.model, params.schedule
    console = Console()
    table = Table(title=f"{model.name} of {model.library}, by {model.layer_groups}", title_justify="left", box=SIMPLE)
    table.add_column("layer group", no_wrap=True)
    table.add_column("layers", overflow="fold")
    table.add_column("parameters", justify="right", no_wrap=True)
    for column in (*ARMS, "weight\ndecay"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row["layer_group"],
            row["layers"],
            f"{row['parameters']:,}",
            *(_describe(row[arm]) for arm in ARMS),
            _decay_in_words(row),
        )
    table.add_section()
    table.add_row("all", "", f"{sum(row['parameters'] for row in rows):,}")
    console.print(table)
    console.print(f"Rates per step of {params.optimizer.name}, before the schedule ({schedule.name}) scales them.")


def _describe(entry: dict[str, Any]) -> str:
    if not entry["learning_rate"]:
        return "[blue]frozen"
    rate, since = f"{entry['learning_rate']:.3g}", entry["learns_from_epoch"]
    if since is None:
        return f"{rate}\n[blue]not reached"
    return rate if since == 1 else f"{rate}\nfrom epoch {since}"


def _decay_in_words(row: dict[str, Any]) -> str:
    if not row["decayed_parameters"]:
        return "0"
    some = "" if row["decayed_parameters"] == row["parameters"] else f"\non {row['decayed_parameters']:,}"
    return f"{row['weight_decay']:g}{some}"


def _first_epoch(entry: GroupPlan, params: Params) -> int | None:
    return entry.first_epoch if entry.learns(params.train.epochs) else None


def _count(network: Network, names: list[str]) -> int:
    return sum(network.module.get_parameter(name).numel() for name in names)


def _layers(names: list[str]) -> str:
    """Return which modules hold these parameters: their common prefix, or the first and the last."""
    modules = [name.rpartition(".")[0] or name for name in names]
    common = os.path.commonpath([module.replace(".", "/") for module in modules]).replace("/", ".")
    return common or " … ".join(dict.fromkeys((modules[0], modules[-1])))


if __name__ == "__main__":
    run_cli(main)
