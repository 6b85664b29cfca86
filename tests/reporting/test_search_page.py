"""The page of a search, made of small made-up results."""

import json
import math
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import search_report
from stages.errors import UserError
from stages.metrics_files import Interval
from stages.params import Study, load_params
from stages.reporting import search_charts
from stages.reporting.charts import as_svg
from stages.reporting.search_page import SearchFiles, objective_curves, objective_surface, render_search_page
from stages.search_files import (
    ArmTrials,
    Chance,
    CurvePoint,
    Curves,
    Estimate,
    Place,
    RepeatedSearch,
    RepeatsAnswer,
    SearchAnswer,
    Span,
    SurfaceAnswer,
    Trial,
)
from tests.conftest import ROOT

METRICS = ["val_loss", "val_accuracy", "train_loss", "train_accuracy", "overfitting_gap"]
STUDY = Study.model_validate(
    {
        "set": {"optimizer": {"name": "<i>sgd</i>"}},
        "space": {
            "lr": {
                "uniform": {"low": 0.0001, "high": 0.1},
                "head": {"low": 0.0001, "high": 0.1},
                "backbone": {"low": 0.001, "high": 1.0, "times": "lr.head"},
            },
        },
    }
)


def make_trials(count=6, diverged=(), arms=("baseline", "differential")):
    """Trials whose loss has its optimum at a head's rate of 0.01."""
    rows = []
    for index, arm in enumerate(arms):
        for number in range(1, count + 1):
            head = 10 ** (-4 + 3 * number / (count + 1))
            loss = 0.3137 + 0.1 * (math.log10(head) + 2) ** 2 + 0.01 * index
            rates = {"lr.uniform": head} if arm == "baseline" else {"lr.head": head, "lr.backbone": head / 7}
            if arm == "layer_decay":
                rates = {"lr.head": head, "lr.layer_decay": 0.5}
            came_to = dict(zip(METRICS, [loss, 1.1 - loss, loss - 0.05, 1.15 - loss, 0.05], strict=True))
            failed = (arm, number) in diverged
            rows.append(
                {"arm": arm, "trial": number, "seed": 1000 + 100_000 * index + number}
                | {"state": "diverged" if failed else "finished", **rates}
                | ({} if failed else came_to)
            )
    columns = ["arm", "trial", "seed", "state", "lr.uniform", "lr.head", "lr.backbone"]
    columns += ["lr.layer_decay"] if "layer_decay" in arms else []
    return pd.DataFrame(rows, columns=[*columns, *METRICS])


def make_curves(trials, reach=3):
    """Curves whose bands have both ends up to `reach`, then the worse one alone."""
    rows = []
    for metric in ("val_loss", "val_accuracy"):
        for arm, of_arm in trials.groupby("arm", sort=False):
            for k in range(1, len(of_arm) + 1):
                middle = (0.5 if metric == "val_loss" else 0.6) + (-1 if metric == "val_loss" else 1) * 0.02 * k
                low, high = middle - 0.05, middle + 0.05
                if k > reach:
                    low, high = (np.nan, high) if metric == "val_loss" else (low, np.nan)
                rows.append({"metric": metric, "arm": arm, "k": k, "low": low, "median": middle, "high": high})
    return pd.DataFrame(rows)


def make_surface(step=0.5):
    heads, shares = np.arange(-4, -1 + step / 2, step), np.arange(0, -3 - step / 2, -step)
    rows = [(head + share, head) for share in shares for head in heads]
    backbone, head = np.array(rows).T
    loss = 0.3 + 0.1 * (head + 2) ** 2 + 0.01 * (backbone + 3) ** 2
    region = np.where(loss <= np.sort(loss)[1], 0.5, np.where(loss <= np.sort(loss)[4], 0.9, np.nan))
    values = {"val_loss": loss, "val_accuracy": 1.1 - loss, "overfitting_gap": 0.02 * (head + 4)}
    table = pd.DataFrame({"backbone": 10**backbone, "head": 10**head})
    for metric, of_metric in values.items():
        table[metric], table[f"{metric}_sd"] = of_metric, 0.01 * (1 + (head + 2) ** 2)
    return table.assign(region=region)


