"""Charts in Vega-Lite, the language of DVC's own plots. Every one is a single view, so that it fits any width."""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import altair as alt
import pandas as pd
import vl_convert

from stages.metrics_files import Evaluation, PlannedInterval
from stages.params import ARMS, HIGHER_IS_BETTER, Arm, Metric
from stages.reporting.tables import METRIC_NAMES

# Okabe and Ito's blue and vermilion: distinguishable to everyone, and readable on white and on black.
COLORS: dict[Arm, str] = {"baseline": "#0072B2", "differential": "#D55E00"}
COLOR = alt.Color(
    "arm:N",
    title=None,
    scale=alt.Scale(domain=list(COLORS), range=list(COLORS.values())),
    legend=alt.Legend(orient="top", symbolOpacity=1),
)
SHAPE = alt.Shape("arm:N", title=None, scale=alt.Scale(domain=list(ARMS)))
SPLIT_COLORS = ["#009E73", "#CC79A7", "#E69F00"]
MAX_LABELED_CLASSES = 10  # classes; beyond that a tile of the confusion matrix has no room for a number
# There is no half image, and no half step. Vega still sets ticks at halves where there are one or two: these stay bare.
COUNTS = alt.Axis(tickMinStep=1, labelExpr="datum.value % 1 ? '' : format(datum.value, ',d')")
FEWER_LABELS = alt.Axis(labelOverlap=True)  # where a hundred classes have no room for all of them
SPLIT_NAMES = {"train": "training", "val": "validation"}
Chart: TypeAlias = Any  # one of altair's charts, which share no typed base
alt.data_transformers.disable_max_rows()  # 100 classes have 10,000 pairs


def learning_curves(curves: dict[Arm, pd.DataFrame], split: str, metric: str) -> Chart:
    """Draw `accuracy` or `loss` of a split over the epochs.

    A line stands for the mean over the seeds, a band for a standard deviation to each side, as in DVC's plots.

    Args:
        curves: arm -> content of metrics/ARM_curves.csv.
        split: `train` or `val`.
        metric: which of the two.
    """
    long = pd.concat(
        pd.DataFrame({"arm": arm, "seed": table["seed"], "epoch": table["epoch"], metric: table[f"{split}_{metric}"]})
        for arm, table in curves.items()
    )
    summary = long.groupby(["arm", "epoch"])[metric].agg(["mean", "std"]).fillna(0).reset_index()
    most = 1 if metric == "accuracy" else None  # neither metric falls below 0, and no band leaves what is possible
    low, high = summary["mean"] - summary["std"], summary["mean"] + summary["std"]
    summary = summary.assign(low=low.clip(0), high=high.clip(upper=most))
    style = "%" if metric == "accuracy" else ".4~g"
    base = alt.Chart(summary, title=f"{SPLIT_NAMES[split]} {metric}").encode(
        x=alt.X("epoch:Q", axis=alt.Axis(values=sorted(long["epoch"].unique()), format="d", labelOverlap=True)),
        color=COLOR,
        tooltip=[
            "arm",
            "epoch",
            *(alt.Tooltip(name, format=".1%" if metric == "accuracy" else ".3f") for name in ("mean", "std")),
        ],
    )
    scale, axis = alt.Scale(zero=False), alt.Axis(format=style)
    band = base.mark_area(opacity=0.2).encode(y=alt.Y("low:Q", title=metric, scale=scale, axis=axis), y2="high:Q")
    line = base.mark_line(point=True).encode(y=alt.Y("mean:Q", title=metric, scale=scale, axis=axis), shape=SHAPE)
    return band + line


