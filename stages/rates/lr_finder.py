"""The learning-rate range test: train a few steps at growing rates; see where the loss falls and where it diverges.

Leslie Smith, Cyclical Learning Rates for Training Neural Networks, 2015, arXiv:1506.01186, section 3.3. As in fastai's
`lr_find`, rates grow geometrically, the loss is smoothed, and the test stops at four times the lowest smoothed loss.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

SMOOTHING_DECADES = 0.3  # decades of rates after which the smoothed loss has forgotten all but a third of a loss
DIVERGENCE_FACTOR = 4  # times the lowest smoothed loss
SLOPE_DECADES = 1.0  # of rates, over which a slope is taken


@dataclass(frozen=True)
class RangeTestStep:
    """One step of a range test.

    Attributes:
        rate: at which the step was taken.
        loss: before the step, in nats.
        smoothed: exponential average of the losses so far.
    """

    rate: float
    loss: float
    smoothed: float


def geometric_rates(lowest: float, highest: float, steps: int) -> list[float]:
    """Return rates that grow geometrically, both ends included."""
    return [lowest * (highest / lowest) ** (step / (steps - 1)) for step in range(steps)]


def range_test(take_step: Callable[[float], float], rates: Iterable[float]) -> Iterator[RangeTestStep]:
    """Take one step at each rate until the loss diverges or stops being finite.

    Args:
        take_step: trains for one step at a rate, and returns the loss before it, of the same samples each time.
        rates: growing.
    """
    smoothed, lowest, before = math.nan, math.inf, math.nan
    for rate in rates:
        loss = take_step(rate)
        past = 0.0 if math.isnan(before) else math.exp(-math.log10(rate / before) / SMOOTHING_DECADES)
        smoothed = past * smoothed + (1 - past) * loss if past else loss
        if not smoothed < DIVERGENCE_FACTOR * lowest:  # what is not a number is not below either
            return
        lowest, before = min(lowest, smoothed), rate
        yield RangeTestStep(rate, loss, smoothed)


def suggest_rate(steps: Sequence[RangeTestStep]) -> float | None:
    """Suggest the rate around which the smoothed loss falls most steeply, before it reaches its lowest.

    The slope is that of a line fitted, over the logarithm of the rate, to `SLOPE_DECADES` of rates, so that
    no single step decides. The steepest slope is what Smith's test is commonly read by (fastai's `steep`).

    Returns:
        None where the loss does not fall over so many decades.
    """
    falling = steps[: 1 + min(range(len(steps)), key=lambda step: steps[step].smoothed, default=-1)]
    logs = np.array([math.log10(step.rate) for step in falling])
    losses = np.array([step.smoothed for step in falling])
    lines = [
        (float(np.polyfit(logs[inside], losses[inside], deg=1)[0]), float(10 ** logs[inside].mean()))
        for first in logs
        if first + SLOPE_DECADES <= logs[-1] + 1e-9
        for inside in [(logs >= first - 1e-9) & (logs <= first + SLOPE_DECADES + 1e-9)]
    ]
    slope, rate = min(lines, default=(0.0, 0.0))
    return rate if slope < 0 else None
