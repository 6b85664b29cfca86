"""What every page is made of: headings with charts, and the template around them."""

from dataclasses import dataclass

import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from stages.reporting.charts import Chart, as_specification, as_svg

CHART_HEIGHT = 240  # pixels


@dataclass(frozen=True)
class Picture:
    """A chart twice: as a picture that is always there, and as what a script makes of it."""

    label: str
    svg: Markup
    specification: Markup


@dataclass(frozen=True)
class Section:
    """A heading, an explanation, and charts."""

    title: str
    explanation: str
    pictures: list[Picture]


def draw_section(title: str, explanation: str, charts: list[Chart], height: int = CHART_HEIGHT) -> Section:
    """Draw the charts of a section.

    Args:
        title: of the section.
        explanation: what the charts show.
        charts: single views.
        height: of each, in pixels.
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
    )


def _title(chart: Chart) -> str:
    """Return what a chart shows: its title, or that of its upright axis."""
    described = chart.to_dict()
    return str(described.get("title") or described.get("encoding", {}).get("y", {}).get("title") or "accuracy")


def render(template: str, **content: object) -> str:
    """Return a page as HTML; every name in it is escaped.

    Args:
        template: its file in this folder, made upon base.html.j2.
        content: what it shows.
    """
    environment = Environment(loader=PackageLoader("stages.reporting", "."), autoescape=True, undefined=StrictUndefined)
    return environment.get_template(template).render(script=Markup(vega_script()), **content)


def vega_script() -> str:
    """Return Vega, Vega-Lite and vega-embed as one script for a page, which has `vegaEmbed` from then on."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")
