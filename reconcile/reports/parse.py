"""Reports API rows → records: a JSON page, or the CSV members of a report's archive.

Everything arrives as text, is read by header name whatever the order of columns, and is kept raw
in one parquet file a slice, from which `records` and `rejects` are read. The name trap is closed
here: a row's `to` is the handset and becomes `recipient`, its `from` becomes `sender`.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from reconcile import border
from reconcile.days import Window, iso
from reconcile.engine import quote
from reconcile.errors import ContractError, InputError, ReportError

# What the job cannot do without; every other column may be missing.
REQUIRED = ("message_id", "date_received", "status")
OPTIONAL = (
    "account_id", "id", "client_ref", "from", "to", "changed_from", "forced_from", "country",
    "country_name", "network", "network_name", "date_finalized", "latency", "error_code",
    "total_price", "price", "currency", "concatenated", "validity_period",
)  # fmt: skip
KNOWN = (*REQUIRED, *OPTIONAL)
# Documented, and of no use here: neither kept nor worth a word.
IGNORED = (
    "account_ref", "direction", "product", "error_code_description", "tier_volume", "udh", "dcs",
    "ip_address", "workflow_id", "message_body",
)  # fmt: skip
LINE = "_line"
RAW = pa.schema([(LINE, pa.int64()), *((name, pa.string()) for name in KNOWN)])

ZIP_MAGIC = b"PK\x03\x04"
BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class RawSlice:
    """A slice as it came: its rows and the columns that nobody knows yet."""

    path: Path
    rows: int
    new_columns: list[str]


def write_pages(pages: Iterable[list[dict[str, Any]]], target: Path) -> RawSlice:
    """Streams JSON records to a raw slice, page by page."""
    rows, new = 0, set[str]()
    with pq.ParquetWriter(target, RAW) as out:
        for records in pages:
            new.update(name for r in records for name in r if name not in (*KNOWN, *IGNORED))
            columns = {
                name: pa.array([_as_text(r.get(name)) for r in records], pa.string())
                for name in KNOWN
            }
            numbers = pa.array(range(rows + 1, rows + len(records) + 1), pa.int64())
            out.write_table(pa.table({LINE: numbers} | columns, RAW))
            rows += len(records)
    return RawSlice(target, rows, sorted(new))


def write_archive(archive: Path, target: Path) -> RawSlice:
    """Streams every CSV member of a report's ZIP to a raw slice, in bounded memory.

    Raises:
        ReportError: it is no whole ZIP, or holds no CSV.
        ContractError: a member lacks a column that the job needs.
    """
    with archive.open("rb") as file:
        if file.read(4) != ZIP_MAGIC:
            raise ReportError(f"{archive.name} is no ZIP archive: ask for the report again")
    rows, new = 0, set[str]()
    try:
        with zipfile.ZipFile(archive) as zipped, pq.ParquetWriter(target, RAW) as out:
            members = [m for m in zipped.infolist() if m.filename.lower().endswith(".csv")]
            if not members:
                raise ReportError(f"{archive.name} holds no CSV: ask for the report again")
            for member in members:
                with zipped.open(member) as stream:
                    new |= _check_header(stream, member.filename)
                with zipped.open(member) as stream:
                    for batch in _read_csv(stream, member.filename):
                        out.write_table(_numbered(batch, rows))
                        rows += batch.num_rows
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError) as error:
        raise ReportError(f"{archive.name} is damaged ({error}): ask for it again") from None
    return RawSlice(target, rows, sorted(new))


def records(
    raw: Path, product: str, account_id: str, window: Window, as_of: datetime, pii: str
) -> str:
    """SQL of the records of a raw slice; of rows with one id the one finalised last."""
    good = _good(window)
    return f"""
        SELECT * EXCLUDE (_line) FROM ({_normalised(raw, product, account_id, as_of, pii)})
        WHERE {good}
        QUALIFY row_number() OVER (
            PARTITION BY account_id, message_id ORDER BY finalized_at DESC NULLS LAST, _line
        ) = 1
    """  # noqa: S608 - built from our own names only


def rejects(
    raw: Path, product: str, account_id: str, window: Window, as_of: datetime, pii: str
) -> str:
    """SQL of the rows of a raw slice that are no records of its window, each with its reason."""
    source = quote(f"reports:{product}:{account_id}:{iso(window.start)}")
    return f"""
        SELECT {source} AS source, _line AS line, 'malformed_record' AS kind,
            CASE WHEN message_id IS NULL THEN 'it has no message_id'
                 WHEN received_at IS NULL THEN 'its date_received is no time'
                 ELSE 'its date_received lies outside of the days asked for' END AS reason
        FROM ({_normalised(raw, product, account_id, as_of, pii)})
        WHERE ({_good(window)}) IS NOT TRUE
    """  # noqa: S608 - built from our own names only


def _good(window: Window) -> str:
    return (
        f"message_id IS NOT NULL AND received_at >= TIMESTAMPTZ '{iso(window.start)}' "
        f"AND received_at < TIMESTAMPTZ '{iso(window.end)}'"
    )


def _normalised(raw: Path, product: str, account_id: str, as_of: datetime, pii: str) -> str:
    t = border.text
    return f"""
        SELECT {border.message_id("message_id")} AS message_id,
            {t("id")} AS record_id,
            {quote(product)} AS product,
            coalesce({t("account_id")}, {quote(account_id)}) AS account_id,
            {t("client_ref")} AS client_ref,
            {t('"from"')} AS sender,
            coalesce({t("changed_from")}, {t("forced_from")}) AS sender_used,
            {border.recipient('"to"', pii)} AS recipient,
            coalesce(upper({t("country")}), 'unknown') AS country,
            {t("country_name")} AS country_name,
            coalesce({t("network")}, 'unknown') AS network_code,
            {t("network_name")} AS network_name,
            {border.instant("date_received")} AS received_at,
            {border.instant("date_finalized")} AS finalized_at,
            {border.whole("latency")} AS latency_ms,
            {border.lower("status")} AS status,
            {t("error_code")} AS error_code,
            {border.money(f'coalesce({t("total_price")}, {t("price")})')} AS price,
            {t("currency")} AS currency,
            {border.flag("concatenated")} AS concatenated,
            CASE WHEN {border.whole("validity_period")} > 0
                 THEN {border.whole("validity_period")} END AS validity_ms,
            TIMESTAMPTZ '{iso(as_of)}' AS fetched_at,
            _line
        FROM read_parquet({quote(str(raw))})
    """  # noqa: S608 - built from our own names only


def _check_header(stream: Any, name: str) -> set[str]:
    """Reads a member's header; returns the columns that nobody knows yet."""
    lines = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
    header = next(csv.reader(lines), [])
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise ContractError(
            f"{name}: its header lacks {', '.join(missing)}; without them nothing can be joined"
        )
    return set(header) - set(KNOWN) - set(IGNORED) - {""}


def _read_csv(stream: Any, name: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from pacsv.open_csv(
            stream,
            read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pacsv.ParseOptions(newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types={column: pa.string() for column in KNOWN},
                include_columns=list(KNOWN),
                include_missing_columns=True,
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        raise InputError(f"{name} is no readable CSV: {error}") from None


def _numbered(batch: pa.RecordBatch, before: int) -> pa.Table:
    numbers = pa.array(range(before + 1, before + batch.num_rows + 1), pa.int64())
    return pa.table([numbers, *batch.columns], schema=RAW)


def _as_text(value: Any) -> str | None:
    """A JSON value as the text that a CSV would hold."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)