def make_answer(trials, curves=True, surface=True):
    estimate = Estimate(mean=0.7777, low=0.7511, high=0.7999)
    arms = {}
    for arm, of_arm in trials.groupby("arm", sort=False):
        best = of_arm.loc[of_arm["val_loss"].idxmin()]
        values = {name: best[name] for name in of_arm if name.startswith("lr.") and not math.isnan(best[name])}
        metrics = {name: best[name] for name in METRICS}
        trial = Trial(trial=int(best["trial"]), values=values, metrics=metrics, edges=[])
        arms[arm] = ArmTrials(
            trials=len(of_arm),
            diverged=int((of_arm["state"] == "diverged").sum()),
            pruned=0,
            best=trial,
            chosen=trial,
        )
    points = [CurvePoint(k=k, low=-0.03, difference=0.01, high=0.05) for k in (1, 2, 3)]
    place = Place(backbone=0.01, head=0.01, val_accuracy=estimate, behind_best=estimate)
    span = Span(low=0.004, high=0.02)
    return SearchAnswer(
        study="sgd",
        images="0123abcd",
        epochs=7,
        objective="val_loss",
        sampler="random" if curves else "qmc",
        train=5223,
        val=2124,
        arms=arms,
        curves=Curves(level=0.95, reach=3, reach_of_twice=5, differences={"differential": points}) if curves else None,
        surface=SurfaceAnswer(
            noise=0.02,
            ahead=Chance(margin=0.01, chance=0.1, without_gain=0.2, as_high_without_gain=0.8, simulations=200),
            uniform=span,
            backbone=span,
            head=span,
            places={"baseline": place, "differential": place},
        )
        if surface
        else None,
    )


def make_repeats(interval, differences=(0.013, -0.004)):
    return RepeatsAnswer(
        study="sgd",
        trials=3,
        metric="accuracy",
        interval=interval,
        tested=7561,
        searches=[
            RepeatedSearch(
                seed=number,
                values={"baseline": {"lr.uniform": 0.01}, "differential": {"lr.head": 0.02, "lr.backbone": 0.003}},
                scores={"baseline": 0.851, "differential": 0.851 + difference},
                diverged=[],
            )
            for number, difference in enumerate(differences)
        ],
    )


INTERVAL = Interval(estimate=0.0045, low=-0.0123, high=0.0213, level=0.95)


def make_files(diverged=(), arms=("baseline", "differential"), curves=True, surface=True, repeats=INTERVAL):
    trials = make_trials(diverged=diverged, arms=arms)
    return SearchFiles(
        answer=make_answer(trials, curves, surface),
        repeats=make_repeats(repeats) if repeats else None,
        trials=trials,
        curves=make_curves(trials) if curves else None,
        surface=make_surface() if surface else None,
    )


def page_of(files, **made_from):
    return render_search_page(files, STUDY, made_from)


@pytest.fixture(scope="module")
def files():
    """What a search with a diverged trial has left."""
    return make_files(diverged={("differential", 2)})


@pytest.fixture(scope="module")
def page(files):
    return page_of(files, machine="of someone")


def table_of(page, name):
    """The rows of a table, as texts."""
    (table,) = re.findall(rf'<table id="{name}".*?</table>', page, re.DOTALL)
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)]


def specifications(page):
    """What the charts of a page are drawn from."""
    found = re.findall(r'<script type="application/json" class="specification">(.*?)</script>', page, re.DOTALL)
    return [json.loads(specification) for specification in found]


def marks(chart, kind):
    """The layers of a chart with marks of one kind, each with its rows."""
    described = chart.to_dict()
    return [
        (layer, described["datasets"][layer.get("data", described.get("data"))["name"]])
        for layer in described["layer"]
        if layer["mark"]["type"] == kind
    ]


def test_every_trial_stands_on_the_page_with_its_numbers(page, files):
    head, *rows = table_of(page, "trials")
    assert len(rows) == len(files.trials) == 12
    for row, trial in zip(rows, files.trials.to_dict("records"), strict=True):
        shown = dict(zip(head, row, strict=True))
        assert (shown["trial"], shown["seed"], shown["state"]) == (
            str(trial["trial"]),
            str(trial["seed"]),
            trial["state"],
        )
        for name in ("lr.uniform", "lr.head", "lr.backbone"):
            assert shown[name] == ("" if math.isnan(trial[name]) else f"{trial[name]:g}")
        failed = trial["state"] == "diverged"
        assert shown["validation loss"] == ("" if failed else f"{trial['val_loss']:.3f}")
        assert shown["validation, %"] == ("" if failed else f"{100 * trial['val_accuracy']:.1f}")


