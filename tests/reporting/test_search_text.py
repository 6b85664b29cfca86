"""Sentences about a search: each says what its numbers say, whichever way they turn."""

import pytest

from stages.metrics_files import Interval
from stages.reporting.search_text import (
    best_table,
    conditions_sentence,
    curve_sentences,
    recommendation,
    repeats_sentence,
    searches_table,
    statements,
    thumb_sentence,
)
from tests.search_answers import arm, repeats_answer, search_answer

POINT = {"k": 1, "low": -0.2, "difference": 0.03, "high": 0.3}


def curves(*points, **changes):
    differences = {"differential": list(points)}
    return {"level": 0.95, "reach": len(points), "reach_of_twice": 8, "differences": differences, **changes}


def test_one_rate_is_recommended_where_nothing_is_shown():
    told = recommendation(search_answer(), repeats_answer())
    assert told.startswith("Take 0.0102 for everything: a second one is not shown to bring anything")
    assert "anything from 0.004 to 0.02 does as well" in told
    assert "84.0 % (82.0 to 86.0)" in told


def test_two_rates_are_recommended_where_tuning_them_is_shown_to_be_better():
    told = recommendation(search_answer(), repeats_answer(0.01, 0.04))
    assert told.startswith("Take 0.0015 / 0.0099 (backbone / head): tuning two rates is shown to beat tuning one")
    assert "backbone rates from 0.001 to 0.02 with head rates from 0.005 to 0.03 do as well" in told


def test_one_rate_is_recommended_where_tuning_two_is_shown_to_be_worse():
    assert recommendation(search_answer(), repeats_answer(-0.04, -0.01)).startswith("Take 0.0102 for everything")


def test_of_a_loss_less_is_better():
    assert "Take 0.0015 / 0.0099" in recommendation(search_answer(), repeats_answer(-0.04, -0.01, metric="loss"))
    assert "Take 0.0102 for" in recommendation(search_answer(), repeats_answer(0.01, 0.04, metric="loss"))


def test_without_repeats_the_curves_decide():
    ahead = search_answer(curves=curves(POINT, {"k": 2, "low": -0.2, "difference": -0.1, "high": -0.01}))
    assert "Take 0.0015 / 0.0099" in recommendation(ahead, None)
    assert "by the tuning curves" in recommendation(ahead, None)
    behind = search_answer(curves=curves({"k": 1, "low": 0.01, "difference": 0.1, "high": 0.2}))
    assert "Take 0.0102" in recommendation(behind, None)


def test_nothing_is_expected_where_there_is_no_surface():
    assert "Expect" not in recommendation(search_answer(surface=None), None)
    assert len(statements(search_answer(surface=None), None)) < len(statements(search_answer(), None))


@pytest.mark.parametrize(
    ("point", "words"),
    [
        (POINT, "For no number of trials up to 1 is tuning two rates shown to be ahead of one, or behind it"),
        ({"k": 1, "low": -0.2, "difference": -0.1, "high": -0.01}, "is shown to be ahead of tuning one"),
        ({"k": 1, "low": 0.01, "difference": 0.1, "high": 0.2}, "is shown to be behind tuning one"),
    ],
)
def test_the_curves_say_who_is_ahead(point, words):
    first, beyond = curve_sentences(search_answer(curves=curves(point)))
    assert words in first
    assert beyond == "Beyond k = 1 the bands of 48 trials are open; 96 would reach k = 8."


def test_of_an_accuracy_more_is_ahead():
    higher = {"k": 1, "low": 0.01, "difference": 0.02, "high": 0.03}
    first, _ = curve_sentences(search_answer(objective="val_accuracy", curves=curves(higher)))
    assert "ahead of tuning one" in first
    assert "+2.0 points (+1.0 to +3.0) in validation accuracy" in first


def test_curves_that_do_not_exist_have_a_reason():
    (told,) = curve_sentences(search_answer(curves=None, sampler="gp"))
    assert told == "There are no tuning curves: their bands need independent draws, and gp makes none."
    (told,) = curve_sentences(search_answer(curves=curves(reach_of_twice=1)))
    assert told == "The bands are open for every number of trials; twice as many would reach k = 1."


def test_a_third_contender_has_its_own_sentence():
    differences = {"differential": [POINT], "layer_decay": [{"k": 1, "low": -0.3, "difference": -0.2, "high": -0.1}]}
    both = {"level": 0.95, "reach": 1, "reach_of_twice": 8, "differences": differences}
    third = arm({"lr.head": 0.01, "lr.layer_decay": 0.8})
    answer = search_answer(curves=both, arms={**search_answer().model_dump()["arms"], "layer_decay": third})
    told = curve_sentences(answer)
    assert "tuning layer decay is shown to be ahead" in told[1]
    assert [row["arm"] for row in best_table(answer)] == ["one rate", "two rates", "layer decay"]
    assert best_table(answer)[2]["chosen"] == "0.8 / 0.01"


