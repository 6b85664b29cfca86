"""The page of a search: what stands on it, and in which order."""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

import pandas as pd

from stages.params import SearchRange, Study
from stages.reporting.charts import Chart
from stages.reporting.search_charts import (
    SHOWN,
    no_chart,
    repeats_chart,
    surface_map,
    surface_uncertainty,
    trial_places,
    tuning_curves,
)
from stages.reporting.search_text import (
    ARM_NAMES,
    OBJECTIVES,
    best_table,
    recommendation,
    searches_table,
    statements,
)
from stages.reporting.sections import Section, draw_section, render
from stages.reporting.tables import METRIC_NAMES
from stages.search_files import RepeatsAnswer, SearchAnswer

SURFACE_HEIGHT = 320  # pixels
ABOUT_TRIAL = ("arm", "trial", "seed", "state")  # columns of trials.csv before what was drawn
METRIC_COLUMNS = {  # of trials.csv -> title, scale, format
    "val_loss": ("validation loss", 1, ".3f"),
    "val_accuracy": ("validation, %", 100, ".1f"),
    "train_loss": ("training loss", 1, ".3f"),
    "train_accuracy": ("training, %", 100, ".1f"),
    "overfitting_gap": ("gap, points", 100, ".1f"),
}


@dataclass(frozen=True)
class SearchFiles:
    """What a search has left under metrics/search/STUDY/.

    Attributes:
        answer: answer.json.
        repeats: repeats.json; None where the search was not repeated.
        trials: trials.csv.
        curves: curves.csv; None where there are no tuning curves.
        surface: surface.csv; None where there is no surface.
    """

    answer: SearchAnswer
    repeats: RepeatsAnswer | None
    trials: pd.DataFrame
    curves: pd.DataFrame | None
    surface: pd.DataFrame | None


def render_search_page(files: SearchFiles, study: Study, made_from: Mapping[str, str]) -> str:
    """Return the page as HTML; every name in it is escaped.

    Args:
        files: of the search.
        study: its section in params.yaml.
        made_from: what else to say of how it was made.
    """
    answer, repeats = files.answer, files.repeats
    return render(
        "search_page.html.j2",
        study=answer.study,
        recommendation=recommendation(answer, repeats),
        statements=statements(answer, repeats),
        best=best_table(answer),
        sections=[curves_section(files), surface_section(files), repeats_section(repeats)],
        searches=searches_table(repeats),
        trials=trials_table(files.trials),
        made_from={**describe_search(files, study), **made_from},
        folder=f"../metrics/search/{quote(answer.study)}/",
        files=["trials.csv", "answer.json", "curves.csv", "surface.csv", *(["repeats.json"] if repeats else [])],
    )


def curves_section(files: SearchFiles) -> Section:
    """Return the tuning curves, the objective's first."""
    title = "Tuning curves"
    curves = files.answer.curves
    if files.curves is None or curves is None:
        return draw_section(title, no_curves(files.answer), [])
    first = files.answer.objective
    found = set(files.curves["metric"])
    reach = f"up to k = {curves.reach}" if curves.reach else "nowhere"
    metrics = [first, *(metric for metric in OBJECTIVES if metric != first and metric in found)]
    return draw_section(
        title,
        "What the best of k trials comes to in the median, over the number of trials k, each chosen by the metric that "
        f"is shown. The bands of all arms hold together with {100 * curves.level:.3g} %, for all k at once; they are "
        f"drawn where both of their ends are finite, which is {reach} for {OBJECTIVES[first]}.",
        [tuning_curves(files.curves, metric) for metric in metrics],
    )


def no_curves(answer: SearchAnswer) -> str:
    """Return why there are no tuning curves."""
    return f"There are none: their bands need independent draws, and the sampler {answer.sampler} makes none."


def surface_section(files: SearchFiles) -> Section:
    """Return what is to be expected over both rates."""
    title = "The surface over both rates"
    answer, surface, trials = files.answer, files.surface, files.trials
    if surface is None:
        return draw_section(title, no_surface(trials), [])
    objective = answer.objective
    metrics = [objective, *(metric for metric in SHOWN if metric != objective)]
    failed = trial_places(trials, objective)["value"].isna().any()
    return draw_section(
        title,
        "What one trial is expected to come to, by a Gaussian process with noise through the trials of one rate and of "
        "two. Dots are trials, those of one rate on the dashed line. "
        + ("Crosses are trials without metrics: diverged, or given up. " if failed else "")
        + f"Outlined is what cannot be told from the best by {OBJECTIVES[objective]}: the best lies within the thick "
        "outline with 50 %, within the thin ones and the thick with 90 %. The loss is cut off at that of guessing. "
        "The last picture shows how uncertain the expected value is, which is more so where no trial is near.",
        [
            *(surface_map(surface, trials, metric) for metric in metrics),
            surface_uncertainty(surface, trials, objective),
        ],
        SURFACE_HEIGHT,
    )


