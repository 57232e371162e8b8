"""Opens the engine (DuckDB, spoken to through Ibis) within the limits that settings give it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb
    import ibis
    import ibis.backends.duckdb


def connect(
    memory_limit: str, threads: int | None, temp_directory: Path
) -> ibis.backends.duckdb.Backend:
    """A fresh in-memory engine: UTC only, no extension downloads, spilling to `temp_directory`."""
    import ibis

    con = ibis.duckdb.connect()
    _set_up(con.con, memory_limit, threads, temp_directory)
    return con


def bare(memory_limit: str, threads: int | None, temp_directory: Path) -> duckdb.DuckDBPyConnection:
    """The same engine for those who only read with SQL: it is there at once."""
    import duckdb

    con = duckdb.connect()
    _set_up(con, memory_limit, threads, temp_directory)
    return con


def _set_up(
    con: duckdb.DuckDBPyConnection, memory_limit: str, threads: int | None, temp_directory: Path
) -> None:
    options = {
        "TimeZone": "UTC",
        "memory_limit": memory_limit,
        "temp_directory": str(temp_directory),
        # Rows are sorted where their order matters; keeping it elsewhere costs memory and time.
        "preserve_insertion_order": "false",
        "autoinstall_known_extensions": "false",
        # It tells files apart by their time; partitions are replaced faster than that.
        "enable_external_file_cache": "false",
        # What it holds does not last: checkpoints of it would cost time for nothing.
        "checkpoint_threshold": "1TB",
    }
    if threads:
        options["threads"] = str(threads)
    for name, value in options.items():
        con.execute(f"SET {name} = {quote(value)}")
    _hide_progress(con)


def beside(con: ibis.backends.duckdb.Backend) -> duckdb.DuckDBPyConnection:
    """A second connection to the same engine, for another thread; it has its own views."""
    cursor = con.con.cursor()
    cursor.execute("SET TimeZone = 'UTC'")
    _hide_progress(cursor)
    return cursor


def _hide_progress(con: duckdb.DuckDBPyConnection) -> None:
    """Progress is ours to show; DuckDB would print its own bar on a terminal."""
    import duckdb

    # In Jupyter without ipywidgets it has no bar, and cannot even be told to show none.
    with suppress(duckdb.InvalidInputException):
        con.execute("SET enable_progress_bar = 'false'")


@contextmanager
def without_collector() -> Iterator[None]:
    """Without looking for garbage: compiling expressions makes much and leaves little."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def moment() -> ibis.Value:
    """The engine's own variable `as_of`, as an expression: one for whatever moment is judged at.

    The engine takes it for a constant wherever it reads a query.
    """
    import ibis
    import ibis.expr.datatypes as dt

    from reconcile.moments import INSTANT

    @ibis.udf.scalar.builtin(name="getvariable", signature=((dt.string,), INSTANT))
    def variable(which):  # type: ignore[no-untyped-def] # a declaration: the engine has the body
        """The value of a variable."""

    return variable("as_of")


def set_moment(con: ibis.backends.duckdb.Backend, as_of: datetime) -> None:
    """Lets `moment` be this one."""
    con.con.execute(f"SET VARIABLE as_of = TIMESTAMPTZ {quote(as_of.isoformat())}")


def memory_of(con: ibis.backends.duckdb.Backend) -> int:
    """The engine's memory limit in bytes, as it says itself (`1.8 GiB`)."""
    [told] = con.con.execute("SELECT current_setting('memory_limit')").fetchone() or ("",)
    number, unit = str(told).split()
    return int(float(number) * 1024 ** ("bytes", "KiB", "MiB", "GiB", "TiB").index(unit))


def quote(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def half_of_memory() -> str:
    """Half of this machine's memory, in the engine's words."""
    import os

    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{max(whole // 2 // 2**20, 256)}MiB"
