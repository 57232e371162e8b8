"""What is read of captures, sorted out in the engine: receipts, rejects and the bytes of those.

It stands in tables of the engine until it is published or dropped; what does not fit in memory the
engine keeps on disk.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reconcile import border
from reconcile.engine import beside, quote
from reconcile.errors import ContractError
from reconcile.receipts import normalise, table_fields
from reconcile.receipts.adding import FileRead
from reconcile.receipts.database import Query, read_rows
from reconcile.receipts.fields import NOT_A_RECEIPT
from reconcile.receipts.formats import Block, Reading, Work, found_in
from reconcile.receipts.identity import Place, is_there
from reconcile.receipts.lines import CutError, is_quiet
from reconcile.receipts.signature import UNSIGNED, Secrets, verify
from reconcile.store import parquet_query
from reconcile.tables import RECEIPTS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from ibis.backends.duckdb import Backend

Progress = Callable[[str, int], None]
# So many blocks are worked on side by side, whatever the threads: each takes some memory.
MOST_AT_ONCE = 4
# So many lines are entered at once: fewer the engine would copy once more when they are committed.
ENTERED_AT_ONCE = 122_880
# Of a rejected line so many bytes are kept.
RAW_BYTES = 64 << 10
COUNTED = ("lines", "receipts", "rejects", "blank")
# What is read: columns of `receipts`, and what `normalise` says of each line; the bytes of rejects.
PARTS, RAW_PARTS = "parts", "raw_parts"


@dataclass
class Capture(FileRead):
    """What a run read of one capture; lines = receipts + rejects + blank."""

    receipts: int = 0


@dataclass(frozen=True)
class Wishes:
    """How captures are read: what becomes of recipients, and whose signatures can be verified."""

    pii: str
    secrets: Secrets = field(default_factory=dict)


@dataclass
class _Desk:
    """A connection that enters blocks; what it has not committed."""

    con: DuckDBPyConnection
    is_open: bool = False
    lines: int = 0

    def begin(self) -> None:
        if not self.is_open:
            self.con.execute("BEGIN")
        self.is_open = True

    def entered(self, lines: int) -> None:
        self.lines += lines
        if self.lines >= ENTERED_AT_ONCE:
            self.end("COMMIT")

    def end(self, how: str) -> None:
        if self.is_open:
            self.con.execute(how)
        self.is_open, self.lines = False, 0


class Intake:
    """Reads captures into the engine's tables `parts` and `raw_parts`."""

    def __init__(self, con: Backend, wishes: Wishes, progress: Progress) -> None:
        self.con, self._wishes, self._progress = con.con, wishes, progress
        [threads] = self.con.execute("SELECT current_setting('threads')").fetchone() or (1,)
        self._threads, self._at_once = int(threads), min(int(threads), MOST_AT_ONCE)
        # Blocks side by side, each worked on by one thread: that of ours. The engine's own would
        # wake and sleep for each of many short queries.
        self.con.execute("SET threads = 1")
        self._pool = ThreadPoolExecutor(self._at_once)
        self._desks = [_Desk(border.with_key(self.con, beside(con))) for _ in range(self._at_once)]
        self._free: SimpleQueue[_Desk] = SimpleQueue()
        for desk in self._desks:
            self._free.put(desk)
        self._reader = beside(con)
        told = "NULL::VARCHAR AS day, NULL::VARCHAR AS kind, NULL::VARCHAR AS reason"
        self.con.execute(f"CREATE OR REPLACE TABLE {PARTS} AS "
                         f"SELECT *, {told} FROM ({parquet_query(RECEIPTS, [])})")  # fmt: skip
        self.con.execute(
            f"CREATE OR REPLACE TABLE {RAW_PARTS} (source VARCHAR, line BIGINT, raw BLOB)"
        )

    def all_read(self) -> None:
        """Gives the engine its threads back."""
        self._pool.shutdown()
        self.con.execute(f"SET threads = {self._threads}")

    def close(self) -> None:
        """Drops what was read."""
        self.con.execute(f"DROP TABLE IF EXISTS {PARTS}; DROP TABLE IF EXISTS {RAW_PARTS}")

    def drop(self, place: Place) -> None:
        """Takes back what was read behind a place's start."""
        for name in (PARTS, RAW_PARTS):
            self.con.execute(
                f"DELETE FROM {name} WHERE source = ? AND line > ?",
                [place.source, place.start.line],
            )

    def read(self, place: Place) -> tuple[Capture, Reading]:
        """Reads what is new of a capture, block by block.

        Raises:
            InputError: it is in no known format, or its columns are not a receipt's.
            CutError: it was cut or replaced while it was being read.
            ContractError: a line is neither receipt nor reject nor blank.
        """
        capture = Capture(place.source, str(place.path))
        state = dict(place.entry.get("state", {}))
        enter = partial(self._enter_plain, place.source)
        reading = Reading(place.path, place.start, ended(place), state, place.start, enter=enter)
        found = found_in(place.path)
        if found is None:
            return capture, reading
        capture.format = found.name
        under_way: deque[Future[tuple[int, int]]] = deque()
        with self._entering():
            try:
                for work in found.read(self._reader, reading):
                    under_way.append(self._pool.submit(self._do, work, place.source))
                    if len(under_way) > self._at_once:
                        self._enter(capture, under_way.popleft().result())
                while under_way:
                    self._enter(capture, under_way.popleft().result())
            finally:
                wait(under_way)
        if not is_there(place.path, reading.mark):
            raise CutError(f"{place.path} was cut while it was read: the next run reads it")
        capture.waits, capture.damage = reading.waits, reading.damage
        self._count(capture, place.start.line)
        return capture, reading

    def ask(self, query: Query, last: int | None, here: str) -> tuple[Capture, int | None]:
        """Reads what is new in a database.

        Args:
            query: which.
            last: the last key that was read.
            here: SQL of the source and line of what the store holds.

        Returns:
            What was read, and the last key by now.
        """
        capture = Capture(query.name, query.name, "sql")
        after = None if last is None else last - query.overlap
        seen = self.con.execute(
            f"SELECT line FROM ({here}) WHERE source = ? AND line > ?",
            [query.name, -1 if after is None else after],
        ).to_arrow_table()["line"]
        where = f"the query {query.name}"
        highest = last
        with self._entering():
            for rows in read_rows(query, after, last):
                highest = max(highest or 0, rows.keys[-1].as_py())
                new = pc.invert(pc.is_in(rows.keys, seen.combine_chunks()))
                keys = rows.keys.filter(new)
                if not len(keys):
                    continue
                columns = {name: column.filter(new) for name, column in rows.columns.items()}
                fields = table_fields.from_columns(
                    self._reader, keys, columns, rows.numeric, where, as_captured=not rows.rewritten
                )
                fields = _with_problems(fields, keys, rows.problem.filter(new))
                block = Block(keys, fields, partial(table_fields.as_json, keys, columns))
                self._enter(capture, self._do(partial(_given, block), query.name))
        self._count(capture, -1)
        return capture, highest

    def stands_in(self, place: Place, other: str, receipts: str, rejected: str) -> bool:
        """Whether all that was read of a place stands under another capture, line for line: in the
        store (`receipts` and `rejected`: SQL), or among what was read."""
        same = "message_id, status, error_code, pushed_at, captured_at, line"
        sides = ((PARTS, same, "kind IS NULL", receipts),
                 (RAW_PARTS, "line, raw", "true", rejected))  # fmt: skip
        return stand_in(self.con, place.source, other, sides)

    def days(self) -> tuple[set[str], bool]:
        """The partitions of what was read, and whether there are rejects."""
        found = self.con.execute(f"SELECT DISTINCT day FROM {PARTS}").fetchall()
        days = {day for (day,) in found}
        return {day for day in days if day}, None in days

    @contextmanager
    def _entering(self) -> Iterator[None]:
        """While blocks of a capture are entered; all of them then are, or none since the last
        commit."""
        try:
            yield
        except BaseException:
            for desk in self._desks:
                desk.end("ROLLBACK")
            raise
        for desk in self._desks:
            desk.end("COMMIT")

    def _enter(self, capture: Capture, done: tuple[int, int]) -> None:
        lines, blank = done
        capture.lines += lines
        capture.blank += blank
        self._progress(Path(capture.path).name, lines)

    def _do(self, work: Work, source: str) -> tuple[int, int]:
        """Does what is left to do for a block; how many lines it has, and how many are blank."""
        desk = self._free.get()
        try:
            desk.begin()
            block = work(desk.con)
            if block.fields.num_rows:
                self._enter_fields(desk.con, block.fields, source)
            if len(block.lines):
                self._enter_raw(desk.con, block, source)
            desk.entered(len(block.lines))
            return len(block.lines), pc.sum(block.fields["blank"]).as_py() or 0
        finally:
            self._free.put(desk)

    def _enter_fields(self, con: DuckDBPyConnection, fields: pa.Table, source: str) -> None:
        """Enters receipts and rejects."""
        given = [name for name in fields.column_names if fields[name].null_count < len(fields)]
        signature = verify(fields, self._wishes.secrets)
        con.register("fields", fields.append_column("signature", signature))
        lines = normalise.lines("fields", given, source, self._wishes.pii)
        con.execute(f"INSERT INTO {PARTS} BY NAME {lines}")
        con.unregister("fields")

    def _enter_plain(
        self, source: str, con: DuckDBPyConnection, fields: str, given: Collection[str],
        lines: pa.ChunkedArray,
    ) -> pa.Array:  # fmt: skip
        """Enters unsigned receipts without a problem as they are found (`json_fields.Enter`)."""
        told = (f"(SELECT *, NULL::VARCHAR AS problem, NULL::VARCHAR AS kind, "
                f"{quote(UNSIGNED)} AS signature, false AS blank FROM ({fields}))")  # fmt: skip
        cleaned = normalise.lines(told, given, source, self._wishes.pii)
        [entered] = con.execute(f"INSERT INTO {PARTS} BY NAME {cleaned}").fetchone() or (0,)
        if entered == len(lines):
            return pa.array(np.ones(len(lines), bool))
        return pc.is_in(lines, _entered(con, "true", source, lines).combine_chunks())

    def _enter_raw(self, con: DuckDBPyConnection, block: Block, source: str) -> None:
        """Enters the bytes of a block's rejects."""
        bad = _entered(con, "kind IS NOT NULL", source, block.lines)
        if len(bad):
            raw = block.raw(bad.combine_chunks())
            cut = pc.binary_slice(pc.fill_null(raw["raw"], b""), 0, RAW_BYTES)
            named = pa.array([source] * len(raw), pa.string())
            table = pa.table([named, raw["line"], cut], names=["source", "line", "raw"])
            con.register("raw_lines", table)
            con.execute(f"INSERT INTO {RAW_PARTS} FROM raw_lines")
            con.unregister("raw_lines")

    def _count(self, capture: Capture, before: int) -> None:
        found = self.con.execute(
            f"SELECT coalesce(day, ''), coalesce(kind, ''), count(*) FROM {PARTS} "
            f"WHERE source = {quote(capture.source)} AND line > {before} GROUP BY ALL"
        ).fetchall()
        for day, kind, rows in found:
            if day:
                capture.receipts += rows
                capture.days.add(day)
            else:
                capture.rejects += rows
                capture.strangers += rows if kind.startswith(NOT_A_RECEIPT) else 0
        if capture.lines != capture.receipts + capture.rejects + capture.blank:
            raise ContractError(
                f"{capture.source}: {capture.lines} lines, but {capture.receipts} receipts, "
                f"{capture.rejects} rejects and {capture.blank} blank"
            )


