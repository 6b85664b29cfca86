"""Say who trains, validates and tests on what, before anything is trained: one table for all replicates of both arms.

Writes data/splits.csv (a row for each image: its part, and its split in each replicate), metrics/splits.json (how many
images that makes) and metrics/class_balance.csv (of each class in each split). With --search it draws those of the
trials of the search instead, without test images, into data/search_splits.csv and metrics/search/splits.json.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from stages.data.checks import MAX_LISTED
from stages.data.splits import UNUSED, Splits, class_balance, few_samples, split_replicates, splits_too_small
from stages.data.store import SEARCH_SPLITS_FILE, Prepared, open_prepared, write_splits
from stages.errors import UserError, run_cli
from stages.files import METRICS, write_csv, write_json
from stages.params import SPLITS, Data, Params, Split, load_params, params_error


def main() -> None:
    """Draw the splits of all replicates."""
    parser = argparse.ArgumentParser(prog="python -m stages.split", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--search", action="store_true", help="draw the splits of the search's trials instead")
    parser.add_argument("--dry-run", action="store_true", help="say what it would draw, and write nothing")
    parser.add_argument("--json", action="store_true", help="with --dry-run: print one JSON object instead")
    options = parser.parse_args()
    if options.json and not options.dry_run:
        parser.error("--json goes with --dry-run")
    params, prepared = load_params(), open_prepared()
    data, seeds = for_search(params) if options.search else (params.data, params.train.seeds)

    parts, splits = split_replicates(prepared.samples, data, seeds)
    balances = {seed: class_balance(prepared.samples, splits[seed], prepared.classes) for seed in seeds}
    check_balances(balances, prepared, data, ("train", "val") if options.search else SPLITS)
    counts = summarize(prepared, parts, splits, data)
    if options.json:
        print(json.dumps(counts))
        return
    if options.search and not options.dry_run:
        write_splits(prepared.samples, parts, splits.where(splits != "test", UNUSED), SEARCH_SPLITS_FILE)
        write_json(METRICS / "search" / "splits.json", counts)
    elif not options.dry_run:
        write_splits(prepared.samples, parts, splits)
        write_json(METRICS / "splits.json", counts)
        write_csv(METRICS / "class_balance.csv", balances[seeds[0]])
    print(describe_counts(counts, splits))
    few = few_samples(fewest(balances))
    print(*few[:MAX_LISTED], sep="\n", end="\n" if few else "")
    if len(few) > MAX_LISTED:
        print(f"and {len(few) - MAX_LISTED:,} more with few images")


def for_search(params: Params) -> tuple[Data, list[int]]:
    """Return from which images the trials of the search draw, and all their seeds.

    Raises:
        UserError: the search is ill described, or there are no images for it.
    """
    from stages.tuning.space import search_data, search_seeds, space_problems  # which the experiment does not depend on

    if problems := space_problems(params):
        raise params_error(problems)
    return search_data(params.data), search_seeds(params)


def check_balances(
    balances: dict[int, pd.DataFrame], prepared: Prepared, data: Data, needed: Sequence[Split] = SPLITS
) -> None:
    """Check the splits of every replicate.

    Args:
        balances: seed -> images of each class in each split.
        prepared: what was split.
        data: the section of params.yaml that it was split by.
        needed: the splits that are read.

    Raises:
        UserError: a class is missing from one, or validation is too small.
    """
    for seed, balance in balances.items():
        if problems := splits_too_small(balance[balance["split"].isin(needed)], prepared.samples, data):
            raise UserError("\n       ".join(f"{problem} (replicate with seed {seed})" for problem in problems))


def summarize(prepared: Prepared, parts: "pd.Series[str]", splits: Splits, data: Data) -> dict[str, Any]:
    """Return the content of metrics/splits.json, whose splits are those of the first replicate."""
    samples, first = prepared.samples, splits.iloc[:, 0]
    tested = (splits == "test").any(axis=1)
    return {
        "replicates": splits.shape[1],
        "folds": data.folds,
        "part": data.part,
        "development": int((parts == "development").sum()),
        **{split: int((first == split).sum()) for split in SPLITS},
        "tested": int(tested.sum()),
        "tested_groups": int(samples.loc[tested & (samples["group"] != ""), "group"].nunique()),
        "unused": int((samples["usable"] & (splits == "").all(axis=1)).sum()),
    }


def describe_counts(counts: dict[str, Any], splits: Splits) -> str:
    """Return the content of metrics/splits.json for people, with the sizes that splits have in every replicate."""
    sizes = {split: (splits == split).sum() for split in SPLITS}
    train, val, test = (counted(of_split.min(), of_split.max()) for of_split in sizes.values())
    number = counts["replicates"]
    each = f"{number:,} replicate{'s, each' if number > 1 else ''} with {train} train and {val} val images"
    if counts["folds"]:
        tested = f"{test} test images; every {counts['folds']} of them test {counts['tested']:,} once"
    elif not counts["test"]:
        tested = "no test images"
    else:
        tested = f"{'the same ' if number > 1 else ''}{test} test images"
    aside = f"; {counts['development']:,} are set aside for development" if counts["development"] else ""
    if counts["part"] == "development":
        aside = "; all within the development part"
    return f"{each}, and {tested}{aside}"


def counted(least: int, most: int) -> str:
    """Return how many there are, where replicates differ in it."""
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def fewest(balances: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Return how many images of each class there are in each split, in the replicate that has fewest of them."""
    return pd.concat(balances.values()).groupby(["split", "class"], sort=False)["images"].min().reset_index()


if __name__ == "__main__":
    run_cli(main)
