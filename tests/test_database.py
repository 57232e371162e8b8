"""Captures in a SQL database: what is new, as text, each row once, and no word of its secrets."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jwt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile import job, settings
from reconcile.errors import InputError, SettingsError
from reconcile.receipts import database
from reconcile.receipts.database import Query
from reconcile.receipts.lines import NO_UTF8
from tests import rig_postgresql as rig

pytest.importorskip("sqlalchemy", reason="captures in databases need sqlalchemy")
needs_postgresql = pytest.mark.skipif(
    bool(rig.lacking()), reason=f"this needs {rig.lacking()} (apt-get install postgresql)"
)
Make = Callable[..., Query]
ROOT = Path(__file__).parent.parent


@pytest.fixture
def capture(monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a query of this URL, which stands in the environment as well."""

    def make(url: str, query: str = "SELECT * FROM dlr", key: str = "id", **more: Any) -> Query:
        monkeypatch.setenv("TEST_DLR_URL", url)
        return Query("crm", url, query, key, more.get("columns", {}), more.get("overlap", 1000))

    return make


@pytest.fixture
def sqlite(tmp_path: Path, capture: Make) -> Callable[..., Query]:
    """Runs a script in a SQLite file, and gives the source that reads it."""

    def make(script: str = "", **more: Any) -> Query:
        path = tmp_path / "dlr.db"
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.executescript(script)
        return capture(f"sqlite:///{path}", **more)

    return make


DLR = "CREATE TABLE dlr (id INTEGER PRIMARY KEY, message_id TEXT, status TEXT);"
THREE = DLR + "INSERT INTO dlr VALUES (1,'0A','delivered'), (5,'0B','failed'), (7,'0C','expired');"


def read(query: Query, last: int | None = None, at_once: int = 20_000) -> Iterator[database.Rows]:
    """What an ingest reads whose last key was this."""
    after = None if last is None else last - query.overlap
    return database.read_rows(query, after, last, at_once)


def rows_of(query: Query, last: int | None = None, at_once: int = 20_000) -> dict[int, Any]:
    """All rows by their keys, each of which comes once, in order."""
    found: dict[int, Any] = {}
    for rows in read(query, last, at_once):
        keys = rows.keys.to_pylist()
        assert all(column.type == pa.string() for column in rows.columns.values())
        assert len(rows.problem) == len(keys) <= at_once
        assert not found.keys() & set(keys)
        table = pa.table(rows.columns).to_pylist() if rows.columns else [{}] * len(keys)
        found |= dict(zip(keys, table, strict=True))
    return found


def refusal(source: Query, last: int | None = None) -> str:
    """The one line with which a source is refused."""
    with pytest.raises(InputError) as caught:
        list(read(source, last))
    text = str(caught.value)
    assert text.startswith("dlr_sql crm (")
    assert "\n" not in text
    return text


# Reading


def test_rows_come_as_text(sqlite: Make) -> None:
    """Each row has its key as its number, and its other columns under their own names."""
    assert rows_of(sqlite(THREE)) == {
        1: {"message_id": "0A", "status": "delivered"},
        5: {"message_id": "0B", "status": "failed"},
        7: {"message_id": "0C", "status": "expired"},
    }


def test_no_row_is_no_chunk(sqlite: Make) -> None:
    """An empty table is nothing, also after rows were seen: old ones may be deleted."""
    source = sqlite(DLR)
    assert list(read(source, None)) == []
    assert list(read(source, 9000)) == []


@pytest.mark.parametrize("at_once", [1, 2, 3, 4])
def test_pages(sqlite: Make, at_once: int) -> None:
    """However many rows are taken at once, all come."""
    assert list(rows_of(sqlite(THREE), at_once=at_once)) == [1, 5, 7]


@pytest.mark.parametrize(
    ("after", "overlap", "keys"),
    [(None, 0, [1, 5, 7]), (7, 0, []), (5, 0, [7]), (7, 2, [7]), (7, 3, [5, 7]), (7, 9, [1, 5, 7])],
)  # fmt: skip
def test_reads_on(sqlite: Make, after: int | None, overlap: int, keys: list[int]) -> None:
    """What was seen is read again as far as `overlap` says."""
    assert list(rows_of(sqlite(THREE, overlap=overlap), after)) == keys


def test_columns_are_mapped(sqlite: Make) -> None:
    """A mapped column has our name, one column may serve two fields, and others keep theirs."""
    source = sqlite(
        'CREATE TABLE log (n INTEGER, "The Id" TEXT, st TEXT, "at %" TEXT);'
        "INSERT INTO log VALUES (3, '0A', 'delivered', '2026-01-05')",
        query='SELECT n, "The Id", st, "at %", 1 AS other FROM log',
        key="n",
        columns={"message_id": "The Id", "status": "st", "captured_at": "at %", "client-ref": "n"},
    )
    wanted = {"message_id": "0A", "status": "delivered", "captured_at": "2026-01-05",
              "client-ref": "3", "other": "1"}  # fmt: skip
    assert rows_of(source) == {3: wanted}


