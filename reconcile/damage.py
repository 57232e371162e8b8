"""Which file of a store is damaged, once the engine could not read something."""

# ruff: noqa: S608 - paths are quoted

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.engine import beside, quote
from reconcile.errors import InputError, first_line
from reconcile.store import Store
from reconcile.tables import RECEIPTS, RECORDS, REJECTED_LINES, REJECTS, SENT, TABLES, Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from ibis.backends.duckdb import Backend

# What came from outside; all other tables are made of it.
CAME = (RECORDS, RECEIPTS, SENT, REJECTS, REJECTED_LINES)
# So long the store is searched.
SECONDS = 120.0


@contextmanager
def named(store: Store, con: Backend, as_of: datetime) -> Iterator[None]:
    """What the engine refuses is one line with the file that it cannot read, if there is one.

    Where all files can be read, the mistake is ours, and stays what it is.

    Raises:
        InputError: a file of the store is damaged.
    """
    import duckdb

    try:
        yield
    except (duckdb.OutOfMemoryException, duckdb.IOException, duckdb.InterruptException):
        raise  # memory, disks and signals have lines of their own
    except duckdb.Error:
        found = _damaged(store, beside(con), as_of.date())
        if found is None:
            raise
        raise InputError(found) from None


def _damaged(store: Store, con: DuckDBPyConnection, near: date) -> str | None:
    """What to tell of the first file that cannot be read, those of days near a day looked at
    first."""
    end = time.monotonic() + SECONDS
    parts = [(_distance(day, near), day, table) for table in TABLES for day in store.days(table)]
    for _, day, table in sorted(parts, key=lambda part: part[0]):
        for file in store.files(table, day):
            if time.monotonic() > end:
                return None
            if reason := _unreadable(con, file):
                place = f"{store.name}/{file.relative_to(store.root).as_posix()}"
                return f"{place} is damaged ({reason}): {_mend(table)}"
    return None


def _distance(day: str, near: date) -> int:
    """How many days are between; what is undated is near."""
    try:
        return abs((date.fromisoformat(day.partition("T")[0]) - near).days)
    except ValueError:
        return 0


def _unreadable(con: DuckDBPyConnection, file: Path) -> str:
    """What the engine says of a file whose content is not what its footer says; else nothing."""
    import duckdb

    rows = f"read_parquet({quote(str(file))}, hive_partitioning = false)"
    try:
        con.execute(f"SELECT bit_xor(hash(r)) FROM {rows} AS r").fetchall()
    except (duckdb.OutOfMemoryException, duckdb.IOException):
        return ""  # which says nothing of the file
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        return first_line(error)
    return ""


def _mend(table: Table) -> str:
    again = "" if table in CAME else ", or remove its folder and judge its day again"
    return f"restore it from a backup{again}"