def test_repeated_searches_are_told_with_their_interval():
    told = repeats_sentence(repeats_answer())
    assert "In 6 independent searches of 8 trials an arm" in told
    assert "+0.5 points of test accuracy (two rates − one); 95 % interval −2.0 to +3.0, 1,489 images" in told


def test_a_single_search_says_nothing_of_the_procedure():
    assert "a single search cannot say" in repeats_sentence(repeats_answer(interval=None, searches=[]))
    assert searches_table(repeats_answer(interval=None, searches=[])) == []
    assert searches_table(None) == []


def test_repeats_without_an_interval_have_a_reason():
    told = repeats_sentence(repeats_answer(None, None))
    assert "differ by " in told
    assert "without an interval: there is one replicate" in told
    assert "by the tuning curves" in recommendation(search_answer(), repeats_answer(None, None))


def test_the_rule_of_thumb_may_lie_outside():
    surface = search_answer().model_dump()["surface"]
    inside = search_answer().surface
    assert "(0.0001 / 0.01) is 2.0 points of validation accuracy behind the best of the surface (−1.0 to 5.0)" in (
        thumb_sentence(inside)
    )
    del surface["places"]["rule_of_thumb"]
    assert "lies outside" in thumb_sentence(search_answer(surface=surface).surface)


def test_an_edge_is_told_with_what_to_do():
    edges = [{"parameter": "lr.uniform", "end": "high", "value": 0.1}]
    arms = search_answer().model_dump()["arms"]
    told = statements(search_answer(arms={**arms, "baseline": arm({"lr.uniform": 0.098}, edges=edges)}), None)
    assert "What is chosen for one rate has lr.uniform 0.098, at the high end of the space (0.1): widen it." in told
    edges = [{"parameter": "lr.backbone", "end": "low", "value": 0.001}]
    pair = arm({"lr.head": 0.01, "lr.backbone": 1.1e-05}, edges=edges)
    told = statements(search_answer(arms={**arms, "differential": pair}), None)
    assert (
        "What is chosen for two rates has lr.backbone 1.1e-05, the low end of its share of lr.head: widen it." in told
    )


@pytest.mark.parametrize(
    ("failed", "words"),
    [
        ({"diverged": 3}, "Of 48 trials of one rate, 3 diverged; they count as the worst."),
        ({"pruned": 1}, "Of 48 trials of one rate, 1 given up; they count as the worst."),
        ({"diverged": 3, "pruned": 2}, "Of 48 trials of one rate, 3 diverged and 2 given up; they count"),
    ],
)
def test_failed_trials_are_counted(failed, words):
    arms = search_answer().model_dump()["arms"]
    told = statements(search_answer(arms={**arms, "baseline": arm({"lr.uniform": 0.01}, **failed)}), None)
    assert any(words in sentence for sentence in told)


def test_no_failure_has_no_sentence():
    assert not any("count as the worst" in sentence for sentence in statements(search_answer(), None))


def test_the_conditions_have_the_numbers_of_this_search():
    told = conditions_sentence(search_answer(train=17, val=9, epochs=3, sampler="qmc"))
    for words in ("48 trials of each arm (qmc)", "3 epochs", "17 training and 9 validation images", "validation loss"):
        assert words in told


def test_the_tables_have_what_was_drawn():
    one, two = best_table(search_answer())
    assert (one["chosen"], two["chosen"]) == ("0.0102", "0.0015 / 0.0099")
    assert two["expected"] == "82.0 to 86.0 %"
    row = searches_table(repeats_answer())[0]
    assert row["difference"] == "+1.0"
    assert row["accuracy, one"] == "84.0 %"
    of_loss = searches_table(repeats_answer(metric="loss", interval=Interval(estimate=0.1)))[0]
    assert of_loss["difference"] == "+0.010"


def test_another_drawn_parameter_stands_beside_the_rates():
    values = {"lr.uniform": 0.01, "optimizer.weight_decay": 0.003}
    arms = search_answer().model_dump()["arms"]
    answer = search_answer(arms={**arms, "baseline": arm(values)})
    assert best_table(answer)[0]["best trial"] == "0.01, optimizer.weight_decay 0.003"
    assert "Take 0.01 for everything, optimizer.weight_decay 0.003:" in recommendation(answer, None)
