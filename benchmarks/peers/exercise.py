"""The exercise's loop: an ImageFolder, a DataLoader, and a step, with torch's own defaults."""

import torch
from torch import nn, optim
from torch.utils.data import DataLoader

from benchmarks.peers.common import BACKBONE, BATCH_SIZE, HEAD, MOMENTUM, UNIFORM, Clock, Job, param_groups


def main() -> None:
    job, clock = Job.from_command(), Clock()
    train_loader = DataLoader(job.folder("train"), batch_size=BATCH_SIZE, shuffle=True)
    val_loader = DataLoader(job.folder("val"), batch_size=BATCH_SIZE)
    criterion = nn.CrossEntropyLoss()
    for backbone, head in ((UNIFORM, UNIFORM), (BACKBONE, HEAD)):
        model = job.module()
        optimizer = optim.SGD(param_groups(model, backbone, head), momentum=MOMENTUM)
        for _ in range(job.epochs):
            with clock.measured("train", len(train_loader.dataset)):
                model.train()
                correct, loss_sum = 0, 0.0
                for images, labels in train_loader:
                    optimizer.zero_grad()
                    outputs = model(images)
                    loss = criterion(outputs, labels)
                    loss.backward()
                    optimizer.step()
                    loss_sum += loss.item() * images.size(0)
                    correct += (outputs.argmax(1) == labels).sum().item()
            with clock.measured("val", len(val_loader.dataset)), torch.no_grad():
                model.eval()
                for images, labels in val_loader:
                    outputs = model(images)
                    loss_sum += criterion(outputs, labels).item() * images.size(0)
                    correct += (outputs.argmax(1) == labels).sum().item()
    clock.report()


if __name__ == "__main__":
    main()