def test_charts_have_the_numbers_of_the_files(page, files):
    curves, _, surface, *_, repeats = specifications(page)
    medians = sorted(
        row["median"] for rows in curves["datasets"].values() for row in rows if math.isnan(row.get("at") or math.nan)
    )
    assert medians == pytest.approx(sorted(files.curves.query("metric == 'val_loss'")["median"]))
    cells = max(surface["datasets"].values(), key=len)
    assert [cell["value"] for cell in cells] == pytest.approx(list(files.surface["val_loss"]), rel=1e-3)
    assert [cell["backbone"] for cell in cells] == pytest.approx(list(files.surface["backbone"]), rel=1e-3)
    shown = [row for rows in repeats["datasets"].values() for row in rows]
    assert [row["difference"] for row in shown if "seed" in row] == pytest.approx([1.3, -0.4])
    (mean,) = [row for row in shown if "low" in row]
    assert [mean[name] for name in ("difference", "low", "high")] == pytest.approx([0.45, -1.23, 2.13])


def test_how_it_was_made_says_images_trials_seeds_and_space(page):
    made = dict(table_of(page, "made"))
    assert (made["epochs of a trial"], made["digest of the prepared images"]) == ("7", "0123abcd")
    assert made["images"].startswith("of the first trial 5,223 training and 2,124 validation images")
    assert made["trials"].startswith("6 of one rate (0 diverged, 0 given up), 6 of two rates (1 diverged")
    assert "1001 to 1006 (one rate), 101001 to 101006 (two rates)" in made["seeds"]
    assert made["lr.backbone"] == "0.001 to 1, log-uniform, as a share of lr.head"
    assert made["machine"] == "of someone"
    assert '<a href="../metrics/search/sgd/trials.csv">' in made["files"]


def test_names_are_escaped():
    files = make_files(repeats=Interval(estimate=0.0, reason="<b>none</b>"))
    files = replace(files, trials=files.trials.assign(**{"<u>x</u>": 1.0}))
    page = page_of(files, machine="</table><script>alert(1)</script>")
    assert "&lt;i&gt;sgd&lt;/i&gt;" in page
    assert "&lt;u&gt;x&lt;/u&gt;" in page
    assert "&lt;b&gt;none&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(1)" in page
    assert not re.search(r"<i>sgd|<u>x|<b>none|<script>alert", page)


@pytest.mark.parametrize("metric", ["val_loss", "val_accuracy"])
def test_a_band_is_drawn_only_where_both_of_its_ends_are_finite(metric):
    chart = search_charts.tuning_curves(make_curves(make_trials(), reach=3), metric)
    ((_, rows),) = marks(chart, "area")
    assert sorted((row["arm"], row["k"]) for row in rows) == [
        (arm, k) for arm in ("one rate", "two rates") for k in (1, 2, 3)
    ]
    assert marks(chart, "rule")[0][1] == []
    ((_, rows),) = marks(chart, "line")
    assert sorted({row["k"] for row in rows}) == [1, 2, 3, 4, 5, 6]


def test_a_band_of_a_single_k_is_an_upright_line():
    chart = search_charts.tuning_curves(make_curves(make_trials(), reach=1), "val_loss")
    ((_, rows),) = marks(chart, "rule")
    assert [(row["arm"], row["k"]) for row in rows] == [("one rate", 1), ("two rates", 1)]
    assert rows[0]["at"] < rows[1]["at"]  # beside each other


def test_without_any_finite_band_the_medians_alone_are_drawn():
    chart = search_charts.tuning_curves(make_curves(make_trials(), reach=0), "val_loss")
    assert marks(chart, "area")[0][1] == marks(chart, "rule")[0][1] == []
    assert "<svg" in as_svg(chart)


