"""What all replicates that are trained together share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.data.batches import batch_sizes
from stages.data.store import (
    SPLITS_FILE,
    Prepared,
    open_prepared,
    open_splits,
    replicate_checksums,
    verified_checksums,
)
from stages.hashing import hash_tensors
from stages.models.compute import Compute, set_up_compute
from stages.models.network import Network, build_network, check_image_size
from stages.params import Arm, Params
from stages.rates.policies import Plan, plan_rates
from stages.training.distributed import is_started_by_torchrun
from stages.training.fingerprint import fingerprint
from stages.training.replicate import ReplicateJob
from stages.training.resume import resume_path
from stages.training.trainer import Pruning


@dataclass(frozen=True)
class Experiment:
    """What replicates share.

    Attributes:
        params: of the experiment.
        prepared: the images.
        splits_file: the table of their splits.
        splits: its content, a row for each image, a column for each seed.
        checksums: of the prepared data.
        network: with first weights; of another seed only the head differs, or without pretrained weights all of them.
        weights: digest of those.
        compute: device and precision.
    """

    params: Params
    prepared: Prepared
    splits_file: Path
    splits: pd.DataFrame
    checksums: dict[str, str]
    network: Network
    weights: str
    compute: Compute

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch of the first replicate; with groups, others may have a few more or less."""
        images = int((self.splits.iloc[:, 0] == "train").sum())
        return len(batch_sizes(images, self.params.train.batch_size))

    def plan(self, arm: Arm, params: Params | None = None) -> Plan:
        """Return an arm's rates, layer group by layer group, by the experiment's parameters or by others."""
        params = params or self.params
        return plan_rates(arm, params.lr, list(self.network.groups), params.train.epochs)

    def job(
        self,
        label: str,
        plan: Plan,
        seed: int,
        checkpoint: Path | None,
        *,
        state: str,
        params: Params | None = None,
        pruning: Pruning | None = None,
    ) -> ReplicateJob:
        """Return the description of a replicate.

        Args:
            label: for people.
            plan: layer group -> rate and first epoch.
            seed: of the replicate.
            checkpoint: where to write the network.
            state: what the name of its state begins with, until it is finished.
            params: where they are not those of the experiment.
            pruning: when to give up.
        """
        params = params or self.params
        checksums = replicate_checksums(self.checksums, self.splits[seed])
        digest = fingerprint(params, plan, seed, self.weights, checksums, self.compute)
        path = resume_path(f"{state}-seed-{seed}", digest)
        if is_started_by_torchrun():  # whose sums round otherwise, so that one process alone must not go on from there
            path = path.with_suffix(f".{params.train.ddp_batchnorm}")
        return ReplicateJob(
            label,
            digest,
            seed,
            plan,
            params,
            checksums,
            state=path,
            checkpoint=checkpoint,
            splits=self.splits_file,
            pruning=pruning,
        )


def open_experiment(params: Params, seeds: Sequence[int], splits_file: Path = SPLITS_FILE) -> Experiment:
    """Open the prepared images with the splits of some seeds, and build the network that they are to train."""
    compute = set_up_compute(params.train)
    checksums = verified_checksums()
    prepared = open_prepared()
    network = build_network(params.model, len(prepared.classes), seed=0)
    check_image_size(network, params.model, prepared.image_size, prepared.channels)
    splits = open_splits(prepared, seeds, splits_file)
    weights = hash_tensors(network.module.state_dict())
    return Experiment(params, prepared, splits_file, splits, checksums, network, weights, compute)
