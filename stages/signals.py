"""Ctrl-C and SIGTERM, the notice of a machine that is about to be taken away: a critical section is finished first."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import psutil  # which takes a while, and no command needs

SHELLS = {"sh", "dash", "bash", "zsh", "ksh", "fish"}


def find_starter() -> "psutil.Process | None":
    """Return the process of the `dvc` that has started this one as a stage, if one has."""
    if "DVC_STAGE" not in os.environ:  # which DVC sets
        return None
    import psutil

    starter = psutil.Process().parent()
    if starter and starter.name() in SHELLS:  # one that stays, as Debian's dash does
        starter = starter.parent()
    return starter


def exit_with_parent() -> None:
    """Exit as SIGTERM makes this process exit when the `dvc` that started it has been killed.

    Otherwise it would go on, and overwrite what a later run has made.
    """
    starter = find_starter()
    if starter is None:
        return
    import psutil

    def watch() -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            while starter.is_running() and starter.status() != psutil.STATUS_ZOMBIE:
                time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


class Interrupted(BaseException):  # it is no error, and no `except Exception` may stop it
    """Someone wants the program to end.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        """Keep the number for the exit code."""
        super().__init__(number)
        self.number = number


class Signals:
    """Turns the first of both signals into `Interrupted`, at once or at the end of a critical section.

    Later ones are ignored: Ctrl-C reaches every process of a terminal, and whoever started this one sends SIGTERM too.
    """

    def __init__(self) -> None:
        """Nothing has arrived, and nothing is deferred."""
        self._arrived: int | None = None
        self._raised = False
        self._deferring = 0

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle both signals from here to the end of the block."""
        self._arrived, self._raised = None, False
        before = {number: signal.signal(number, self._arrive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer a signal to the end of the block.

        Raises:
            Interrupted: one has arrived meanwhile.
        """
        self._deferring += 1
        try:
            yield
        finally:
            self._deferring -= 1
        self._raise()

    @property
    def arrived(self) -> bool:
        """Whether one has arrived."""
        return self._arrived is not None

    def agree(self) -> None:
        """Raise what has arrived in another process of the same training, of which there is none here."""

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        if self._arrived is None:
            self._arrived = number
            self._raise()

    def _raise(self) -> None:
        if self._arrived is not None and not self._deferring and not self._raised:
            self._raised = True
            raise Interrupted(self._arrived)
