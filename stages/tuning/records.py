"""What the trials came to: kept by Optuna while the search runs, and in metrics/search/STUDY/trials.csv for Git."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import optuna
import pandas as pd
from optuna.trial import TrialState

from stages.errors import UserError, first_line
from stages.params import Objective, SearchArm, Study
from stages.tuning.draws import distributions
from stages.tuning.space import ARM_SPACES, Draw

State = Literal["finished", "diverged", "pruned"]
METRICS_OF_TRIAL = ("val_loss", "val_accuracy", "train_loss", "train_accuracy", "overfitting_gap")
STATES: dict[State, TrialState] = {
    "finished": TrialState.COMPLETE,
    "diverged": TrialState.FAIL,
    "pruned": TrialState.PRUNED,
}


@dataclass(frozen=True)
class TrialResult:
    """What a trial came to.

    Attributes:
        draw: what it tried.
        state: a trial of which one replicate diverged, or was given up, has no metrics.
        metrics: of the last epoch, the mean over its replicates.
    """

    draw: Draw
    state: State
    metrics: Mapping[str, float]


class TrialLog:
    """The trials of one study in Optuna's storage, an Optuna study for each arm; what is there is not run again."""

    def __init__(self, storage: str, name: str, arms: list[SearchArm], objective: Objective) -> None:
        """Open the storage.

        Args:
            storage: Optuna's URL of it.
            name: of the study.
            arms: that are tuned.
            objective: what they are tuned for.

        Raises:
            UserError: the storage cannot be opened.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._objective = objective
        direction: Literal["minimize", "maximize"] = "minimize" if objective == "val_loss" else "maximize"
        try:
            if storage.startswith("sqlite:///"):
                Path(storage.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            self._studies = {
                arm: optuna.create_study(
                    study_name=f"{name}, {arm}, {objective}", storage=storage, direction=direction, load_if_exists=True
                )
                for arm in arms
            }
        except Exception as error:  # each kind of storage raises its own
            raise UserError(f"search.storage: Optuna cannot open it ({first_line(error)})") from None

    def known(self, draw: Draw, decided_by: list[str]) -> TrialResult | None:
        """Return what a trial came to; None where it has not come to an end.

        Args:
            draw: what it tries.
            decided_by: all that decides what it comes to.
        """
        for trial in self._studies[draw.arm].get_trials(deepcopy=False):
            if trial.user_attrs.get("fingerprints") == decided_by:
                return TrialResult(draw, trial.user_attrs["state"], trial.user_attrs["metrics"])
        return None

    def add(self, result: TrialResult, decided_by: list[str], study: Study) -> None:
        """Keep what a trial came to."""
        draw = result.draw
        ranges = distributions(study, draw.arm)
        finished = result.state == "finished"
        self._studies[draw.arm].add_trial(
            optuna.trial.create_trial(
                state=STATES[result.state],
                value=result.metrics[self._objective] if finished else None,
                params=dict(draw.drawn),
                distributions=ranges,
                user_attrs={
                    "number": draw.number,
                    "seeds": list(draw.seeds),
                    "values": dict(draw.values),
                    "fingerprints": decided_by,
                    "state": result.state,
                    "metrics": dict(result.metrics),
                },
            )
        )


def trials_table(results: list[TrialResult]) -> pd.DataFrame:
    """Return a row for each trial: `arm`, `trial` (from 1), `seed` (its first), `state`, parameters and metrics."""
    in_order = sorted(results, key=lambda result: (list(ARM_SPACES).index(result.draw.arm), result.draw.number))
    rows = [
        {
            "arm": result.draw.arm,
            "trial": result.draw.number + 1,
            "seed": result.draw.seeds[0],
            "state": result.state,
            **result.draw.values,
            **result.metrics,
        }
        for result in in_order
    ]
    values = dict.fromkeys(name for result in in_order for name in result.draw.values)
    return pd.DataFrame(rows, columns=["arm", "trial", "seed", "state", *values, *METRICS_OF_TRIAL])