@pytest.mark.parametrize("key", ["Order", "the key", 'a"b', "a%b", "a:b", "select"])
def test_key_is_quoted(sqlite: Make, key: str) -> None:
    """Any name can be the key's."""
    quoted = '"' + key.replace('"', '""') + '"'
    script = f"CREATE TABLE dlr ({quoted} INTEGER, body TEXT); INSERT INTO dlr VALUES (4, 'x')"
    assert list(rows_of(sqlite(script, key=key), 3)) == [4]


TRICKY = (
    "SELECT id, message_id, status FROM dlr;",
    "SELECT id, message_id, status FROM dlr -- as they came",
    "WITH a AS (SELECT * FROM dlr) SELECT * FROM a ORDER BY status",
    "SELECT id, message_id, status FROM dlr WHERE status LIKE '%e%' AND ':id' <> '1:3 :x ::y \\:z'",
    "SELECT id, message_id, status FROM dlr q WHERE '%(a)s %s %%' <> '?'",
)  # fmt: skip


@pytest.mark.parametrize("query", TRICKY)
def test_query_is_taken_literally(sqlite: Make, query: str) -> None:
    """Colons and percent signs are no parameters, and an end of any kind is one."""
    assert rows_of(sqlite(THREE, query=query)) == rows_of(sqlite())


@given(st.text(alphabet=":\\ab%?'1 ", max_size=12))
def test_any_text_survives(text: str) -> None:
    """What SQLAlchemy makes of a query is the query."""
    import sqlalchemy as sa

    assert str(sa.text(database._literally(f"a{text}b"))) == f"a{text}b\n"


def test_values_of_sqlite(sqlite: Make) -> None:
    """Numbers are told from texts though they stand in one column; bytes are UTF-8 or a problem."""
    source = sqlite(
        "CREATE TABLE dlr (id INTEGER, message_id, price REAL, body BLOB, hash BLOB);"
        "INSERT INTO dlr VALUES (1, '0A', 0.0333, CAST('{\"ü\":1}' AS BLOB), X'FF'),"
        " (2, 12345678901234567, 1e20, CAST(X'636166E9' AS TEXT), NULL),"
        " (3, '0B', NULL, NULL, X'00'), (4, NULL, -2.5, 'x', NULL)"
    )
    parts = list(read(source, None))
    numeric = {n: rows.numeric for rows in parts for n in rows.keys.to_pylist()}
    ids = {n for n, names in numeric.items() if "message_id" in names}
    assert ids == {2}
    assert {n for n, names in numeric.items() if "price" in names} >= {1, 2, 4}
    problem = {
        n: p.as_py() for c in parts for n, p in zip(c.keys.to_pylist(), c.problem, strict=True)
    }
    assert problem == {1: None, 2: NO_UTF8, 3: None, 4: None}
    rows = rows_of(source)
    assert [rows[n]["message_id"] for n in (1, 2, 3, 4)] == ["0A", "12345678901234567", "0B", None]
    assert [rows[n]["price"] for n in (1, 2, 3, 4)] == ["0.0333", "1e+20", None, "-2.5"]
    assert [rows[n]["body"] for n in (1, 2, 3, 4)] == ['{"ü":1}', "caf\\xe9", None, "x"]
    assert [rows[n]["hash"] for n in (1, 2, 3, 4)] == ["\\xff", None, "\x00", None]


@given(
    st.lists(
        st.tuples(*[st.one_of(st.none(), st.text(), st.integers(-9, 10**17), st.binary())] * 3),
        min_size=1,
        max_size=9,
    )
)
def test_no_row_is_lost(values: list[tuple[Any, ...]]) -> None:
    """Whatever is in the rows, each comes once, and a column is of numbers or it is not."""
    page = [(n, *row) for n, row in enumerate(values)]
    columns = [(name, n) for n, name in enumerate(("id", "a", "b", "body"))]
    parts = list(database._rows(pa.array(range(len(page)), pa.int64()), columns, page))
    assert sorted(n for rows in parts for n in rows.keys.to_pylist()) == list(range(len(page)))
    for rows in parts:
        for at, name in ((1, "a"), (2, "b"), (3, "body")):
            kinds = {type(page[n][at]) for n in rows.keys.to_pylist()} - {type(None)}
            assert (int in kinds) == (name in rows.numeric) == (kinds == {int})


