"""The same table by pandas.read_csv and operations on whole columns, written by pyarrow.

Values that come often (times, prices) are converted once each. Of an id that comes twice the row
finalised last stays. The file is not sorted.
"""

from __future__ import annotations

import zipfile
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from hashlib import sha256

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from archive_program import Task, run

from reconcile.tables import RECORDS

STEP = Decimal("1e-8")
UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
SAME = {
    "client_ref": "client_ref", "sender": "from", "country_name": "country_name",
    "network_name": "network_name", "error_code": "error_code", "currency": "currency",
    "record_id": "id",
}  # fmt: skip
USED = [
    *SAME.values(), "message_id", "account_id", "to", "changed_from", "forced_from", "country",
    "network", "date_received", "date_finalized", "latency", "status", "total_price",
    "concatenated", "validity_period",
]  # fmt: skip


def read(task: Task) -> None:
    """Writes the records of the archive."""
    with zipfile.ZipFile(task.archive) as archive:
        frames = [_frame(archive, name) for name in archive.namelist()]
    rows = pd.concat(frames) if len(frames) > 1 else frames[0]
    for name in USED:
        text = rows[name].str.strip()
        rows[name] = text.mask(text.isin(["", "REDACTED"]))
    records = _records(rows, task)
    of_day = records["received_at"].dt.date == task.day
    if not (of_day & records["message_id"].notna()).all():
        raise SystemExit("a row is no record of the day")
    keys = ["account_id", "message_id"]
    if records.duplicated(keys).any():
        newest_first = records.sort_values("finalized_at", ascending=False, na_position="last")
        records = newest_first.drop_duplicates(keys)
    task.target.parent.mkdir(parents=True)
    table = pa.Table.from_pandas(records, RECORDS.schema, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), task.target, compression="zstd")


def _frame(archive: zipfile.ZipFile, name: str) -> pd.DataFrame:
    with archive.open(name) as member:
        return pd.read_csv(member, dtype=str, keep_default_na=False, usecols=USED)


def _records(rows: pd.DataFrame, task: Task) -> pd.DataFrame:
    columns = {name: rows[column] for name, column in SAME.items()}
    validity = pd.to_numeric(rows["validity_period"], errors="coerce").astype("Int64")
    return pd.DataFrame(
        columns
        | {
            "message_id": _message_ids(rows["message_id"]),
            "product": "SMS",
            "account_id": rows["account_id"].fillna(task.account),
            "sender_used": rows["changed_from"].fillna(rows["forced_from"]),
            "recipient": _hidden(rows["to"], task.key.read_text("ascii").strip().encode()),
            "country": rows["country"].str.upper().fillna("unknown"),
            "network_code": rows["network"].fillna("unknown"),
            "received_at": _moments(rows["date_received"]),
            "finalized_at": _moments(rows["date_finalized"]),
            "latency_ms": pd.to_numeric(rows["latency"], errors="coerce").astype("Int64"),
            "status": rows["status"].str.lower(),
            "price": _money(rows["total_price"]),
            "concatenated": rows["concatenated"].str.lower().map({"true": True, "false": False}),
            "validity_ms": validity.where(validity > 0),
            "fetched_at": pd.Timestamp(task.as_of),
            "asked_at": None,
        }
    )[RECORDS.names]


def _message_ids(texts: pd.Series) -> pd.Series:
    is_hex, is_uuid = texts.str.fullmatch("[0-9A-Fa-f]+"), texts.str.fullmatch(UUID)
    return texts.where(~is_hex, texts.str.upper()).where(~is_uuid, texts.str.lower())


def _hidden(numbers: pd.Series, key: bytes) -> list[str | None]:
    digits = numbers.str.replace("[^0-9]", "", regex=True).fillna("")
    return [sha256(key + d.encode()).hexdigest()[:16] if d else None for d in digits]


def _moments(texts: pd.Series) -> pd.Series:
    return pd.to_datetime(texts, utc=True, format="ISO8601", errors="coerce").dt.floor("ms")


def _money(texts: pd.Series) -> pd.Series:
    return texts.map({text: _decimal(text) for text in texts.dropna().unique()}).astype(object)


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text).quantize(STEP, ROUND_HALF_EVEN)
    except InvalidOperation:
        return None


if __name__ == "__main__":
    run(read)
