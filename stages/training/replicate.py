"""One replicate from its description to its checkpoint, in whatever process."""

from dataclasses import dataclass
from pathlib import Path

import torch

from stages.data.batches import open_samples
from stages.data.store import SPLITS_FILE, Prepared, open_prepared, open_splits
from stages.models.checkpoint import Description, save_checkpoint
from stages.models.compute import report_out_of_memory, set_up_compute
from stages.models.network import Network, build_network
from stages.models.predictions import save_predictions
from stages.params import Model, Params
from stages.rates.policies import Plan
from stages.rates.schedules import lr_multipliers
from stages.signals import Signals
from stages.training.distributed import current_processes
from stages.training.replicate_progress import ReplicateProgress
from stages.training.resume import ResumeState
from stages.training.trainer import Pruning, ReplicateResult, Trainer, count_steps


@dataclass(frozen=True)
class ReplicateJob:
    """A replicate that is to be trained; all that another process needs to know.

    Attributes:
        label: for people.
        fingerprint: of all that decides it.
        seed: of everything that is drawn.
        plan: layer group -> rate and first epoch.
        params: of the experiment.
        checksums: of the prepared data and of the replicate's splits.
        state: where the state is saved until the arm is finished.
        checkpoint: where to write the network, with its logits beside it; None where nobody will ask for them.
        splits: the table that has the replicate's column.
        pruning: when to give up; None never does.
    """

    label: str
    fingerprint: str
    seed: int
    plan: Plan
    params: Params
    checksums: dict[str, str]
    state: Path
    checkpoint: Path | None
    splits: Path = SPLITS_FILE
    pruning: Pruning | None = None


def train_replicate(job: ReplicateJob, progress: ReplicateProgress, signals: Signals) -> ReplicateResult:
    """Train a replicate, or what an interrupted run has left of it, and write its checkpoint unless it diverged."""
    params, processes = job.params, current_processes()
    with report_out_of_memory(params.train):
        compute = set_up_compute(params.train)
        images = open_prepared()
        prepared = images.of_replicate(open_splits(images, [job.seed], job.splits)[job.seed])
        if compute.device.type == "cuda":
            torch.cuda.empty_cache()  # of the replicate before, whose images count as taken until then
        samples = open_samples(prepared, ("train", "val"), compute.device)
        network = build_network(params.model, len(prepared.classes), job.seed)
        steps = count_steps(params.train, samples["train"])
        trainer = Trainer(
            network,
            job.plan,
            job.seed,
            params,
            lr_multipliers(params.schedule, params.train.epochs, steps),
            samples,
            compute,
            ResumeState(job.state, params.resume.save_every_minutes, processes),
            signals,
            progress,
            job.pruning,
            processes,
        )
        result = trainer.fit()
        if job.checkpoint and not result.diverged:
            predictions = trainer.predictions()
            if processes.rank == 0:
                save_checkpoint(job.checkpoint, network, describe_network(network, params.model, prepared))
                save_predictions(job.checkpoint, predictions, job.checksums)
    progress.end()
    return result


def describe_network(network: Network, model: Model, prepared: Prepared) -> Description:
    """Return all that a checkpoint needs to predict without params.yaml and without the data."""
    return Description(
        library=model.library,
        name=model.name,
        classes=tuple(prepared.classes),
        image_size=prepared.image_size,
        channels=prepared.channels,
        mean=network.preprocessing.mean,
        std=network.preprocessing.std,
        layer_groups=network.groups,
    )
