"""What Vonage sends → a raw slice: JSON pages, or the file of a report.

Everything is text there, read by header name whatever the order of columns, in one parquet file
with the columns of `RAW` that came. What the texts mean is for `parse` to say.

Whatever a report's file holds, no more than some blocks of it are in memory.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from reconcile.errors import ContractError, ReportError
from reconcile.reports import unpack

# What the job cannot do without; every other column may be missing.
REQUIRED = ("message_id", "date_received", "status")
OPTIONAL = (
    "account_id", "id", "client_ref", "from", "to", "changed_from", "forced_from", "country",
    "country_name", "network", "network_name", "date_finalized", "latency", "error_code",
    "total_price", "price", "estimated_price", "currency", "concatenated", "validity_period",
    "provider",
)  # fmt: skip
KNOWN = (*REQUIRED, *OPTIONAL)
# Documented, and of no use here: neither kept nor worth a word.
IGNORED = (
    "account_ref", "direction", "product", "error_code_description", "tier_volume", "udh", "dcs",
    "ip_address", "workflow_id", "message_body", "session_type", "session_id", "pricing_model",
    "pricing_type", "provider_error_code", "workflow_items_number", "workflow_items_total",
)  # fmt: skip
# A row's number, from 1, and what is wrong with one that could not be read as a row at all.
LINE, PROBLEM = "_line", "_problem"
# Hardly any two rows have the same here: dictionaries of them would cost time for nothing.
EACH_ITS_OWN = (LINE, "message_id", "id", "client_ref", "to")
RAW = pa.schema(
    [(LINE, pa.int64()), (PROBLEM, pa.string()), *((name, pa.string()) for name in KNOWN)]
)
WRONG_WIDTH = "it has not as many fields as the header"

HEAD_BYTES = 1 << 16
ROW_LETTERS = 1 << 20
# A block is parsed at once, and a row cannot be longer; some of them are in memory.
BLOCK_BYTES = 1 << 19
BATCH_ROWS = 20_000
GROUP_ROWS = 61_440
COMPRESSION = "snappy"

# Problems and columns (by name) of some rows.
Batch = tuple[pa.Array, dict[str, pa.Array]]


@dataclass(frozen=True)
class RawSlice:
    """A slice as it came: its rows and the columns that nobody knows yet."""

    path: Path
    rows: int
    new_columns: list[str]


def write_pages(pages: Iterable[list[dict[str, Any]]], target: Path) -> RawSlice:
    """Streams JSON records to a raw slice, page by page."""
    names = set[str]()
    with _Writer(target, KNOWN) as out:
        for records in pages:
            names.update(*records)
            columns = {name: _texts(record.get(name) for record in records) for name in KNOWN}
            out.add((pa.nulls(len(records), pa.string()), columns))
    return RawSlice(target, out.rows, _unheard_of(names))


def write_archive(archive: Path, target: Path, compression: str = COMPRESSION) -> RawSlice:
    """Streams every CSV of a report's file to a raw slice, in bounded memory.

    Args:
        archive: the file.
        target: where the slice is to be.
        compression: of the slice; `none` for one that is dropped again soon.

    Raises:
        ReportError: it is neither a whole ZIP with a CSV in it, nor a CSV of a report itself.
        ContractError: a member lacks a column that the job needs.
    """
    try:
        try:
            return _write_members(archive, target, compression, _read_fast)
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            # Some row is no CSV to Arrow, which cannot say which. Python's reader can.
            return _write_members(archive, target, compression, _read_slowly)
    except (*unpack.DAMAGED, csv.Error) as error:
        raise ReportError(f"{archive.name} is damaged ({error}): ask for it again") from None
    finally:
        pa.default_memory_pool().release_unused()  # the engine comes next, and has its own


def columns_of(raw: Path) -> set[str]:
    """The columns that a raw slice has."""
    return set(pq.read_schema(raw).names)


def rows_of(file: Path) -> int:
    """The rows of a parquet file, by its footer."""
    return int(pq.read_metadata(file).num_rows)


class _Writer:
    """Writes a raw slice: numbers its rows, and writes one group while the next is gathered."""

    def __init__(self, target: Path, names: Iterable[str], compression: str = COMPRESSION) -> None:
        self.rows, self._target = 0, target
        self._schema = pa.schema([field for field in RAW if field.name in {LINE, PROBLEM, *names}])
        self._file = pq.ParquetWriter(
            target,
            self._schema,
            compression=compression,
            store_schema=False,
            write_statistics=False,
            use_dictionary=[name for name in self._schema.names if name not in EACH_ITS_OWN],
        )
        self._thread = ThreadPoolExecutor(1)
        self._group: list[pa.Table] = []
        self._gathered = 0
        self._writing: Future[None] | None = None

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        try:
            if failure is None:
                self._write_group()
                self._wait()
        finally:
            self._thread.shutdown(cancel_futures=True)
            self._file.close()
        if failure is not None:
            self._target.unlink(missing_ok=True)

    def add(self, batch: Batch) -> None:
        """Takes some rows."""
        problems, columns = batch
        count = len(problems)
        known = {LINE: _numbers(self.rows + 1, count), PROBLEM: problems, **columns}
        arrays = [known.get(field.name) for field in self._schema]
        nothing = pa.nulls(count, pa.string())
        self._group.append(
            pa.table([nothing if a is None else a for a in arrays], schema=self._schema)
        )
        self.rows += count
        self._gathered += count
        if self._gathered >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        self._wait()
        if self._group:
            self._writing = self._thread.submit(
                self._file.write_table, pa.concat_tables(self._group)
            )
        self._group, self._gathered = [], 0

    def _wait(self) -> None:
        if self._writing:
            self._writing.result()


def _numbers(first: int, count: int) -> pa.Array:
    # By way of a buffer: `pa.array` would import pandas.
    numbers = pa.py_buffer(np.arange(first, first + count, dtype=np.int64))
    return pa.Array.from_buffers(pa.int64(), count, [None, numbers])


def _write_members(
    archive: Path, target: Path, compression: str,
    read: Callable[[io.BufferedIOBase, Sequence[str]], Iterator[Batch]],
) -> RawSlice:  # fmt: skip
    with unpack.members(archive) as members:
        heads = [_look(member) for member in members]
        names = {name for header, _ in heads for name in header}
        with _Writer(target, names, compression) as out:
            for member, (header, has_rows) in zip(members, heads, strict=True):
                if has_rows:
                    with member.open() as stream:
                        for batch in read(stream, header):
                            out.add(batch)
    return RawSlice(target, out.rows, _unheard_of(names))


def _look(member: unpack.Member) -> tuple[list[str], bool]:
    """A CSV's header, and whether a row comes after it. A member of no bytes has neither.

    Raises:
        ReportError: it is no CSV at all.
        ContractError: it lacks a column that the job needs, or has a known one twice.
    """
    with member.open() as stream:
        head = stream.read(HEAD_BYTES)
    rows = _rows_of(io.BytesIO(head))
    header, has_more = next(rows, []), next(rows, None) is not None
    missing = [name for name in REQUIRED if name not in header]
    if head.startswith((*unpack.ZIP_MAGICS, unpack.GZIP_MAGIC)):
        raise ReportError(f"{member.name} holds another archive: unpack it first")
    if missing and member.is_bare:
        raise ReportError(
            f"{member.name} is no ZIP archive, and no CSV of a report: {_found(head, missing)}"
        )
    if missing and (header or len(head) == HEAD_BYTES):
        raise ContractError(
            f"{member.name}: its header lacks {', '.join(missing)}; "
            "without them nothing can be joined"
        )
    twice = next((name for name in KNOWN if header.count(name) > 1), None)
    if twice:
        raise ContractError(f"{member.name}: its header has {twice} twice")
    return header, has_more or len(head) == HEAD_BYTES


def _found(head: bytes, missing: list[str]) -> str:
    """What a file is instead, in words; of its content nothing is told."""
    start = head.lstrip()[:16].lower()
    kinds = {b"<": "an HTML page", b"{": "JSON", b"[": "JSON", b"%pdf": "a PDF", b"": "empty"}
    for magic, kind in kinds.items():
        if start.startswith(magic) if magic else not start:
            return f"it is {kind}"
    if b"\0" in head:
        return "it is no text in UTF-8"
    line = head.splitlines()[0]
    split = next((sign for sign in (b";", b"\t", b"|") if line.count(sign) > line.count(b",")), b"")
    what = f"its header lacks {', '.join(missing)}"
    return f"{what}: {split.decode()!r} splits it, where a comma should" if split else what


def _read_fast(stream: io.BufferedIOBase, header: Sequence[str]) -> Iterator[Batch]:
    names = [name for name in KNOWN if name in header]
    batches = pacsv.open_csv(
        stream,
        read_options=pacsv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pacsv.ParseOptions(newlines_in_values=True),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            include_columns=names,
            strings_can_be_null=False,
        ),
    )
    for batch in batches:
        columns = dict(zip(names, batch.columns, strict=True))
        yield pa.nulls(batch.num_rows, pa.string()), columns


def _read_slowly(stream: io.BufferedIOBase, header: Sequence[str]) -> Iterator[Batch]:
    """As `_read_fast`, but what is no UTF-8 becomes � and a row of a wrong width has a problem."""
    place = {name: header.index(name) for name in KNOWN if name in header}
    all_rows = _rows_of(stream)
    next(all_rows)  # the header
    while rows := _some(all_rows):
        fits = [len(row) == len(header) for row in rows]
        problems = pa.array([None if fit else WRONG_WIDTH for fit in fits], pa.string())
        yield (
            problems,
            {
                name: _texts(row[at] if fit else None for row, fit in zip(rows, fits, strict=True))
                for name, at in place.items()
            },
        )


def _some(rows: Iterator[list[str]]) -> list[list[str]]:
    """The next rows, as many as make a batch."""
    found, letters = [], 0
    for row in islice(rows, BATCH_ROWS):
        found.append(row)
        letters += sum(map(len, row))
        if letters > BLOCK_BYTES:
            break
    return found


class _Lines:
    """Lines of text for `csv`, which would gather a row whatever its length."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.gathered = 0
        self._text = io.TextIOWrapper(
            cast(IO[bytes], stream), "utf-8-sig", errors="replace", newline=""
        )

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._text.readline(ROW_LETTERS)
        self.gathered += len(line)
        if self.gathered >= ROW_LETTERS:
            raise csv.Error(f"a row has more than {ROW_LETTERS} letters")
        if not line:
            raise StopIteration
        return line


def _rows_of(stream: io.BufferedIOBase) -> Iterator[list[str]]:
    """The rows of a CSV, without blank lines."""
    lines = _Lines(stream)
    for row in csv.reader(lines):
        lines.gathered = 0
        if row:
            yield row


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