def no_surface(trials: pd.DataFrame) -> str:
    """Return why there is no surface."""
    finished = int(trial_places(trials, "val_loss")["value"].notna().sum())
    return f"There is none: {finished} trials of one rate and of two came to their end, too few for one."


def repeats_section(repeats: RepeatsAnswer | None) -> Section:
    """Return how far the winners of independent searches are apart on test images."""
    title = "Independent searches"
    if repeats is None or not repeats.searches:
        return draw_section(
            title,
            "There are none: the search was not repeated, so it cannot say whether tuning two rates beats tuning one.",
            [],
        )
    found = repeats.interval
    diverged = sum(len(search.diverged) for search in repeats.searches)
    how = (
        f"the line is its {100 * found.level:.3g} % interval over searches and test images"
        if found and found.low is not None and found.level is not None
        else f"without an interval: {found.reason if found and found.reason else 'there are too few searches'}"
    )
    return draw_section(
        title,
        f"Each search has {repeats.trials} trials of each arm. Its winners were trained anew with a fresh seed and "
        f"tested on {repeats.tested:,} images that no search saw. A dot is the difference in test "
        f"{METRIC_NAMES[repeats.metric]} of one search, two rates − one; the diamond is the mean, {how}."
        + (f" Winners that diverged, {diverged}, count as the majority class." if diverged else ""),
        [repeats_chart(repeats)],
    )


def objective_curves(files: SearchFiles) -> Chart:
    """Return the tuning curves of the objective, or a picture that says why there are none."""
    if files.curves is None or files.answer.curves is None:
        return no_chart(no_curves(files.answer))
    return tuning_curves(files.curves, files.answer.objective)


def objective_surface(files: SearchFiles) -> Chart:
    """Return the surface of the objective, or a picture that says why there is none."""
    if files.surface is None:
        return no_chart(no_surface(files.trials))
    return surface_map(files.surface, files.trials, files.answer.objective)


def trials_table(trials: pd.DataFrame) -> list[dict[str, str]]:
    """Return a row for each trial, as trials.csv has it, with its numbers as people read them."""
    drawn = [name for name in trials.columns if name not in {*ABOUT_TRIAL, *METRIC_COLUMNS}]
    rows = []
    for row in trials.to_dict("records"):
        metrics = {
            title: "" if pd.isna(row[name]) else f"{scale * row[name]:{form}}".replace("-", "−")
            for name, (title, scale, form) in METRIC_COLUMNS.items()
        }
        rows.append(
            {
                "arm": dict(ARM_NAMES).get(row["arm"], str(row["arm"])),
                **{name: str(row[name]) for name in ABOUT_TRIAL[1:]},
                **{str(name): "" if pd.isna(row[name]) else f"{row[name]:g}" for name in drawn},
                **metrics,
            }
        )
    return rows


def describe_search(files: SearchFiles, study: Study) -> dict[str, str]:
    """Return how a search was made."""
    answer = files.answer
    names = {arm: ARM_NAMES[arm] for arm in answer.arms}
    seeds = {arm: files.trials.loc[files.trials["arm"] == arm, "seed"] for arm in names}
    changed = [f"{section}.{key}: {value}" for section, keys in study.set.items() for key, value in keys.items()]
    spaces = {
        f"{section}.{key}": describe_range(found)
        for section, keys in study.space.items()
        for key, found in keys.items()
    }
    return {
        "study": answer.study,
        "parameters of its own": ", ".join(changed) or "none",
        **spaces,
        "chosen by": OBJECTIVES[answer.objective],
        "sampler": f"{answer.sampler}, equally many trials of each arm",
        "trials": ", ".join(
            f"{found.trials} of {names[arm]} ({found.diverged} diverged, {found.pruned} given up)"
            for arm, found in answer.arms.items()
        ),
        "seeds": "every trial has fresh ones that no reported replicate has; the first of each trial: "
        + ", ".join(f"{of_arm.min():d} to {of_arm.max():d} ({names[arm]})" for arm, of_arm in seeds.items()),
        "images": f"of the first trial {answer.train:,} training and {answer.val:,} validation images; no test image",
        "digest of the prepared images": answer.images,
        "epochs of a trial": str(answer.epochs),
    }


def describe_range(found: SearchRange) -> str:
    """Return where a parameter is drawn from."""
    share = f", as a share of {found.times}" if found.times else ""
    return f"{found.low:g} to {found.high:g}, {'log-uniform' if found.log else 'uniform'}{share}"
