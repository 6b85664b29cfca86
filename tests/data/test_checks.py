import pytest

from stages.data.checks import CHECKS, Finding, as_table, count, follows, stopping

BAD, LEAK, REFUSED = Finding("truncated", "a.png", "cut"), Finding("leak", "b.png"), Finding("outside", "c.png")
NOTED = Finding("cmyk", "d.png")


def test_every_check_has_a_count_also_where_it_found_nothing():
    counts = count([BAD, BAD, NOTED])
    assert list(counts) == list(CHECKS)
    assert (counts["truncated"], counts["cmyk"], counts["leak"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("knobs", "stop"),
    [
        ({}, ["outside", "truncated", "leak"]),
        ({"on_bad_image": "skip"}, ["outside", "leak"]),
        ({"allow_leaks": True}, ["outside", "truncated"]),
        ({"on_bad_image": "skip", "allow_leaks": True}, ["outside"]),
    ],
)
def test_params_say_what_stops(data, knobs, stop):
    data = data.model_copy(update=knobs)
    problems = stopping([NOTED, BAD, LEAK, REFUSED], data)
    assert len(problems) == len(stop)
    names = {"outside": "c.png", "truncated": "a.png", "leak": "b.png"}
    for problem, check in zip(problems, stop, strict=True):
        assert problem.startswith(f"data: {names[check]} ({CHECKS[check].means}")
    assert {check for check in names if follows(check, data) == "stops prepare"} == set(stop)


def test_a_problem_names_five_and_counts_the_rest(data):
    (problem,) = stopping([Finding("empty", f"{number}.png") for number in range(1234)], data)
    assert "4.png" in problem
    assert "5.png" not in problem
    assert "and 1,229 more, listed by `python -m stages.prepare --dry-run`: mend or remove them, or set" in problem


def test_the_table_is_in_the_order_of_the_checks_and_says_what_follows(data):
    rows = as_table([NOTED, LEAK, BAD], data.model_copy(update={"on_bad_image": "skip", "allow_leaks": True}))
    assert rows.to_numpy().tolist() == [
        ["truncated", "skipped", "a.png", "cut"],
        ["leak", "allowed", "b.png", ""],
        ["cmyk", "noted", "d.png", ""],
    ]
    assert list(as_table([], data)) == ["check", "consequence", "image", "detail"]
