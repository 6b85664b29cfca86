"""Find learning rates by range tests: for the head alone, for the backbone given a head, and for all at one rate.

A range test trains a few steps while the rate grows, and stops when the loss bursts (Smith 2015, arXiv:1506.01186).
The loss is that of some training images, the same before every step, so that it moves with the network and not with
the images. The rate around which it falls most steeply is suggested: a place to begin a search, not its
result. Only several seeds on validation tell which rates are best.

Writes find_rates.csv and find_rates.svg. No weights are changed, and validation and test are not opened.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import joblib
import pandas as pd
import torch
from rich.console import Console
from torch import nn

from stages.data.batches import Samples, batch_sizes, open_samples
from stages.data.store import open_prepared, open_splits
from stages.errors import UserError, run_cli
from stages.files import write_csv, write_text
from stages.models.compute import Compute, report_out_of_memory, set_up_compute
from stages.models.network import Classifier, Network, build_network, check_image_size
from stages.params import LearningRates, Params, load_params
from stages.progress import ProgressBar, progress_bar
from stages.rates.freezing import freeze_all_but, train_mode
from stages.rates.lr_finder import RangeTestStep, geometric_rates, range_test, suggest_rate
from stages.rates.optimizers import build_optimizer, build_param_groups, set_lr
from stages.rates.policies import GroupPlan, given_rates
from stages.reporting.charts import as_svg, range_tests
from stages.training.frozen_features import head_on_features
from stages.training.loop import train_step

LOWEST_RATE, HIGHEST_RATE, STEPS, MIN_STEPS = 1e-6, 1.0, 80, 40
FIXED_IMAGES = (
    64  # images on which the loss is measured; more cost time, fewer make the suggestion hang on which they are
)
Step = Callable[[float], float]


def main() -> None:
    """Run the three tests."""
    parser = argparse.ArgumentParser(prog="python -m stages.find_rates", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--steps", type=int, default=STEPS, help=f"of each test, at most (default: {STEPS})")
    parser.add_argument("--seed", type=int, help="of the new head and the batches (default: the first of train.seeds)")
    parser.add_argument("--out", type=_folder, default=Path("report"), help="folder to write to (default: report)")
    parser.add_argument("--json", action="store_true", help="print the suggestions as one JSON object instead")
    options = parser.parse_args()
    if options.steps < MIN_STEPS:
        raise UserError(f"--steps: {options.steps} steps show no curve; give {MIN_STEPS} or more")
    params = load_params()
    seed = params.train.seeds[0] if options.seed is None else options.seed
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed: {seed} is no seed; give a number from 0 to {2**32 - 1}")
    check_prepared_is_current()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out: {options.out} is no folder to write to ({error.strerror}); give another") from None
    every_core = max(params.train.threads, joblib.cpu_count())  # one network is trained at a time
    compute = set_up_compute(params.train.model_copy(update={"threads": every_core}))
    prepared = open_prepared()
    splits = open_splits(prepared, params.train.seeds).iloc[:, 0]
    samples = open_samples(prepared.of_replicate(splits), ["train"], compute.device)["train"]
    network = build_network(params.model, len(prepared.classes), seed)
    check_image_size(network, params.model, prepared.image_size, prepared.channels)
    network.module.to(compute.device)

    with progress_bar(3 * options.steps, unit=" steps") as bar, report_out_of_memory(params.train):
        tests_by_part = find_rates(network, samples, params, compute, seed, options.steps, bar)
    suggestions = {part: rate for part, found in tests_by_part.items() if (rate := suggest_rate(found)) is not None}

    table = pd.DataFrame(
        {"part": part, "step": step, "learning_rate": taken.rate, "loss": taken.loss, "smoothed_loss": taken.smoothed}
        for part, found in tests_by_part.items()
        for step, taken in enumerate(found, start=1)
    )
    write_csv(options.out / "find_rates.csv", table, number="%.6g")
    write_text(options.out / "find_rates.svg", as_svg(range_tests(table, suggestions)))
    if options.json:
        print(json.dumps(suggestions))
    else:
        print_suggestions(suggestions, tests_by_part, params.lr, options.out)


def check_prepared_is_current() -> None:
    """Ask DVC whether the prepared images, and their splits, are those that params.yaml asks for.

    Raises:
        UserError: they are not, or not there.
    """
    status = [sys.executable, "-m", "dvc", "status", "--quiet", "--with-deps", "split"]
    if subprocess.run(status, check=False, capture_output=True).returncode:
        raise UserError(
            "data: the images and splits here are not those that params.yaml asks for: run `dvc repro split`, which "
            "makes them"
        )


def find_rates(
    network: Network, samples: Samples, params: Params, compute: Compute, seed: int, steps: int, bar: ProgressBar
) -> dict[str, list[RangeTestStep]]:
    """Run the three range tests: `head`, `backbone` and `all`. The network ends with the weights that it came with.

    Args:
        network: pretrained, with a new head.
        samples: of training.
        params: of which the sections `train` and `optimizer` are read.
        compute: device and precision.
        seed: of the batches.
        steps: of each test, at most.
        bar: shows how far it has come.
    """
    first = {name: tensor.clone() for name, tensor in network.module.state_dict().items()}
    head, backbone = ["head"], [group for group in network.groups if group != "head"]
    rates = geometric_rates(LOWEST_RATE, HIGHEST_RATE, steps)
    begin = partial(make_step, network, samples, compute, seed)
    tests_by_part: dict[str, list[RangeTestStep]] = {}

    def test(part: str, step: Step) -> None:
        bar.set_description(f"range test, {part}")
        tests_by_part[part] = list(range_test(step, _shown(rates, bar)))

    test("head", begin(head, params))
    network.module.load_state_dict(first)
    if rate := suggest_rate(tests_by_part["head"]):
        train_head(begin, params, rate, len(samples))
        test("backbone", begin(backbone, params))
        network.module.load_state_dict(first)
    test("all", begin([*head, *backbone], params))
    network.module.load_state_dict(first)
    return tests_by_part


def train_head(begin: Callable[[list[str], Params], Step], params: Params, rate: float, samples: int) -> None:
    """Train the head for one epoch, so that the backbone is tested given a head, which then stays as it is.

    BatchNorm runs as it will while the backbone is tested: a head made for other statistics would have to be made
    good first.
    """
    updating = params.train.model_copy(update={"frozen_batchnorm": "update"})
    step = begin(["head"], params.model_copy(update={"train": updating}))
    for _ in batch_sizes(samples, params.train.batch_size):
        step(rate)


def make_step(
    network: Network, samples: Samples, compute: Compute, seed: int, groups: list[str], params: Params
) -> Step:
    """Return a function that takes one step of some layer groups at a rate, and returns a fixed batch's loss before it.

    Args:
        network: learns, in place.
        samples: of training.
        compute: device and precision.
        seed: of the batches.
        groups: the layer groups that learn.
        params: of which the sections `train` and `optimizer` are read.
    """
    module, train = network.module, params.train
    freeze_all_but(module, (name for group in groups for name in network.groups[group]))
    classifier: Classifier = network
    if on_features := head_on_features(network, {"train": samples}, train, compute):
        classifier, samples = on_features[0], on_features[1]["train"]
    plan = {group: GroupPlan(1.0) for group in network.groups}
    param_groups = build_param_groups(params.optimizer, module, network.groups, plan)
    optimizer = build_optimizer(params.optimizer, param_groups, groups)
    batches = (batch for epoch in count(1) for batch in samples.shuffled_batches(train, seed, epoch))
    as_they_are = train.model_copy(update={"batch_size": FIXED_IMAGES, "augment": [], "mixup": 0, "cutmix": 0})
    fixed_inputs, fixed_labels = next(samples.shuffled_batches(as_they_are, seed, epoch=0))
    train_mode(classifier.module, train)
    torch.manual_seed(seed)  # dropout

    def step(rate: float) -> float:
        with torch.no_grad(), compute.autocast():
            loss = nn.functional.cross_entropy(classifier.logits(fixed_inputs.clone()), fixed_labels)
        inputs, labels = next(batches)
        set_lr(optimizer, rate)
        # None is taken where the loss is not finite; the next one on the fixed images says so.
        train_step(classifier, optimizer, inputs, labels, params, compute)
        return loss.item()

    return step


def print_suggestions(
    suggestions: dict[str, float], tests_by_part: dict[str, list[RangeTestStep]], rates: LearningRates, folder: Path
) -> None:
    """Print what to paste, with what keeps it from counting set to null, and where the curves are."""
    console = Console(soft_wrap=True, highlight=False)
    for part, found in tests_by_part.items():
        until = f"{len(found)} steps, up to a rate of {found[-1].rate:.2g}" if found else "no step"
        nothing = "suggests nothing: the loss does not fall over a whole decade of rates"
        console.print(f"{part}: {f'suggests {suggestions[part]:.2g}' if part in suggestions else nothing} ({until})")
    if "backbone" not in tests_by_part:
        console.print("backbone: not tested, for without a rate there is no trained head to give it")
    console.print()
    if {"head", "backbone"} <= set(suggestions):
        instead = "".join(f" -S lr.{key}=null" for key in ("layer_decay", "range") if getattr(rates, key))
        console.print(f"-S lr.backbone={suggestions['backbone']:.2g} -S lr.head={suggestions['head']:.2g}{instead}")
    if "all" in suggestions:
        instead = " -S lr.baseline=null" if rates.baseline and given_rates(rates.baseline) else ""
        console.print(f"-S lr.uniform={suggestions['all']:.2g}{instead}")
    console.print(f"\nThe curves: {folder / 'find_rates.svg'}, {folder / 'find_rates.csv'}")


def _folder(name: str) -> Path:
    """Return a folder that has a name, as argparse wants it."""
    if not name:
        raise argparse.ArgumentTypeError("a folder without a name; give one, such as report")
    return Path(name)


def _shown(rates: list[float], bar: ProgressBar) -> Iterator[float]:
    for rate in rates:
        yield rate
        bar.set_postfix(rate=f"{rate:.1e}", refresh=False)
        bar.update()


if __name__ == "__main__":
    run_cli(main)
