"""timm's loader with workers and prefetching, channels-last as timm's script can, and a plain step."""

import os

import torch
from timm.data import ImageDataset, create_loader
from timm.optim import create_optimizer_v2
from timm.utils import AverageMeter, accuracy
from torch import nn

from benchmarks.peers.common import (
    BACKBONE,
    BATCH_SIZE,
    HEAD,
    MEAN_AND_STD,
    MOMENTUM,
    UNIFORM,
    Clock,
    Job,
    param_groups,
)


def main() -> None:
    job, clock = Job.from_command(), Clock()
    mean, std = MEAN_AND_STD
    loaders = {
        split: create_loader(
            ImageDataset(str(job.data / split)),
            input_size=(3, job.size, job.size),
            batch_size=BATCH_SIZE,
            is_training=split == "train",
            no_aug=True,
            use_prefetcher=False,
            mean=mean,
            std=std,
            num_workers=os.cpu_count() or 1,
            persistent_workers=True,
            crop_pct=1.0,
            device=torch.device("cpu"),
        )
        for split in ("train", "val")
    }
    criterion = nn.CrossEntropyLoss()
    for backbone, head in ((UNIFORM, UNIFORM), (BACKBONE, HEAD)):
        model = job.module().to(memory_format=torch.channels_last)
        optimizer = create_optimizer_v2(
            param_groups(model, backbone, head), opt="sgd", lr=head, momentum=MOMENTUM, weight_decay=0.0
        )
        for _ in range(job.epochs):
            for split, loader in loaders.items():
                losses, hits = AverageMeter(), AverageMeter()
                model.train(split == "train")
                with clock.measured(split, len(loader.dataset)), torch.set_grad_enabled(split == "train"):
                    for images, labels in loader:
                        outputs = model(images.to(memory_format=torch.channels_last))
                        loss = criterion(outputs, labels)
                        if split == "train":
                            optimizer.zero_grad()
                            loss.backward()
                            optimizer.step()
                        losses.update(loss.item(), len(images))
                        hits.update(accuracy(outputs, labels)[0].item(), len(images))
    clock.report()


if __name__ == "__main__":
    main()
