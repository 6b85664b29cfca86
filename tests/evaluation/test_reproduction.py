import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluation.reproduction import FLOOR, TOLERANCE, MetricComparison, compare_metrics, overall

COMMITTED = {
    "images": 60,
    "learning_rates": {"head": 0.01},
    "mean": {"accuracy": 0.8, "loss": 0.5},
    "std": {"accuracy": 0.02, "loss": 0.001},
    "seeds": {"1": {"accuracy": 0.82, "loss": 0.501}},
}


def changed(*path, to):
    content = copy.deepcopy(COMMITTED)
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return content


def outcome(again):
    return overall(compare_metrics(COMMITTED, again))


def test_the_same_content_is_identical():
    assert outcome(COMMITTED) == "identical"
    assert len(compare_metrics(COMMITTED, COMMITTED)) == 6


@pytest.mark.parametrize(("path", "there"), [(("mean",), 0.8), (("seeds", "1"), 0.82)])
def test_a_metric_over_replicates_may_differ_by_its_spread(path, there):
    within, beyond = there + 0.99 * TOLERANCE * 0.02, there + 1.01 * TOLERANCE * 0.02
    assert outcome(changed(*path, "accuracy", to=within)) == "within tolerance"
    assert outcome(changed(*path, "accuracy", to=beyond)) == "different"


def test_a_spread_that_is_small_by_chance_has_a_floor():
    assert outcome(changed("mean", "loss", to=0.5 + 0.9 * FLOOR)) == "within tolerance"
    assert outcome(changed("mean", "loss", to=0.5 + 1.1 * FLOOR)) == "different"


def test_a_weight_change_is_held_to_its_own_small_scale():
    committed = {"relative_weight_change": {"baseline": {"mean": {"stem": 0.005}, "std": {"stem": 0.00001}}}}

    def again(weight_change):
        return {"relative_weight_change": {"baseline": {"mean": {"stem": weight_change}, "std": {"stem": 0.00001}}}}

    assert overall(compare_metrics(committed, again(0.0055))) == "within tolerance"
    assert overall(compare_metrics(committed, again(0.0))) == "different"


@pytest.mark.parametrize(("path", "to"), [(("images",), 61), (("learning_rates", "head"), 0.010001)])
def test_what_is_not_measured_must_be_equal(path, to):
    assert outcome(changed(*path, to=to)) == "different"


def test_what_is_missing_or_new_or_no_number_is_different():
    assert outcome({key: value for key, value in COMMITTED.items() if key != "seeds"}) == "different"
    assert outcome(changed("seeds", "2", to={"accuracy": 0.8})) == "different"
    assert outcome(changed("mean", "accuracy", to=None)) == "different"


def different(committed, again):
    return [metric.name for metric in compare_metrics(committed, again) if metric.outcome == "different"]


def test_a_replicate_that_newly_diverged_is_named_and_one_that_diverged_elsewhere_is_not():
    first, later = ({**COMMITTED, "diverged": {"1": {"epoch": epoch}}} for epoch in (1, 2))
    assert different(COMMITTED, first) == ["diverged"]
    assert different({**COMMITTED, "diverged": {}}, first) == ["diverged"]
    assert different(first, COMMITTED) == ["diverged"]
    assert different(first, later) == []


def test_the_spread_itself_follows_from_the_metrics_and_is_not_compared():
    assert outcome(changed("std", "accuracy", to=0.03)) == "identical"


@given(st.lists(st.sampled_from([("a", "a", None), (1.0, 1.01, 0.1), (1.0, 2.0, 0.1)]), max_size=5))
def test_the_whole_is_as_its_worst_metric(kinds):
    metrics = [MetricComparison("metric", *kind) for kind in kinds]
    order = ["identical", "within tolerance", "different"]
    assert order.index(overall(metrics)) == max((order.index(metric.outcome) for metric in metrics), default=0)
