"""Cuts a day that the memory cannot hold into spans of message ids, each judged by itself.

A message, its receipts and its place in the sorted table go by its id, so what was judged span by
span is, put together, what one judging of them all would have been.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from reconcile.engine import LEAST_MEMORY, bytes_of, memory_of, quote, threads_of
from reconcile.errors import InputError
from reconcile.store import ROW_GROUP_ROWS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# With so many bytes for each message the engine judges a day at once about as fast as it can; in a
# span it gets more, so that nothing is written aside (measured: tests/benchmarks/HISTORY.md).
BYTES_AT_ONCE, BYTES_IN_A_SPAN = 200, 2500
# Judging at once takes this besides, whatever the day (200,000 messages: 200 MB with one thread,
# 250 MB with two; in spans they were judged in 130 MB with either).
BESIDES, BESIDES_A_THREAD = 128_000_000, 48_000_000
# With less for each message a day would be cut into too many spans, and each of them into too many
# files: of 100 million messages 225 and 180 with 1 GB, and four times as many of both with 500 MB.
BYTES_TO_CUT = 10
# At the least so many bytes are aside for each record and receipt (measured: 50 and 60).
BYTES_ASIDE = 32
# With more receipts in reach for each record than this, the day's are put aside first, and judged
# alone (measured with nine days' at hand: tests/benchmarks/HISTORY.md). A message has 1.2 or so.
CROWDED = 2
# Ids that are looked at for each span, to find where it ends.
SAMPLE = 500


@dataclass(frozen=True)
class Span:
    """Message ids from `first` on and before `end`; "" and None are the ends of all ids."""

    first: str = ""
    end: str | None = None

    def of(self, query: str) -> str:
        """Its rows of a query."""
        before = f" AND message_id < {quote(self.end)}" if self.end is not None else ""
        return f"SELECT * FROM ({query}) WHERE message_id >= {quote(self.first)}{before}"


ALL = (Span(),)


def spans_of(con: Backend, records: str) -> tuple[Span, ...]:
    """The spans in which a day's records are to be judged: one that is all, where memory allows.

    Args:
        con: the engine, with its limit.
        records: SQL of the records.
    """
    memory, rows = memory_of(con), _count(con, records)
    threads = min(threads_of(con), math.ceil(rows / ROW_GROUP_ROWS))
    if rows * BYTES_AT_ONCE + BESIDES + threads * BESIDES_A_THREAD <= memory:
        return ALL
    _refuse_too_little(memory, rows)
    wanted = math.ceil(rows * BYTES_IN_A_SPAN / memory)
    every = max(rows // (wanted * SAMPLE), 1)
    sample = con.con.execute(
        f"SELECT message_id FROM ({records}) WHERE hash(message_id) % {every} = 0 ORDER BY ALL"
    ).fetchall()
    cuts = sorted({sample[len(sample) * n // wanted][0] for n in range(1, wanted) if sample})
    return tuple(Span(*ends) for ends in zip(["", *cuts], [*cuts, None], strict=True))


def is_crowded(con: Backend, receipts: str, records: str) -> bool:
    """Whether most of the receipts among which a day's can be are certainly other days'."""
    return _count(con, receipts) > CROWDED * _count(con, records)


def joining(receipts: str, records: str) -> str:
    """SQL of those receipts whose message id a record has."""
    return f"SELECT * FROM ({receipts}) SEMI JOIN ({records}) USING (message_id)"


def least_memory(rows: int) -> int:
    """Bytes of memory without which a day of so many messages cannot even be cut."""
    return max(rows * BYTES_TO_CUT, bytes_of(LEAST_MEMORY) or 0)


def _refuse_too_little(memory: int, rows: int) -> None:
    least = least_memory(rows)
    if memory < least * 0.98:  # the engine tells its limit rounded
        raise InputError(
            f"a day of {rows:,} messages does not fit in memory ({_mb(memory)}): raise "
            f"memory_limit to {_mb(least)} or more"
        )


def refuse_without_room(con: Backend, queries: Iterable[str], folder: Path) -> None:
    """Asks for room before a day is cut: what lies aside is about what is read.

    Raises:
        InputError: the disk has certainly too little.
    """
    rows = sum(_count(con, query) for query in queries)
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    needed, free = rows * BYTES_ASIDE, shutil.disk_usage(there).free
    if free < needed:
        at_once = rows * BYTES_AT_ONCE + BESIDES + threads_of(con) * BESIDES_A_THREAD
        raise InputError(
            f"a day does not fit in memory, and to cut it {_mb(needed)} and more are needed in "
            f"{there}, which has {_mb(free)}: set temp_directory to a place that has them, or "
            f"memory_limit to {_mb(at_once)}"
        )


def _count(con: Backend, query: str) -> int:
    """How many rows a query of the store has: the files' footers tell it."""
    [rows] = con.con.execute(f"SELECT count(*) FROM ({query})").fetchone() or (0,)
    return int(rows)


def _mb(size: int) -> str:
    """A size as a setting takes it."""
    return f"{math.ceil(size / 1e6)}MB"
