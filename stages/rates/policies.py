"""Policies: from an arm to a learning rate for each layer group. An arm is an entry in one table."""

from collections.abc import Callable, Iterable

from stages.params import Arm, Rates


def learning_rates(arm: Arm, rates: Rates, groups: Iterable[str]) -> dict[str, float]:
    """Give each layer group its learning rate per step; 0 freezes it.

    Args:
        arm: which policy.
        rates: the section `lr` of params.yaml.
        groups: names of the layer groups; the last one is `head`.
    """
    policy = POLICIES[arm]
    return {group: policy(rates, group) for group in groups}


def _uniform(rates: Rates, group: str) -> float:
    return rates.uniform


def _backbone_and_head(rates: Rates, group: str) -> float:
    return rates.head if group == "head" else rates.backbone


POLICIES: dict[Arm, Callable[[Rates, str], float]] = {"baseline": _uniform, "differential": _backbone_and_head}
