"""Policies: from an arm to a learning rate for each layer group, and to the epoch from which it learns.

What the keys of the section `lr` of params.yaml mean, and which may stand together, is said here and nowhere else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from stages.errors import UserError
from stages.params import Arm, LearningRates, Policy

# Where params.yaml keeps what an arm's policy adds to its rates.
POLICY_SECTION: dict[Arm, str] = {"baseline": "lr.baseline", "differential": "lr"}
RATE_KEYS = {"uniform", "backbone", "head", "layer_decay", "range"}
COMPLETE_RATE_KEYS = ({"uniform"}, {"backbone", "head"}, {"head", "layer_decay"}, {"range"})


@dataclass(frozen=True)
class GroupPlan:
    """The rate of a layer group, and when it learns.

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


def policy_of(arm: Arm, rates: LearningRates) -> Policy:
    """Return an arm's policy: the baseline's own keys, or what the flat keys of `lr` come to.

    `uniform` holds for the baseline where `lr.baseline` gives no rates; `layer_decay` takes the place of `backbone`,
    and `range` that of `backbone` and `head`.
    """
    if arm == "baseline":
        own = rates.baseline or Policy()
        return own if given_rates(own) else own.model_copy(update={"uniform": rates.uniform})
    return Policy(
        backbone=None if rates.range or rates.layer_decay else rates.backbone,
        head=None if rates.range else rates.head,
        layer_decay=rates.layer_decay,
        range=rates.range,
        groups=rates.groups,
        head_only_epochs=rates.head_only_epochs,
        gradual_unfreezing=rates.gradual_unfreezing,
    )


def given_rates(policy: Policy) -> dict[str, Any]:
    """Return the keys of a policy that give a rate, with their values."""
    return policy.model_dump(include=RATE_KEYS, exclude_none=True)


def policy_problems(arm: Arm, rates: LearningRates, epochs: int) -> list[str]:
    """Return what keeps the keys of an arm from being a policy, each as `lr: arm: what is wrong`.

    Args:
        arm: whose policy.
        rates: the section `lr` of params.yaml.
        epochs: of the training.
    """
    if arm == "differential" and rates.layer_decay and rates.range:
        return ["lr: layer_decay and range both take the place of backbone; set one of them to null"]
    policy, section = policy_of(arm, rates), POLICY_SECTION[arm]
    problem = _contradiction(policy)
    if problem:
        return [f"lr: {arm}: {problem}"]
    if policy.head_only_epochs >= epochs and not _trains_the_head_alone(policy):
        return [
            f"{section}.head_only_epochs: {policy.head_only_epochs} leaves the backbone none of the {epochs} epochs; "
            f"set it below train.epochs, or the backbone's rate to 0 to train the head alone"
        ]
    return []


def _contradiction(policy: Policy) -> str | None:
    """Return what is wrong with the keys of one policy; None where nothing is."""
    given, groups = given_rates(policy), policy.groups or {}
    if set(given) not in COMPLETE_RATE_KEYS:
        return "give uniform, or backbone and head, or head and layer_decay, or range, and no mixture of them"
    zero = [key for key in ("uniform", "backbone", "head") if given.get(key) == 0]
    if not policy.range and len(zero) == len(set(given) - {"layer_decay"}) and not any(groups.values()):
        are = f"{' and '.join(zero)} {'are' if len(zero) > 1 else 'is'} 0"
        return f"{are}, so this arm would train nothing; set a rate above 0"
    head = groups.get("head", 1 if policy.range else given.get("head", policy.uniform))
    if not head and (policy.head_only_epochs or policy.gradual_unfreezing):
        phase = "head_only_epochs" if policy.head_only_epochs else "gradual_unfreezing"
        return f"the head's rate is 0, but {phase} trains it alone first; set it above 0"
    return None


def _trains_the_head_alone(policy: Policy) -> bool:
    return policy.backbone == 0 and not any(rate for group, rate in (policy.groups or {}).items() if group != "head")


def plan_rates(arm: Arm, rates: LearningRates, groups: Sequence[str], epochs: int) -> Plan:
    """Return the rate and the first epoch of each layer group of a network, as an arm's policy has it.

    Args:
        arm: whose policy.
        rates: the section `lr` of params.yaml.
        groups: names of the layer groups, from `stem` to `head`.
        epochs: of the training.

    Raises:
        UserError: the keys contradict each other, name a layer group that the network does not have, or let nothing
            learn in the first epoch.
    """
    if problems := policy_problems(arm, rates, epochs):
        raise UserError("; ".join(problems))
    return plan_policy(policy_of(arm, rates), groups, POLICY_SECTION[arm])


