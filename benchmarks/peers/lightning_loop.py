"""Lightning's Trainer over an ImageFolder, with as many loader workers as cores, as it advises."""

import logging
import os
import warnings

import lightning
import torch
from torch import nn, optim
from torch.utils.data import DataLoader

from benchmarks.peers.common import BACKBONE, BATCH_SIZE, HEAD, MOMENTUM, UNIFORM, Clock, Job, param_groups


class Classifier(lightning.LightningModule):
    """The network with its two rates."""

    def __init__(self, model: nn.Module, backbone: float, head: float) -> None:
        super().__init__()
        self.model, self.rates = model, (backbone, head)

    def training_step(self, batch, _):
        images, labels = batch
        outputs = self.model(images)
        loss = nn.functional.cross_entropy(outputs, labels)
        self.log("train_accuracy", (outputs.argmax(1) == labels).float().mean(), on_epoch=True, on_step=False)
        return loss

    def validation_step(self, batch, _):
        images, labels = batch
        outputs = self.model(images)
        self.log("val_loss", nn.functional.cross_entropy(outputs, labels))
        self.log("val_accuracy", (outputs.argmax(1) == labels).float().mean())

    def configure_optimizers(self) -> optim.Optimizer:
        return optim.SGD(param_groups(self.model, *self.rates), momentum=MOMENTUM)


class Timer(lightning.Callback):
    """Times the passes over both splits."""

    def __init__(self, clock: Clock, images: dict[str, int]) -> None:
        self.clock, self.images = clock, images

    def on_train_epoch_start(self, *_):
        self.train = self.clock.measured("train", self.images["train"])
        self.train.__enter__()

    def on_validation_start(self, *_):
        self.train.__exit__(None, None, None)  # the validation pass lies within the training epoch's hooks
        self.val = self.clock.measured("val", self.images["val"])
        self.val.__enter__()

    def on_validation_end(self, *_):
        self.val.__exit__(None, None, None)


def main() -> None:
    job, clock = Job.from_command(), Clock()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    workers = {"num_workers": os.cpu_count() or 1, "persistent_workers": True}
    train_loader = DataLoader(job.folder("train"), batch_size=BATCH_SIZE, shuffle=True, **workers)
    val_loader = DataLoader(job.folder("val"), batch_size=BATCH_SIZE, **workers)
    images = {"train": len(train_loader.dataset), "val": len(val_loader.dataset)}
    for backbone, head in ((UNIFORM, UNIFORM), (BACKBONE, HEAD)):
        torch.manual_seed(1)
        trainer = lightning.Trainer(
            max_epochs=job.epochs,
            accelerator="auto",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            callbacks=[Timer(clock, images)],
        )
        trainer.fit(Classifier(job.module(), backbone, head), train_loader, val_loader)
    clock.report()


if __name__ == "__main__":
    main()
