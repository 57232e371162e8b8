"""Captures that lie in a table of a database, read on from the last key seen.

The key is a whole number that grows, and it is the line's number. A transaction that began early
may commit late, so that a lower key appears behind a higher one: each run reads the last keys
(`overlap`) again, and what it has by then it does not take twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reconcile.errors import InputError, SettingsError

if TYPE_CHECKING:
    from sqlalchemy import Engine

ROWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Query:
    """One query that captures come from.

    Attributes:
        name: the source of its lines in the tables.
        url: SQLAlchemy's URL of the database; a secret.
        query: a SELECT that gives a row a receipt, or a row a payload.
        key: the column of a whole number, unique and growing.
        columns: field of a receipt → column of the query, where their names differ.
        overlap: how many keys below the last one are looked at again.
    """

    name: str
    url: str
    query: str
    key: str
    columns: dict[str, str]
    overlap: int

    def __repr__(self) -> str:
        return f"Query({self.name!r})"


@dataclass(frozen=True)
class Rows:
    """Some rows in the order of their keys: text by field or column, and which held numbers."""

    keys: pa.Array
    columns: dict[str, pa.Array]
    numeric: frozenset[str]


def read_rows(query: Query, after: int | None) -> Iterator[Rows]:
    """The rows behind a key, in order; null: all.

    Raises:
        InputError: the database cannot be reached, or the query is none of the kind above.
        SettingsError: SQLAlchemy or the database's driver is not installed.
    """
    engine = _engine(query)
    with _told(query, engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(
                isolation_level="REPEATABLE READ", postgresql_readonly=True
            )
        found = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(
            _statement(query, engine, after)
        )
        names = list(found.keys())
        if query.key not in names:
            raise InputError(f"{query.name}: the query gives no column {query.key}: see key")
        last = after
        for rows in found.partitions():
            keys = [row[names.index(query.key)] for row in rows]
            last = _checked(query, keys, last)
            yield _rows(query, names, keys, rows)
    engine.dispose()


def _engine(query: Query) -> Engine:
    try:
        from sqlalchemy import create_engine
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError
    except ModuleNotFoundError:
        raise SettingsError(
            f"{query.name}: captures in a database need SQLAlchemy: "
            "pip install 'dlr-reconcile[sql]' (PostgreSQL: 'dlr-reconcile[postgresql]')"
        ) from None
    try:
        return create_engine(query.url)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{query.name}: the database's driver {error.name} is not installed "
            "(PostgreSQL: pip install 'dlr-reconcile[postgresql]')"
        ) from None
    except (ArgumentError, NoSuchModuleError):
        raise SettingsError(f"{query.name}: its URL is none that SQLAlchemy knows") from None


def _statement(query: Query, engine: Engine, after: int | None) -> Any:
    from sqlalchemy import bindparam, text

    key = f"q.{engine.dialect.identifier_preparer.quote_identifier(query.key)}"
    inner = query.query.strip().rstrip(";")
    where = "" if after is None else f" WHERE {key} > :reconcile_after"
    statement = text(f"SELECT q.* FROM ({inner}\n) AS q{where} ORDER BY {key}")  # noqa: S608 - the user's own query
    if after is None:
        return statement
    return statement.bindparams(bindparam("reconcile_after", after))


@contextmanager
def _told(query: Query, engine: Engine) -> Iterator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except SQLAlchemyError as error:
        url = engine.url
        where = f"{url.host or url.get_backend_name()}/{url.database or ''}"
        lines = str(getattr(error, "orig", None) or error).strip().splitlines() or ["no reason"]
        reason = lines[0].replace(url.password, "***") if url.password else lines[0]
        raise InputError(f"{query.name}: {where} refused: {reason}") from None


def _checked(query: Query, keys: list[Any], last: int | None) -> int:
    for key in keys:
        if not isinstance(key, int) or isinstance(key, bool) or key < 0:
            raise InputError(
                f"{query.name}: the key {query.key} is no whole number: name a column that is one, "
                "such as a serial id"
            )
        if last is not None and key <= last:
            raise InputError(f"{query.name}: the key {query.key} is not unique: {key} comes twice")
        last = key
    return last if last is not None else 0


def _rows(query: Query, names: list[str], keys: list[int], rows: Any) -> Rows:
    field_of = {column: field for field, column in query.columns.items()}
    missing = [column for column in field_of if column not in names]
    if missing:
        raise InputError(f"{query.name}: the query gives no column {missing[0]}: see columns")
    columns, numeric = {}, set()
    for at, name in enumerate(names):
        if name == query.key and name not in field_of:
            continue
        values = [row[at] for row in rows]
        called = field_of.get(name, name)
        columns[called] = pa.array(list(map(_text, values)), pa.string())
        if any(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
            numeric.add(called)
    return Rows(pa.array(keys, pa.int64()), columns, frozenset(numeric))


def _text(value: Any) -> str | None:
    """A value as a capture would hold it; times without a zone are UTC."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bytes | memoryview):
        return bytes(value).decode("utf-8", "replace")
    return str(value)
