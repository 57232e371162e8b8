"""Opens the engine (DuckDB, spoken to through Ibis) within the limits that settings give it."""

from __future__ import annotations

import gc
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.errors import DiskError, InputError, trouble

if TYPE_CHECKING:
    import duckdb
    import ibis
    import ibis.backends.duckdb

    from reconcile.settings import Settings

# Below this the engine cannot judge the smallest day: its plans hold their tables of joins, however
# few the messages are (1,000 messages: 90 MB with one thread, 100 to 110 MB with two to eight).
LEAST_MEMORY = "128MB"
# A join that does not fit holds more than the limit while it writes aside: 1.4 GB where the limit
# is 1 GB, 1.1 GB at three quarters of that, 0.8 GB at half of it, and it takes as long each time.
SPARE_SHARE = 0.75
# The engine's variable of the limit that it was given: of its setting it tells two digits.
GIVEN_MEMORY = "given_memory"
# What the folders are called to which readers spill.
READER = "reconcile-reading-"


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


def limits_of(settings: Settings, work: Path) -> tuple[str, int | None, Path]:
    """Memory, threads and the place to spill, of one who reads a store and does not hold it."""
    place = settings.temp_directory or work
    if settings.temp_directory:
        with suppress(OSError):  # the engine says so, if ever it spills
            place.mkdir(parents=True, exist_ok=True)
    return settings.memory_limit or half_of_memory(), settings.threads, own_folder(place)


def own_folder(place: Path) -> Path:
    """A folder for one engine to spill to: two in the same one would read each other's files.

    The engine makes it when it is needed, and drops it at its end.
    """
    return place / f"{READER}{uuid.uuid4().hex[:12]}"


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
    con.execute(f"SET VARIABLE {GIVEN_MEMORY} = {quote(memory_limit)}")
    _hide_progress(con)


def lacks_memory(what: str, error: Exception) -> InputError:
    """What has no room within the engine's limits, and how to give it some."""
    if "max_temp_directory_size" in str(error):
        return InputError(f"{what} does not fit in memory, and temp_directory is full: give it "
                          "more room, or raise memory_limit")  # fmt: skip
    return InputError(
        f"{what} does not fit in memory: raise memory_limit, or give temp_directory more room"
    )


@contextmanager
def within_limits(temp_directory: Path) -> Iterator[None]:
    """What the engine cannot do for want of memory or disk is one line, wherever it turns out.

    Raises:
        InputError: the engine ran out of memory.
        DiskError: a disk refused.
    """
    import duckdb

    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise lacks_memory("what is at work", error) from None
    except duckdb.IOException as error:
        raise DiskError(
            f"the engine cannot read or write ({trouble(error)}); it spills to temp_directory, "
            f"which is {temp_directory}"
        ) from None


def prove_writable(temp_directory: Path) -> None:
    """Makes the folder to which the engine spills, where it is not there yet.

    Raises:
        DiskError: nothing can be written there.
    """
    probe = temp_directory / f".reconcile-{os.getpid()}"
    try:
        temp_directory.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"\n")
        probe.unlink()
    except OSError as error:
        raise DiskError(
            f"temp_directory {temp_directory} cannot be written: {trouble(error)}; name another "
            "with --temp-directory"
        ) from None


def beside(con: ibis.backends.duckdb.Backend) -> duckdb.DuckDBPyConnection:
    """A second connection to the same engine, for another thread; it has its own views."""
    cursor = con.con.cursor()
    cursor.execute("SET TimeZone = 'UTC'")
    _hide_progress(cursor)
    return cursor


def second(con: ibis.backends.duckdb.Backend) -> ibis.backends.duckdb.Backend:
    """The same as `beside`, for those who speak to it through Ibis."""
    import ibis

    return ibis.duckdb.from_connection(beside(con))


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


@contextmanager
def sparing(con: ibis.backends.duckdb.Backend) -> Iterator[None]:
    """Leaves a part of the memory limit to what the engine holds beside it: see `SPARE_SHARE`."""
    [given] = con.con.execute(f"SELECT getvariable('{GIVEN_MEMORY}')").fetchone() or (None,)
    whole, least = bytes_of(given or ""), bytes_of(LEAST_MEMORY)
    if whole is None or least is None or whole <= least:
        yield
        return
    con.con.execute(f"SET memory_limit = '{max(int(whole * SPARE_SHARE), least)}B'")
    try:
        yield
    finally:
        con.con.execute(f"SET memory_limit = {quote(str(given))}")


def threads_of(con: ibis.backends.duckdb.Backend) -> int:
    """How many threads the engine uses."""
    [told] = con.con.execute("SELECT current_setting('threads')").fetchone() or (1,)
    return int(told)


def bytes_of(size: str) -> int | None:
    """A size such as 2GB or 500MiB in bytes; None: it is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT])(i?)B", size.strip())
    if not found:
        return None
    return int(float(found[1]) * (1024 if found[3] else 1000) ** ("KMGT".index(found[2]) + 1))


def quote(text: str) -> str:
    """A string literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def half_of_memory() -> str:
    """Half of this machine's memory, in the engine's words."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{max(whole // 2 // 2**20, 256)}MiB"
