"""DVC's plots as one page that needs no network, in a real browser: `make browser` gets one."""

import re

import pytest


@pytest.fixture
def drawn(project, chromium):
    """The page that `make plots` writes, without a network, with all that the browser complained of or asked for."""
    address = project.run("make", "plots", "-o", ".venv/ready").stdout.split()[-1]
    context = chromium.new_context(offline=True, viewport={"width": 1000, "height": 2400})
    page = context.new_page()
    said, asked = [], []
    page.on("console", lambda message: said.append((message.type, message.text)))
    page.on("pageerror", lambda error: said.append(("error", str(error))))
    page.on("request", lambda made: asked.append(made.url))
    page.goto(address)
    yield page, said, asked
    context.close()


@pytest.mark.slow
def test_every_plot_is_drawn_without_a_network(drawn, project):
    page, said, asked = drawn
    titles = re.findall(r"^ +title: (.+)$", (project.folder / "dvc.yaml").read_text(), re.MULTILINE)
    page.wait_for_function(f"document.querySelectorAll('.vega-embed svg.marks').length === {len(titles)}")
    shown = page.locator(".vega-embed svg.marks .role-title text").all_text_contents()
    assert set(titles) <= set(shown)  # beside those of legends and facets
    assert page.locator(".vega-embed svg.marks").locator(".mark-line path, .mark-rect path").count() > len(titles)
    assert page.locator("img").evaluate("image => image.naturalWidth") > 0
    assert [text for kind, text in said if kind == "error"] == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