def test_sqlite_is_only_read(sqlite: Make, tmp_path: Path, capture: Make) -> None:
    """No file is made where there is none, and between pages others may write."""
    source = sqlite(THREE)
    missing = tmp_path / "none.db"
    assert "there is no such file" in refusal(capture(f"sqlite:///{missing}"))
    assert not missing.exists()
    source = sqlite()
    parts = read(source, None, 1)
    next(parts)
    with closing(sqlite3.connect(tmp_path / "dlr.db", timeout=0)) as other, other:
        other.execute("INSERT INTO dlr VALUES (9, '0D', 'buffered')")
    assert [rows.keys[0].as_py() for rows in parts] == [5, 7, 9]


# Into the store


def taken_in(configure: Any, entry: dict[str, Any]) -> dict[str, Any]:
    """Message id → receipt, after one ingest more."""
    flags = {"store": entry.pop("store")} if "store" in entry else {}
    known = {"name": "crm", "url_env": "TEST_DLR_URL", "key": "id"}
    config = configure(dlr_sql=[known | entry], **flags)
    with job.opened(config, datetime(2026, 2, 1, tzinfo=UTC), lambda *_: None) as this:
        job.ingest(this)
        assert this.holes == []
        job.finish(this, "ingest")
    found: list[dict[str, Any]] = []
    for table in ("receipts", "rejects"):
        for path in sorted(config.store.glob(f"{table}/**/*.parquet")):
            read_now = pq.ParquetFile(path).read().to_pylist()
            found += [{"message_id": None} | row for row in read_now]
    assert len({row["line"] for row in found}) == len(found)
    return {row["message_id"] or row["line"]: row for row in found}


def test_ingest_reads_on(sqlite: Make, configure: Any) -> None:
    """Rows become receipts, once; a row that comes late comes too; what is unreadable is told."""
    query = {"query": "SELECT * FROM dlr", "columns": {"message_id": "mid"}, "overlap": 3}
    sqlite(
        "CREATE TABLE dlr (id INTEGER PRIMARY KEY, mid TEXT, status TEXT, captured_at TEXT);"
        "INSERT INTO dlr VALUES (3, '0A', 'delivered', '2026-01-05 10:00:00'),"
        "(5, '0B', 'failed', '2026-01-05 10:00:01'), (6, '0C', CAST(X'FF' AS TEXT), NULL)"
    )
    first = taken_in(configure, query)
    assert list(first) == ["0A", "0B", 6]
    assert (first["0A"]["source"], first["0A"]["line"]) == ("crm", 3)
    assert first["0A"]["captured_at"] == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert (first[6]["kind"], first[6]["reason"]) == ("unreadable", NO_UTF8)
    assert taken_in(configure, query) == first
    sqlite("INSERT INTO dlr VALUES (4, '0D', 'expired', NULL), (7, '0E', 'expired', NULL)")
    found = taken_in(configure, query)
    assert found == first | {name: found[name] for name in ("0D", "0E")}
    sqlite("DELETE FROM dlr WHERE id < 7")  # what was taken in stays
    assert taken_in(configure, query) == found


# Refusals


@pytest.mark.parametrize(
    ("script", "more", "words"),
    [
        (DLR, {"query": "SELECT nope FROM dlr"}, "no such column: nope: correct `query`"),
        (DLR, {"query": "SELECT * FROM nowhere"}, "no such table: nowhere"),
        (DLR, {"query": "SELEKT 1"}, 'near "1": syntax error: correct `query`'),
        (DLR, {"query": "DELETE FROM dlr"}, "its query fails"),
        (DLR, {"key": "number"}, "gives no column number, only id, message_id, status: correct"),
        (DLR, {"columns": {"status": "st"}}, "gives no column st, only"),
        (DLR, {"columns": {"status": "message_id"}}, "gives a status as well: name it otherwise"),
        (THREE, {"query": "SELECT id, 1 AS a, 2 AS a FROM dlr"}, "gives two columns a: name them"),
        (THREE, {"key": "message_id"}, "its key message_id is no whole number but text"),
        (THREE, {"query": "SELECT id + 0.5 AS id FROM dlr"}, "is no whole number but floating"),
        (THREE, {"query": "SELECT nullif(id, 5) AS id FROM dlr"}, "a row has no id"),
        (THREE, {"query": "SELECT id - 3 AS id FROM dlr"}, "its key id is negative"),
        (THREE, {"query": "SELECT min(id, 5) AS id FROM dlr"}, "not unique: 5 comes twice"),
    ],
)
def test_refusals(sqlite: Make, script: str, more: dict[str, Any], words: str) -> None:
    """Each says what is wrong with the query or the key."""
    assert words in refusal(sqlite(script, **more))


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_a_key_that_is_there_twice_is_never_left_out(sqlite: Make, at_once: int) -> None:
    """Also where a page ends between the two."""
    source = sqlite(THREE, query="SELECT min(id, 5) AS id FROM dlr")
    with pytest.raises(InputError, match="5 comes twice"):
        list(read(source, None, at_once))