def plan_policy(policy: Policy, groups: Sequence[str], section: str = "lr") -> Plan:
    """Return the rate and the first epoch of each layer group of a network.

    Args:
        policy: of one arm.
        groups: names of the layer groups, from `stem` to `head`.
        section: of params.yaml that holds the policy.

    Raises:
        UserError: the policy names a layer group that the network does not have, or nothing learns in the first epoch.
    """
    unknown = [group for group in policy.groups or {} if group not in groups]
    if unknown:
        known = ", ".join(groups)
        raise UserError(f"{section}.groups: the network has no layer group {' or '.join(unknown)}; it has {known}")
    chosen = learning_rates(policy, groups)
    first = first_epochs(policy, [group for group in groups if chosen[group] > 0])
    plan = {group: GroupPlan(chosen[group], first.get(group, 1)) for group in groups}
    if not trainable_groups(plan, epoch=1):
        raise UserError(f"{section}: no layer group learns in epoch 1 ({describe(plan)}); set a rate above 0")
    return plan


def learning_rates(policy: Policy, groups: Sequence[str]) -> dict[str, float]:
    """Return the rate per step of each layer group; what the policy says of single groups counts most.

    Args:
        policy: of one arm.
        groups: names of the layer groups, from `stem` to `head`.
    """
    rate_of = next(rate for key, rate in POLICIES.items() if getattr(policy, key) is not None)
    # The neck stands beside the head, as in timm's param_groups_layer_decay.
    stem_to_head = [group for group in groups if group != "neck"]
    depth = len(stem_to_head) - 1
    below_head = {group: depth - position for position, group in enumerate(stem_to_head)} | {"neck": 0}
    single = policy.groups or {}
    return {group: single.get(group, rate_of(policy, group, below_head[group], depth)) for group in groups}


def first_epochs(policy: Policy, groups: Sequence[str]) -> dict[str, int]:
    """Return the first epoch of each layer group that learns.

    Args:
        policy: of one arm.
        groups: those with a rate above 0, from the input up.
    """
    backbone = [group for group in groups if group != "head"]
    if policy.gradual_unfreezing:
        alone = max(policy.head_only_epochs, 1)
        return {group: alone + below for below, group in enumerate(reversed(backbone), start=1)}
    return dict.fromkeys(backbone, policy.head_only_epochs + 1)


def trainable_groups(plan: Plan, epoch: int) -> list[str]:
    """Name the layer groups that learn in an epoch, in the order in which they began to, then from input to head."""
    return sorted((group for group in plan if plan[group].learns(epoch)), key=lambda group: plan[group].first_epoch)


def phases(plan: Plan, epochs: int) -> list[int]:
    """Return the epochs in which other layer groups learn than in the one before; the first is 1."""
    return [1] + [
        epoch for epoch in range(2, epochs + 1) if trainable_groups(plan, epoch) != trainable_groups(plan, epoch - 1)
    ]


def final_learning_rates(plan: Plan, epochs: int) -> dict[str, float]:
    """Return each layer group's rate, 0 where the last epoch still finds it frozen."""
    return {group: entry.rate if entry.learns(epochs) else 0.0 for group, entry in plan.items()}


def key_of_rate(arm: Arm, rates: LearningRates, group: str) -> str:
    """Return the key of params.yaml that gives a layer group its rate, such as `lr.head`."""
    policy = policy_of(arm, rates)
    has_own_rates = rates.baseline is not None and given_rates(rates.baseline)
    section = POLICY_SECTION[arm] if has_own_rates or policy.uniform is None else "lr"
    if group in (policy.groups or {}):
        return f"{POLICY_SECTION[arm]}.groups.{group}"
    if policy.range:
        return f"{section}.range"
    if policy.uniform is not None:
        return f"{section}.uniform"
    return f"{section}.head" if group == "head" or policy.layer_decay else f"{section}.backbone"


def describe(plan: Plan) -> str:
    """Return every layer group with its rate, for a message."""
    return ", ".join(f"{group} {entry.rate:g}" for group, entry in plan.items())


def _range(policy: Policy, group: str, below_head: int, depth: int) -> float:
    """Go geometrically from the stem's rate to the head's, as fastai spreads `slice(lo, hi)`."""
    lowest, highest = policy.range or (0.0, 0.0)
    return highest * float((lowest / highest) ** (below_head / depth))


def _layer_decay(policy: Policy, group: str, below_head: int, depth: int) -> float:
    """Go down geometrically from the head's rate (ULMFiT, arXiv:1801.06146; BEiT, arXiv:2106.08254)."""
    return (policy.head or 0.0) * float((policy.layer_decay or 0.0) ** below_head)


def _uniform(policy: Policy, group: str, below_head: int, depth: int) -> float:
    return policy.uniform or 0.0


def _backbone_and_head(policy: Policy, group: str, below_head: int, depth: int) -> float:
    return (policy.head if group == "head" else policy.backbone) or 0.0


# The key of params.yaml that marks the policy -> the rate of a group that many groups below the head.
POLICIES: dict[str, Callable[[Policy, str, int, int], float]] = {
    "uniform": _uniform,
    "range": _range,
    "layer_decay": _layer_decay,
    "backbone": _backbone_and_head,
}
