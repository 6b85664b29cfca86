"""Print the class probabilities of images, from checkpoints or exported networks alone.

An image may be a file, a folder (all in it and below but what `prepare` leaves out, such as Thumbs.db), a pattern in
quotes such as 'photos/**/*.jpg', or - for names on stdin, one a line. Images that cannot be read are named at the end,
and the others are predicted all the same; it then ends with code 1.

--checkpoint is a checkpoint, an exported .onnx file, an exported folder, or a folder of checkpoints. Several networks
are an ensemble: of each image, the mean of their probabilities, the standard deviation among them, and the share of
the networks that disagree, whose most probable class is another than the mean's.
"""

import argparse
import csv
import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from stages.data.checks import Finding, describe
from stages.data.images import BadImageError, open_image, to_pixels
from stages.data.litter import is_housekeeping, left_out_as
from stages.errors import UserError, run_cli
from stages.exporting.predictors import Pixels, Predictor, open_predictors
from stages.progress import with_progress

MAX_SHOWN = 10  # classes of each image in the table; JSON and CSV have them all
STDIN = "-"
Shape = tuple[int, int]  # height and width, channels


@dataclass(frozen=True)
class Prediction:
    """What one network or several say of an image.

    Attributes:
        image: its name, as given or found.
        each: probabilities (networks, classes).
    """

    image: str
    each: npt.NDArray[np.float64]

    @property
    def mean(self) -> npt.NDArray[np.float64]:
        """Probabilities (classes,)."""
        return np.asarray(self.each.mean(axis=0))

    @property
    def standard_deviation(self) -> npt.NDArray[np.float64]:
        """Of the probabilities among the networks (classes,); there are two networks at least."""
        return np.asarray(self.each.std(axis=0, ddof=1))

    @property
    def share_that_disagrees(self) -> float:
        """Share of the networks whose most probable class is not that of the mean."""
        return float((self.each.argmax(axis=1) != self.mean.argmax()).mean())


def main() -> None:
    """Predict the images that the command names."""
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "--checkpoint",
        action="append",
        required=True,
        metavar="PATH",
        help="such as models/differential/seed-11.safetensors, models/differential or export; may be repeated",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON object for each image, one a line")
    form.add_argument("--csv", action="store_true", help="print a table with a row for each image")
    parser.add_argument("--batch-size", type=_positive, default=32, metavar="N", help="images at a time; 32")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="a file, a folder, a pattern, or -")
    options = parser.parse_args()

    networks = open_predictors(options.checkpoint)
    classes = networks[0].classes
    names = find_images(options.images)
    bad: list[Finding] = []
    predictions = predict(networks, names, options.batch_size, bad)
    if options.json:
        for prediction in predictions:
            print(json.dumps(as_json(prediction, classes)))
    elif options.csv:
        print_csv(predictions, classes, ensemble=len(networks) > 1)
    else:
        print_for_people(list(predictions), classes, ensemble=len(networks) > 1)
    sys.stdout.flush()
    if bad:
        raise UserError(complaint(bad, len(names)))