def test_a_null_key_is_never_left_out(sqlite: Make) -> None:
    """No comparison finds it, so it is looked for."""
    assert "a row has no id" in refusal(
        sqlite(THREE, query="SELECT nullif(id, 1) AS id FROM dlr"), 5
    )


def test_keys_that_began_anew(sqlite: Make) -> None:
    """A table that was emptied and counts from one again is no continuation."""
    words = "its highest id is 7, but 8 was seen: if its keys began anew, give it another `name`"
    for overlap in (0, 1000):
        assert words in refusal(sqlite(THREE if not overlap else "", overlap=overlap), 8)


def test_what_is_no_database(tmp_path: Path, capture: Make) -> None:
    """A file of another kind, and one that is locked."""
    path = tmp_path / "x.db"
    path.write_bytes(b"no database at all" * 100)
    assert "no SQLite database" in refusal(capture(f"sqlite:///{path}"))


def test_locked(sqlite: Make, tmp_path: Path, capture: Make) -> None:
    """Somebody who does not let go is told of."""
    sqlite(THREE)
    source = capture(f"sqlite:///{tmp_path}/dlr.db?timeout=0.1")
    with closing(sqlite3.connect(tmp_path / "dlr.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert "another program has locked it" in refusal(source)


def test_a_row_is_never_quoted(sqlite: Make) -> None:
    """Not in an error that a value of it has made."""
    source = sqlite(
        "CREATE TABLE dlr (id INTEGER, body TEXT); INSERT INTO dlr VALUES (1, '447700900001')",
        query="SELECT id, json_extract('{}', body) AS x FROM dlr",
    )
    text = refusal(source)
    assert "447700900001" not in text
    assert "its query fails (OperationalError, SQLITE_ERROR)" in text


def test_fields_are_checked(sqlite: Make) -> None:
    """A name in `columns` that means nothing is a slip."""
    with pytest.raises(SettingsError, match="mesage_id is no field: did you mean message_id"):
        list(read(sqlite(DLR, columns={"mesage_id": "id"}), None))


# Secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://bob:hunter2@db.example.test/dlr?password=hunter2", "(db.example.test/dlr)"),
        ("postgresql://bob:hunter2@127.0.0.1:1/dlr?sslcert=hunter2", "(127.0.0.1/dlr)"),
        ("postgres://bob:p@hunter2@127.0.0.1:1/dlr", "(127.0.0.1/dlr)"),
        ("postgres://bob:p@x/hunter2@127.0.0.1:1/dlr", "(127.0.0.1:1/dlr)"),
        ("postgresql:///dlr?host=/nowhere&user=bob&password=hunter2", "(/dlr)"),
    ],
)
def test_password_is_never_shown(capture: Make, url: str, shown: str) -> None:
    """A database that is not there is named by host and database alone."""
    pytest.importorskip("psycopg")
    text = refusal(capture(url))
    assert shown in text
    assert "not connected: " in text
    assert not re.search(r"hunter2|bob|not connected: its driver", text)


@pytest.mark.parametrize(
    "url",
    ["hunter2", "postgresql://bob:hunter2@host:hunter2/x", "postgresql:hunter2", "", "hunter2://x/y",
     "sqlite:///x.db?timeout=hunter2", "postgresql+hunter2://bob@h/d"],
)  # fmt: skip
def test_wrong_urls(capture: Make, url: str, tmp_path: Path, monkeypatch: Any) -> None:
    """What is no URL is not shown at all."""
    monkeypatch.chdir(tmp_path)
    Path("x.db").touch()
    with pytest.raises(SettingsError, match=r"dlr_sql crm|TEST_DLR_URL") as caught:
        list(read(capture(url), None))
    assert "hunter2" not in str(caught.value)


def test_missing_drivers(capture: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed is named by the extra that brings it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"pip install 'dlr-reconcile\[postgresql\]'"):
        list(read(capture("postgresql://h/d"), None))
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(SettingsError, match=r"pip install 'dlr-reconcile\[sql\]'"):
        list(read(capture("sqlite:///x.db"), None))


SETTINGS = """
[[dlr_sql]]
name = "crm"
url_env = "TEST_DLR_URL"
query = "SELECT * FROM dlr"
key = "id"
columns = { message_id = "mid" }
"""


