"""Raw slices → the store: of each message the newest state stays, of each bad row its reason."""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconcile.days import Window, day_of, day_window, iso
from reconcile.engine import lacks_memory, quote
from reconcile.reports import parse
from reconcile.reports import raw as raw_slices
from reconcile.store import Staged, Store, prepared
from reconcile.tables import RECORDS, REJECTS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# Of rows with one id the first in this order stays. What a message sent by the Messages API leaves
# in the product SMS counts; then what was fetched last. The rest only makes it certain which.
NEWEST_FIRST = (
    "product <> 'SMS', fetched_at DESC, asked_at DESC NULLS LAST, finalized_at DESC NULLS LAST, "
    "content"
)
_TIMES = ("fetched_at", "asked_at", "finalized_at")
# Where a row comes from: n is the n-th part, 0 the store (its next file -1, …); its number there.
ORIGIN, PLACE = "origin", "place"
_STORED = 0
_REPEATED, _OLDER, _BAD = "repeated_keys", "older_states", "bad_rows"


@dataclass(frozen=True)
class Part:
    """A raw slice on its way into the store.

    Attributes:
        raw: the slice.
        product, account_id: what its rows are of; an account that a row names counts more.
        window: what is to be taken from it.
        fetched_at: the as_of of the run that asked for it.
        source: what its rejects name as their source.
        asked: the whole span that was asked for, where that is more than the window: a row that
            lies in it, but not in the window, is no reject.
        by_id: whether its messages were asked for by their ids.
    """

    raw: Path
    product: str
    account_id: str
    window: Window
    fetched_at: datetime
    source: str
    asked: Window | None = None
    by_id: bool = False

    @property
    def span(self) -> Window:
        """What its rows may lie in."""
        return self.asked or self.window

    def window_of(self, day: date) -> Window:
        """What is to be taken from it for a day."""
        whole = day_window(day)
        start = max(self.window.start, whole.start)
        return Window(start, max(start, min(self.window.end, whole.end)))

    def records(
        self, day: date, pii: str, among: str | None = None, *, all_lie_in: bool = False
    ) -> str:
        """SQL of its records of a day, as `parse.records` gives them.

        Args:
            day: the day.
            pii: what becomes of recipients.
            among: a table of keys; only messages that have one of them.
            all_lie_in: whether all its rows are known to be of the day.
        """
        window = None if all_lie_in else self.window_of(day)
        asked_at = f"TIMESTAMPTZ {quote(iso(self.fetched_at))}" if self.by_id else "NULL"
        records = parse.records(
            self.raw, self.product, self.account_id, window, self.fetched_at, pii, among
        )
        return f"SELECT *, {asked_at}::TIMESTAMPTZ AS asked_at FROM ({records})"


def days_of(con: Backend, raw: Path) -> list[date]:
    """The UTC days in which the rows of a raw slice were received, in order."""
    return [day for (day,) in con.con.execute(parse.days(raw)).fetchall() if day is not None]


def all_lie_in(con: Backend, part: Part, day: date) -> bool:
    """Whether all rows of a slice are known to be of a day; quick, where few times differ."""
    found = con.con.execute(parse.all_lie_in(part.raw, part.window_of(day))).fetchone()
    return bool(found and found[0])


def publish(
    store: Store, con: Backend, day: date, parts: Sequence[Part], as_of: datetime, pii: str
) -> list[int]:
    """Merges what raw slices hold of a UTC day into `records`, and their bad rows into `rejects`.

    A row that can be a record of no day of its part's span is a reject. It is told once: where
    `day` is the first of the span, for the whole slice. Whoever takes a slice in day by day begins
    there, even if no row is of that day.

    Args:
        store, con: where to.
        day: the day whose partition is written, once for all parts.
        parts: the slices, each of which gives what it has of the day.
        as_of: the run's; rejects are kept under its day.
        pii: what becomes of recipients.

    Returns:
        How many rejects each part has.
    """
    if not parts:
        return []
    merge = _Merge(store, con, day, parts, pii)
    with merge.older_states() as older:
        staged = [merge.stage(as_of, forgets=older > 0)]
    fresh = staged[0].rows + older - sum(map(raw_slices.rows_of, merge.stored))
    all_good = fresh == sum(raw_slices.rows_of(part.raw) for part in parts)
    with _bad_rows(con, _telling(parts, day), known_none=all_good) as counts, store.alone():
        told = [part.source for part in _telling(parts, day) if part]
        staged += _stage_rejects(store, con, told, sum(counts), as_of)
        store.publish(staged)
    return counts


