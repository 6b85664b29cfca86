"""Policies: from an arm to a learning rate for each layer group, and to the epoch from which it learns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.errors import UserError
from stages.params import PLACES, Arm, Policy, Rates


@dataclass(frozen=True)
class GroupPlan:
    """What a layer group may expect.

    Attributes:
        rate: its learning rate per step, which the schedule scales; 0 freezes it.
        first_epoch: the first in which it learns, counted from 1; before, it is frozen.
    """

    rate: float
    first_epoch: int = 1

    def learns(self, epoch: int) -> bool:
        """Whether it learns in an epoch."""
        return self.rate > 0 and epoch >= self.first_epoch


Plan = dict[str, GroupPlan]


def plan_rates(arm: Arm, rates: Rates, groups: Sequence[str]) -> Plan:
    """Give each layer group of a network what an arm's policy has for it; `plan_policy` says what may be wrong."""
    return plan_policy(rates.policy(arm), groups, PLACES[arm])


def plan_policy(policy: Policy, groups: Sequence[str], place: str = "lr") -> Plan:
    """Give each layer group of a network its rate and its first epoch.

    Args:
        policy: of one arm.
        groups: names of the layer groups, from `stem` to `head`.
        place: where params.yaml keeps the policy.

    Raises:
        UserError: the policy names a layer group that the network does not have, or nothing learns in the first epoch.
    """
    unknown = [group for group in policy.groups or {} if group not in groups]
    if unknown:
        known = ", ".join(groups)
        raise UserError(f"{place}.groups: the network has no layer group {' or '.join(unknown)}; it has {known}")
    chosen = learning_rates(policy, groups)
    first = first_epochs(policy, [group for group in groups if chosen[group] > 0])
    plan = {group: GroupPlan(chosen[group], first.get(group, 1)) for group in groups}
    if not learning(plan, epoch=1):
        raise UserError(f"{place}: no layer group learns in epoch 1 ({in_words(plan)}); set a rate above 0")
    return plan


def learning_rates(policy: Policy, groups: Sequence[str]) -> dict[str, float]:
    """Give each layer group its rate per step; what the policy says of single groups counts most.

    Args:
        policy: of one arm.
        groups: names of the layer groups, from `stem` to `head`.
    """
    way = next(rate for key, rate in POLICIES.items() if getattr(policy, key) is not None)
    # The neck stands beside the head, as in timm's param_groups_layer_decay.
    stem_to_head = [group for group in groups if group != "neck"]
    depth = len(stem_to_head) - 1
    below_head = {group: depth - position for position, group in enumerate(stem_to_head)} | {"neck": 0}
    single = policy.groups or {}
    return {group: single.get(group, way(policy, group, below_head[group], depth)) for group in groups}


def first_epochs(policy: Policy, groups: Sequence[str]) -> dict[str, int]:
    """Give the first epoch of each layer group that learns.

    Args:
        policy: of one arm.
        groups: those with a rate above 0, from the input up.
    """
    backbone = [group for group in groups if group != "head"]
    if policy.gradual_unfreezing:
        alone = max(policy.head_first, 1)
        return {group: alone + below for below, group in enumerate(reversed(backbone), start=1)}
    return dict.fromkeys(backbone, policy.head_first + 1)


def learning(plan: Plan, epoch: int) -> list[str]:
    """Name the layer groups that learn in an epoch, in the order in which they began to, then from input to head."""
    return sorted((group for group in plan if plan[group].learns(epoch)), key=lambda group: plan[group].first_epoch)


def phases(plan: Plan, epochs: int) -> list[int]:
    """Give the epochs in which other layer groups learn than in the one before; the first is 1."""
    return [1] + [epoch for epoch in range(2, epochs + 1) if learning(plan, epoch) != learning(plan, epoch - 1)]


def rates_reached(plan: Plan, epochs: int) -> dict[str, float]:
    """Give each layer group's rate; 0 to those that the last epoch still finds frozen."""
    return {group: entry.rate if entry.learns(epochs) else 0.0 for group, entry in plan.items()}


def key_of_rate(arm: Arm, rates: Rates, group: str) -> str:
    """Name the key of params.yaml that gives a layer group its rate."""
    policy = rates.policy(arm)
    own = rates.baseline and rates.baseline.rates()
    place = PLACES[arm] if own or policy.uniform is None else "lr"
    if group in (policy.groups or {}):
        return f"{PLACES[arm]}.groups.{group}"
    if policy.range:
        return f"{place}.range"
    if policy.uniform is not None:
        return f"{place}.uniform"
    return f"{place}.head" if group == "head" or policy.decay else f"{place}.backbone"


def in_words(plan: Plan) -> str:
    """Say every layer group's rate, for a message."""
    return ", ".join(f"{group} {entry.rate:g}" for group, entry in plan.items())


def _range(policy: Policy, group: str, below_head: int, depth: int) -> float:
    """Go geometrically from the stem's rate to the head's, as fastai spreads `slice(lo, hi)`."""
    lowest, highest = policy.range or (0.0, 0.0)
    return highest * float((lowest / highest) ** (below_head / depth))


def _decay(policy: Policy, group: str, below_head: int, depth: int) -> float:
    """Go down geometrically from the head's rate (ULMFiT, arXiv:1801.06146; BEiT, arXiv:2106.08254)."""
    return (policy.head or 0.0) * float((policy.decay or 0.0) ** below_head)


def _uniform(policy: Policy, group: str, below_head: int, depth: int) -> float:
    return policy.uniform or 0.0


def _backbone_and_head(policy: Policy, group: str, below_head: int, depth: int) -> float:
    return (policy.head if group == "head" else policy.backbone) or 0.0


# The key of params.yaml that tells the policy -> the rate of a group that many groups below the head.
POLICIES: dict[str, Callable[[Policy, str, int, int], float]] = {
    "uniform": _uniform,
    "range": _range,
    "decay": _decay,
    "backbone": _backbone_and_head,
}
