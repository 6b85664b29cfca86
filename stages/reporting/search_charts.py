"""Charts of a search in Vega-Lite: tuning curves, surfaces over both rates, and independent searches."""

import math
from dataclasses import dataclass
from typing import Literal

import altair as alt
import numpy as np
import pandas as pd

from stages.params import SearchArm
from stages.reporting.charts import COLORS, Chart
from stages.reporting.search_text import ARM_NAMES
from stages.reporting.tables import METRIC_NAMES, SCALES
from stages.search_files import RepeatsAnswer

SEARCH_COLORS: dict[SearchArm, str] = {
    "baseline": COLORS["baseline"],
    "differential": COLORS["differential"],
    "layer_decay": "#009E73",  # Okabe and Ito's bluish green
}
GRAY, INK = "#808080", "#767676"  # of lines, and of words: with a contrast of 4.5 on white and on black
CROSS = "M-1,-1L1,1M-1,1L1,-1"
LEVELS = 6  # between the colors of a surface, or fewer
REST = 0.9  # of a surface's cells, the better ones, which the levels are laid for
MOST_OF_MEDIAN = 2.0  # times the highest median, beyond which a tuning curve's axis does not go
APART = 1.02  # factor between the upright lines of two arms at the same number of trials


@dataclass(frozen=True)
class Shown:
    """How a metric is shown.

    Attributes:
        name: for people.
        scale: to what is shown, such as percent.
        unit: of what is shown, in a title.
        difference_unit: likewise, of a difference or a standard deviation.
        format: of what is shown, in D3's language.
        scheme: of colors; turned so that better is brighter, where one is better.
        higher_is_better: None where neither is.
    """

    name: str
    scale: float
    unit: str
    difference_unit: str
    format: str
    scheme: Literal["viridis", "plasma"]
    higher_is_better: bool | None


SHOWN: dict[str, Shown] = {
    "val_loss": Shown("validation loss", 1, "", "", ".3f", "viridis", higher_is_better=False),
    "val_accuracy": Shown("validation accuracy", 100, ", %", ", points", ".1f", "viridis", higher_is_better=True),
    "overfitting_gap": Shown("overfitting gap", 100, ", points", ", points", ".1f", "plasma", higher_is_better=None),
}


def tuning_curves(curves: pd.DataFrame, metric: str) -> Chart:
    """Draw the best of k trials for each arm: the median as a line, its band where both of its ends are finite.

    Args:
        curves: content of curves.csv.
        metric: `val_loss` or `val_accuracy`.
    """
    shown = SHOWN[metric]
    ends = ["low", "median", "high"]
    table = curves[curves["metric"] == metric].dropna(subset=["median"])
    table = table.assign(**{name: shown.scale * table[name] for name in ends}, arm=table["arm"].map(dict(ARM_NAMES)))
    bands = table.dropna(subset=["low", "high"])
    arms = list(dict.fromkeys(table["arm"]))
    bands = bands.assign(at=bands["k"] * APART ** bands["arm"].map(arms.index).astype(float).sub((len(arms) - 1) / 2))
    scale = alt.Scale(zero=False)
    if len(table):  # where a few trials are very bad, the axis keeps to what most of them come to
        most = MOST_OF_MEDIAN * float(table["median"].max())
        values = [value for name in ends for value in (*table["median"], *bands[name]) if value <= most]
        scale = alt.Scale(domain=[min(values), max(values)], nice=True, clamp=True)
    axis, most_trials = alt.Axis(format="~r", tickCount=6), int(table["k"].max()) if len(table) else 1

    def x(name: str) -> alt.X:
        return alt.X(
            f"{name}:Q",
            title="number of trials, k",
            scale=alt.Scale(type="log", domain=[1 / 1.08, 1.08 * most_trials], nice=False),
            axis=alt.Axis(format="d", labelOverlap=True, values=_doubled(most_trials)),
        )

    def y(name: str) -> alt.Y:
        return alt.Y(f"{name}:Q", title=f"{shown.name}{shown.unit}", scale=scale, axis=axis)

    tooltip = ["arm", "k", *(alt.Tooltip(f"{name}:Q", format=shown.format) for name in ends)]
    color = arm_color(arms)
    area = alt.Chart(bands).mark_area(opacity=0.2).encode(x=x("k"), y=y("low"), y2="high:Q", color=color)
    # A band of a single k has no area.
    alone = bands[bands.groupby("arm")["k"].transform("size") == 1]
    upright = (
        alt.Chart(alone)
        .mark_rule(opacity=0.6, strokeWidth=2)
        .encode(x=x("at"), y=y("low"), y2="high:Q", color=color, tooltip=tooltip)
    )
    line = (
        alt.Chart(table)
        .mark_line(point=alt.OverlayMarkDef(size=14))
        .encode(x=x("k"), y=y("median"), color=color, tooltip=tooltip)
    )
    return (area + upright + line).properties(title=f"Best {shown.name} of k trials")