def test_settings(tmp_path: Path, clean_environment: None) -> None:
    """An entry of reconcile.toml; names are unique, and the URL has one place."""
    file = tmp_path / "reconcile.toml"
    file.write_text(SETTINGS)
    (source,) = settings.load(file).dlr_sql
    assert (source.name, source.overlap, source.columns) == ("crm", 10_000, {"message_id": "mid"})
    with pytest.raises(SettingsError, match="TEST_DLR_URL is not set"):
        source.url()
    for text, words in (
        (SETTINGS + SETTINGS, "two .* are named crm"),
        (SETTINGS.replace("url_env", "url_file") + 'url_env = "X"', "url_env or url_file"),
        (SETTINGS.replace('url_env = "TEST_DLR_URL"', ""), "url_env or url_file"),
        (SETTINGS.replace('"crm"', '"/crm"'), "dlr_sql.0.name"),
        (SETTINGS + "overlap = -1", "dlr_sql.0.overlap"),
    ):
        file.write_text(text)
        with pytest.raises(SettingsError, match=words):
            settings.load(file)
    file.write_text(SETTINGS + 'url = "postgresql://bob:hunter2@host/dlr"')
    with pytest.raises(SettingsError) as caught:
        settings.load(file)
    assert "dlr_sql.0.url" in str(caught.value)
    assert "hunter2" not in str(caught.value)


# PostgreSQL


@pytest.fixture(scope="module")
def server() -> Iterator[rig.Postgres]:
    """A running PostgreSQL; its time zone is not UTC."""
    with rig.running() as running:
        yield running


@pytest.fixture
def postgres(server: rig.Postgres) -> Iterator[Any]:
    """A connection of its owner, in a schema of which nothing is left."""
    with server.connect() as connection:
        connection.execute("CREATE TABLE dlr (id bigserial PRIMARY KEY, body jsonb)")
        yield connection
        connection.execute("DROP TABLE dlr")


BODY = '{"b": "ü", "price": 0.03330, "big": 12345678901234567890123.10}'
VALUES = {
    "jsonb": (BODY, '{"b": "ü", "big": 12345678901234567890123.10, "price": 0.03330}'),
    "json": ('{"b" :1, "b":2}', '{"b" :1, "b":2}'),
    "jsonb ": ('"a\\u00fc=1&b"', "aü=1&b"),
    "jsonb  ": ("null", None),
    "jsonb   ": ("12345678901234567890", "12345678901234567890"),
    "timestamptz": ("2026-01-05 10:00:00.123456+05:30", "2026-01-05T04:30:00.123456+00:00"),
    "timestamp": ("2026-01-05 10:00:00", "2026-01-05T10:00:00+00:00"),
    "date": ("2026-01-05", "2026-01-05"),
    "time": ("10:00:01", "10:00:01"),
    "numeric": ("0.03330000", "0.03330000"),
    "numeric ": ("1e-9", "0.000000001"),
    "bigint": ("9223372036854775807", "9223372036854775807"),
    "float8": ("1767607200.123", "1767607200.123"),
    "boolean": ("t", "true"),
    "uuid": ("AAAAAAAA-BBBB-4CCC-8DDD-000000000001", "aaaaaaaa-bbbb-4ccc-8ddd-000000000001"),
    "bytea": ("\\x7b7dc3bc", "{}ü"),
    "text": ("a%sb:c\n€", "a%sb:c\n€"),
    "text ": (None, None),
    "varchar(20)": ("", ""),
    "text[]": ("{a,NULL}", '["a", null]'),
    "timestamptz[]": ("{2026-01-05 10:00:00+00}", '["2026-01-05T10:00:00+00:00"]'),
    "inet": ("10.0.0.1", "10.0.0.1"),
    "interval": ("1 day", "1 day, 0:00:00"),
}


@needs_postgresql
def test_values_of_postgresql(server: rig.Postgres, capture: Make) -> None:
    """Each type becomes the text that is meant, with all digits; names of numeric are told."""
    names = {f"c{n}": kind for n, kind in enumerate(VALUES)}
    with server.connect() as owner:
        columns = ", ".join(f"{name} {kind}" for name, kind in names.items())
        owner.execute(f"CREATE TABLE kinds (id bigint, {columns})")
        owner.execute(
            f"INSERT INTO kinds VALUES (4, {', '.join(['%s'] * len(names))})",
            [given for given, _ in VALUES.values()],
        )
        (rows,) = read(capture(server.url(), "SELECT * FROM kinds"), None)
        owner.execute("DROP TABLE kinds")
    (row,) = pa.table(rows.columns).to_pylist()
    assert {kind: row[name] for name, kind in names.items()} == {
        kind: wanted for kind, (_, wanted) in VALUES.items()
    }
    kinds = {"jsonb   ", "numeric", "numeric ", "bigint", "float8"}
    assert rows.numeric == {name for name, kind in names.items() if kind in kinds}
    assert {names[n] for n in rows.rewritten} == {"jsonb", "json", "text[]", "timestamptz[]"}
    assert rows.problem.null_count == 1
    assert rows.keys.to_pylist() == [4]