def test_a_huge_loss_leaves_the_axis_to_what_most_trials_come_to():
    curves = make_curves(make_trials())
    curves.loc[curves["k"] == 1, "high"] = 900.0
    ((layer, _),) = marks(search_charts.tuning_curves(curves, "val_loss"), "line")
    assert layer["encoding"]["y"]["scale"]["domain"][1] < 1


def test_each_arm_has_its_own_color():
    arms = ("baseline", "differential", "layer_decay")
    ((layer, _),) = marks(search_charts.tuning_curves(make_curves(make_trials(arms=arms)), "val_loss"), "line")
    scale = layer["encoding"]["color"]["scale"]
    assert scale["domain"] == ["one rate", "two rates", "layer decay"]
    assert len(set(scale["range"])) == 3


def test_trials_of_one_rate_lie_where_both_rates_are_equal_and_those_of_other_arms_nowhere():
    trials = make_trials(arms=("baseline", "differential", "layer_decay"))
    places = search_charts.trial_places(trials, "val_loss")
    assert len(places) == 12
    one = places[places["arm"] == "one rate"]
    assert list(one["backbone"]) == list(one["head"]) == list(trials["lr.uniform"].dropna())
    two = places[places["arm"] == "two rates"]
    assert list(two["head"] / two["backbone"]) == pytest.approx([7] * 6)


def test_a_diverged_trial_is_a_cross_at_its_place(page):
    trials = make_trials(diverged={("differential", 2), ("baseline", 3)})
    points = marks(search_charts.surface_map(make_surface(), trials, "val_accuracy"), "point")
    crosses = [rows for layer, rows in points if layer["mark"].get("shape") == search_charts.CROSS]
    (dots,) = [rows for layer, rows in points if "shape" not in layer["mark"]]
    assert [len(rows) for rows in crosses] == [2, 2]  # with something bright behind each
    assert {(row["arm"], row["trial"]) for row in crosses[0]} == {("two rates", 2), ("one rate", 3)}
    assert len(dots) == 10
    assert "Crosses are trials without metrics" in page


def test_the_cells_of_a_surface_touch_and_its_region_is_outlined():
    surface = make_surface()
    layers = marks(search_charts.surface_map(surface, make_trials(), "val_loss"), "rect")
    cells = layers[0][1]
    row = sorted((cell for cell in cells if cell["head"] == cells[0]["head"]), key=lambda cell: cell["backbone"])
    for left, right in pairwise(row):
        assert left["backbone to"] == pytest.approx(right["backbone from"], rel=1e-3)
    outlined = [len(rows) for layer, rows in layers if layer["mark"].get("color") == "#000000"]
    assert outlined == [int((surface["region"] <= level).sum()) for level in (0.9, 0.5)]
    without = search_charts.surface_map(surface.assign(region=np.nan), make_trials(), "val_loss")
    assert len(marks(without, "rect")) == 1


@pytest.mark.parametrize("higher", [True, False, None])
def test_the_bands_of_a_surface_are_narrow_near_the_best(higher):
    values = pd.Series(np.linspace(0.31, 0.69, 50))
    levels = search_charts.contour_levels(values, higher)
    assert 3 <= len(levels) <= 8
    assert all(0.31 < level < 0.69 for level in levels)
    widths = np.diff(levels)
    if higher is None:
        assert widths == pytest.approx([widths[0]] * len(widths))
    else:
        assert (np.diff(widths) < 0).all() if higher else (np.diff(widths) > 0).all()


def test_a_flat_surface_is_drawn_too():
    surface = make_surface().assign(val_loss=0.5, val_loss_sd=0.0)
    assert "<svg" in as_svg(search_charts.surface_map(surface, make_trials(), "val_loss"))
    assert "<svg" in as_svg(search_charts.surface_uncertainty(surface, make_trials(), "val_loss"))


def test_the_chart_of_searches_does_without_an_interval():
    chart = search_charts.repeats_chart(make_repeats(Interval(estimate=0.01, reason="one search")))
    assert len(marks(chart, "rule")) == 1  # at zero
    assert len(marks(search_charts.repeats_chart(make_repeats(INTERVAL)), "rule")) == 2
    assert "<svg" in as_svg(search_charts.repeats_chart(make_repeats(None)))


