"""A PostgreSQL server of the tests' own, by Debian's programs: in its own folder, on the loopback, by a password."""

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

FOUND = shutil.which("initdb") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")), default="")
PROGRAMS = Path(FOUND).resolve().parent
MISSING = [
    *([] if FOUND else ["there is no PostgreSQL here: `make postgres` gets it from Debian's packages"]),
    *([] if find_spec("psycopg") else ["no psycopg: make postgres-requirements installs it"]),
]
needs_postgres = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))
USER = "searcher"


@dataclass(frozen=True)
class Server:
    """Where it is, and what lets one in."""

    port: int
    password: str

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/{database}"

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement in the database that every server has."""
        import psycopg

        with psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname="postgres", autocommit=True
        ) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running_server() -> Iterator[Server]:
    """Start one, and remove all of it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = Server(_free_port(), secrets.token_hex(16))
    (folder / "password").write_text(server.password)
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        shutil.chown(folder / "password", "postgres")
    data = f"--pgdata={folder / 'data'}"
    settings = f"-p {server.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    try:
        _run(
            "initdb", data, f"--username={USER}", f"--pwfile={folder / 'password'}", "--auth=scram-sha-256", "--no-sync"
        )
        (folder / "password").unlink()
        _run("pg_ctl", data, "start", "--wait", "--timeout=300", f"--log={folder / 'log'}", f"--options={settings}")
        try:
            yield server
        finally:
            _run("pg_ctl", data, "stop", "--mode=immediate")
    finally:
        shutil.rmtree(folder)


def _run(program: str, *arguments: str) -> None:
    """Run one of PostgreSQL's programs, none of which runs as root."""
    as_user = ["runuser", "--user=postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_user, str(PROGRAMS / program), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, cwd="/",
    )  # fmt: skip
    if done.returncode:
        pytest.fail(f"{program} ended with {done.returncode}: {done.stderr}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
