"""Schedules: the multiplier that each step of training puts on every layer group's own rate."""

import math
from collections.abc import Callable, Sequence

from stages.errors import UserError
from stages.params import Schedule
from stages.rates.policies import Plan

MIN_CYCLE_STEPS = 4


def lr_multipliers(schedule: Schedule, epochs: int, steps_per_epoch: int) -> list[float]:
    """Return the multiplier of every step, from the first of the first epoch to the last of the last.

    Warm-up of W steps rises linearly: step t, counted from 0, has (t + 1) / W. Then the schedule runs over the steps
    that are left.

    Args:
        schedule: the section of params.yaml.
        epochs: how many.
        steps_per_epoch: optimizer steps in each.

    Raises:
        UserError: the warm-up takes the whole training, or the training is too short for a cycle.
    """
    total = epochs * steps_per_epoch
    unit = steps_per_epoch if schedule.warmup_unit == "epochs" else 1
    warmup = math.ceil(schedule.warmup * unit - 1e-9)  # of a part of a step, the whole
    if warmup >= total:
        raise UserError(
            f"schedule.warmup: {schedule.warmup:g} {schedule.warmup_unit} are no less than the whole training "
            f"({epochs} epochs of {steps_per_epoch} steps); set fewer"
        )
    if schedule.name == "one_cycle" and total < MIN_CYCLE_STEPS:
        raise UserError(
            f"schedule.name: one_cycle needs {MIN_CYCLE_STEPS} steps to rise and to fall, and this training has "
            f"{total}; set constant"
        )
    rising = [(step + 1) / warmup for step in range(warmup)]
    shape = SCHEDULES[schedule.name]
    return rising + [shape(schedule, step, total - warmup, steps_per_epoch) for step in range(total - warmup)]


def rate_curves(plan: Plan, multipliers: Sequence[float], steps_per_epoch: int) -> list[dict[str, str | int | float]]:
    """Return each layer group's rate over the steps, as rows with `step` (from 1), `layer_group`, `learning_rate`.

    Steps within a stretch of equal rates are left out, all but its first and its last: a line through the rest is
    the same line.

    Args:
        plan: layer group -> rate and first epoch.
        multipliers: of every step.
        steps_per_epoch: how many there are in each epoch.
    """
    rows: list[dict[str, str | int | float]] = []
    for group, entry in plan.items():
        rates = [
            entry.rate * multiplier if entry.learns(step // steps_per_epoch + 1) else 0.0
            for step, multiplier in enumerate(multipliers)
        ]
        rows += [
            {"step": step + 1, "layer_group": group, "learning_rate": rate}
            for step, rate in enumerate(rates)
            if not rate == rates[max(step - 1, 0)] == rates[min(step + 1, len(rates) - 1)]
            or step in (0, len(rates) - 1)
        ]
    return rows


def _constant(schedule: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    return 1.0


def _cosine(schedule: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """Fall along half a cosine from 1 towards 0 (SGDR without restarts, arXiv:1608.03983)."""
    return (1 + math.cos(math.pi * step / steps)) / 2


def _linear(schedule: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """Fall on a line from 1 towards 0, which the step after the last would reach."""
    return 1 - step / steps


def _step(schedule: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """Fall by a factor every few epochs."""
    return float(schedule.gamma ** (step // (schedule.step_size * steps_per_epoch)))


def _one_cycle(schedule: Schedule, step: int, steps: int, steps_per_epoch: int) -> float:
    """Rise to 1 over the first 30 %, then fall to almost nothing, both along half a cosine (arXiv:1708.07120).

    The shares and the depths are those of torch's OneCycleLR: from 1/25 up, down to a ten-thousandth of that.
    """
    first, last = 1 / 25, 1 / 25 / 10_000
    peak = 0.3 * steps - 1
    if step <= peak:
        return _half_cosine(first, 1.0, step / peak)
    return _half_cosine(1.0, last, (step - peak) / (steps - 1 - peak))


def _half_cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


# Name -> multiplier of a step, counted from 0 after the warm-up, of so many.
SCHEDULES: dict[str, Callable[[Schedule, int, int, int], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "one_cycle": _one_cycle,
    "step": _step,
}