def metric_differences(evaluation: Evaluation, metrics: Sequence[Metric] = ()) -> Chart:
    """Draw test metrics' differences with their intervals around zero, the verdict's first, each replicate a dot.

    All stand on one axis in hundredths of their unit, turned so that the differential arm is better on the right.

    Args:
        evaluation: content of metrics/evaluation.json.
        metrics: which; all where none is named.
    """
    verdict = evaluation.verdict
    rows, dots = [], []
    for metric, found in evaluation.test.interval.items():
        if metrics and metric not in metrics:
            continue
        sign = 1 if HIGHER_IS_BETTER[metric] else -1
        is_verdict = metric == verdict.metric
        shown = verdict if is_verdict else found
        name = METRIC_NAMES[metric] + ("" if sign > 0 else ", lower is better") + (" (verdict)" if is_verdict else "")
        ends = sorted(sign * 100 * end for end in (shown.low, shown.high) if end is not None)
        low, high = ends if ends else (None, None)
        rows.append({"metric": name, "estimate": sign * 100 * shown.estimate, "low": low, "high": high})
        dots += [
            {"metric": name, "estimate": sign * 100 * of_seed[metric], "seed": str(seed)}
            for seed, of_seed in evaluation.test.difference.seeds.items()
        ]
    order = sorted((str(row["metric"]) for row in rows), key=lambda name: not name.endswith("(verdict)"))
    y = alt.Y("metric:N", sort=order, title=None, axis=alt.Axis(labelLimit=260))
    title = ["← baseline better · differential better →", "difference, in points or hundredths"]
    x = alt.X("estimate:Q", title=title, scale=alt.Scale(zero=True))
    tooltip = ["metric", *(alt.Tooltip(f"{name}:Q", format="+.2f") for name in ("estimate", "low", "high"))]
    zero = alt.Chart(pd.DataFrame({"estimate": [0]})).mark_rule(color="#808080", strokeDash=[4, 4]).encode(x=x)
    points = (
        alt.Chart(pd.DataFrame(dots))
        .mark_point(size=18, opacity=0.8, color="#0072B2")
        .encode(x=x, y=y, tooltip=["metric", "seed", alt.Tooltip("estimate:Q", format="+.2f")])
    )
    table = pd.DataFrame(rows)
    bars = (
        alt.Chart(table).mark_rule(strokeWidth=3, color="#D55E00").encode(x="low:Q", x2="high:Q", y=y, tooltip=tooltip)
    )
    means = (
        alt.Chart(table)
        .mark_point(filled=True, shape="diamond", size=110, opacity=1, color="#D55E00")
        .encode(x=x, y=y, tooltip=tooltip)
    )
    return zero + points + bars + means


def planned_half_widths(plan: list[PlannedInterval], scale: float, largest: float) -> Chart:
    """Draw the half-width of the interval to expect over the number of replicates, for numbers of test images.

    Args:
        plan: of metrics/evaluation.json.
        scale: to points, where the metric is shown in percent.
        largest: difference that the metric can have; no interval is wider to either side.
    """
    names = {"low": "half_width_low", "half-width": "half_width", "high": "half_width_high"}
    rows = [
        {
            "replicates": planned.replicates,
            "test images": f"{planned.images:,}",
            **{name: scale * min(getattr(planned, field), largest) for name, field in names.items()},
        }
        for planned in plan
        if planned.replicates > 2  # of which the interval is so wide that it hides the others
    ]
    order = list(dict.fromkeys(row["test images"] for row in rows))
    color = alt.Color(
        "test images:N",
        sort=order,
        scale=alt.Scale(range=SPLIT_COLORS),
        legend=alt.Legend(orient="top", symbolOpacity=1),
    )
    x = alt.X("replicates:Q", scale=alt.Scale(type="log"), axis=alt.Axis(values=[3, 5, 10, 20, 50, 100], format="d"))
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=x, color=color, tooltip=["replicates", "test images", *(alt.Tooltip(f"{n}:Q", format=".2f") for n in names)]
    )
    unit = "half-width, points" if scale == 100 else "half-width"
    band = base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", title=unit), y2="high:Q")
    return band + base.mark_line(point=True).encode(y=alt.Y("half-width:Q", title=unit))


