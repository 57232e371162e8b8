"""What the rivals share: how a value is read, and how their tables are written."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import lru_cache
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ingest_program import Task

from reconcile.tables import RECEIPTS, REJECTS

BATCH = 100_000
UNDATED = "undated"
UNREADABLE, NOT_A_RECEIPT = "unreadable", "not_a_receipt:"
STEP = Decimal("1e-8")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEX = re.compile("[0-9A-Fa-f]+").fullmatch
UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch
NO_DIGITS = re.compile("[^0-9]")


def text(value: object) -> str | None:
    """Stripped; blank and redacted are none."""
    if value is None:
        return None
    clean = str(value).strip()
    return clean if clean and clean != "REDACTED" else None


def message_id(clean: str) -> str:
    if HEX(clean):
        return clean.upper()
    return clean.lower() if UUID(clean) else clean


def hidden(number: str | None, key: bytes) -> str | None:
    digits = number and NO_DIGITS.sub("", number)
    return sha256(key + digits.encode()).hexdigest()[:16] if digits else None


@lru_cache(maxsize=10_000)
def money(clean: str | None) -> Decimal | None:
    """Prices are few: each is read once."""
    try:
        return clean and Decimal(clean).quantize(STEP, ROUND_HALF_EVEN)
    except InvalidOperation:
        return None


def instant(clean: str | None) -> datetime | None:
    """Without an offset it is UTC."""
    try:
        found = clean and datetime.fromisoformat(clean)
    except ValueError:
        return None
    return found if not found or found.tzinfo else found.replace(tzinfo=UTC)


def instant_or_epoch(clean: str | None) -> datetime | None:
    """Also seconds since 1970, or milliseconds."""
    if clean is None or not clean.replace(".", "", 1).isdigit():
        return instant(clean)
    number = Decimal(clean)
    milliseconds = int(number * 1000) if number < 10**11 else int(number)
    return EPOCH + timedelta(milliseconds=milliseconds)


class Columns:
    """Rows gathered as columns; of no more than one batch as Python objects."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._lists: list[list[object]] = [[] for _ in schema]
        self._batches: list[pa.RecordBatch] = []

    def add(self, row: tuple[object, ...]) -> None:
        for column, value in zip(self._lists, row, strict=True):
            column.append(value)
        if len(self._lists[0]) == BATCH:
            self._close()

    def table(self) -> pa.Table:
        self._close()
        return pa.Table.from_batches(self._batches, self._schema)

    def _close(self) -> None:
        if self._lists[0]:
            self._batches.append(pa.record_batch(self._lists, schema=self._schema))
            self._lists = [[] for _ in self._schema]


def write(task: Task, receipts: pa.Table, rejects: pa.Table) -> None:
    """Writes tables in order of lines, receipts by day of push, else of capture."""
    moment = pc.coalesce(receipts["pushed_at"], receipts["captured_at"])
    days = pc.fill_null(pc.strftime(moment, "%Y-%m-%d"), UNDATED).dictionary_encode()
    for day in pc.unique(days).to_pylist():
        rows = receipts.filter(pc.equal(days, day))
        pq.write_table(rows, task.target(RECEIPTS.name, day), compression="zstd")
    if rejects.num_rows:
        target = task.target(REJECTS.name, str(task.as_of.date()))
        pq.write_table(rejects, target, compression="zstd")
