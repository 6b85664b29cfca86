import math

import pytest

from stages.rates.lr_finder import geometric_rates, range_test, suggest_rate

RATES = geometric_rates(1e-6, 10, 100)


def valley(rate):
    """A loss that falls most steeply around a rate of 0.001 and bursts from 0.1 on."""
    return 1 - 0.8 / (1 + (0.001 / rate) ** 2) + max(0, rate / 0.1) ** 3


def test_rates_grow_geometrically_between_the_ends():
    assert RATES[0] == 1e-6
    assert RATES[-1] == pytest.approx(10)
    assert RATES[50] / RATES[49] == pytest.approx(RATES[1] / RATES[0])


def test_the_suggestion_lies_where_the_loss_falls_most_steeply():
    """The smoothed loss follows the loss by a part of a decade."""
    suggested = suggest_rate(list(range_test(valley, RATES)))
    assert 0.0005 < suggested < 0.02


def test_the_test_stops_when_the_loss_bursts():
    trials = list(range_test(valley, RATES))
    assert 0.1 < trials[-1].rate < 2
    assert all(trial.smoothed < 4 for trial in trials)


@pytest.mark.parametrize("end", [math.nan, math.inf])
def test_the_test_stops_when_the_loss_is_no_number(end):
    taken = []

    def take_step(rate):
        taken.append(rate)
        return end if len(taken) == 20 else 1 / len(taken)

    trials = list(range_test(take_step, RATES))
    assert (len(trials), len(taken)) == (19, 20)


@pytest.mark.parametrize("loss", [lambda rate: 1.0, lambda rate: 1 + rate])
def test_a_loss_that_never_falls_suggests_nothing(loss):
    assert suggest_rate(list(range_test(loss, RATES))) is None


def test_a_test_that_bursts_at_once_suggests_nothing():
    assert suggest_rate([]) is None
    assert suggest_rate(list(range_test(valley, RATES))[:5]) is None


def test_the_smoothed_loss_of_a_constant_is_the_constant():
    assert [trial.smoothed for trial in range_test(lambda rate: 2.5, RATES)] == pytest.approx([2.5] * 100)
