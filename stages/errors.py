"""Errors that the user can mend, told in one line."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something outside the code is wrong. The message names it as the user wrote it and says what to do."""


def first_line(error: Exception) -> str:
    """Say what a library said, in one line, or at least what kind of error it was."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


def run(story: Callable[[], None]) -> None:
    """Run a script's story; end with one line and a code that is not 0 where the user can mend what went wrong."""
    try:
        story()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
