"""What Vonage sends → a raw slice: JSON pages, or the file of a report.

Everything is text there, read by header name whatever the order of columns, in one parquet file
with the columns of `RAW` that came. What the texts mean is for `parse` to say.

A report's file is a ZIP of CSV members. Who has one already may hand in its CSV, as it is or
gzipped: the content says what a file is, its name does not. Whatever it holds, no more than some
blocks of it are in memory.
"""

from __future__ import annotations

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from reconcile.errors import ContractError, ReportError

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
RAW = pa.schema(
    [(LINE, pa.int64()), (PROBLEM, pa.string()), *((name, pa.string()) for name in KNOWN)]
)
WRONG_WIDTH = "it has not as many fields as the header"

ZIP_MAGICS = (b"PK\x03\x04", b"PK\x05\x06")  # the second begins a ZIP of nothing
GZIP_MAGIC = b"\x1f\x8b"
HEAD_BYTES = 1 << 16
# What a real report never reaches: its CSV deflates to a fifth, and it has one member an account.
INFLATED_BYTES = 1 << 30
INFLATED_RATIO = 200
MEMBERS = 10_000
DIRECTORY_BYTES = 16 << 20
ROW_LETTERS = 1 << 20
ENCRYPTED = 0x1  # a member's flag
DAMAGED = (
    zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, csv.Error,
    UnicodeDecodeError,  # of a member's name
)  # fmt: skip
# A block is parsed at once, and a row cannot be longer; some of them are in memory.
BLOCK_BYTES = 1 << 19
BATCH_ROWS = 20_000
GROUP_ROWS = 61_440

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


def write_archive(archive: Path, target: Path) -> RawSlice:
    """Streams every CSV of a report's file to a raw slice, in bounded memory.

    Raises:
        ReportError: it is neither a whole ZIP with a CSV in it, nor a CSV of a report itself.
        ContractError: a member lacks a column that the job needs.
    """
    try:
        try:
            return _write_members(archive, target, _read_fast)
        except (pa.ArrowInvalid, pa.ArrowKeyError):
            # Some row is no CSV to Arrow, which cannot say which. Python's reader can.
            return _write_members(archive, target, _read_slowly)
    except DAMAGED as error:
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

    def __init__(self, target: Path, names: Iterable[str]) -> None:
        self.rows = 0
        self._schema = pa.schema([field for field in RAW if field.name in {LINE, PROBLEM, *names}])
        self._file = pq.ParquetWriter(
            target, self._schema, store_schema=False, write_statistics=False
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
    archive: Path, target: Path, read: Callable[[io.BufferedIOBase, Sequence[str]], Iterator[Batch]]
) -> RawSlice:
    with _members(archive) as members:
        heads = [_look(member) for member in members]
        names = {name for header, _ in heads for name in header}
        with _Writer(target, names) as out:
            for member, (header, has_rows) in zip(members, heads, strict=True):
                if has_rows:
                    with member.open() as stream:
                        for batch in read(stream, header):
                            out.add(batch)
    return RawSlice(target, out.rows, _unheard_of(names))


@dataclass(frozen=True)
class _Member:
    """A CSV that can be read from its beginning, as often as needed."""

    name: str
    open: Callable[[], io.BufferedIOBase]
    is_bare: bool = True


class _Measured(io.BufferedIOBase):
    """The bytes of a CSV, which together with all others of its file must stay within reason.

    Args:
        source: gives the bytes.
        left: how many more there may be, in a list that all share.
        length: how many are announced, where they are.
    """

    def __init__(
        self, source: io.BufferedIOBase, left: list[int], length: int | None = None
    ) -> None:
        self._source, self._left, self._missing = source, left, length

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        found = self._source.read(BLOCK_BYTES if size is None or size < 0 else size)
        self._left[0] -= len(found)
        if self._left[0] < 0:
            raise zipfile.BadZipFile("it inflates beyond all measure")
        if self._missing is not None:
            self._missing -= len(found)
            if not found and self._missing:
                raise zipfile.BadZipFile("a member is not as long as it says")
        return found

    read1 = read

    def close(self) -> None:
        self._source.close()
        super().close()


class _Guarded(io.FileIO):
    """A file of which nobody takes too much at once, as `zipfile` would a huge directory."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > DIRECTORY_BYTES:
            raise zipfile.BadZipFile("its directory is as large as no report's")
        return super().read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET and offset < 0:
            raise zipfile.BadZipFile("its directory names places that it does not have")
        return super().seek(offset, whence)


@contextmanager
def _members(archive: Path) -> Iterator[list[_Member]]:
    """The CSVs of a report's file, as long as it is open."""
    with archive.open("rb") as file:
        head = file.read(len(ZIP_MAGICS[0]))
    left = [max(INFLATED_BYTES, INFLATED_RATIO * archive.stat().st_size)]
    if head in ZIP_MAGICS:
        with _Guarded(archive) as guarded, zipfile.ZipFile(guarded) as zipped:
            yield [
                _Member(m.filename, partial(_open_member, zipped, m, left), is_bare=False)
                for m in _csv_members(zipped, archive.name)
            ]
    else:
        is_gzip = head.startswith(GZIP_MAGIC)
        yield [_Member(archive.name, partial(_open_bare, archive, left, is_gzip=is_gzip))]


def _open_bare(file: Path, left: list[int], *, is_gzip: bool) -> _Measured:
    return _Measured(gzip.GzipFile(file) if is_gzip else file.open("rb"), left)


def _open_member(zipped: zipfile.ZipFile, member: zipfile.ZipInfo, left: list[int]) -> _Measured:
    return _Measured(cast(io.BufferedIOBase, zipped.open(member)), left, member.file_size)


def _csv_members(zipped: zipfile.ZipFile, name: str) -> list[zipfile.ZipInfo]:
    """The members that are to be read; nothing is ever written under a member's name.

    Raises:
        ReportError: there are none, or the archive is none that Vonage would have made.
    """
    members = zipped.infolist()
    if len(members) > MEMBERS:
        raise ReportError(f"{name} has {len(members)} members: no report has so many")
    strange = next((m.orig_filename for m in members if _is_strange(m.orig_filename)), None)
    if strange is not None:
        raise ReportError(f"{name} has a member named {strange[:80]!r}: it is no report of Vonage")
    found = [m for m in members if _is_csv(m.filename)]
    if not found:
        first = f" (its first member is {members[0].filename[:80]!r})" if members else ""
        raise ReportError(f"{name} holds no CSV{first}: ask for the report again")
    if any(m.flag_bits & ENCRYPTED for m in found):
        raise ReportError(f"{name} is encrypted: decrypt it first")
    if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in found):
        raise ReportError(f"{name} is compressed in a way that no report is: zip it anew")
    return found


def _is_strange(name: str) -> bool:
    """Whether a name would lead out of a folder, or is none that people can read."""
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable()


def _is_csv(name: str) -> bool:
    path = PurePosixPath(name)
    # A Mac puts a ._NAME, which is no CSV, beside each NAME.
    return name.lower().endswith(".csv") and not path.name.startswith("._")


def _look(member: _Member) -> tuple[list[str], bool]:
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
    if head.startswith((*ZIP_MAGICS, GZIP_MAGIC)):
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
