import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.evaluation.reproduction import FLOOR, TOLERANCE, Figure, compare_metrics, overall

COMMITTED = {
    "images": 60,
    "learning_rates": {"head": 0.01},
    "mean": {"accuracy": 0.8, "loss": 0.5},
    "std": {"accuracy": 0.02, "loss": 0.001},
    "seed_1": {"accuracy": 0.82, "loss": 0.501},
}


def changed(*path, to):
    content = {key: dict(value) if isinstance(value, dict) else value for key, value in COMMITTED.items()}
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return content


def verdict(again):
    return overall(compare_metrics(COMMITTED, again))


def test_the_same_content_is_identical():
    assert verdict(COMMITTED) == "identical"
    assert len(compare_metrics(COMMITTED, COMMITTED)) == 6


@pytest.mark.parametrize("block", ["mean", "seed_1"])
def test_a_figure_over_replicates_may_differ_by_its_spread(block):
    there = COMMITTED[block]["accuracy"]
    within, beyond = there + 0.99 * TOLERANCE * 0.02, there + 1.01 * TOLERANCE * 0.02
    assert verdict(changed(block, "accuracy", to=within)) == "within tolerance"
    assert verdict(changed(block, "accuracy", to=beyond)) == "different"


def test_a_spread_that_is_small_by_chance_has_a_floor():
    assert verdict(changed("mean", "loss", to=0.5 + 0.9 * FLOOR)) == "within tolerance"
    assert verdict(changed("mean", "loss", to=0.5 + 1.1 * FLOOR)) == "different"


def test_how_far_a_group_moved_is_held_to_its_own_small_scale():
    committed = {"movement": {"baseline": {"mean": {"stem": 0.005}, "std": {"stem": 0.00001}}}}

    def again(moved):
        return {"movement": {"baseline": {"mean": {"stem": moved}, "std": {"stem": 0.00001}}}}

    assert overall(compare_metrics(committed, again(0.0055))) == "within tolerance"
    assert overall(compare_metrics(committed, again(0.0))) == "different"


@pytest.mark.parametrize(("path", "to"), [(("images",), 61), (("learning_rates", "head"), 0.010001)])
def test_what_is_not_measured_must_be_equal(path, to):
    assert verdict(changed(*path, to=to)) == "different"


def test_what_is_missing_or_new_or_no_number_is_different():
    assert verdict({key: value for key, value in COMMITTED.items() if key != "seed_1"}) == "different"
    assert verdict({**COMMITTED, "seed_2": {"accuracy": 0.8}}) == "different"
    assert verdict(changed("mean", "accuracy", to=None)) == "different"


def test_a_replicate_that_newly_diverged_is_told_by_what_it_lacks():
    again = {key: value for key, value in COMMITTED.items() if key != "seed_1"} | {"diverged": {"seed_1": {"epoch": 1}}}
    assert [figure.name for figure in compare_metrics(COMMITTED, again) if figure.verdict == "different"] == [
        "seed_1.accuracy",
        "seed_1.loss",
    ]


def test_the_spread_itself_follows_from_the_figures_and_is_not_judged():
    assert verdict(changed("std", "accuracy", to=0.03)) == "identical"


@given(st.lists(st.sampled_from([("a", "a", None), (1.0, 1.01, 0.1), (1.0, 2.0, 0.1)]), max_size=5))
def test_the_whole_is_as_its_worst_figure(kinds):
    figures = [Figure("figure", *kind) for kind in kinds]
    order = ["identical", "within tolerance", "different"]
    assert order.index(overall(figures)) == max((order.index(figure.verdict) for figure in figures), default=0)
