"""The page of a real run, in a real browser: `make browser` gets one."""

import re

import pytest

from stages.reporting.page import without_folders
from stages.reporting.tables import load_results, result_table


@pytest.fixture
def address(reproduced_with_real_network):
    return (reproduced_with_real_network.folder / "report/index.html").as_uri()


SIZES = {"phone": (360, 740), "desk": (1280, 900)}


@pytest.fixture(params=[(size, scheme) for size in SIZES for scheme in ("light", "dark")], ids="-".join)
def opened(request, chromium, address):
    """The page at one size, in one color scheme, with all that the browser complained of or asked for."""
    size, scheme = request.param
    width, height = SIZES[size]
    context = chromium.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda made: asked.append(made.url))
    page.goto(address)
    charts = page.locator(".chart").count()
    page.wait_for_function(f"document.querySelectorAll('.chart[data-live]').length === {charts}")
    yield page, said, asked
    context.close()


@pytest.mark.slow
def test_the_page_shows_live_charts_complains_of_nothing_and_asks_the_network_for_nothing(opened):
    page, said, asked = opened
    assert page.locator(".chart svg").count() == page.locator(".chart").count() >= 10
    assert said == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


@pytest.mark.slow
def test_nothing_is_wider_than_the_screen(opened):
    page, _, _ = opened
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    widths = page.evaluate("[...document.querySelectorAll('.chart svg')].map(svg => svg.getBoundingClientRect().width)")
    assert all(0 < width <= page.viewport_size["width"] for width in widths)


@pytest.mark.slow
def test_words_can_be_read_against_what_is_behind_them(opened):
    """The contrast of text that WCAG 2.2 asks for: 4.5 to 1."""
    page, _, _ = opened
    colors = page.evaluate(
        """() => [...document.querySelectorAll(
                "body, .verdict, .met, .missed, .role-axis text, .role-legend text, .role-title text")]
            .map(place => [getComputedStyle(place).color, getComputedStyle(place).fill, place.namespaceURI])"""
    )
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert len(colors) > 50
    behind = (18, 18, 18) if dark else (255, 255, 255)  # Chromium's own canvas
    for color, fill, namespace in colors:
        shown = fill if namespace.endswith("svg") else color
        assert contrast(tuple(map(int, re.findall(r"\d+", shown)[:3])), behind) >= 4.5, shown


def contrast(one, other):
    def luminance(color):
        channels = [channel / 255 for channel in color]
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.fixture
def page(chromium, address):
    page = chromium.new_page()
    page.goto(address)
    yield page
    page.close()


@pytest.mark.slow
def test_the_numbers_on_the_page_are_those_in_the_json(page, reproduced_with_real_network, monkeypatch):
    project = reproduced_with_real_network
    evaluation = project.read_json("metrics/evaluation.json")
    said = page.locator("#verdict").inner_text()
    for end in ("estimate", "low", "high"):
        value = evaluation["verdict"][end]
        assert value is None or f"{100 * value:+.1f}".replace("-", "−").replace("−0.0", "+0.0") in said
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("#numbers tbody tr").all()]
    monkeypatch.chdir(project.folder)
    assert rows == [list(row.values()) for row in result_table(load_results())]
    numbers = {row[0]: row[1:] for row in rows}
    for arm, column in (("baseline", 0), ("differential", 1)):
        training = project.read_json(f"metrics/{arm}.json")
        for name, metric in (("training accuracy", "train_accuracy"), ("validation accuracy", "val_accuracy")):
            assert numbers[name][column].startswith(f"{100 * training['mean'][metric]:.1f} ± ")
        tested = evaluation["test"][arm]
        for name, metric in (("test Brier score", "brier"), ("test loss", "loss"), ("test ROC AUC", "roc_auc")):
            assert numbers[name][column] == f"{tested['mean'][metric]:.3f} ± {tested['std'][metric]:.3f}"
        goal = evaluation["goal"][arm]["val_accuracy"]
        shown = page.locator("#goal tbody tr").first.locator("td").nth(column).inner_text()
        assert shown.startswith(f"{100 * goal['value']:.1f} %: {'met' if goal['met'] else 'not met'} in the mean; ")
    mcnemar = [row.locator("td").all_inner_texts() for row in page.locator("#mcnemar tbody tr").all()]
    expected = evaluation["test"]["mcnemar"]["1"]
    (seed,) = [row for row in mcnemar if row[:2] == ["test images", "1"]]
    assert seed[2:4] == [str(expected["baseline_only_correct"]), str(expected["differential_only_correct"])]


