"""Puts other days' messages around a made day, as a night has them in reach.

They are copies of the day's own: records so many days earlier, without receipts, and receipts so
many days later, without records; nothing joins the day's.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from reconcile.days import DAY
from reconcile.store import Staged, Store
from reconcile.tables import RECEIPTS, RECORDS, Table

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend


def crowd(store: Store, con: Backend, day: date, days: int, as_of: datetime) -> list[Staged]:
    """Publishes records of so many days before a day, and receipts of so many days after it."""
    staged = []
    for n in range(1, days + 1):
        for table, away in ((RECORDS, -n), (RECEIPTS, n)):
            part = day + DAY * away
            others = _of_others(table, store.query(table, [day]), away)
            rows = f"({others}) UNION ALL ({store.query(table, [part])})"
            staged.append(store.write(con, rows, table, part, as_of))
    store.publish(staged)
    return staged


def _of_others(table: Table, rows: str, away: int) -> str:
    """SQL of rows as they would be so many days away, with other ids of the same lengths."""
    said = {"message_id": f"left(md5(message_id || '{away}'), length(message_id))",
            "source": f"'{away}/' || source"}  # fmt: skip
    for column in table.columns:
        if pa.types.is_timestamp(column.type):
            said[column.name] = f"{column.name} + INTERVAL ({away}) DAY"
    columns = ", ".join(f"{said.get(name, name)} AS {name}" for name in table.names)
    return f"SELECT {columns} FROM ({rows})"