@needs_postgresql
@pytest.mark.parametrize("query", [q.replace("\\", "") for q in TRICKY])
def test_query_is_taken_literally_by_postgresql(
    server: rig.Postgres, postgres: Any, capture: Make, query: str
) -> None:
    """Colons, casts and percent signs are what they are."""
    postgres.execute("ALTER TABLE dlr ADD message_id text, ADD status text")
    postgres.execute("INSERT INTO dlr (message_id, status) VALUES ('0A', 'delivered')")
    casting = query.replace("SELECT id", "SELECT id::bigint")
    assert list(rows_of(capture(server.url(), casting), 0)) == [1]


@needs_postgresql
def test_late_commit(server: rig.Postgres, postgres: Any, capture: Make) -> None:
    """A row with a lower key, committed after a higher one was read, comes with the next run."""
    source = capture(server.url())
    insert = "INSERT INTO dlr (body) VALUES (jsonb_build_object('n', %s::text)) RETURNING id"
    kept: dict[int, Any] = {}
    with server.connect() as slow, server.connect() as quick:
        slow.execute("BEGIN")
        (low,) = slow.execute(insert, ["slow"]).fetchone()
        quick.execute("BEGIN")
        (high,) = quick.execute(insert, ["quick"]).fetchone()
        quick.execute("COMMIT")
        assert low < high
        kept |= rows_of(source)  # replaced by (source, line)
        assert list(kept) == [high]
        slow.execute("COMMIT")
        again = rows_of(source, last=high)
    assert list(again) == [low, high]
    assert again[high] == kept[high]
    kept |= again
    assert {n: json.loads(row["body"])["n"] for n, row in kept.items()} == {
        low: "slow", high: "quick",
    }  # fmt: skip
    assert rows_of(capture(server.url(), overlap=0), last=high) == {}  # this is what it is for


@needs_postgresql
def test_ingest_of_payloads(
    server: rig.Postgres, postgres: Any, capture: Make, configure: Any
) -> None:
    """Payloads in a column of jsonb become receipts: two transactions, the late one too."""
    capture(server.url())
    body = {"messageId": "0A", "status": "delivered", "msisdn": "447700900001", "price": "0.0333",
            "message-timestamp": "2026-01-05 10:00:00"}  # fmt: skip
    insert = "INSERT INTO dlr (body) VALUES (%s) RETURNING id"
    query = {"query": "SELECT id, body, now() AS received_at FROM dlr"}
    with server.connect() as slow, server.connect() as quick:
        slow.execute("BEGIN")
        (low,) = slow.execute(insert, [json.dumps(body)]).fetchone()
        (high,) = quick.execute(insert, [json.dumps(body | {"messageId": "0B"})]).fetchone()
        assert {name: row["line"] for name, row in taken_in(configure, query).items()} == {
            "0B": high,
        }  # fmt: skip
        slow.execute("COMMIT")
    found = taken_in(configure, query)
    assert {name: row["line"] for name, row in found.items()} == {"0A": low, "0B": high}
    assert found["0A"]["pushed_at"] == datetime(2026, 1, 5, 10, tzinfo=UTC)
    assert found["0A"]["captured_at"].date() == datetime.now(UTC).date()
    assert taken_in(configure, query) == found


