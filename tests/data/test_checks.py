import pytest

from stages.data.checks import CHECKS, Finding, as_table, blocking_problems, count_findings, effective_consequence

BAD, LEAK, REFUSED = Finding("truncated", "a.png", "cut"), Finding("leak", "b.png"), Finding("outside", "c.png")
NOTED = Finding("cmyk", "d.png")


def test_every_check_has_a_count_also_where_it_found_nothing():
    counts = count_findings([BAD, BAD, NOTED])
    assert list(counts) == list(CHECKS)
    assert (counts["truncated"], counts["cmyk"], counts["leak"]) == (2, 1, 0)


@pytest.mark.parametrize(
    ("config", "stop"),
    [
        ({}, ["outside", "truncated", "leak"]),
        ({"on_bad_image": "skip"}, ["outside", "leak"]),
        ({"allow_leaks": True}, ["outside", "truncated"]),
        ({"on_bad_image": "skip", "allow_leaks": True}, ["outside"]),
    ],
)
def test_params_say_what_stops(data, config, stop):
    data = data.model_copy(update=config)
    problems = blocking_problems([NOTED, BAD, LEAK, REFUSED], data)
    assert len(problems) == len(stop)
    names = {"outside": "c.png", "truncated": "a.png", "leak": "b.png"}
    for problem, check in zip(problems, stop, strict=True):
        assert problem.startswith(f"data: {names[check]} ({CHECKS[check].description}")
    assert {check for check in names if effective_consequence(check, data) == "stops prepare"} == set(stop)


def test_a_problem_names_five_and_counts_the_rest(data):
    (problem,) = blocking_problems([Finding("empty", f"{number}.png") for number in range(1234)], data)
    assert "4.png" in problem
    assert "5.png" not in problem
    assert "and 1,229 more, listed by `python -m stages.prepare --dry-run --json`: mend or remove them, or" in problem


def test_the_table_is_in_the_order_of_the_checks_and_says_what_follows(data):
    rows = as_table([NOTED, LEAK, BAD], data.model_copy(update={"on_bad_image": "skip", "allow_leaks": True}))
    assert rows.to_numpy().tolist() == [
        ["truncated", "skipped", "a.png", "cut"],
        ["leak", "allowed", "b.png", ""],
        ["cmyk", "noted", "d.png", ""],
    ]
    assert list(as_table([], data)) == ["check", "consequence", "image", "detail"]
