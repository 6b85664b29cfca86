"""Say what the trials of a study come to: tuning curves, the surface over both rates, and the best of each arm.

Writes metrics/search/STUDY/answer.json, curves.csv and surface.csv beside it, from trials.csv alone.
"""

import argparse
import math

import pandas as pd

from stages.errors import UserError, run_cli
from stages.files import significant, write_csv, write_json
from stages.metrics_files import SplitMetrics, read_prepare_metrics, read_record
from stages.params import Objective, Params, load_params
from stages.search_files import FOLDER, SearchAnswer, path_of, read_table
from stages.tuning.answer import (
    MIN_FOR_SURFACE,
    arm_answer,
    curves_answer,
    fit_metric,
    on_plane,
    surface_answer,
    surface_table,
)
from stages.tuning.curves import scores_of, tuning_curves
from stages.tuning.space import ranges_of, search_arms
from stages.tuning.surface import grid

CURVE_METRICS: tuple[Objective, ...] = ("val_loss", "val_accuracy")
SURFACE_METRICS = ("val_loss", "val_accuracy", "overfitting_gap")


def main() -> None:
    """Write the answer of one study."""
    parser = argparse.ArgumentParser(prog="python -m stages.search_answer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("study", help="one of search.studies in params.yaml, such as sgd")
    name: str = parser.parse_args().study
    params, trials = load_params(), read_table(name, "trials.csv")
    answer, curves, surface = answer_study(name, trials, params)
    write_json(path_of(name, "answer.json"), {}, exact=significant(answer.model_dump()))
    write_csv(path_of(name, "curves.csv"), curves, number="%.6g")
    write_csv(path_of(name, "surface.csv"), surface, number="%.6g")


def answer_study(name: str, trials: pd.DataFrame, params: Params) -> tuple[SearchAnswer, pd.DataFrame, pd.DataFrame]:
    """Return the answer of a study, its tuning curves, and its surface; both are empty where there is none.

    Args:
        name: of the study.
        trials: as trials.csv has them.
        params: of the search.

    Raises:
        UserError: no trial of an arm came to its end.
    """
    study, search = params.search.studies[name], params.search
    arms = {arm: trials[trials["arm"] == arm] for arm in search_arms(study)}
    for arm, of_arm in arms.items():
        if not (of_arm["state"] == "finished").any():
            raise UserError(f"search.studies.{name}: no trial of the {arm} arm came to its end: lower its rates")
    answers = {arm: arm_answer(of_arm, study, arm, search.objective) for arm, of_arm in arms.items()}
    best = {arm: answer.best for arm, answer in answers.items()}
    splits = read_record(FOLDER / "splits.json", SplitMetrics, "dvc repro search/dvc.yaml")
    curves = pd.DataFrame(columns=["metric", "arm", "k", "low", "median", "high"])
    if search.sampler == "random":
        scores = {metric: {str(arm): scores_of(of, metric) for arm, of in arms.items()} for metric in CURVE_METRICS}
        each = [tuning_curves(scores[metric], metric).assign(metric=metric) for metric in CURVE_METRICS]
        curves = pd.concat(each)[list(curves)]
    plane = on_plane(trials)
    surface, surfaces = pd.DataFrame(), {}
    if (plane["state"] == "finished").sum() >= MIN_FOR_SURFACE:
        guessing = math.log(len(read_prepare_metrics().classes))
        surfaces = {metric: fit_metric(plane, metric, guessing) for metric in SURFACE_METRICS}
        ranges = ranges_of(study, "differential")
        surface = surface_table(surfaces, grid(ranges["lr.head"], ranges["lr.backbone"]), search.objective)
    return (
        SearchAnswer(
            study=name,
            objective=search.objective,
            sampler=search.sampler,
            train=splits.train,
            val=splits.val,
            arms=answers,
            curves=curves_answer(curves[curves["metric"] == search.objective], len(arms["baseline"]))
            if len(curves)
            else None,
            surface=surface_answer(plane, surfaces, ranges_of(study, "differential"), best, search.objective)
            if surfaces
            else None,
        ),
        curves,
        surface,
    )


if __name__ == "__main__":
    run_cli(main)
