"""Lets tests speak to the judging core: rows in, judged messages out, compiled once a process."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from reconcile import engine, judging
from reconcile.judge import pair, rules
from reconcile.settings import Settings
from reconcile.store import UNDATED, Store
from reconcile.tables import ORPHANS, RECEIPTS, RECORDS, VERDICTS, Table

Row = dict[str, Any]

AS_OF = datetime(2026, 10, 20, 12, 0, tzinfo=UTC)
LIMITS = rules.Limits(
    as_of=AS_OF,
    validity=timedelta(hours=72),
    grace=timedelta(hours=24),
    too_fast=timedelta(milliseconds=800),
)
_LINES = itertools.count(1)


def record(message_id: str, **fields: Any) -> Row:
    """A record of five days ago that was delivered after 6 s; all that is not named is blank."""
    given = dict.fromkeys(RECORDS.names) | {
        "message_id": message_id,
        "product": "SMS",
        "account_id": "a1",
        "recipient": "A",
        "country": "DE",
        "network_code": "26201",
        "received_at": AS_OF - timedelta(days=5),
        "status": "delivered",
        "fetched_at": AS_OF,
    }
    if "finalized_at" not in fields and fields.get("status", "delivered") == "delivered":
        fields["finalized_at"] = fields.get("received_at", given["received_at"]) + timedelta(
            seconds=6
        )
    return _known(given | fields, RECORDS)


def receipt(message_id: str, **fields: Any) -> Row:
    """A receipt that says delivered, without any time; all that is not named is blank."""
    given = dict.fromkeys(RECEIPTS.names) | {
        "message_id": message_id,
        "product": "SMS",
        "status": "delivered",
        "source": "capture",
        "line": next(_LINES),
        "signature": "unsigned",
    }
    return _known(given | fields, RECEIPTS)


def _known(row: Row, table: Table) -> Row:
    strange = set(row) - set(table.names)
    assert not strange, f"{table.name} has no {strange}"
    return row


def verdict(message_id: str, **fields: Any) -> Row:
    """A confirmed message of `verdicts`, to be summarised; all that is not named is blank."""
    given = dict.fromkeys(VERDICTS.names) | {
        "message_id": message_id,
        "product": "SMS",
        "account_id": "a1",
        "country": "DE",
        "network_code": "26201",
        "received_at": AS_OF - timedelta(days=5),
        "record_status": "delivered",
        "currency": "EUR",
        "receipts": 1,
        "duplicates": 0,
        "verdict": "confirmed",
        "reasons": [],
    }
    return _known(given | fields, VERDICTS)


def orphan(**fields: Any) -> Row:
    """A receipt of no message that we know, as it stands in `orphans`."""
    given = receipt("lone") | {"kind": "unknown_message", "country": "DE", "network_code": "26201"}
    return _known(given | fields, ORPHANS)


def arrow(table: Table, rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table of the contract."""
    return pa.Table.from_pylist(list(rows), schema=table.schema)


def money(text: str) -> Decimal:
    """An amount with all the places that the contract keeps."""
    return Decimal(text).quantize(Decimal("0.00000001"))


@functools.cache
def connection() -> Any:
    """One engine for all tests of this process."""
    con = engine.connect("1GiB", 2, Path(gettempdir()))
    # It tells files by their mtime; tests write one twice within a tick of that clock.
    con.con.execute("SET enable_external_file_cache = false")
    return con


def put(name: str, table: Table, rows: Iterable[Row]) -> Any:
    """Rows as a table of the engine, in the contract's types."""
    given = arrow(table, rows)
    con = connection()
    con.con.register("given", given)
    con.con.execute(f"CREATE OR REPLACE TABLE {name} AS SELECT * FROM given")
    con.con.unregister("given")
    return con.table(name)


@functools.cache
def _compiled(as_of: datetime, several_owners: bool) -> str:
    """The core for one as_of as a view over the tables `records_in` and `receipts_in`."""
    con = connection()
    pairs = pair.pair(
        con.table("records_in"), con.table("receipts_in"), pair.Scope(as_of, several_owners)
    )
    limits = rules.Limits(as_of, LIMITS.validity, LIMITS.grace, LIMITS.too_fast)
    name = f"judged_{round(as_of.timestamp() * 1000)}_{several_owners}"
    con.create_view(name, rules.judge(pairs, limits))
    return name


def judged(
    records: Iterable[Row],
    receipts: Iterable[Row],
    as_of: datetime = AS_OF,
    *,
    several_owners: bool = False,
) -> list[Row]:
    """Judged messages with all columns of the core, in order of id, account and product."""
    put("records_in", RECORDS, records)
    put("receipts_in", RECEIPTS, receipts)
    view = _compiled(as_of, several_owners)
    rows = connection().con.execute(f"SELECT * FROM {view}").to_arrow_table().to_pylist()
    return sorted(rows, key=key_of)


def judged_one(records: Iterable[Row], receipts: Iterable[Row], **how: Any) -> Row:
    """As `judged`, where there is one message only."""
    (row,) = judged(records, receipts, **how)
    return row


def key_of(row: Row) -> tuple[str, str, str]:
    """What tells one message from another."""
    return row["message_id"], row["account_id"], row["product"]


def fill_store(root: Path, records: Iterable[Row], receipts: Iterable[Row]) -> Store:
    """A store that holds these rows in their partitions, in the order given."""
    store = Store.open(root, create=True)
    ledger = store.ledger()
    for table, rows, day_of_row in (
        (RECORDS, records, lambda row: row["received_at"]),
        (RECEIPTS, receipts, lambda row: row["pushed_at"] or row["captured_at"]),
    ):
        parts: dict[str, list[Row]] = {}
        for row in rows:
            moment = day_of_row(row)
            parts.setdefault(str(moment.date()) if moment else UNDATED, []).append(row)
        for day in {*store.days(table), *parts}:
            path = store.path(table, day)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(arrow(table, parts.get(day, [])), path)
        if table is RECEIPTS:
            for day, rows_of_day in parts.items():
                seen = [row["captured_at"].date() for row in rows_of_day if row["captured_at"]]
                ledger.receipt_days[day] = [str(min(seen)), str(max(seen))] if seen else []
    store.save(ledger)
    return store


def bench_for(store: Store, as_of: datetime, *accounts: str) -> judging.Bench:
    """A bench over a store, with the settings as they come."""
    ours = frozenset(accounts)
    return judging.Bench(store, connection(), store.ledger(), Settings(), as_of, ours)


def published(store: Store, table: Table, day: date | str) -> list[Row]:
    """The rows of a partition, read as anybody would read them."""
    return pq.ParquetFile(store.path(table, day)).read().to_pylist()