@pytest.mark.slow
def test_the_answer_comes_first_and_what_it_was_made_from_last(page):
    titles = page.locator("h2").all_inner_texts()
    assert titles == [
        "Every difference",
        "The looks",
        "How many more?",
        "The goal",
        "Learning curves",
        "Learning rates",
        "How far each layer group changed",
        "Confusion on validation",
        "Reliability on validation",
        "The images",
        "Where the arms disagree",
        "All numbers",
        "What it was made from",
    ]
    assert page.locator("main > *").nth(1).get_attribute("id") == "verdict"
    assert page.locator("nav a").all_inner_texts() == titles
    for link in page.locator("nav a").all():
        assert page.locator(f"h2{link.get_attribute('href')}").inner_text() == link.inner_text()


@pytest.mark.slow
def test_a_phones_first_screen_has_verdict_interval_both_arms_and_what_to_take(chromium, address):
    page = chromium.new_page(viewport={"width": 360, "height": 740})
    page.goto(address)
    page.wait_for_function("document.querySelectorAll('.chart[data-live]').length > 0")
    ends = [
        page.locator(place).first.evaluate("place => place.getBoundingClientRect().bottom")
        for place in ("#verdict", ".first .chart", "#arms", "#next")
    ]
    assert ends == sorted(ends)
    assert ends[2] <= 740
    page.close()


@pytest.mark.slow
def test_a_chart_is_saved_as_svg_and_its_data_as_csv(page):
    page.wait_for_function("document.querySelectorAll('.downloads').length > 5")
    saved = {}
    for kind in ("SVG", "CSV"):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"{kind} of Learning curves: validation accuracy").click()
        saved[download.value.suggested_filename] = download.value.path().read_text()
    svg, csv = saved["learning-curves-validation-accuracy.svg"], saved["learning-curves-validation-accuracy.csv"]
    assert svg.startswith("<svg") and svg.endswith("</svg>")
    header, *rows = csv.splitlines()
    assert {"arm", "epoch", "mean", "std"} <= set(header.split(","))
    assert len(rows) == 4  # of two arms and two epochs


@pytest.mark.slow
def test_a_button_copies_what_makes_this_run(chromium, address, reproduced_with_real_network):
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(address)
    page.locator("#copy").click()
    page.wait_for_function("document.getElementById('copy').textContent === 'Copied'")
    copied = page.evaluate("navigator.clipboard.readText()")
    commit = reproduced_with_real_network.run("git", "rev-parse", "--short=12", "HEAD~1").stdout.strip()
    assert copied == f"git checkout {commit} && dvc repro"
    context.close()


@pytest.mark.slow
def test_a_pointer_reads_values_off_a_chart(page):
    page.wait_for_function("document.querySelectorAll('.chart[data-live]').length > 0")
    page.locator(".chart .mark-symbol path").first.hover(force=True)
    tooltip = page.locator("#vg-tooltip-element")
    tooltip.wait_for(state="visible")
    assert {"metric", "estimate"} <= set(tooltip.inner_text().split())


@pytest.mark.slow
def test_a_keyboard_reaches_tables_and_folds(page):
    reached = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.tagName")
        )
    assert {"The goal", "All numbers", "SUMMARY"} <= reached


@pytest.mark.slow
def test_without_scripts_the_charts_are_pictures(chromium, address):
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator(".chart svg").count() == page.locator(".chart").count() >= 10
    context.close()


@pytest.mark.slow
def test_the_page_prints(page, tmp_path):
    page.pdf(path=tmp_path / "page.pdf")
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 3


def test_of_an_absolute_path_in_the_params_the_page_has_the_last_name():
    assert without_folders("/home/jane-doe/photographs") == "…/photographs"
    assert [without_folders(value) for value in ("data/raw", 0.01, None, [1])] == ["data/raw", 0.01, None, [1]]
