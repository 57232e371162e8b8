"""The rows of single messages: what the store has of them."""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

from reconcile import border
from reconcile.days import parse_moment
from reconcile.engine import quote
from reconcile.errors import UsageError
from reconcile.explaining.told import Given, Key, Published, Row
from reconcile.run import Run
from reconcile.tables import ORPHANS, RECEIPTS, RECORDS, SENT, UNRECORDED, VERDICTS, Table

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from reconcile.judging import Bench


# What the tables say of a message.
MESSAGE_KEY = ("account_id", "product", "message_id")
_PUBLISHED = (*MESSAGE_KEY, "verdict", "reasons")


@dataclass(frozen=True)
class Asked:
    """Which messages, in the store's own words: a recipient is hidden as it is there."""

    ids: tuple[str, ...]
    column: str = ""
    value: str = field(default="", repr=False)
    limit: int = 20


def asked_of(this: Run, given: Given) -> Asked:
    """What was given, as both borders make it."""
    if given.ids:
        names = [_border(this, border.message_id, each) for each in given.ids]
        if None in names:
            raise UsageError("a message id is blank: name one, as 0A0000001234ABCD")
        return Asked(tuple(dict.fromkeys(map(str, names))))
    if given.number is not None:
        border.set_key(this.con, this.settings)
        value = _border(
            this, lambda clean: border.recipient(clean, this.settings.pii), given.number
        )
        problem = "no number came: pipe its digits in, country code first"
    else:
        value = _border(this, str, given.client_ref or "")
        problem = "the client_ref is blank: give the one that was sent along"
    if not value:
        raise UsageError(problem)
    column = "client_ref" if given.number is None else "recipient"
    return Asked((), column, value, given.limit)


def _border(this: Run, as_sql: Callable[[str], str], raw: str) -> str | None:
    """A text as it becomes at both borders; None if nothing is left of it."""
    clean = f"SELECT {border.text('raw')} AS clean FROM (SELECT $raw AS raw)"
    query = f"SELECT {as_sql('clean')} FROM ({clean})"
    row = this.con.con.execute(query, {"raw": raw}).fetchone()
    return str(row[0]) if row and row[0] else None


@dataclass
class Found:
    """The rows of the messages asked for; each row's `part` is the partition that holds it."""

    ids: list[str]
    are_more: bool = False
    records: dict[str, list[Row]] = field(default_factory=dict)
    verdicts: dict[str, list[Row]] = field(default_factory=dict)
    receipts: dict[str, list[Row]] = field(default_factory=dict)
    orphans: dict[str, list[Row]] = field(default_factory=dict)
    sent: dict[str, list[Row]] = field(default_factory=dict)
    unrecorded: dict[str, list[Row]] = field(default_factory=dict)

    def by_moment(self, this: Run, as_of: datetime | None) -> dict[datetime, list[tuple[str, str]]]:
        """The messages with a record, each as its id and day, by the moment to judge them at."""
        found: dict[datetime, list[tuple[str, str]]] = {}
        for message_id, rows in self.records.items():
            for day in sorted({row["part"] for row in rows}):
                at = as_of or _judged_at(this, day) or this.as_of
                found.setdefault(at, []).append((message_id, day))
        return found


def _judged_at(this: Run, day: str) -> datetime | None:
    """The as_of with which a day was judged last."""
    entry = this.ledger.judged.get(day)
    return parse_moment(entry["as_of"]) if entry else None


def gather(this: Run, con: DuckDBPyConnection, asked: Asked) -> Found:
    """All rows of the messages asked for.

    `verdicts` are sorted by id, so they tell at once of which day a message is; all of `records`
    are looked through only for ids that are not there.
    """
    found, store = Found(list(asked.ids)), this.store
    if not asked.ids:
        days = _search(this, con, asked, found)
    else:
        found.verdicts = _by_id(this, con, VERDICTS, store.days(VERDICTS), found.ids, _PUBLISHED)
        days = {row["part"] for rows in found.verdicts.values() for row in rows}
        others = [each for each in found.ids if each not in found.verdicts]
        found.records = _by_id(this, con, RECORDS, store.days(RECORDS), others)
    known = [each for each in found.ids if each not in found.records]
    found.records |= _by_id(this, con, RECORDS, days, known)
    days = {row["part"] for rows in found.records.values() for row in rows}
    if not asked.ids:
        found.verdicts = _by_id(this, con, VERDICTS, days, found.ids, _PUBLISHED)
    parts = {part for day in days for part in parts_in_reach(this, day)}
    found.receipts = _by_id(this, con, RECEIPTS, parts, list(found.records))
    lone = [each for each in found.ids if each not in found.records]
    found.orphans = _by_id(this, con, ORPHANS, store.days(ORPHANS), lone)
    unheard = [each for each in lone if each not in found.orphans]
    found.receipts |= _by_id(this, con, RECEIPTS, store.days(RECEIPTS), unheard)
    logged = [each for each in unheard if each not in found.receipts]
    found.sent = _by_id(this, con, SENT, store.days(SENT), logged)
    parts = {row["part"] for rows in found.sent.values() for row in rows}
    found.unrecorded = _by_id(
        this, con, UNRECORDED, parts, list(found.sent), ("message_id", "kind")
    )
    return found