@needs_postgresql
def test_a_signature_of_a_rewritten_body(
    server: rig.Postgres, postgres: Any, capture: Make, configure: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The text of a body in jsonb is not what was signed: nobody can tell; in text it is."""
    capture(server.url())
    status = '{"message_uuid":"aaaaaaaa-bbbb-4ccc-8ddd-000000000001","status":"delivered",'
    sent = status + '"channel":"sms","to":"447700900001","timestamp":"2026-01-05T10:00:00Z"}'
    secret = "a secret of 32 letters or more, yes"
    token = jwt.encode(
        {"api_key": "abcd1234", "payload_hash": hashlib.sha256(sent.encode()).hexdigest()}, secret
    )
    postgres.execute("ALTER TABLE dlr ADD raw text")
    postgres.execute("INSERT INTO dlr (body, raw) VALUES (%s, %s)", [sent, sent])
    monkeypatch.setenv("VONAGE_SIGNATURE_SECRET", secret)
    monkeypatch.setenv("RECONCILE_SIGNATURE_METHOD", "sha256")
    monkeypatch.setenv("RECONCILE_ACCOUNT_ID", "abcd1234")
    for column, wanted in (("body", "unverifiable"), ("raw", "valid")):
        own = f"SELECT id, {column} AS body, '{token}' AS \"authorization\" FROM dlr"
        config = {"name": column, "query": own, "store": f"store-{column}"}
        (row,) = taken_in(configure, config).values()
        assert (row["source"], row["signature"]) == (column, wanted)


@needs_postgresql
def test_every_commit_is_read_once(server: rig.Postgres, postgres: Any, capture: Make) -> None:
    """Writers that are open for a while, and runs in between: in the end every row is there."""
    import random
    import threading

    source, ended = capture(server.url(), overlap=300), threading.Event()

    def write(seed: int) -> None:
        rng = random.Random(seed)
        with server.connect() as own:
            for _ in range(25):
                own.execute("BEGIN")
                for _ in range(rng.randrange(1, 5)):
                    own.execute("INSERT INTO dlr (body) VALUES ('{}')")
                    ended.wait(rng.random() * 0.004)
                own.execute("ROLLBACK" if rng.random() < 0.2 else "COMMIT")

    writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for writer in writers:
        writer.start()
    kept: dict[int, Any] = {}
    late = runs = 0
    while any(writer.is_alive() for writer in writers) or not runs:
        after = max(kept, default=None)
        found = rows_of(source, after, 50)
        late += len([key for key in found if after and key < after and key not in kept])
        kept |= found
        runs += 1
    kept |= rows_of(source, max(kept))
    there = [key for (key,) in postgres.execute("SELECT id FROM dlr ORDER BY id").fetchall()]
    assert sorted(kept) == there
    assert late, f"no commit was late in {runs} runs: this test has shown nothing"


@needs_postgresql
def test_one_state_is_seen(server: rig.Postgres, postgres: Any, capture: Make) -> None:
    """What is committed while a run reads belongs to the next."""
    postgres.execute("INSERT INTO dlr (body) SELECT '{}' FROM generate_series(1, 100)")
    parts = read(capture(server.url()), None, 10)
    next(parts)
    postgres.execute("INSERT INTO dlr (body) VALUES ('{}')")
    postgres.execute("DELETE FROM dlr WHERE id = 50")
    assert [rows.keys[-1].as_py() for rows in parts] == list(range(20, 101, 10))


@needs_postgresql
def test_a_run_is_one_transaction(server: rig.Postgres, capture: Make) -> None:
    """All of its queries see the same state, and none can write."""
    told = "current_setting('transaction_isolation') || current_setting('transaction_read_only')"
    source = capture(server.url(), f"SELECT 1 AS id, {told} AS body")
    assert rows_of(source)[1]["body"] == "repeatable readon"


@needs_postgresql
def test_nothing_is_written(server: rig.Postgres, postgres: Any, capture: Make) -> None:
    """Not even by a user who may, with a function that would."""
    postgres.execute(
        "CREATE FUNCTION spoil() RETURNS bigint LANGUAGE sql AS "
        "$$INSERT INTO dlr (body) VALUES ('{}') RETURNING id$$"
    )
    url = server.url(rig.OWNER, rig.PASSWORD)
    assert "its query would write" in refusal(capture(url, "SELECT spoil() AS id"))
    assert postgres.execute("SELECT count(*) FROM dlr").fetchone() == (0,)
    postgres.execute("DROP FUNCTION spoil")


@needs_postgresql
@pytest.mark.parametrize(
    ("query", "key", "words"),
    [
        ("SELECT nope FROM dlr", "id", 'column "nope" does not exist: correct `query`'),
        ("SELECT * FROM nowhere", "id", 'relation "nowhere" does not exist'),
        ("SELECT id FROM dlr WHERE", "id", "syntax error at or near"),
        ("SELECT id, id FROM dlr", "id", "two columns id"),
        ("SELECT gen_random_uuid() AS id FROM dlr", "id", "is no whole number but other values"),
        ("SELECT now() AS id FROM dlr", "id", "its key id is no whole number but times"),
        ("SELECT 1.5 AS id FROM dlr", "id", "is no whole number but fractions"),
        ("SELECT 10::numeric ^ 20 + id AS id FROM dlr", "id", "goes beyond 64 bits"),
        ("SELECT 7 AS id FROM dlr", "id", "its key id is not unique: 7 comes twice"),
        ("SELECT id, (body->>'to')::inet FROM dlr", "id", "InvalidTextRepresentation, 22P02"),
        ("SELECT id, 'infinity'::timestamptz FROM dlr", "id", "cast what it cannot give to text"),
        ("SELECT id, pg_sleep(9) FROM dlr", "id", "broke off while rows were read (QueryCanceled"),
    ],
)  # fmt: skip
def test_refusals_of_postgresql(
    server: rig.Postgres, postgres: Any, capture: Make, query: str, key: str, words: str
) -> None:
    """Each says what is wrong, and nothing of what a row holds."""
    body = json.dumps({"to": "447700900001"})
    for _ in range(2):
        postgres.execute("INSERT INTO dlr (body) VALUES (%s)", [body])
    url = server.url() + "&options=-cstatement_timeout%3D300"
    text = refusal(capture(url, query, key))
    assert words in text
    assert not re.search(f"447700900001|{rig.READER}|{rig.READS_WITH}", text)


@needs_postgresql
def test_a_wrong_password_is_not_shown(server: rig.Postgres, capture: Make) -> None:
    """Nor the right one, nor the user, nor where the socket is."""
    for url, words in (
        (server.url(password="hunter2"), "it refuses the user or the password"),
        (server.url(user="bob"), "it refuses the user or the password"),
        (server.url(database="elsewhere"), "it has no such database"),
    ):
        text = refusal(capture(url))
        assert words in text
        assert not re.search(f"hunter2|bob|{rig.READER}|{rig.READS_WITH}|{server.folder}", text)


@needs_postgresql
def test_a_lost_connection(server: rig.Postgres, postgres: Any, capture: Make) -> None:
    """A server that ends the connection in the middle ends the reading with one line."""
    postgres.execute("INSERT INTO dlr (body) SELECT '{}' FROM generate_series(1, 1000)")
    parts = read(capture(server.url()), None, 10)
    next(parts)
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [rig.READER]
    )
    with pytest.raises(InputError, match=r"AdminShutdown|connection was lost") as caught:
        list(parts)
    assert "\n" not in str(caught.value)


# Memory

MANY, LETTERS = 120_000, 1500
READS = f"""
import os
from reconcile.receipts.database import Query, read_rows

def peak_kb():  # getrusage would count what this process was before exec
    return next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line)

