"""A real PostgreSQL from Debian's packages, as a child process that lives as long as a test.

It listens on a Unix socket in a folder of its own, and asks for a password. It refuses to run as
root; then it runs as `postgres` or `nobody`.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

OWNER, PASSWORD, DATABASE = "owner", "s3cret:of/the@owner", "captures"
READER, READS_WITH = "only_reads", "an0ther-secret"
PATIENCE_SECONDS = 30.0


def programs() -> Path | None:
    """The folder of the newest server's programs."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = sorted(found, key=lambda path: int(path.parts[-3]))
    return newest[-1].parent if newest else None


def lacking() -> str:
    """What the rig needs and this machine has not, by name; empty if it has all."""
    missing = [name for name in ("sqlalchemy", "psycopg") if not find_spec(name)]
    return " and ".join(missing + ([] if programs() else ["postgresql"]))


@dataclass(frozen=True)
class Postgres:
    """A running server.

    Attributes:
        folder: of its socket.
        process: its first process.
    """

    folder: Path
    process: subprocess.Popen[bytes]

    def url(self, user: str = READER, password: str = READS_WITH, database: str = DATABASE) -> str:
        """The URL of its database, for a user that may only read unless another is named."""
        from sqlalchemy import URL

        place = {"host": str(self.folder)}
        kind = "postgresql"
        url = URL.create(kind, user, password, database=database, query=place)
        return url.render_as_string(hide_password=False)

    def connect(self) -> Any:
        """A connection of the owner; each statement is committed unless in a transaction."""
        import psycopg

        return psycopg.connect(
            host=str(self.folder), user=OWNER, password=PASSWORD, dbname=DATABASE, autocommit=True
        )


@contextmanager
def running() -> Iterator[Postgres]:
    """A server with an empty database; it ends with the block, and leaves nothing."""
    found = programs()
    if found is None:
        raise RuntimeError("PostgreSQL is not installed")
    user = _unprivileged()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
    try:
        word = folder / "word"
        word.write_text(PASSWORD)
        if user:
            for path in (folder, word):
                os.chown(path, pwd.getpwnam(user).pw_uid, -1)
        data = folder / "data"
        asked = [f"--username={OWNER}", f"--pwfile={word}", "--auth=scram-sha-256", "--no-sync",
                 "--encoding=UTF8", "--no-locale", f"--pgdata={data}"]  # fmt: skip
        made = subprocess.run(
            [found / "initdb", *asked], user=user, cwd=folder, capture_output=True, text=True
        )
        if made.returncode:
            raise RuntimeError(f"initdb: exit {made.returncode}: {made.stderr}")
        options = {"listen_addresses": "", "unix_socket_directories": str(folder), "fsync": "off",
                   "timezone": "America/New_York", "max_connections": "20"}  # fmt: skip
        told = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [found / "postgres", "-D", data, *told], user=user, cwd=folder, stdout=log,
                stderr=log,
            )  # fmt: skip
        try:
            _await(folder, process)
            yield Postgres(folder, process)
        finally:
            process.send_signal(signal.SIGINT)  # ends its connections, then itself
            process.wait(PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder)


def _unprivileged() -> str | None:
    """Whom it runs as, if we are root."""
    if os.geteuid():
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _await(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits until it answers, and makes the database and the reader."""
    import psycopg

    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        try:
            with psycopg.connect(
                host=str(folder), user=OWNER, password=PASSWORD, dbname="postgres", autocommit=True
            ) as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
                connection.execute(f"CREATE ROLE {READER} LOGIN PASSWORD '{READS_WITH}'")
                connection.execute(f"GRANT pg_read_all_data TO {READER}")
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"PostgreSQL did not start: {(folder / 'log').read_text('utf-8')}")