def _search(this: Run, con: DuckDBPyConnection, asked: Asked, found: Found) -> set[str]:
    """Finds the ids of a recipient's or a reference's messages, newest first, and their days."""
    value, of_orphans = quote(asked.value), "coalesce(pushed_at, captured_at)"
    queries = [
        f"SELECT message_id, {day} AS day, epoch_us({at}) AS moment FROM ({query}) "
        f"WHERE {asked.column} = {value}"
        for table, day, at in (
            (RECORDS, "part", "received_at"),
            (ORPHANS, "NULL", of_orphans),
            (SENT, "NULL", "sent_at"),
        )
        if (query := _parts(this, table, this.store.days(table), table.names))
    ]
    if not queries:
        return set()
    rows = con.execute(
        "SELECT message_id, list(DISTINCT day), max(moment) AS moment "
        f"FROM ({' UNION ALL '.join(queries)}) WHERE message_id IS NOT NULL GROUP BY message_id "
        f"ORDER BY moment DESC NULLS LAST, message_id LIMIT {asked.limit + 1}"
    ).fetchall()
    found.are_more = len(rows) > asked.limit
    rows = rows[: asked.limit]
    found.ids = [row[0] for row in rows]
    return {day for row in rows for day in row[1] if day}


def _by_id(
    this: Run, con: DuckDBPyConnection, table: Table, parts: Iterable[str], ids: list[str],
    columns: Iterable[str] = (),
) -> dict[str, list[Row]]:  # fmt: skip
    """The rows of these ids in these partitions, by id; all columns, or only these.

    Of several ids it is found first in which partition each is: a filter of several values prunes
    little, and would have every column read.
    """
    where: dict[str, list[str]] = {}
    if len(ids) == 1:
        where = dict.fromkeys(parts, ids)
    elif ids and (query := _parts(this, table, parts, ("message_id",))):
        names = ", ".join(map(quote, ids))
        rows = con.execute(f"SELECT DISTINCT * FROM ({query} WHERE message_id IN ({names}))")
        for message_id, part in rows.fetchall():
            where.setdefault(part, []).append(message_id)
    together: dict[tuple[str, ...], list[str]] = {}
    for part, some in where.items():
        together.setdefault(tuple(some), []).append(part)
    queries = [
        f"{query} WHERE message_id IN ({', '.join(map(quote, some))})"
        for some, theirs in together.items()
        if (query := _parts(this, table, theirs, columns or table.names))
    ]
    found: dict[str, list[Row]] = {}
    if queries:
        for row in con.execute(" UNION ALL ".join(queries)).to_arrow_table().to_pylist():
            found.setdefault(row["message_id"], []).append(row)
    return found


def _parts(this: Run, table: Table, parts: Iterable[str], columns: Iterable[str]) -> str:
    """SQL of the rows of partitions, each with its `part`; empty if there is none."""
    files = ", ".join(quote(str(file)) for file in this.store.files(table, *sorted(parts)))
    names = ", ".join(f'"{name}"' for name in columns)
    part = "regexp_extract(filename, '/day=([^/]+)/[^=]+$', 1)"
    return files and (
        f"SELECT {names}, {part} AS part "
        f"FROM read_parquet([{files}], filename = true, hive_partitioning = false)"
    )


def bench_of(this: Run) -> Bench:
    from reconcile.judging import Bench

    ours: frozenset[str] = frozenset()
    return Bench(this.store, this.con, this.ledger, this.settings, this.as_of, ours)


def parts_in_reach(this: Run, day: str) -> list[str]:
    """The partitions of `receipts` that are looked at when a day is judged."""
    from reconcile import judging

    return judging.receipt_days(bench_of(this), date.fromisoformat(day))


def key_of(row: Row) -> Key:
    return row["account_id"], row["product"], row["message_id"]


def published_of(this: Run, found: Found, record: Row) -> Published | None:
    at = _judged_at(this, record["part"])
    for row in found.verdicts.get(record["message_id"], []):
        if at and key_of(row) == key_of(record) and row["part"] == record["part"]:
            return Published(at, row["verdict"], row["reasons"])
    return None