def _positive(text: str) -> int:
    """Return a whole number above 0, as argparse wants it."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is no number of images; give one above 0")
    return int(text)


def find_images(given: Sequence[str]) -> list[str]:
    """Return the names of files that folders, patterns and stdin stand for; one that is not there stays a name.

    Raises:
        UserError: a folder, a pattern or stdin has none.
    """
    names: list[str] = []
    for one in given:
        if one == STDIN:
            found = [line for line in sys.stdin.read().splitlines() if line]
        elif not one or os.path.lexists(one) or not glob.has_magic(one):
            found = [one] if one else []
        else:
            found = sorted(glob.glob(one, recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
        files = [file for name in found for file in (_files_in(name) if Path(name).is_dir() else [name])]
        if not files:
            raise UserError(f"IMAGE: {'stdin' if one == STDIN else repr(one)} names no file: give images")
        names += files
    return names


def _files_in(folder: str) -> list[str]:
    """Return every file in a folder and below, in order, but what `prepare` leaves out, linked folders among it."""
    names = []
    for inside, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not left_out_as(name))
        names += [str(Path(inside, name)) for name in sorted(files) if not (left_out_as(name) or is_housekeeping(name))]
    return names


def predict(
    networks: Sequence[Predictor], names: Sequence[str], batch_size: int, bad: list[Finding]
) -> Iterator[Prediction]:
    """Yield the predictions of all images that can be read, in their order.

    Args:
        networks: one, or an ensemble.
        names: of image files.
        batch_size: images that are read and shown at a time.
        bad: to which the others are added.
    """
    batches = [names[start : start + batch_size] for start in range(0, len(names), batch_size)]
    for batch in with_progress(batches, "predicting", "batch"):
        good: list[str] = []
        pixels: dict[Shape, list[Pixels]] = {shape_of(network): [] for network in networks}
        for name in batch:
            try:
                read = {shape: read_image(name, *shape) for shape in pixels}
            except BadImageError as error:
                bad.append(Finding(error.check, printable(name), error.detail))
                continue
            good.append(name)
            for shape, image in read.items():
                pixels[shape].append(image)
        if good:
            each = [network.probabilities(np.stack(pixels[shape_of(network)])) for network in networks]
            for name, of_image in zip(good, np.stack(each, axis=1), strict=True):
                yield Prediction(name, of_image)


def shape_of(network: Predictor) -> Shape:
    """Return the size and the channels that a network takes."""
    return network.image_size, network.channels


def read_image(name: str, size: int, channels: int) -> Pixels:
    """Read an image as `prepare` does.

    Raises:
        BadImageError: it cannot be used.
    """
    with open_image(Path(name)) as image:
        return to_pixels(image, size, channels)


def as_json(prediction: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    """Return everything about an image."""
    answer: dict[str, Any] = {"image": prediction.image, "probabilities": _by_class(prediction.mean, classes)}
    if len(prediction.each) > 1:
        answer["standard_deviations"] = _by_class(prediction.standard_deviation, classes)
        answer["share_that_disagrees"] = prediction.share_that_disagrees
        answer["networks"] = len(prediction.each)
    return answer


def _by_class(values: npt.NDArray[np.float64], classes: Sequence[str]) -> dict[str, float]:
    return dict(zip(classes, values.tolist(), strict=True))


def print_csv(predictions: Iterable[Prediction], classes: Sequence[str], ensemble: bool) -> None:
    """Print a row for each image: its most probable class, then what `as_json` has."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    columns = ["image", "class", *(f"probability of {name}" for name in classes)]
    if ensemble:
        columns += [*(f"standard deviation of {name}" for name in classes), "share that disagrees"]
    table.writerow(columns)
    for prediction in predictions:
        row = [printable(prediction.image), classes[int(prediction.mean.argmax())], *prediction.mean.tolist()]
        if ensemble:
            row += [*prediction.standard_deviation.tolist(), prediction.share_that_disagrees]
        table.writerow(row)


def print_for_people(predictions: Sequence[Prediction], classes: Sequence[str], ensemble: bool) -> None:
    """Print a table with the most probable classes of each image first. Names are text, never markup."""
    if not predictions:
        return
    table = Table(Column("image", overflow="fold"), Column("class", overflow="fold"))  # no name is cut short
    for column in ("probability", *(("standard deviation", "disagree") if ensemble else ())):
        table.add_column(column, justify="right", no_wrap=True)
    for prediction in predictions:
        likely = np.argsort(-prediction.mean, kind="stable")[:MAX_SHOWN]
        for place, one in enumerate(likely):
            name = Text("" if place else printable(prediction.image))
            cells = [f"{prediction.mean[one]:.1%}"]
            if ensemble:
                networks = len(prediction.each)
                others = round(prediction.share_that_disagrees * networks)
                cells += [f"{prediction.standard_deviation[one]:.1%}", "" if place else f"{others} of {networks}"]
            table.add_row(name, Text(classes[one]), *cells, end_section=place == len(likely) - 1)
    Console().print(table)


def complaint(bad: Sequence[Finding], given: int) -> str:
    """Return a line for each image that could not be read."""
    if given == 1:
        return f"{describe(bad[0])}: give another file"
    listed = "".join(f"\n       {describe(finding)}" for finding in bad)
    return f"{len(bad):,} of {given:,} files could not be predicted: mend them, or leave them out{listed}"


def printable(name: str) -> str:
    """Return a name that any terminal can bear: bytes that are not UTF-8 are escaped."""
    return name.encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    run_cli(main)
