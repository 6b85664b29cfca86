"""fastai's Learner with its own loaders; the differential arm is a slice of rates over two groups."""

import contextlib
import os

import fastai.callback.progress  # noqa: F401  # gives every Learner its no_bar
from fastai.callback.core import Callback
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import GrandparentSplitter, get_image_files, parent_label
from fastai.learner import Learner
from fastai.metrics import accuracy
from fastai.optimizer import SGD
from fastai.vision.augment import Resize, ResizeMethod
from fastai.vision.data import ImageBlock
from torch import nn

from benchmarks.peers.common import BACKBONE, BATCH_SIZE, HEAD, MOMENTUM, UNIFORM, Clock, Job, param_groups


class Timer(Callback):
    """Times the passes over both splits."""

    def __init__(self, clock: Clock, images: dict[str, int]) -> None:
        self.clock, self.images, self.passing = clock, images, contextlib.ExitStack()

    def before_train(self) -> None:
        self.passing.enter_context(self.clock.measured("train", self.images["train"]))

    def after_train(self) -> None:
        self.passing.close()

    def before_validate(self) -> None:
        self.passing.enter_context(self.clock.measured("val", self.images["val"]))

    def after_validate(self) -> None:
        self.passing.close()


def groups_of(model: nn.Module) -> list[list[nn.Parameter]]:
    """Return the backbone's parameters and the head's, as fastai's splitters do."""
    return [list(group["params"]) for group in param_groups(model, BACKBONE, HEAD)]


def main() -> None:
    job, clock = Job.from_command(), Clock()
    loaders = DataBlock(
        blocks=(ImageBlock, CategoryBlock),
        get_items=get_image_files,
        splitter=GrandparentSplitter("train", "val"),
        get_y=parent_label,
        item_tfms=Resize(job.size, method=ResizeMethod.Squish),
    ).dataloaders(job.data, bs=BATCH_SIZE, num_workers=os.cpu_count() or 1)
    images = {"train": len(loaders.train_ds), "val": len(loaders.valid_ds)}
    for backbone, head in ((UNIFORM, UNIFORM), (BACKBONE, HEAD)):
        learner = Learner(
            loaders,
            job.module(),
            loss_func=nn.CrossEntropyLoss(),
            opt_func=SGD,
            moms=(MOMENTUM,) * 3,
            splitter=groups_of,
            metrics=accuracy,
            cbs=[Timer(clock, images)],
        )
        with learner.no_bar(), learner.no_logging():
            learner.fit(job.epochs, lr=slice(backbone, head))
    clock.report()


if __name__ == "__main__":
    main()
