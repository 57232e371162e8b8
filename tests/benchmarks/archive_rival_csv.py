"""The same table by csv.DictReader and pyarrow: one pass over the rows, columns built as lists.

Rows are written in batches, so that no more than one batch lies in memory as Python objects. Of an
id that comes twice the row finalised last stays. The file is not sorted.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from hashlib import sha256

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from archive_program import Task, run

from reconcile.tables import RECORDS

BATCH = 100_000
STEP = Decimal("1e-8")
NEVER = datetime.min.replace(tzinfo=UTC)
HEX = re.compile("[0-9A-Fa-f]+").fullmatch
UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}").fullmatch
NO_DIGITS = re.compile("[^0-9]")
FLAGS = {"true": True, "false": False}


def read(task: Task) -> None:
    """Writes the records of the archive."""
    start = datetime.combine(task.day, time.min, UTC)
    end = start + timedelta(days=1)
    key = task.key.read_text("ascii").strip().encode()
    newest: dict[tuple[str, str], tuple[datetime, int]] = {}
    older: list[int] = []
    columns: list[list[object]] = [[] for _ in RECORDS.names]
    batches, rows = [], 0
    for row in _rows(task):
        record = _record(row, task, key)
        received = record[12]
        if record[0] is None or received is None or not start <= received < end:
            raise SystemExit("a row is no record of the day")
        known = (record[13] or NEVER, rows)
        before = newest.setdefault((record[3], record[0]), known)
        if before is not known:
            older.append(min(before, known)[1])
            newest[record[3], record[0]] = max(before, known)
        for column, value in zip(columns, record, strict=True):
            column.append(value)
        rows += 1
        if rows % BATCH == 0:
            batches.append(pa.record_batch(columns, schema=RECORDS.schema))
            columns = [[] for _ in RECORDS.names]
    batches.append(pa.record_batch(columns, schema=RECORDS.schema))
    table = pa.Table.from_batches(batches)
    if older:
        numbers = pa.array(range(rows), pa.int64())
        table = table.filter(pc.invert(pc.is_in(numbers, pa.array(older, pa.int64()))))
    task.target.parent.mkdir(parents=True)
    pq.write_table(table, task.target, compression="zstd")


def _rows(task: Task) -> Iterator[dict[str, str]]:
    with zipfile.ZipFile(task.archive) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                yield from csv.DictReader(io.TextIOWrapper(member, "utf-8", newline=""))


def _record(row: dict[str, str], task: Task, key: bytes) -> tuple:
    recipient, country = _text(row["to"]), _text(row["country"])
    digits = recipient and NO_DIGITS.sub("", recipient)
    validity = _whole(row["validity_period"])
    return (
        _message_id(_text(row["message_id"])),
        _text(row["id"]),
        "SMS",
        _text(row["account_id"]) or task.account,
        _text(row["client_ref"]),
        _text(row["from"]),
        _text(row["changed_from"]) or _text(row["forced_from"]),
        sha256(key + digits.encode()).hexdigest()[:16] if digits else None,
        country.upper() if country else "unknown",
        _text(row["country_name"]),
        _text(row["network"]) or "unknown",
        _text(row["network_name"]),
        _moment(row["date_received"]),
        _moment(row["date_finalized"]),
        _whole(row["latency"]),
        row["status"].strip().lower() or None,
        _text(row["error_code"]),
        _money(row["total_price"]),
        _text(row["currency"]),
        FLAGS.get(row["concatenated"].strip().lower()),
        validity if validity and validity > 0 else None,
        task.as_of,
        None,
    )


def _text(text: str) -> str | None:
    text = text.strip()
    return text if text and text != "REDACTED" else None


def _message_id(text: str | None) -> str | None:
    if text is None:
        return None
    if HEX(text):
        return text.upper()
    return text.lower() if UUID(text) else text


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        return None


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None


def _money(text: str) -> Decimal | None:
    try:
        return Decimal(text.strip()).quantize(STEP, ROUND_HALF_EVEN)
    except InvalidOperation:
        return None


if __name__ == "__main__":
    run(read)
