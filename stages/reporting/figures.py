"""Charts in Vega-Lite, the language of DVC's own plots, as SVG that needs neither script nor network."""

from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from stages.params import ARMS, Arm

# Okabe and Ito's blue and vermilion: told apart by everyone, and readable on white and on black.
COLOURS: dict[Arm, str] = {"baseline": "#0072B2", "differential": "#D55E00"}
COLOUR = alt.Color(
    "arm:N",
    scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
    legend=alt.Legend(symbolOpacity=1),
)
PART_NAMES = {"train": "training", "val": "validation"}


def learning_curves(curves: dict[Arm, pd.DataFrame], figure: str) -> alt.Chart:
    """Draw `accuracy` or `loss` over the epochs, training beside validation.

    A line stands for the mean over the seeds, a band runs from the lowest seed to the highest.

    Args:
        curves: arm -> content of metrics/ARM_curves.csv.
        figure: which figure.
    """
    long = pd.concat(
        pd.DataFrame({"arm": arm, "part": PART_NAMES[part], "epoch": table["epoch"], figure: table[f"{part}_{figure}"]})
        for arm, table in curves.items()
        for part in PART_NAMES
    )
    base = alt.Chart(long).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(values=sorted(long["epoch"].unique()), format="d", labelOverlap=True)),
        color=COLOUR,
    )
    axis = alt.Axis(format="%") if figure == "accuracy" else alt.Axis()
    scale = alt.Scale(zero=False)
    band = base.mark_area(opacity=0.2).encode(
        y=alt.Y(f"min({figure}):Q", title=figure, axis=axis, scale=scale), y2=f"max({figure}):Q"
    )
    line = base.mark_line(point=True).encode(y=alt.Y(f"mean({figure}):Q", title=figure, axis=axis, scale=scale))
    return _styled(
        (band + line)
        .properties(width=260, height=220)
        .facet(column=alt.Column("part:N", title=None, sort=["training"]))
    )


def group_marks(figures: dict[Arm, dict[str, float]], title: str) -> alt.Chart:
    """Draw one figure of every layer group, the arms side by side, from input to head, on a logarithmic axis.

    Args:
        figures: arm -> layer group -> value; a group at 0 has no mark.
        title: of the axis.
    """
    rows = [
        {"arm": arm, "layer group": group, title: value}
        for arm, groups in figures.items()
        for group, value in groups.items()
        if value > 0
    ]
    order = list(next(iter(figures.values())))
    scale = alt.Scale(type="log")
    mark = alt.Chart(pd.DataFrame(rows)).mark_point(filled=True, size=70)
    return _styled(
        mark.encode(
            x=alt.X("layer group:N", sort=order, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y(f"{title}:Q", scale=scale),
            color=COLOUR,
            shape=alt.Shape("arm:N", scale=alt.Scale(domain=ARMS)),
        ).properties(width=540, height=220)
    )


def rate_curves(curves: dict[Arm, pd.DataFrame]) -> alt.Chart:
    """Draw each layer group's rate over the steps, an arm beside the other, on a logarithmic axis.

    Args:
        curves: arm -> content of metrics/ARM_rates.csv; a frozen group has no line.
    """
    long = pd.concat(table.assign(arm=arm) for arm, table in curves.items()).query("learning_rate > 0")
    line = alt.Chart(long).mark_line(point=True)
    return _styled(
        line.encode(
            x=alt.X("step:Q", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("learning_rate:Q", title="learning rate", scale=alt.Scale(type="log")),
            color=alt.Color("layer_group:N", title="layer group", sort=None, scale=alt.Scale(scheme="viridis")),
        )
        .properties(width=240, height=220)
        .facet(column=alt.Column("arm:N", title=None, sort=list(ARMS)))
    )


def range_tests(trials: pd.DataFrame, suggestions: dict[str, float]) -> alt.Chart:
    """Draw the smoothed loss of range tests over the learning rate, with the suggested rates as upright lines.

    Args:
        trials: with the columns `part`, `learning_rate`, `smoothed_loss`.
        suggestions: part -> suggested rate.
    """
    scale = alt.Scale(domain=list(dict.fromkeys(trials["part"])), range=["#0072B2", "#D55E00", "#009E73"])
    x = alt.X("learning_rate:Q", title="learning rate", scale=alt.Scale(type="log"), axis=alt.Axis(format=".0e"))
    color = alt.Color("part:N", title="at this rate learns", scale=scale)
    line = alt.Chart(trials).mark_line()
    rules = pd.DataFrame([{"part": part, "learning_rate": rate} for part, rate in suggestions.items()])
    layers = line.encode(x=x, y=alt.Y("smoothed_loss:Q", title="smoothed loss"), color=color)
    if len(rules):
        layers += alt.Chart(rules).mark_rule(strokeDash=[4, 4]).encode(x=x, color=color)
    return _styled(layers.properties(width=540, height=260))


def confusion_matrix(predictions: pd.DataFrame, classes: list[str], arm: str) -> alt.Chart:
    """Draw how often each class was taken for which, as a share of the images of the actual class.

    Args:
        predictions: with the columns `actual` and `predicted`.
        classes: in the order of their labels.
        arm: whose predictions they are.
    """
    counts = (
        predictions.groupby(["actual", "predicted"])
        .size()
        .reindex(pd.MultiIndex.from_product([classes, classes], names=["actual", "predicted"]), fill_value=0)
    )
    shares = (counts / counts.groupby(level="actual").transform("sum")).rename("share").reset_index()
    size = max(220, 34 * len(classes))
    base = alt.Chart(shares, title=arm).encode(
        x=alt.X("predicted:N", sort=classes, axis=alt.Axis(labelAngle=-40)), y=alt.Y("actual:N", sort=classes)
    )
    tiles = base.mark_rect().encode(
        color=alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None)
    )
    text = base.mark_text().encode(
        text=alt.Text("share:Q", format=".1%"),
        color=alt.condition("datum.share > 0.5", alt.value("white"), alt.value("black")),
    )
    return _styled((tiles + text).properties(width=size, height=size))


def as_svg(chart: alt.Chart) -> str:
    """Turn a chart into SVG."""
    svg: str = vl_convert.vegalite_to_svg(chart.to_dict())
    return svg


def _styled(chart: Any) -> alt.Chart:
    """One look for all: grey ink that is readable on white and on black, nothing behind it."""
    ink = "#808080"
    styled: alt.Chart = (
        chart.configure(background="transparent", font="sans-serif")
        .configure_axis(labelColor=ink, titleColor=ink, gridColor=ink, gridOpacity=0.25, tickColor=ink, domainColor=ink)
        .configure_legend(labelColor=ink, titleColor=ink)
        .configure_header(labelColor=ink, titleColor=ink)
        .configure_title(color=ink)
        .configure_view(stroke=None)
    )
    return styled