class _Merge:
    """A day's records as they are stored, and as they came in some parts."""

    def __init__(
        self, store: Store, con: Backend, day: date, parts: Sequence[Part], pii: str
    ) -> None:
        self._store, self._con, self._day, self._parts, self._pii = store, con, day, parts, pii
        self.stored = store.files(RECORDS, day)
        self._all_lie_in = [all_lie_in(con, part, day) for part in parts]

    def stage(self, as_of: datetime, *, forgets: bool) -> Staged:
        """Stages the day's records, without the older states if there are any.

        They are in no order: sorting them would take as long as all the rest, for nobody.
        """
        older = f"ANTI JOIN {_OLDER} USING ({ORIGIN}, {PLACE})" if forgets else ""
        rows = f"SELECT {', '.join(RECORDS.names)} FROM ({self._states()}) {older}"
        with prepared(self._con, rows, RECORDS) as view:
            return self._store.write_view(self._con, view, RECORDS, self._day, as_of)

    @contextmanager
    def older_states(self) -> Iterator[int]:
        """Names, in the table `_OLDER`, the states that are not to stay, and counts them.

        Ranking all states would take longer than all the rest, and hardly any id comes twice:
        those that may are found by a number that stands for each.
        """
        each = [f"SELECT {parse.key('message_id')} AS key FROM {_numbered(f)}" for f in self.stored]
        each += [parse.keys(part.raw) for part in self._parts]
        # Of rows without an id, which have a key as well, none is a state.
        keys = f"SELECT key FROM ({' UNION ALL '.join(each)}) GROUP BY key HAVING count(*) > 1"
        with _table(self._con, _REPEATED, keys) as repeated:
            if not repeated:
                yield 0
                return
            with _table(self._con, _OLDER, self._ranked_behind(among=_REPEATED)) as count:
                yield count

    def _ranked_behind(self, among: str) -> str:
        """SQL of where the states stand that are not the first of their message."""
        others = ", ".join(n for n in RECORDS.names if n not in _TIMES)
        return f"""
            SELECT {ORIGIN}, {PLACE} FROM (
                SELECT {ORIGIN}, {PLACE}, row_number() OVER (
                    PARTITION BY account_id, message_id ORDER BY {NEWEST_FIRST}) AS number
                FROM (SELECT {ORIGIN}, {PLACE}, account_id, message_id, product,
                          {", ".join(_TIMES)}, hash({others}) AS content
                      FROM ({self._states(among)}))
            ) WHERE number > 1
        """

    def _states(self, among: str | None = None) -> str:
        """SQL of every state of the day's messages, stored or new, with where it comes from.

        Args:
            among: a table of keys; only messages that have one of them.
        """
        columns = ", ".join(RECORDS.names)
        only = f"SEMI JOIN {among} ON {among}.key = {parse.key('message_id')}" if among else ""
        each = [
            f"SELECT {columns}, {_STORED - number} AS {ORIGIN}, file_row_number AS {PLACE} "
            f"FROM {_numbered(file)} {only}"
            for number, file in enumerate(self.stored)
        ]
        for number, part in enumerate(self._parts):
            rows = part.records(self._day, self._pii, among, all_lie_in=self._all_lie_in[number])
            origin = f"{_STORED + 1 + number} AS {ORIGIN}"
            each.append(f"SELECT {columns}, {origin}, {raw_slices.LINE} AS {PLACE} FROM ({rows})")
        return " UNION ALL ".join(each)


def _telling(parts: Sequence[Part], day: date) -> list[Part | None]:
    """Of each part itself, if this is the day on which its rejects are told."""
    slices = [(part.raw, part.source) for part in parts]
    return [
        part if day_of(part.span.start) == day and slices.index(each) == number else None
        for number, (part, each) in enumerate(zip(parts, slices, strict=True))
    ]


@contextmanager
def _bad_rows(
    con: Backend, telling: Sequence[Part | None], *, known_none: bool
) -> Iterator[list[int]]:
    """Puts the bad rows of these parts into the table `_BAD`, and counts each part's."""
    each = [
        f"SELECT {number} AS part, * FROM ({parse.rejects(part.raw, part.span, part.source)})"
        for number, part in enumerate(telling)
        if part and not known_none
    ]
    if not each:
        yield [0] * len(telling)
        return
    with _table(con, _BAD, " UNION ALL ".join(each)):
        found = con.con.execute(f"SELECT part, count(*) FROM {_BAD} GROUP BY part").fetchall()
        counts = dict(found)
        yield [counts.get(number, 0) for number in range(len(telling))]


def _stage_rejects(
    store: Store, con: Backend, sources: Sequence[str], bad_rows: int, as_of: datetime
) -> list[Staged]:
    """Stages the rejects of the run's day anew, if those of these sources change."""
    day = day_of(as_of)
    stored = store.query(REJECTS, [day])
    named = ", ".join(["''", *map(quote, sources)])
    before = con.con.execute(f"SELECT count(*) FROM ({stored}) WHERE source IN ({named})")
    if not bad_rows and before.fetchone() == (0,):
        return []
    columns = ", ".join(REJECTS.names)
    fresh = f"UNION ALL SELECT {columns} FROM {_BAD}" if bad_rows else ""
    rows = f"""
        SELECT * FROM ({stored}) WHERE source NOT IN ({named}) {fresh} ORDER BY source, line
    """
    return [store.write(con, rows, REJECTS, day, as_of)]


def _numbered(file: Path) -> str:
    """SQL of a parquet file's rows, each with its `file_row_number`."""
    options = "hive_partitioning = false, file_row_number = true"
    return f"read_parquet({quote(str(file))}, {options})"


@contextmanager
def _table(con: Backend, name: str, query: str) -> Iterator[int]:
    """A table of the engine for a while; says how many rows it has."""
    import duckdb

    try:
        con.con.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {query}")
    except duckdb.OutOfMemoryException as error:
        raise lacks_memory("a day's records", error) from None
    try:
        found: tuple[Any, ...] = con.con.execute(f"SELECT count(*) FROM {name}").fetchone()
        yield int(found[0])
    finally:
        con.con.execute(f"DROP TABLE {name}")