def group_marks(metrics: dict[Arm, dict[str, float]], title: str, logarithmic: bool = True) -> Chart:
    """Draw one metric of every layer group, the arms side by side, from input to head.

    Args:
        metrics: arm -> layer group -> value; on a logarithmic axis a group at 0 has no mark.
        title: of the axis.
        logarithmic: the axis.
    """
    rows = [
        {"arm": arm, "layer group": group, title: value}
        for arm, groups in metrics.items()
        for group, value in groups.items()
        if value > 0 or not logarithmic
    ]
    order = list(dict.fromkeys(group for groups in metrics.values() for group in groups))
    return (
        alt.Chart(pd.DataFrame(rows))
        .mark_point(filled=True, size=70, opacity=0.9)
        .encode(
            x=alt.X("layer group:N", sort=order, axis=alt.Axis(labelAngle=-40)),
            y=alt.Y(f"{title}:Q", scale=alt.Scale(type="log") if logarithmic else alt.Scale(zero=False)),
            color=COLOR,
            shape=SHAPE,
            tooltip=["arm", "layer group", alt.Tooltip(f"{title}:Q", format=".3~g")],
        )
    )


def rate_curves(curves: pd.DataFrame, arm: str) -> Chart:
    """Draw each layer group's rate over the steps, on a logarithmic axis.

    Args:
        curves: content of metrics/ARM_rates.csv; a frozen group has no line.
        arm: whose they are.
    """
    return (
        alt.Chart(curves.query("learning_rate > 0"), title=arm)
        .mark_line(point=True)
        .encode(
            x=alt.X("step:Q", axis=COUNTS),
            y=alt.Y("learning_rate:Q", title="learning rate", scale=alt.Scale(type="log")),
            color=alt.Color(
                "layer_group:N",
                title="layer group",
                sort=None,
                scale=alt.Scale(scheme=alt.SchemeParams("viridis", extent=[0.15, 0.8])),
            ),
            tooltip=["layer_group", "step", alt.Tooltip("learning_rate:Q", format=".3~g")],
        )
    )


def range_tests(steps: pd.DataFrame, suggestions: dict[str, float]) -> Chart:
    """Draw the smoothed loss of range tests over the learning rate, with the suggested rates as upright lines.

    Args:
        steps: with the columns `part`, `learning_rate`, `smoothed_loss`.
        suggestions: part of the network that was tested -> suggested rate.
    """
    scale = alt.Scale(domain=list(dict.fromkeys(steps["part"])), range=["#0072B2", "#D55E00", "#009E73"])
    x = alt.X("learning_rate:Q", title="learning rate", scale=alt.Scale(type="log"), axis=alt.Axis(format=".0e"))
    color = alt.Color("part:N", title="trained", scale=scale)
    layers = (
        alt.Chart(steps)
        .mark_line()
        .encode(x=x, y=alt.Y("smoothed_loss:Q", title="smoothed loss", scale=alt.Scale(zero=False)), color=color)
    )
    rules = pd.DataFrame([{"part": part, "learning_rate": rate} for part, rate in suggestions.items()])
    if len(rules):
        layers += alt.Chart(rules).mark_rule(strokeDash=[4, 4]).encode(x=x, color=color)
    return layers