def arm_color(arms: list[str]) -> alt.Color:
    """Return the colors of some arms by the names that people read."""
    colors = {ARM_NAMES[arm]: color for arm, color in SEARCH_COLORS.items() if ARM_NAMES[arm] in arms}
    return alt.Color(
        "arm:N",
        title=None,
        scale=alt.Scale(domain=list(colors), range=list(colors.values())),
        legend=alt.Legend(orient="top", symbolOpacity=1),
    )


def surface_map(surface: pd.DataFrame, trials: pd.DataFrame, metric: str) -> Chart:
    """Draw what a metric is expected to be over the rates of backbone and head, with the trials as dots.

    Outlines hold the best with 50 % (thick) and 90 % (thin).

    Args:
        surface: content of surface.csv.
        trials: content of trials.csv.
        metric: `val_loss`, `val_accuracy` or `overfitting_gap`.
    """
    shown = SHOWN[metric]
    values = shown.scale * surface[metric]
    levels = contour_levels(values, shown.higher_is_better)
    scheme = alt.Scale(
        type="threshold",
        domain=levels,
        scheme=alt.SchemeParams(shown.scheme, extent=[0.05, 1]),
        reverse=shown.higher_is_better is False,
    )
    title = f"{shown.name}{shown.unit}"
    # A region of single rates or pairs: outlined, then filled again, which leaves the line around all of it alone.
    cells = cells_of(surface, values, shown.scale * surface[f"{metric}_sd"])
    layers = _filled(cells, title, scheme, shown.format)
    for level, width in ((0.9, 1.0), (0.5, 2.2)):
        inside = cells[cells["region"] <= level]
        if len(inside):
            for color, around in (("#ffffff", 1.2), ("#000000", 0.0)):
                layers += _rectangles(inside).mark_rect(
                    color=color, stroke=color, strokeWidth=2 * (width + around), aria=False
                )
            layers += _filled(inside, title, scheme, shown.format)
    return _with_trials(layers, surface, trials, metric).properties(title=f"{shown.name} over both rates".capitalize())


def surface_uncertainty(surface: pd.DataFrame, trials: pd.DataFrame, metric: str) -> Chart:
    """Draw the standard deviation of what a metric is expected to be, with the trials as dots.

    Args:
        surface: content of surface.csv.
        trials: content of trials.csv.
        metric: `val_loss`, `val_accuracy` or `overfitting_gap`.
    """
    shown = SHOWN[metric]
    deviations = shown.scale * surface[f"{metric}_sd"]
    scheme = alt.Scale(
        type="threshold",
        domain=contour_levels(deviations, None),
        scheme=alt.SchemeParams("cividis", extent=[0.05, 1]),
    )
    cells = cells_of(surface, shown.scale * surface[metric], deviations)
    layers = _filled(cells, f"standard deviation{shown.difference_unit}", scheme, shown.format, "deviation")
    title = f"Uncertainty of {shown.name}"
    return _with_trials(layers, surface, trials, metric).properties(title=title)


