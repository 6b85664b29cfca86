"""Errors that the user can mend, in one line each."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable
from urllib.parse import unquote

from stages.signals import Interrupted, exit_with_parent

ADVICE = {
    errno.ENOSPC: ": free some room, then run it again",
    errno.EDQUOT: ": free some of your quota, then run it again",
    errno.EFBIG: ": raise the limit on the size of files (ulimit -f), then run it again",
    errno.EROFS: ": make it writable, then run it again",
    errno.EACCES: ": make it readable and writable for you, then run it again",
    errno.EPERM: ": make it readable and writable for you, then run it again",
    errno.EPIPE: "",  # `| head` has read enough
}
OTHERWISE = ": mend that, then run it again"


class UserError(Exception):
    """Something outside the code is wrong. The message names it as the user wrote it and says what to do."""


# What libraries say -> what it means, and what to do: their own advice is for whoever writes code with them, and may be
# dangerous, as loading a file without a check is. The first pattern found in `Class: message` counts.
TRUSTED = (
    "in a place where you may run what it holds, load it with the program that wrote it and save its tensors alone: "
    'torch.save(module.state_dict(), "weights.pth")'
)
MIRRORS = "mirrors and proxies: docs/data.md#behind-a-firewall"
TRANSLATIONS = (
    (r"Unsupported global: GLOBAL ([\w.]+)", r"it holds \1 and not only tensors", TRUSTED),
    (r"with TorchScript archives", "it holds a TorchScript program and not only tensors", TRUSTED),
    (r"legacy \.tar format", "it has the format of the first versions of torch", TRUSTED),
    (r"Weights only load failed", "it is not what torch.save writes, or is damaged", f"get it anew, or {TRUSTED}"),
    (r"PytorchStreamReader|^EOFError: ", "it is cut short or damaged", "get it anew"),
    (r"Error while deserializing header", "it is no safetensors file, or is damaged", "get it anew"),
    (
        r"^(?:LocalEntryNotFoundError|OfflineModeIsEnabled): ",
        "the hub is out of reach, and its cache does not have them",
        MIRRORS,
    ),
    (r"^ProxyError: ([^\n]+)|Tunnel connection failed: ([^\n>]+)", r"the proxy says \1\2", MIRRORS),
    (r"urlopen error (?:\[[^]]*\] )?([^>]+)", r"\1", MIRRORS),
    (r"No pretrained weights exist", "there are none", ""),
    (
        r"^ImportError: Failed to import DB access module",
        "the driver of this kind of database is missing",
        "install it with pip",
    ),
    (
        r"Could not parse SQLAlchemy URL|Can't load plugin: sqlalchemy|RedisStorage is removed",
        "it is no URL of a database that SQLAlchemy knows",
        "set one such as sqlite:///.search/trials.db",
    ),
    (
        r"password authentication failed for user (\"[^\"]*\")",
        r"the server refuses the password of \1",
        "set another in PGPASSWORD or ~/.pgpass",
    ),
    (r"no password supplied", "the server asks for a password", "set it in PGPASSWORD or ~/.pgpass"),
    (
        r"\(psycopg\.OperationalError\) (?:connection failed: )?([^\n]+)",
        r"\1",
        "see that the server runs, and that the URL is right",
    ),
    (r"unable to open database file", "the file cannot be opened", "set one that may be written"),
    (r"file is not a database", "the file is no database", "remove it, or set another"),
    (r"cannot be downloaded anymore", "it can no longer be downloaded", ""),
    (r"(\w+) is not found\. This dataset needs", r"it needs the package \1", r"pip install \1"),
    (r"unexpected keyword argument 'download'|download it externally", "it must be asked for at its publisher's", ""),
    (r"Error tokenizing data\. C error: ([^\n]+)", r"\1", ""),
)
# Where in a message that is not listed the advice begins.
ADVISES = re.compile(
    r"(?:^|(?<=[.:;!,]) )[Pp]lease\b.*"
    r"|(?:^|(?<=[.;!]) )(?:Use|Try|Check|Make sure|Consider|Install|See|Set|Re-running|If you"
    r"|You (?:can|may|must|need|should))\b.*"
)
# In a URL, as SQLAlchemy and libpq read it: of its user, or as a setting.
PASSWORD = re.compile(r"(?P<before>://[^:/\s]*:)[^@\n]*(?=@)|(?P<setting>[?&](?:ssl)?password=)[^&\s]*")
COLORS = re.compile(r"\x1b\[[0-9;]*m")


def first_line(error: Exception) -> str:
    """Return in one line what a library's error means, and what to do where that is known; no advice of its own."""
    cause, advice = _translate(error)
    return f"{cause}; {advice}" if advice else cause


def cause_of(error: Exception) -> str:
    """Return in one line what a library's error means, for a message that says itself what to do."""
    return _translate(error)[0]


def has_password(url: str) -> bool:
    """Whether a URL carries a password."""
    return any(PASSWORD.search(text) for text in (url, unquote(url)))


def without_passwords(text: str) -> str:
    """Return a text without the passwords of the URLs in it, and without the one that libpq is given."""
    secret = os.environ.get("PGPASSWORD")
    text = text.replace(secret, "***") if secret else text
    return PASSWORD.sub(lambda found: f"{found['before'] or found['setting']}***", text)


def _translate(error: Exception) -> tuple[str, str]:
    """Return what an error means, and what to do, if that is known."""
    message = f"{type(error).__name__}: {error}"
    for pattern, cause, advice in TRANSLATIONS:
        if found := re.search(pattern, message):
            return found.expand(cause), found.expand(advice)
    lines = COLORS.sub("", str(error)).splitlines()
    return (ADVISES.sub("", lines[0]).rstrip(" .:;,") if lines else "") or type(error).__name__, ""


def run_cli(main: Callable[[], None]) -> None:
    """Run a script; exit with one line and a code that is not 0 where the user can mend what went wrong."""
    exit_with_parent()
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {place}{error.strerror or first_line(error)}{ADVICE.get(error.errno or 0, OTHERWISE)}")
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Interrupted as interruption:
        print("interrupted; what was trained is kept: `dvc repro` goes on from there", file=sys.stderr)
        sys.exit(128 + interruption.number)
