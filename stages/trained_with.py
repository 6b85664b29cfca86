"""With which parameters an arm was trained, as a short digest of each section of params.yaml that decides it."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from stages.hashing import hash_bytes
from stages.params import Arm, Params, Section
from stages.rates.policies import plan_rates

DIGITS = 12
# Of `train`: they change no result, the last where torchrun starts no processes, which `environment` would say.
NOT_RECORDED = {"workers", "engine", "on_divergence", "ddp_batchnorm"}


def trained_with(params: Params, arm: Arm, groups: Sequence[str]) -> dict[str, str]:
    """Return section -> digest of its values; of `lr`, of what the arm's come to.

    Args:
        params: of the experiment.
        arm: which.
        groups: names of the network's layer groups, from `stem` to `head`.
    """
    plan = plan_rates(arm, params.lr, groups, params.train.epochs)
    shared: dict[str, Section] = {
        "model": params.model,
        "optimizer": params.optimizer,
        "schedule": params.schedule,
        "train": params.train,
    }
    return {
        "lr": _digest({group: asdict(entry) for group, entry in plan.items()}),
        **{name: _digest(_recorded(section)) for name, section in shared.items()},
    }


def _recorded(section: Section) -> dict[str, Any]:
    return {key: getattr(section, key) for key in type(section).model_fields if key not in NOT_RECORDED}


def _digest(values: dict[str, Any]) -> str:
    return hash_bytes(json.dumps(values, sort_keys=True).encode())[:DIGITS]
