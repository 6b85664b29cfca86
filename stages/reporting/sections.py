"""What every page is made of: headings with charts, and the template around them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from stages.reporting.charts import Chart, as_specification, as_svg

CHART_HEIGHT = 240  # pixels
SCRIPT = "/* Vega */"  # where the template has Vega, which may hold whatever looks like a heading
CONTENTS = "<!-- contents -->"  # where a template wants the list of its headings


@dataclass(frozen=True)
class Picture:
    """A chart twice: as a picture that is always there, and as what a script makes of it."""

    label: str
    svg: Markup
    specification: Markup


@dataclass(frozen=True)
class Section:
    """A heading, an explanation, charts, and before these a table if there is one, whose rows begin with their name."""

    title: str
    explanation: str
    pictures: list[Picture]
    rows: list[dict[str, str]]


def draw_section(
    title: str, explanation: str, charts: list[Chart], height: int = CHART_HEIGHT, rows: Sequence[dict[str, str]] = ()
) -> Section:
    """Draw the charts of a section.

    Args:
        title: of the section.
        explanation: what the charts show.
        charts: single views.
        height: of each, in pixels.
        rows: of the table.
    """
    return Section(
        title,
        explanation,
        [
            Picture(
                label=f"{title}: {_title(chart)}",
                svg=Markup(as_svg(chart.properties(width=320, height=height))),
                specification=Markup(as_specification(chart, height)),
            )
            for chart in charts
        ],
        list(rows),
    )


def _title(chart: Chart) -> str:
    """Return what a chart shows: its title, or that of its upright axis."""
    described = chart.to_dict()
    layers = [described, *described.get("layer", [])]
    upright = [layer.get("encoding", {}).get("y", {}) for layer in layers]
    titles = [layer.get("title") for layer in layers] + [y.get("title") or y.get("field") for y in upright]
    return str(next(filter(None, titles), "every value"))


def render(template: str, **content: object) -> str:
    """Return a page as HTML; every name in it is escaped.

    Args:
        template: its file in this folder, made upon base.html.j2.
        content: what it shows.
    """
    environment = Environment(loader=PackageLoader("stages.reporting", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters["code"] = with_code
    page = environment.get_template(template).render(script=Markup(SCRIPT), **content)
    return with_contents(page).replace(SCRIPT, vega_script())


def with_code(sentence: str) -> Markup:
    """Return a sentence in which what stands between backticks is code."""
    return Markup(re.sub("`([^`]*)`", r"<code>\1</code>", str(escape(sentence))))


def with_contents(page: str) -> str:
    """Return a page with a name for each of its headings, and a list of them where it asks for one."""
    titles = re.findall("<h2>(.*?)</h2>", page)
    names = {title: re.sub("[^a-z]+", "-", title.lower()).strip("-") for title in titles}
    for title, name in names.items():
        page = page.replace(f"<h2>{title}</h2>", f'<h2 id="{name}">{title}</h2>')
    entries = "".join(f'<li><a href="#{name}">{title}</a></li>' for title, name in names.items())
    return page.replace(CONTENTS, f'<nav aria-label="Contents"><ul>{entries}</ul></nav>')


def vega_script() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script for a page, which has `vegaEmbed` from then on."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