def test_what_there_is_none_of_is_left_out_and_the_page_says_why():
    page = page_of(make_files(curves=False, surface=False, repeats=None))
    assert specifications(page) == []
    assert "the sampler qmc makes none" in page
    assert "12 trials of one rate and of two came to their end, too few" in page
    assert "the search was not repeated" in page
    assert 'id="searches"' not in page
    assert 'id="trials"' in page


def test_the_objective_comes_first():
    files = make_files()
    files = replace(files, answer=files.answer.model_copy(update={"objective": "val_accuracy"}))
    page = page_of(files)
    assert "Crosses are" not in page  # where none is
    titles = [specification["title"] for specification in specifications(page)]
    assert titles == [
        "Best validation accuracy of k trials",
        "Best validation loss of k trials",
        "Validation accuracy over both rates",
        "Validation loss over both rates",
        "Overfitting gap over both rates",
        "Uncertainty of validation accuracy",
        "Two rates − one, in each search",
    ]


def test_the_same_input_gives_the_same_bytes(page):
    assert page == page_of(make_files(diverged={("differential", 2)}), machine="of someone")
    for chart in (objective_curves, objective_surface):
        assert as_svg(chart(make_files())) == as_svg(chart(make_files()))


@pytest.fixture
def study_folder(tmp_path, monkeypatch):
    """A project's folder in which a search has left its files."""
    folder = tmp_path / "metrics/search/sgd"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    files = make_files(diverged={("differential", 1)})
    for name, content in (("answer.json", files.answer), ("repeats.json", files.repeats)):
        (folder / name).write_text(content.model_dump_json())
    for name in ("trials", "curves", "surface"):
        getattr(files, name).to_csv(folder / f"{name}.csv", index=False, float_format="%.6g")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["search_report", "sgd"])
    return folder


def test_the_stage_writes_the_page_and_both_pictures(study_folder, capsys):
    search_report.main()
    said = capsys.readouterr().out
    page = Path("report/search-sgd.html").read_text()
    assert "wrote report/search-sgd.html" in said
    assert said.splitlines()[0] in page
    for name in ("curves.svg", "surface.svg"):
        assert (study_folder / name).read_text().startswith("<svg")
    assert str(Path.cwd()) not in page


def test_the_stage_writes_all_its_files_where_there_is_neither_curve_nor_surface_nor_repeat(study_folder):
    answer = json.loads((study_folder / "answer.json").read_text())
    answer |= {"curves": None, "surface": None, "sampler": "gp"}
    (study_folder / "answer.json").write_text(json.dumps(answer))
    (study_folder / "curves.csv").write_text("metric,arm,k,low,median,high\n")
    (study_folder / "surface.csv").write_text("\n")
    (study_folder / "repeats.json").unlink()
    search_report.main()
    assert Path("report/search-sgd.html").exists()
    assert "sampler gp makes none" in (study_folder / "curves.svg").read_text()
    assert "too few" in (study_folder / "surface.svg").read_text()


def test_a_study_that_there_is_not_is_named(study_folder):
    with pytest.raises(UserError, match="there is no adagrad; known are sgd"):
        load_params().search.study("adagrad")


@pytest.mark.slow
@pytest.mark.parametrize("size", [(360, 740), (1280, 900)], ids=["phone", "desk"])
def test_nothing_is_wider_than_the_screen(chromium, tmp_path, page, size):
    address = tmp_path / "page.html"
    address.write_text(page)
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]})
    opened = context.new_page()
    said = []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address.as_uri())
    opened.wait_for_function("document.querySelectorAll('.chart[data-live]').length === 7")
    opened.locator("summary", has_text="All trials").click()
    assert opened.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    widths = opened.evaluate(
        "[...document.querySelectorAll('.chart svg')].map(svg => svg.getBoundingClientRect().width)"
    )
    assert all(0 < width <= size[0] for width in widths)
    beyond = opened.evaluate(
        """() => [...document.querySelectorAll(".chart")].flatMap(chart =>
            [...chart.querySelectorAll("text")]
            .filter(text => text.getBoundingClientRect().right > chart.getBoundingClientRect().right + 1)
            .map(text => text.textContent))"""
    )
    assert beyond == []
    assert said == []
    context.close()