query = Query("crm", os.environ["TEST_DLR_URL"], "SELECT * FROM dlr", "id", {{}}, 1000)
count = 0
for rows in read_rows(query, None, None, 5000):
    count += len(rows.keys)
    assert len(rows.columns["body"][-1].as_py()) > {LETTERS}
    if count <= {MANY} / 3:
        before = peak_kb()
print(count, rows.keys[-1], peak_kb() - before, peak_kb())
"""


def peaks_mb() -> tuple[float, float]:
    """How much more memory the last two thirds of 180 MB of rows took than the first, and all."""
    ended = subprocess.run(
        [sys.executable, "-c", READS], capture_output=True, text=True, check=True, cwd=ROOT,
    )  # fmt: skip
    rows, last, more_kb, all_kb = map(int, ended.stdout.split())
    assert (rows, last) == (MANY, MANY)
    return more_kb / 1024, all_kb / 1024


@pytest.mark.slow
@needs_postgresql
def test_memory_of_postgresql(server: rig.Postgres, postgres: Any, capture: Make) -> None:
    """Rows are streamed: many take no more memory than few."""
    postgres.execute(
        "INSERT INTO dlr (body) SELECT jsonb_build_object('a', repeat('x', %s)) "
        "FROM generate_series(1, %s)", [LETTERS, MANY],
    )  # fmt: skip
    capture(server.url())
    more, peak = peaks_mb()
    assert more < 30
    assert peak < 300


@pytest.mark.slow
def test_memory_of_sqlite(sqlite: Make) -> None:
    """Likewise."""
    sqlite(
        "CREATE TABLE dlr (id INTEGER PRIMARY KEY, body TEXT);"
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {MANY})"
        f"INSERT INTO dlr SELECT i, printf('{{%.{LETTERS}c}}', 'x') FROM n"
    )
    more, peak = peaks_mb()
    assert more < 30
    assert peak < 300


def test_large_rows_come_fewer_at_once(sqlite: Make) -> None:
    """After the first rows have shown how large they are."""
    source = sqlite(
        "CREATE TABLE dlr (id INTEGER PRIMARY KEY, body TEXT);"
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)"
        "INSERT INTO dlr SELECT i, printf('%.100000c', 'x') FROM n"
    )
    sizes = [rows.columns["body"].nbytes for rows in read(source, None)]
    assert len(sizes) == 6
    assert max(sizes[1:]) <= database.BYTES_AT_ONCE


def test_moments_of_the_driver() -> None:
    """Without an offset it is UTC."""
    assert database._text(datetime(2026, 1, 5, 10)) == "2026-01-05T10:00:00+00:00"  # noqa: DTZ001 - what a driver gives
    assert database._text(datetime(2026, 1, 5, 10, tzinfo=UTC)) == "2026-01-05T10:00:00+00:00"