def _entered(
    con: DuckDBPyConnection, kind: str, source: str, lines: pa.ChunkedArray
) -> pa.ChunkedArray:
    """Those of a block's lines that were entered, and are of this kind (SQL)."""
    span = pc.min_max(lines)
    return con.execute(
        f"SELECT line FROM {PARTS} WHERE line BETWEEN {span['min']} AND {span['max']} "
        f"AND {kind} AND source = {quote(source)}"
    ).to_arrow_table()["line"]


def _with_problems(fields: pa.Table, keys: pa.Array, problem: pa.Array) -> pa.Table:
    """Fields of rows, some of which are known to be unreadable, by their keys."""
    told = pc.take(problem, pc.index_in(fields["line"], keys))
    columns = {
        "problem": pc.coalesce(told, fields["problem"]),
        "kind": pc.if_else(pc.is_valid(told), pa.scalar(None, pa.string()), fields["kind"]),
    }
    names = fields.column_names
    return pa.table([columns.get(name, fields[name]) for name in names], schema=fields.schema)


def _given(block: Block, _con: DuckDBPyConnection) -> Block:
    return block


def ended(place: Place) -> Callable[[str, int], bool]:
    """Whether nothing more is to come: the file did not grow since the last run, or for long."""

    def is_ended(damage: str, waiting: int) -> bool:
        same = not damage and place.entry.get("waits") == waiting
        return same or is_quiet(place.path)

    return is_ended


def stand_in(
    con: DuckDBPyConnection, own: str, other: str, sides: Iterable[tuple[str, str, str, str]]
) -> bool:
    """Whether all rows of one source stand under another.

    Args:
        con: the engine.
        own, other: the sources.
        sides: for each table of what was read its name, the columns that tell its rows, which of
            its rows are meant, and SQL of the same table in the store.
    """
    names = {"own": own, "other": other}
    found = [
        con.execute(
            f"SELECT count(*) FROM "
            f"(SELECT {columns} FROM {mine} WHERE source = $own AND {kind} "
            f"EXCEPT (SELECT {columns} FROM (SELECT source, {columns} FROM ({stored}) "
            f"UNION ALL SELECT source, {columns} FROM {mine}) WHERE source = $other))", names,
        ).fetchone()
        for mine, columns, kind, stored in sides
    ]  # fmt: skip
    return all(count == (0,) for count in found)
