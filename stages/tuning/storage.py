"""Optuna's storage behind search.storage, and what goes wrong with it in one line that carries no password.

`sqlite:///PATH` and `journal:///PATH` are files beside which nothing runs; any other URL is a database server's.
"""

import os
import random
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import ExperimentalWarning, OptunaError, StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

from stages.errors import UserError, first_line, without_passwords

HEARTBEAT = 10  # seconds, after which a search says again that it lives
GRACE = 60  # seconds without a heartbeat, after which its trials are free
ATTEMPTS = 5  # at opening a server's database
# By one kind of storage or another.
RAISED = (OptunaError, SQLAlchemyError, OSError, ValueError, ImportError, RuntimeError)
FILE_URL = re.compile(r"(?P<kind>sqlite|journal)(?:\+\w+)?:///(?P<path>[^?]+)")


def file_of(url: str) -> Path | None:
    """Return the file of a storage that is one; None where it is a server's."""
    found = FILE_URL.fullmatch(url.partition("?")[0])
    return Path(found["path"]) if found else None


def open_storage(url: str) -> BaseStorage:
    """Open a storage; a file that is missing is made, with its folder.

    Raises:
        UserError: it cannot be opened.
    """
    with storage_errors("open it"):
        file = file_of(url)
        if file is None:
            return _open_server(url)
        file.parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(str(file))) if url.startswith("journal") else RDBStorage(url)


def _open_server(url: str) -> RDBStorage:
    if url.startswith("postgresql"):
        _check_psycopg(url)
        os.environ["PGTZ"] = "UTC"  # heartbeats are kept without a time zone, so that all searches must mean the same
        os.environ.setdefault("PGCONNECT_TIMEOUT", "10")  # seconds; by itself it waits for minutes
    attempt = 1
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)
                return RDBStorage(url, {"pool_pre_ping": True}, heartbeat_interval=HEARTBEAT, grace_period=GRACE)
        except (ProgrammingError, IntegrityError):  # another search makes the same tables at the same moment
            if attempt == ATTEMPTS:
                raise
            attempt += 1
            time.sleep(random.uniform(0.2, 1))


def _check_psycopg(url: str) -> None:
    if re.match(r"postgresql(\+psycopg)?://", url):
        try:
            import psycopg  # noqa: F401  # which also finds that libpq is missing
        except ImportError:
            raise UserError("search.storage: psycopg is missing: pip install -r requirements-postgres.txt") from None


@contextmanager
def storage_errors(does: str) -> Iterator[None]:
    """Raise what goes wrong with the storage in the block as one line.

    Args:
        does: what Optuna cannot do then.

    Raises:
        UserError: something has gone wrong.
    """
    try:
        yield
    except UserError:
        raise
    except RAISED as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else None
        reason = first_line(cause if isinstance(cause, Exception) else error)
        raise UserError(f"search.storage: Optuna cannot {does} ({without_passwords(reason)})") from None
