"""The trials of a study that several searches share, on as many machines, through one database.

Each trial is claimed before it is trained. A claimed trial is RUNNING to Optuna and has a heartbeat as long as its
search lives; the trial of a search that has died is free when the grace period is over.
"""

import contextlib
import threading
import warnings
from collections.abc import Mapping

import optuna
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from stages.params import Objective, SearchArm, Study
from stages.progress import write_line
from stages.tuning.records import STATES, TrialLog, TrialResult, is_known, trial_record
from stages.tuning.space import Draw
from stages.tuning.storage import HEARTBEAT, file_of, storage_errors

ALIVE = {TrialState.WAITING, TrialState.RUNNING}


def open_trials(storage: str, name: str, arms: list[SearchArm], objective: Objective) -> TrialLog:
    """Open the trials of a study as `TrialLog` does: its own in a file, shared in the database of a server."""
    return (TrialLog if file_of(storage) else SharedTrialLog)(storage, name, arms, objective)


class SharedTrialLog(TrialLog):
    """The trials of a study that several searches share.

    Of the records of one trial the oldest counts that is waiting, running or known. Optuna adds the records of a study
    one after the other, so that all searches agree which one that is.
    """

    _storage: RDBStorage

    def __init__(self, storage: str, name: str, arms: list[SearchArm], objective: Objective) -> None:
        """Open the storage, as the base class does, and begin the heartbeat."""
        super().__init__(storage, name, arms, objective)
        self._claimed: dict[str, int] = {}  # label of a trial -> Optuna's id of its record
        self._heartbeat = Heartbeat(self._storage, self._claimed)
        self._warned = False

    def close(self) -> None:
        """Free what is claimed and has not come to its end, and leave the storage."""
        self._heartbeat.stop()
        for record in self._claimed.values():
            with contextlib.suppress(Exception):  # without the server it is free when the grace period is over
                self._storage.set_trial_state_values(record, TrialState.WAITING)
        self._claimed.clear()
        super().close()

    def free_dead(self) -> None:
        """Free the trials of searches that have died.

        Raises:
            UserError: the storage cannot be written.
        """
        with storage_errors("write to it"), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            for study in self._studies.values():
                optuna.storages.fail_stale_trials(study)

    def is_free(self, draw: Draw, decided_by: list[str]) -> bool:
        """Whether a trial may be claimed that has not come to its end."""
        record = self._counting(draw, decided_by)
        return draw.label in self._claimed or record is None or record.state == TrialState.WAITING

    def claim(self, draw: Draw, decided_by: list[str], study: Study) -> bool:
        """Claim a trial before it is trained; whether it may be.

        Raises:
            UserError: the storage cannot be written.
        """
        if draw.label in self._claimed:
            return True
        self._warn_of_others(draw, decided_by)
        record = self._counting(draw, decided_by) or self._offer(draw, decided_by, study)
        if record is None or record.state != TrialState.WAITING:
            return False
        with storage_errors("write to it"), contextlib.suppress(UpdateFinishedTrialError):
            # First, because Optuna never takes a trial for dead that has had no heartbeat yet.
            self._storage.record_heartbeat(record._trial_id)
            if self._storage.set_trial_state_values(record._trial_id, TrialState.RUNNING):  # of one search alone
                self._claimed[draw.label] = record._trial_id
        return draw.label in self._claimed

    def add(self, result: TrialResult, decided_by: list[str], study: Study) -> None:
        """Keep what a trial came to, unless another search has claimed it, which comes to the same.

        Raises:
            UserError: the storage cannot be written.
        """
        while self.claim(result.draw, decided_by, study):
            record, value = self._claimed[result.draw.label], self._value(result)
            with storage_errors("write to it"):
                try:
                    self._storage.set_trial_user_attr(record, "metrics", dict(result.metrics))
                    self._storage.set_trial_user_attr(record, "state", result.state)
                    values = None if value is None else [value]
                    self._storage.set_trial_state_values(record, STATES[result.state], values)
                    is_kept = True
                except UpdateFinishedTrialError:  # this search was taken for dead
                    is_kept = False
            del self._claimed[result.draw.label]
            if is_kept:
                return

    def _counting(self, draw: Draw, decided_by: list[str]) -> FrozenTrial | None:
        """Return the record of a trial that counts, if there is one."""
        records = self._records(draw, decided_by)
        return next((record for record in records if record.state in ALIVE or is_known(record)), None)

    def _offer(self, draw: Draw, decided_by: list[str], study: Study) -> FrozenTrial | None:
        """Add a record that waits, withdraw it where another search was first, and return the one that counts."""
        offered = trial_record(draw, decided_by, study, TrialState.WAITING)
        with storage_errors("write to it"):
            record = self._storage.create_new_trial(self._studies[draw.arm]._study_id, offered)
        counting = self._counting(draw, decided_by)
        if counting is None or counting._trial_id != record:
            with storage_errors("write to it"), contextlib.suppress(UpdateFinishedTrialError):
                self._storage.set_trial_state_values(record, TrialState.FAIL)
        return counting

    def _warn_of_others(self, draw: Draw, decided_by: list[str]) -> None:
        """Say once that another search trains the same trials by something else, so that nothing is shared with it."""
        if not self._warned and any(
            trial.state == TrialState.RUNNING
            and trial.user_attrs.get("number") == draw.number
            and trial.user_attrs.get("fingerprints") != decided_by
            for trial in self._trials(draw.arm)
        ):
            self._warned = True
            write_line(
                "warning: a search on this storage has other code, data, parameters, versions or another kind of "
                "processor: each trains its own trials, and none is shared between them"
            )


class Heartbeat:
    """Says again and again of each trial that is claimed that its search lives."""

    def __init__(self, storage: RDBStorage, claimed: Mapping[str, int]) -> None:
        """Begin.

        Args:
            storage: that is told.
            claimed: label of a trial -> Optuna's id of its record, at any time.
        """
        self._storage, self._claimed, self._stopped = storage, claimed, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Say nothing more."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(HEARTBEAT):
            for record in list(self._claimed.values()):
                with contextlib.suppress(Exception):  # the server may be back before the grace period is over
                    self._storage.record_heartbeat(record)
        self._storage.remove_session()
