"""What the trials came to: kept by Optuna while the search runs, and in metrics/search/STUDY/trials.csv for Git."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

import optuna
import pandas as pd
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, TrialState

from stages.errors import UserError
from stages.params import Objective, SearchArm, Study
from stages.tuning.draws import distributions
from stages.tuning.space import ARM_SPACES, Draw
from stages.tuning.storage import file_of, open_storage, storage_errors

State = Literal["finished", "diverged", "pruned"]
METRICS_OF_TRIAL = ("val_loss", "val_accuracy", "train_loss", "train_accuracy", "overfitting_gap")
STATES: dict[str, TrialState] = {
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
    """The trials of one study in Optuna's storage, an Optuna study for each arm; what is there is not run again.

    In a file, which belongs to one search at a time: every trial is its own.
    """

    def __init__(self, storage: str, name: str, arms: list[SearchArm], objective: Objective) -> None:
        """Open the storage.

        Args:
            storage: Optuna's URL of it.
            name: of the study.
            arms: that are tuned.
            objective: what they are tuned for.

        Raises:
            UserError: the storage cannot be opened, or another search of the study is at it.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._objective = objective
        direction: Literal["minimize", "maximize"] = "minimize" if objective == "val_loss" else "maximize"
        with ExitStack() as stack, storage_errors("open it"):
            stack.enter_context(_locked(storage, name))
            self._storage = open_storage(storage)
            self._studies = {
                arm: optuna.create_study(
                    study_name=f"{name}, {arm}, {objective}",
                    storage=self._storage,
                    direction=direction,
                    load_if_exists=True,
                )
                for arm in arms
            }
            self._lock = stack.pop_all()

    def close(self) -> None:
        """Leave the storage to others."""
        self._lock.close()

    def known(self, draw: Draw, decided_by: list[str]) -> TrialResult | None:
        """Return what a trial came to; None where it has not come to an end.

        Args:
            draw: what it tries.
            decided_by: all that decides what it comes to.

        Raises:
            UserError: the storage cannot be read.
        """
        for trial in self._records(draw, decided_by):
            if is_known(trial):
                return TrialResult(draw, trial.user_attrs["state"], trial.user_attrs["metrics"])
        return None

    def free_dead(self) -> None:
        """Free the trials of searches that have died; a file has none, whose records all have come to their end."""

    def is_free(self, draw: Draw, decided_by: list[str]) -> bool:
        """Whether a trial may be claimed that has not come to its end."""
        return True

    def claim(self, draw: Draw, decided_by: list[str], study: Study) -> bool:
        """Claim a trial before it is trained; whether it may be."""
        return True

    def add(self, result: TrialResult, decided_by: list[str], study: Study) -> None:
        """Keep what a trial came to.

        Raises:
            UserError: the storage cannot be written.
        """
        attributes = {"state": result.state, "metrics": dict(result.metrics)}
        with storage_errors("write to it"):
            self._studies[result.draw.arm].add_trial(
                trial_record(
                    result.draw, decided_by, study, STATES[result.state], value=self._value(result), **attributes
                )
            )

    def _value(self, result: TrialResult) -> float | None:
        return result.metrics[self._objective] if result.state == "finished" else None

    def _records(self, draw: Draw, decided_by: list[str]) -> list[FrozenTrial]:
        """Return what the storage has of a trial, the oldest first."""
        return [trial for trial in self._trials(draw.arm) if trial.user_attrs.get("fingerprints") == decided_by]

    def _trials(self, arm: SearchArm) -> list[FrozenTrial]:
        with storage_errors("read it"):
            return self._studies[arm].get_trials(deepcopy=False)


def trial_record(
    draw: Draw,
    decided_by: list[str],
    study: Study,
    kept_as: TrialState,
    value: float | None = None,
    **attributes: object,
) -> FrozenTrial:
    """Return a trial as Optuna keeps it, for its own tools too."""
    return optuna.trial.create_trial(
        state=kept_as,
        value=value,
        params=dict(draw.drawn),
        distributions=distributions(study, draw.arm),
        user_attrs={
            "number": draw.number,
            "seeds": list(draw.seeds),
            "values": dict(draw.values),
            "fingerprints": decided_by,
            **attributes,
        },
    )


def is_known(trial: FrozenTrial) -> bool:
    """Whether a trial has come to its end, and not its search to its own."""
    return STATES.get(trial.user_attrs.get("state", "")) == trial.state


@contextmanager
def _locked(storage: str, name: str) -> Iterator[None]:
    """Keep other searches of a study from a file; the lock goes with its process, whatever ends that.

    Raises:
        UserError: another search is at it.
    """
    file = file_of(storage)
    if file is None:  # a server's database, which is shared
        yield
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{file}.{name}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise UserError(
            f"search.storage: another search of {name} is at {file}: wait until it ends, or share its trials by a "
            f"PostgreSQL database (docs/search.md#on-several-machines)"
        ) from None
    try:
        yield
    finally:
        lock.release()


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
