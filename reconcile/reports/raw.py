"""What Vonage sends → a raw slice: JSON pages, or the CSV members of a report's archive.

Everything is text there, read by header name whatever the order of columns, in one parquet file of
the schema `RAW`. What the texts mean is for `parse` to say.
"""

from __future__ import annotations

import csv
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from reconcile.errors import ContractError, ReportError

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
# A row's number, from 1, and what is wrong with one that could not be read as a row at all.
LINE, PROBLEM = "_line", "_problem"
RAW = pa.schema(
    [(LINE, pa.int64()), (PROBLEM, pa.string()), *((name, pa.string()) for name in KNOWN)]
)
WRONG_WIDTH = "it has not as many fields as the header"

ZIP_MAGIC = b"PK\x03\x04"
DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, csv.Error)
BLOCK_BYTES = 8 << 20
BATCH_ROWS = 50_000

# Problems and columns (as KNOWN) of some rows.
Batch = tuple[pa.Array, Sequence[pa.Array]]


@dataclass(frozen=True)
class RawSlice:
    """A slice as it came: its rows and the columns that nobody knows yet."""

    path: Path
    rows: int
    new_columns: list[str]


def write_pages(pages: Iterable[list[dict[str, Any]]], target: Path) -> RawSlice:
    """Streams JSON records to a raw slice, page by page."""
    rows, names = 0, set[str]()
    with pq.ParquetWriter(target, RAW) as out:
        for records in pages:
            names.update(*records)
            columns = [_texts(record.get(name) for record in records) for name in KNOWN]
            out.write_table(_numbered(rows, (pa.nulls(len(records), pa.string()), columns)))
            rows += len(records)
    return RawSlice(target, rows, _unheard_of(names))


def write_archive(archive: Path, target: Path) -> RawSlice:
    """Streams every CSV member of a report's ZIP to a raw slice, in bounded memory.

    Raises:
        ReportError: it is no whole ZIP, or holds no CSV.
        ContractError: a member lacks a column that the job needs.
    """
    with archive.open("rb") as file:
        if file.read(4) != ZIP_MAGIC:
            raise ReportError(f"{archive.name} is no ZIP archive: ask for the report again")
    try:
        try:
            return _write_members(archive, target, _read_fast)
        except pa.ArrowInvalid:
            # Some row is no CSV to Arrow, which cannot say which. Python's reader can.
            return _write_members(archive, target, _read_slowly)
    except DAMAGED as error:
        raise ReportError(f"{archive.name} is damaged ({error}): ask for it again") from None


def _write_members(
    archive: Path, target: Path, read: Callable[[IO[bytes]], Iterator[Batch]]
) -> RawSlice:
    rows, names = 0, set[str]()
    with zipfile.ZipFile(archive) as zipped, pq.ParquetWriter(target, RAW) as out:
        members = [m for m in zipped.infolist() if m.filename.lower().endswith(".csv")]
        if not members:
            raise ReportError(f"{archive.name} holds no CSV: ask for the report again")
        for member in members:
            with zipped.open(member) as stream:
                header, is_empty = _look(stream, member.filename)
            names.update(header)
            if is_empty:
                continue
            with zipped.open(member) as stream:
                for batch in read(stream):
                    out.write_table(_numbered(rows, batch))
                    rows += len(batch[0])
    return RawSlice(target, rows, _unheard_of(names))


def _look(stream: IO[bytes], name: str) -> tuple[list[str], bool]:
    """A member's header, and whether nothing comes after it. A member of no bytes has none."""
    lines = csv.reader(_decoded(stream))
    header = next(lines, [])
    missing = [column for column in REQUIRED if column not in header]
    if header and missing:
        raise ContractError(
            f"{name}: its header lacks {', '.join(missing)}; without them nothing can be joined"
        )
    return header, not header or next(lines, None) is None


def _read_fast(stream: IO[bytes]) -> Iterator[Batch]:
    batches = pacsv.open_csv(
        stream,
        read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(KNOWN, pa.string()),
            include_columns=list(KNOWN),
            include_missing_columns=True,
            strings_can_be_null=False,
        ),
    )
    for batch in batches:
        yield pa.nulls(batch.num_rows, pa.string()), batch.columns


def _read_slowly(stream: IO[bytes]) -> Iterator[Batch]:
    """As `_read_fast`, but what is no UTF-8 becomes � and a row of a wrong width has a problem."""
    lines = csv.reader(_decoded(stream))
    header = next(lines)
    place = {name: header.index(name) for name in KNOWN if name in header}
    while rows := [row for row in islice(lines, BATCH_ROWS) if row]:
        fits = [len(row) == len(header) for row in rows]
        problems = [None if fit else WRONG_WIDTH for fit in fits]
        columns = [
            _texts(row[place[name]] if fit and name in place else None
                   for row, fit in zip(rows, fits, strict=True))
            for name in KNOWN
        ]  # fmt: skip
        yield pa.array(problems, pa.string()), columns


def _decoded(stream: IO[bytes]) -> io.TextIOWrapper:
    return io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")


def _numbered(before: int, batch: Batch) -> pa.Table:
    problems, columns = batch
    numbers = pa.array(range(before + 1, before + len(problems) + 1), pa.int64())
    return pa.table([numbers, problems, *columns], schema=RAW)


def _unheard_of(names: Iterable[str]) -> list[str]:
    return sorted(set(names) - set(KNOWN) - set(IGNORED) - {""})


def _texts(values: Iterable[Any]) -> pa.Array:
    texts = [_as_text(value) for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:  # JSON can name halves of characters, which no UTF-8 holds
        return pa.array([t and t.encode("utf-8", "replace").decode() for t in texts], pa.string())


def _as_text(value: Any) -> str | None:
    """A JSON value as the text that a CSV would hold."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return format(value, "f") if hasattr(value, "as_tuple") else str(value)