def contour_levels(values: pd.Series, higher_is_better: bool | None) -> list[float]:
    """Return round values between the bands of a surface, rising.

    Args:
        values: of its cells.
        higher_is_better: near the best the bands are narrow, each a step wider than the one before; with None they are
            equally wide.
    """
    low, high = float(values.min()), float(values.max())
    if not high > low:
        return [low]
    if higher_is_better is None:
        step = _round_step((high - low) / (LEVELS + 1))
        first = math.ceil(low / step)
        levels = [step * number for number in range(first, first + LEVELS + 2)]
    else:
        # A corner far off, where perhaps no trial is, takes no band from the rest.
        rest = float(values.quantile(1 - REST if higher_is_better else REST))
        size = (high - rest if higher_is_better else rest - low) or high - low
        steps = [number * (number + 1) // 2 for number in range(LEVELS)]  # 0, 1, 3, 6 and so on
        step, sign = _round_step(size / steps[-1]), -1 if higher_is_better else 1
        best = step * (math.floor(high / step) if higher_is_better else math.ceil(low / step))
        levels = [best + sign * step * number for number in steps]
    digits = max(0, 1 - math.floor(math.log10(step)))
    return sorted({round(level, digits) for level in levels if low < level < high}) or [low]


def _round_step(size: float) -> float:
    """Return the smallest number of a single digit, but 7 and 9, that is no smaller than a size."""
    power = 10.0 ** math.floor(math.log10(size))
    return next(factor * power for factor in (1, 2, 3, 4, 5, 6, 8, 10) if factor * power >= size * (1 - 1e-9))


def cells_of(surface: pd.DataFrame, values: pd.Series, deviations: pd.Series) -> pd.DataFrame:
    """Return the rectangle around each point of a surface.

    Args:
        surface: content of surface.csv.
        values: of its points.
        deviations: likewise.
    """
    backbone, head = (np.log10(surface[name]) for name in ("backbone", "head"))
    half = {"backbone": _spacing(head - backbone) / 2, "head": _spacing(head) / 2}
    cells = pd.DataFrame({"value": values, "deviation": deviations, "region": surface["region"]})
    for name, middle in (("backbone", backbone), ("head", head)):
        cells[name] = surface[name]
        cells[f"{name} from"], cells[f"{name} to"] = 10 ** (middle - half[name]), 10 ** (middle + half[name])
    return cells.map(_shortened)


def _spacing(values: pd.Series) -> float:
    """Return how far apart the values of an evenly spaced axis are."""
    unique = np.unique(values.round(4))
    return float(np.diff(unique).min()) if len(unique) > 1 else 0.125


def _shortened(value: float) -> float:
    """Return a number with as many digits as a picture can show."""
    return float(f"{value:.4g}")


def _rectangles(cells: pd.DataFrame) -> Chart:
    return alt.Chart(cells).encode(
        x=_rate_x("backbone from"), x2="backbone to:Q", y=_rate_y("head from"), y2="head to:Q"
    )


def _filled(cells: pd.DataFrame, title: str, scheme: alt.Scale, form: str, field: str = "value") -> Chart:
    """Draw cells in the colors of a scheme; a line of the same color closes the gaps between them."""
    legend = alt.Legend(orient="bottom", direction="horizontal", format="~g", columns=3, titleLimit=300)
    return (
        _rectangles(cells)
        .mark_rect(strokeWidth=1, aria=False)
        .encode(
            fill=alt.Fill(f"{field}:Q", title=title, scale=scheme, legend=legend),
            stroke=alt.Stroke(f"{field}:Q", title=title, scale=scheme, legend=legend),
            tooltip=[
                alt.Tooltip("backbone:Q", format=".3~g"),
                alt.Tooltip("head:Q", format=".3~g"),
                alt.Tooltip("value:Q", title="expected", format=form),
                alt.Tooltip("deviation:Q", title="standard deviation", format=form),
            ],
        )
    )


def _rate_x(field: str) -> alt.X:
    axis = alt.Axis(format="~g", labelOverlap="greedy", labelSeparation=6, grid=False, values=_round_rates(1))
    return alt.X(f"{field}:Q", title="backbone's rate", scale=alt.Scale(type="log", nice=False), axis=axis)


def _rate_y(field: str) -> alt.Y:
    axis = alt.Axis(format="~g", labelOverlap="greedy", labelSeparation=6, grid=False, values=_round_rates(1, 3))
    return alt.Y(f"{field}:Q", title="head's rate", scale=alt.Scale(type="log", nice=False), axis=axis)


def _round_rates(*factors: int) -> list[float]:
    """Return powers of ten times some factors, more of them than any axis has."""
    return [float(f"{factor}e{power}") for power in range(-12, 4) for factor in factors]


def _with_trials(layers: Chart, surface: pd.DataFrame, trials: pd.DataFrame, metric: str) -> Chart:
    """Lay the line of equal rates and the trials over a surface; those without metrics are crosses."""
    low, high = float(surface["head"].min()), float(surface["head"].max())
    x, y = _rate_x("backbone"), _rate_y("head")
    equal = alt.Chart(pd.DataFrame([{"backbone": rate, "head": rate} for rate in (low, high)])).encode(x=x, y=y)
    layers += equal.mark_line(color="#ffffff", strokeWidth=3)
    layers += equal.mark_line(color="#000000", strokeWidth=1, strokeDash=[4, 3])
    middle = math.sqrt(low * high)
    layers += (
        alt.Chart(pd.DataFrame([{"backbone": middle, "head": middle}]))
        .mark_text(text=ARM_NAMES["baseline"], align="left", baseline="top", dx=12, dy=6, color=INK, fontStyle="italic")
        .encode(x=x, y=y)
    )
    places = trial_places(trials, metric)
    color = arm_color(list(dict.fromkeys(places["arm"])))
    shown = SHOWN[metric]
    value = f"{shown.name}{shown.unit}"
    tooltip: list[str | alt.Tooltip] = [
        "arm",
        "trial",
        "state",
        alt.Tooltip("backbone:Q", format=".3~g"),
        alt.Tooltip("head:Q", format=".3~g"),
    ]
    finished, failed = places[places["value"].notna()], places[places["value"].isna()]
    if len(failed):
        crosses = alt.Chart(failed.drop(columns="value")).encode(x=x, y=y, tooltip=tooltip)
        layers += crosses.mark_point(shape=CROSS, size=90, strokeWidth=5, color="#ffffff", opacity=1)
        layers += crosses.mark_point(shape=CROSS, size=90, strokeWidth=2, opacity=1).encode(color=color)
    dots = (
        alt.Chart(finished)
        .mark_point(filled=True, size=45, stroke="#ffffff", strokeWidth=1.2, opacity=1)
        .encode(x=x, y=y, color=color, tooltip=[*tooltip, alt.Tooltip("value:Q", title=value, format=shown.format)])
    )
    return layers + dots


def trial_places(trials: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Return where trials lie on the plane of both rates, and what they came to; those of other arms do not.

    Args:
        trials: content of trials.csv.
        metric: of `SHOWN`.
    """
    on_plane = trials[trials["arm"].isin(list(COLORS))]
    is_baseline = on_plane["arm"] == "baseline"
    rates = {
        name: on_plane[f"lr.{name}"].where(~is_baseline, on_plane["lr.uniform"]).astype(float)
        for name in ("backbone", "head")
    }
    value = SHOWN[metric].scale * on_plane[metric].astype(float)
    names = on_plane["arm"].map(dict(ARM_NAMES))
    return pd.DataFrame(
        {"arm": names, "trial": on_plane["trial"], "state": on_plane["state"], **rates, "value": value}
    ).reset_index(drop=True)


def repeats_chart(repeats: RepeatsAnswer) -> Chart:
    """Draw for each independent search how far its winners are apart on test images, the mean and its interval.

    Args:
        repeats: of two searches or more.
    """
    scale = SCALES[repeats.metric]
    rows = [
        {
            "search": f"search {number}",
            "difference": scale * (search.scores["differential"] - search.scores["baseline"]),
            "seed": str(search.seed),
        }
        for number, search in enumerate(repeats.searches, start=1)
    ]
    order = [str(row["search"]) for row in rows] + ["mean"]
    sides = "← one rate better · two rates better →"
    if repeats.metric in {"loss", "brier"}:
        sides = "← two rates better · one rate better →"
    unit = ", points" if scale == 100 else ""
    title = [sides, f"difference in test {METRIC_NAMES[repeats.metric]}{unit}"]
    x = alt.X(
        "difference:Q", title=title, scale=alt.Scale(zero=True), axis=alt.Axis(labelOverlap="greedy", labelSeparation=6)
    )
    y = alt.Y("search:N", sort=order, title=None, scale=alt.Scale(domain=order))
    form = "+.2f" if scale == 100 else "+.4f"
    zero = alt.Chart(pd.DataFrame({"difference": [0]})).mark_rule(color=GRAY, strokeDash=[4, 4]).encode(x=x)
    chart = zero + alt.Chart(pd.DataFrame(rows)).mark_point(
        filled=True, size=60, color=SEARCH_COLORS["baseline"], opacity=1
    ).encode(x=x, y=y, tooltip=["search", "seed", alt.Tooltip("difference:Q", format=form)])
    if found := repeats.interval:
        mean = {"search": "mean", "difference": scale * found.estimate}
        names = ["difference"]
        if found.low is not None and found.high is not None:
            mean |= {"low": scale * found.low, "high": scale * found.high}
            names += ["low", "high"]
        at_mean = alt.Chart(pd.DataFrame([mean])).encode(
            y=y, tooltip=["search", *(alt.Tooltip(f"{name}:Q", format=form) for name in names)]
        )
        if "low" in mean:
            chart += at_mean.mark_rule(strokeWidth=3, color=SEARCH_COLORS["differential"]).encode(
                x="low:Q", x2="high:Q"
            )
        chart += at_mean.mark_point(
            filled=True, shape="diamond", size=110, opacity=1, color=SEARCH_COLORS["differential"]
        ).encode(x=x)
    return chart.properties(title="Two rates − one, in each search")


def no_chart(reason: str) -> Chart:
    """Return a picture that says why there is none.

    Args:
        reason: a sentence.
    """
    return alt.Chart(pd.DataFrame([{"reason": reason}])).mark_text(color=INK).encode(text="reason:N")


def _doubled(most: int) -> list[int]:
    """Return 1, 2, 4 and so on up to a number of trials, and that number, where it is not too near to the last."""
    doubled = [2**power for power in range(most.bit_length()) if 2**power <= most]
    return [number for number in doubled if number == most or number * 1.3 < most] + (
        [most] if most not in doubled else []
    )