def class_balance(counts: pd.DataFrame, most: int) -> Chart:
    """Draw how many images of each class each split has.

    Args:
        counts: content of metrics/class_balance.csv.
        most: classes that are shown.
    """
    every, splits = (list(dict.fromkeys(counts[name])) for name in ("class", "split"))
    classes = every[:most]
    left_out = f"the first {most} of {len(every)} classes"
    return (
        alt.Chart(counts[counts["class"].isin(classes)], title=left_out if len(classes) < len(every) else "")
        .mark_bar()
        .encode(
            x=alt.X("images:Q", axis=COUNTS),
            y=alt.Y("class:N", title=None, sort=classes, axis=FEWER_LABELS),
            yOffset=alt.YOffset("split:N", sort=splits),
            color=alt.Color(
                "split:N",
                title=None,
                scale=alt.Scale(domain=splits, range=SPLIT_COLORS),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["class", "split", "images"],
        )
    )


def confusion_matrix(predictions: pd.DataFrame, classes: list[str], arm: str) -> Chart:
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
    if len(classes) > MAX_LABELED_CLASSES:
        shares = shares[shares["share"] > 0]  # a thousand classes have a million pairs, most of which never occur
    domain = alt.Scale(domain=classes)
    base = alt.Chart(shares, title=arm).encode(
        x=alt.X("predicted:N", sort=classes, scale=domain, axis=alt.Axis(labelAngle=-40, labelOverlap=True)),
        y=alt.Y("actual:N", sort=classes, scale=domain, axis=FEWER_LABELS),
        tooltip=["actual", "predicted", alt.Tooltip("share:Q", format=".1%")],
    )
    tiles = base.mark_rect().encode(
        color=alt.Color("share:Q", scale=alt.Scale(scheme="blues", domain=[0, 1]), legend=None)
    )
    if len(classes) > MAX_LABELED_CLASSES:
        return tiles
    text = base.mark_text().encode(
        text=alt.Text("share:Q", format=".0%" if len(classes) > 4 else ".1%"),
        color=alt.condition("datum.share > 0.72", alt.value("white"), alt.value("black")),
    )
    return tiles + text


def reliability_diagram(bins: pd.DataFrame) -> Chart:
    """Draw how often each arm is right where it is so confident, over all seeds; a calibrated one lies on the diagonal.

    Args:
        bins: content of metrics/reliability.csv.
    """
    weighted = bins.assign(right=bins["accuracy"] * bins["samples"], sure=bins["confidence"] * bins["samples"])
    summed = weighted.groupby(["arm", "bin"])[["samples", "right", "sure"]].sum().reset_index()
    points = summed.assign(accuracy=summed["right"] / summed["samples"], confidence=summed["sure"] / summed["samples"])
    x = alt.X("confidence:Q", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    y = alt.Y("accuracy:Q", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False))
    lowest = float(points["confidence"].min())
    diagonal = alt.Chart(pd.DataFrame({"confidence": [lowest, 1.0], "accuracy": [lowest, 1.0]}))
    tooltip = [
        "arm",
        "samples",
        alt.Tooltip("confidence:Q", format=".1%"),
        alt.Tooltip("accuracy:Q", format=".1%"),
    ]
    return diagonal.mark_line(color="#808080", strokeDash=[4, 4]).encode(x=x, y=y) + alt.Chart(points).mark_line(
        point=True
    ).encode(x=x, y=y, color=COLOR, shape=SHAPE, tooltip=tooltip)


def side_by_side(charts: list[Chart], width: int = 260, height: int = 220) -> Chart:
    """Put charts beside one another, for a picture of fixed size."""
    return alt.hconcat(*(chart.properties(width=width, height=height) for chart in charts))


def as_svg(chart: Chart) -> str:
    """Turn a chart into SVG."""
    svg: str = vl_convert.vegalite_to_svg(_styled(chart).to_dict())
    return svg


def as_specification(chart: Chart, height: int) -> str:
    """Turn a single view into JSON that takes the width of what holds it and may stand inside a script element."""
    specification = _styled(chart.properties(width="container", height=height)).to_dict()
    specification["autosize"] = {"type": "fit-x", "contains": "padding"}
    return json.dumps(specification).replace("<", "\\u003c")


def _styled(chart: Any) -> Any:
    """One look for all: gray ink with a contrast of 4.5 on white and on black, nothing behind it."""
    ink = "#767676"
    return (
        chart.configure(background="transparent", font="sans-serif")
        .configure_axis(labelColor=ink, titleColor=ink, gridColor=ink, gridOpacity=0.25, tickColor=ink, domainColor=ink)
        .configure_legend(labelColor=ink, titleColor=ink)
        .configure_header(labelColor=ink, titleColor=ink)
        .configure_title(color=ink)
        .configure_view(stroke=None)
    )
