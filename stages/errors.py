"""Errors that the user can mend, in one line each."""

import errno
import signal
import sys
from collections.abc import Callable

from stages.signals import Interrupted, exit_with_parent

ADVICE = {
    errno.ENOSPC: ": free some room, then run it again",
    errno.EDQUOT: ": free some of your quota, then run it again",
    errno.EFBIG: ": raise the limit on the size of files (ulimit -f), then run it again",
    errno.EROFS: ": make it writable, then run it again",
    errno.EACCES: ": make it readable and writable for you, then run it again",
    errno.EPERM: ": make it readable and writable for you, then run it again",
}


class UserError(Exception):
    """Something outside the code is wrong. The message names it as the user wrote it and says what to do."""


def first_line(error: Exception) -> str:
    """Return the first line of a library's message, or at least the kind of the error."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def run_cli(main: Callable[[], None]) -> None:
    """Run a script; exit with one line and a code that is not 0 where the user can mend what went wrong."""
    exit_with_parent()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        reason = error.strerror or first_line(error)
        sys.exit(f"error: {f'{error.filename}: ' if error.filename else ''}{reason}{ADVICE.get(error.errno or 0, '')}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Interrupted as interruption:
        print("interrupted; what was trained is kept: `dvc repro` goes on from there", file=sys.stderr)
        sys.exit(128 + interruption.number)
