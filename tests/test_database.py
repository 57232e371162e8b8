"""Captures in a database: SQLite, and a real PostgreSQL where one is installed."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reconcile.errors import InputError, SettingsError
from reconcile.receipts import ingest
from reconcile.receipts.database import Query, read_rows
from reconcile.receipts.intake import Capture, Wishes
from tests.test_receipts import AS_OF, Taken, taken  # noqa: F401 - a fixture

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
needs_postgresql = pytest.mark.skipif(
    not BINARIES, reason="no PostgreSQL server is installed (Debian: postgresql)"
)


def query(url: str, text: str = "SELECT id, msg, st FROM dlr", **changes: Any) -> Query:
    told = {"key": "id", "columns": {"message_id": "msg", "status": "st"}, "overlap": 1000}
    return Query("callbacks", url, text, **(told | changes))


def take(store: Taken, *queries: Query) -> list[Capture]:
    found = ingest.ingest(
        store.store, store.con, store.ledger, [], list(queries), AS_OF, Wishes("keep"),
        lambda *_: None,
    )  # fmt: skip
    store.problems = [problem.reason for problem in found.problems]
    return found.captures


def keys(store: Taken) -> list[int]:
    return [row["line"] for row in store.receipts()]


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, str]]:
    """A database with four rows, the third key of which is not there yet."""
    file = tmp_path / "dlr.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE dlr (id INTEGER PRIMARY KEY, msg TEXT, st TEXT)")
        rows = [(n, f"0A{n:06d}", "delivered" if n != 4 else None) for n in (1, 2, 4, 5)]
        db.executemany("INSERT INTO dlr VALUES (?, ?, ?)", rows)
        db.commit()
        yield db, f"sqlite:///{file}"
    db.close()


def test_read_on(taken: Taken, sqlite: tuple[sqlite3.Connection, str]) -> None:  # noqa: F811
    """Each row once, its key as its line; a lower key that was committed late is not lost."""
    db, url = sqlite
    [first] = take(taken, query(url))
    assert (first.lines, first.receipts, first.rejects) == (4, 3, 1)
    assert take(taken, query(url)) == []
    db.execute("INSERT INTO dlr VALUES (3, '0A000003', 'failed'), (6, '0A000006', 'failed')")
    db.commit()
    [second] = take(taken, query(url))
    assert (second.lines, second.receipts) == (2, 2)
    assert keys(taken) == [1, 2, 3, 5, 6]
    assert taken.reasons() == {4: "it has no status, so it is no receipt"}


def test_behind_the_overlap(taken: Taken, sqlite: tuple[sqlite3.Connection, str]) -> None:  # noqa: F811
    """What lies further back than the overlap is not looked at again."""
    db, url = sqlite
    take(taken, query(url, overlap=1))
    db.execute("INSERT INTO dlr VALUES (3, '0A000003', 'failed')")
    db.commit()
    assert take(taken, query(url, overlap=1)) == []


def test_payloads(taken: Taken, sqlite: tuple[sqlite3.Connection, str]) -> None:  # noqa: F811
    """A row may hold the payload as it came, beside the time of capture."""
    db, url = sqlite
    db.execute("CREATE TABLE raw (id INTEGER PRIMARY KEY, payload TEXT, received_at TEXT)")
    payload = json.dumps({"messageId": "0B01", "status": "failed", "err-code": "3"})
    db.execute("INSERT INTO raw VALUES (7, ?, '2026-01-05 10:00:01')", [payload])
    db.commit()
    take(taken, query(url, "SELECT * FROM raw;", columns={}))
    [row] = taken.receipts()
    assert (row["message_id"], row["error_code"]) == ("0B01", "3")
    assert row["captured_at"].isoformat() == "2026-01-05T10:00:01+00:00"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "nothing"}, "gives no column nothing"),
        ({"key": "msg"}, "is no whole number"),
        ({"columns": {"message_id": "nothing"}}, "gives no column nothing"),
        ({"text": "SELECT nonsense"}, "no such column: nonsense"),
        ({"text": "SELECT id, st FROM dlr", "columns": {}}, "has no column message_id"),
        ({"text": "SELECT 1 AS id, msg, st FROM dlr"}, "is not unique: 1 comes twice"),
    ],
)
def test_mistakes(
    taken: Taken,  # noqa: F811
    sqlite: tuple[sqlite3.Connection, str],
    changes: dict[str, Any],
    words: str,
) -> None:
    """Each is one line that says what is wrong; nothing is taken in."""
    _, url = sqlite
    assert take(taken, query(url, **changes)) == []
    assert words in taken.problems[0]
    assert taken.receipts() == []


@pytest.mark.parametrize("url", ["nonsense", "oracle://u:secret@host/db", "foo://u:secret@host/x"])
def test_no_such_database(url: str) -> None:
    """A URL that cannot be meant, or a driver that is not there: one line without the secret."""
    with pytest.raises(SettingsError) as told:
        list(read_rows(query(url), None))
    assert "secret" not in str(told.value)


def test_the_url_stays_secret() -> None:
    """An unreachable server is named by host and database."""
    with pytest.raises(InputError) as told:
        list(read_rows(query("postgresql+psycopg://u:secret@127.0.0.1:1/db"), None))
    assert "(127.0.0.1/db): not connected: no server is listening there" in str(told.value)
    assert "secret" not in str(told.value) + repr(query("sqlite:///secret"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of our own on loopback; its URL."""
    bin_, folder = BINARIES[-1], Path(f"/tmp/dlr-pg-{os.getpid()}")  # noqa: S108 - its user must reach it
    folder.mkdir(mode=0o755)
    user = None
    if os.geteuid() == 0:
        user = "postgres"
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = folder / "data"
    run = {"user": user, "cwd": folder, "check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([bin_ / "initdb", "-A", "trust", "-U", "dlr", "-E", "UTF8", data], **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    subprocess.run([bin_ / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-o", options,
                    "start"], **run)  # fmt: skip
    try:
        yield f"postgresql+psycopg://dlr@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([bin_ / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder, ignore_errors=True)


@needs_postgresql
def test_postgresql(taken: Taken, server: str) -> None:  # noqa: F811
    """Types as PostgreSQL has them, and a transaction that commits after a later one."""
    import psycopg

    plain = server.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as db:
        db.execute("CREATE TABLE dlr (id bigserial PRIMARY KEY, payload jsonb, at timestamptz, "
                   "price numeric(12, 8))")  # fmt: skip
        insert = "INSERT INTO dlr (payload, at) VALUES (%s, '2026-01-05 11:00:00+01') RETURNING id"
        with psycopg.connect(plain) as slow:
            slow.execute(insert, [json.dumps({"messageId": "0A01", "status": "delivered"})])
            db.execute(insert, [json.dumps({"messageId": "0A02", "status": "failed"})])
            rows = query(server, "SELECT id, payload, at AS received_at FROM dlr", columns={})
            [first] = take(taken, rows)
            slow.commit()
        [second] = take(taken, rows)
        assert (first.lines, second.lines, keys(taken)) == (1, 1, [1, 2])
        assert {r["captured_at"].isoformat() for r in taken.receipts()} == {
            "2026-01-05T10:00:00+00:00"
        }
        db.execute("INSERT INTO dlr (payload, at) SELECT jsonb_build_object('messageId', "
                   "lpad(to_hex(n), 16, '0'), 'status', 'delivered'), now() "
                   "FROM generate_series(1, 50000) AS n")  # fmt: skip
        [third] = take(taken, rows)
        assert third.receipts == 50_000
        assert take(taken, rows) == []
