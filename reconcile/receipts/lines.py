"""A capture's bytes → numbered lines from any offset, decompressed, in blocks of bounded size."""

from __future__ import annotations

import bz2
import codecs
import gzip
import hashlib
import importlib
import json
import lzma
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reconcile.errors import InputError, UnreadableError, trouble
from reconcile.receipts import objects

BLOCK_BYTES = 12 << 20
MOST_LINES = 3 << 14
# No receipt is nearly as long; the rest of a longer line is passed over, and it is a reject.
LONGEST_LINE_BYTES = 1 << 20
# What is hashed of a capture's beginning, and of what lies before the offset read so far.
PROBE_BYTES = 4096
# A file that was not written to for so long is whole, though its last line has no end.
QUIET_SECONDS = 600
# No capture expands so much; what does is made to fill memory or time.
BOMB_RATIO, BOMB_FROM_BYTES = 2000, 256 << 20
NEWLINE = 0x0A
# Spaces as JSON and CSV know them, line ends included.
SPACES = " \t\r\n"

SCHEMA = pa.schema(
    [("line", pa.int64()), ("text", pa.string()), ("raw", pa.binary()), ("blank", pa.bool_()),
     ("problem", pa.string())]
)  # fmt: skip
TOO_LONG = "it is longer than 1 MiB"
NO_UTF8 = "it is no UTF-8"


class GoneError(InputError):
    """A file was rotated away between finding and opening it."""


class CutError(InputError):
    """A file was rotated while it was being read: what it held is read under its new name."""


@dataclass(frozen=True)
class Compression:
    """How a file is compressed: by which first bytes that is known, and what opens it."""

    name: str
    magic: bytes
    open: Callable[[Path], Any]


def _zstd() -> Any:
    try:
        return importlib.import_module("compression.zstd")  # Python 3.14
    except ModuleNotFoundError:
        return importlib.import_module("backports.zstd")


def _open_zstd(path: Path) -> Any:
    return _zstd().ZstdFile(path)


COMPRESSIONS = (
    Compression("gzip", b"\x1f\x8b", gzip.open),
    Compression("zstd", b"\x28\xb5\x2f\xfd", _open_zstd),
    Compression("bzip2", b"BZh", bz2.open),
    Compression("xz", b"\xfd7zXZ\x00", lzma.open),
)
PLAIN = Compression("", b"", lambda path: path.open("rb", buffering=0))


@dataclass(frozen=True)
class Mark:
    """How far a capture was read, and by what it is known again.

    Attributes:
        offset: decompressed bytes that were read.
        line: lines that were read.
        head, tail: digests of the first 4 KiB of these bytes, and of the last.
        unended: the last line had no end yet, which may still come.
    """

    offset: int = 0
    line: int = 0
    head: str = ""
    tail: str = ""
    unended: bool = False

    @property
    def head_bytes(self) -> int:
        """How many bytes the head stands for."""
        return min(self.offset, PROBE_BYTES)


def digest(data: bytes) -> str:
    """A digest short enough for the ledger, long enough to tell captures apart."""
    return hashlib.sha256(data).hexdigest()[:32]


class Source:
    """A capture's decompressed bytes; damage ends them early and is told, not raised."""

    def __init__(self, path: Path, file: Any, compression: Compression, size: int) -> None:
        self.path, self.compression, self.damage = path, compression, ""
        self._file, self._bytes = file, 0
        self._most = max(BOMB_FROM_BYTES, size * BOMB_RATIO)

    @property
    def is_compressed(self) -> bool:
        """Whether its end is known: nobody appends to a compressed stream that is whole."""
        return self.compression in COMPRESSIONS

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end."""
        parts, wanted = [], size
        read = self._file.read if self.compression is PLAIN else self._file.read1
        try:
            while wanted and not self.damage and (part := read(wanted)):
                parts.append(part)
                wanted -= len(part)
                self._bytes += len(part)
                if self.compression is not PLAIN and self._bytes > self._most:
                    self.damage = f"it expands more than {BOMB_RATIO:,} times, as no capture does"
        except Exception as error:
            if not isinstance(error, _damages()):
                raise
            self.damage = f"its {self.compression.name or 'content'} is damaged or cut short"
            if isinstance(error, OSError) and error.errno:
                self.damage = trouble(error)
        return b"".join(parts)

    def skip(self, size: int) -> bytes:
        """Passes over `size` bytes and returns the last 4 KiB of them."""
        if self.compression is PLAIN and size > PROBE_BYTES:
            self._file.seek(size - PROBE_BYTES, os.SEEK_CUR)
            return self.read(PROBE_BYTES)
        last = b""
        while size and (part := self.read(min(size, BLOCK_BYTES))):
            last = (last + part)[-PROBE_BYTES:]
            size -= len(part)
        return last


def _damages() -> tuple[type[Exception], ...]:
    return (OSError, EOFError, zlib.error, lzma.LZMAError, UnicodeError, _zstd().ZstdError)


class _Utf8:
    """UTF-16 text, as Excel saves it, as UTF-8."""

    def __init__(self, file: Any, encoding: str) -> None:
        self._file, self._decode = file, codecs.getincrementaldecoder(encoding)()
        self._rest = b""

    def read(self, size: int) -> bytes:
        while not self._rest:
            data = self._file.read(1 << 16)
            self._rest = self._decode.decode(data, final=not data).encode("utf-8", "replace")
            if not data:
                break
        part, self._rest = self._rest[:size], self._rest[size:]
        return part

    def read1(self, size: int) -> bytes:
        return self.read(size)

    def close(self) -> None:
        self._file.close()


_UTF_16 = Compression("UTF-16", b"", lambda path: path.open("rb"))


def compression(path: Path) -> Compression:
    """How a file is compressed, by its first bytes."""
    with told(path), path.open("rb") as file:
        start = file.read(8)
    return next((c for c in COMPRESSIONS if start.startswith(c.magic)), PLAIN)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """A capture to read from its first byte, behind the byte order mark that some editors write.

    Raises:
        GoneError: the file is not there any more.
        UnreadableError: it cannot be opened.
    """
    with told(path):
        kind = compression(path)
        size, file = path.stat().st_size, kind.open(path)
    try:
        start = Source(path, file, kind, size).read(4)
        file.close()
        with told(path):
            file = kind.open(path)  # a reader that met damage cannot be wound back
        if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            file = _Utf8(file, "utf-16")
            kind = kind if kind is not PLAIN else _UTF_16
        source = Source(path, file, kind, size)
        if start.startswith(codecs.BOM_UTF8):
            source.read(len(codecs.BOM_UTF8))
        yield source
    finally:
        file.close()


def start_of(path: Path, size: int = 1 << 16) -> bytes:
    """The first bytes of a capture, decompressed."""
    with opened(path) as source:
        return source.read(size)


def is_quiet(path: Path) -> bool:
    """Whether nobody has written to a file for long; one that is gone was just renamed."""
    try:
        return time.time() - path.stat().st_mtime > QUIET_SECONDS
    except FileNotFoundError:
        return False


class Lines:
    """The lines of a capture behind a mark; iterate, then ask `mark`, `waits` and `damage`.

    A block is a table of `SCHEMA`: the line's number from 1, its text with its end, its bytes, and
    the problem of an unreadable one. A last line without an end waits for it, unless `ended` says
    that the capture is whole, or the line is a whole JSON object.

    Args:
        path: the capture.
        start: where to read on.
        ended: whether nothing more is to come, given what broke off and the bytes that wait.
        split: what cuts bytes into lines: `split_lines`, or `split_objects` for JSON values.
    """

    def __init__(
        self, path: Path, start: Mark | None = None,
        ended: Callable[[str, int], bool] | None = None,
        split: Callable[[bytes, int], tuple[pa.Table, int]] | None = None,
    ) -> None:  # fmt: skip
        self.path, self.start = path, start or Mark()
        self.mark, self.waits, self.damage = self.start, 0, ""
        self._ended = ended or (lambda _damage, _waiting: True)
        self._split = split or split_lines

    def __iter__(self) -> Iterator[pa.Table]:
        with opened(self.path) as source:
            yield from self._blocks(source)
            self.damage = source.damage

    def _blocks(self, source: Source) -> Iterator[pa.Table]:
        begun = self._begin(source)
        if begun is None:
            return
        rest, dropped, last = begun, 0, b""
        while data := source.read(BLOCK_BYTES):
            rest += data
            table, used = self._split(rest, self.mark.line + 1)
            if not used:
                # Of a line without an end no more is kept than shows that it is too long.
                last = (last + data if dropped else rest)[-PROBE_BYTES:]
                dropped += max(len(rest) - LONGEST_LINE_BYTES - 2, 0)
                rest = rest[: LONGEST_LINE_BYTES + 2]
                continue
            done: bytes | memoryview = memoryview(rest)[:used]
            if dropped:
                done = rest[:used]
                done += last + data[: used - len(rest)] if used < len(rest) else last + data
            self._advance(done, used + dropped, table.num_rows)
            rest, dropped = rest[used:], 0
            # A block of nothing but line ends has millions of lines.
            yield from (table.slice(n, MOST_LINES) for n in range(0, table.num_rows, MOST_LINES))
        if self._split is split_objects and not rest.strip(objects.BETWEEN):
            rest = b""  # an array's bracket, which moves where the array grows
        self.waits = len(rest) + dropped
        closed = source.is_compressed and not source.damage
        if rest and (closed or self._is_whole(rest) or self._ended(source.damage, self.waits)):
            whole = rest.replace(b"\n", b" ") if self._split is split_objects else rest
            table = _table(whole + b"\n", self.mark.line + 1)
            done = rest + last if dropped else rest
            self._advance(done, self.waits, table.num_rows, unended=True)
            self.waits = 0
            yield table

    def _begin(self, source: Source) -> bytes | None:
        """Goes to the mark; what is left of a line end there belongs to the line before.

        None: the file is another than the one that was looked at.
        """
        self._head = source.read(self.start.head_bytes)
        behind = source.skip(self.start.offset - len(self._head))
        self._tail = (self._head + behind)[-PROBE_BYTES:]
        found = (digest(self._head), digest(self._tail))
        if self.start.offset and found != (self.start.head, self.start.tail):
            return None
        if not self.start.unended:
            return b""
        start = source.read(2)
        end = next((end for end in (b"\r\n", b"\n") if start.startswith(end)), b"")
        if end:
            self._advance(end, len(end), 0)
        return start[len(end) :]

    def _advance(
        self, done: bytes | memoryview, size: int, lines: int, *, unended: bool = False
    ) -> None:
        """Moves the mark by `size` bytes; `done` is all of them, or begins and ends as they do."""
        self._head = (self._head + done[:PROBE_BYTES])[:PROBE_BYTES]
        self._tail = (self._tail + done[-PROBE_BYTES:])[-PROBE_BYTES:]
        self.mark = Mark(
            self.mark.offset + size, self.mark.line + lines,
            digest(self._head), digest(self._tail), unended,
        )  # fmt: skip

    def _is_whole(self, rest: bytes) -> bool:
        """Whether a line without an end needs none: half a JSON object is none."""
        if len(rest) > LONGEST_LINE_BYTES:
            return True
        if not rest.lstrip().startswith(b"{"):
            return False
        try:
            return isinstance(json.loads(rest), dict)
        except (ValueError, RecursionError):
            return False


def split_lines(data: bytes, first: int) -> tuple[pa.Table, int]:
    """The lines that end in `data`, numbered from `first`, and how many bytes they take."""
    used = data.rfind(b"\n") + 1
    if not used:
        return SCHEMA.empty_table(), 0
    return _table(memoryview(data)[:used], first), used


def split_objects(data: bytes, first: int) -> tuple[pa.Table, int]:
    """The JSON objects that end in `data`, whatever stands between them a line of its own."""
    parts, used = objects.split(data, LONGEST_LINE_BYTES)
    # An object's own line ends become spaces: they stand between its values only.
    block = b"".join(part.replace(b"\n", b" ") + b"\n" for part in parts)
    return (_table(block, first) if parts else SCHEMA.empty_table()), used


def _table(block: bytes | memoryview, first: int) -> pa.Table:
    """Lines of a block that ends with a newline, without copying its bytes where it is UTF-8."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE).astype(np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), ends + 1])
    numbers = pa.array(np.arange(first, first + len(ends), dtype=np.int64))
    buffers = (pa.py_buffer(offsets.tobytes()), pa.py_buffer(block))
    text = pa.StringArray.from_buffers(len(ends), *buffers)
    raw = pa.Array.from_buffers(pa.binary(), len(ends), [None, *buffers])
    problem = pa.nulls(len(ends), pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        text, problem = _decode(block, offsets)
    too_long = np.diff(offsets) > LONGEST_LINE_BYTES + 1
    if too_long.any():
        problem = pc.if_else(pa.array(too_long), TOO_LONG, problem)
        text = pc.if_else(pa.array(too_long), pa.scalar(None, pa.string()), text)
    return pa.table([numbers, text, raw, _blank(block, offsets), problem], schema=SCHEMA)


def _blank(block: bytes | memoryview, offsets: np.ndarray) -> pa.Array:
    """Which lines hold spaces only; few begin with one, and only they are looked at."""
    blank = np.frombuffer(block, np.uint8)[offsets[:-1]] <= ord(" ")
    for n in np.flatnonzero(blank & (np.diff(offsets) > 1)).tolist():
        blank[n] = not bytes(block[offsets[n] : offsets[n + 1]]).strip(SPACES.encode())
    return pa.array(blank)


def _decode(block: bytes | memoryview, offsets: np.ndarray) -> tuple[pa.Array, pa.Array]:
    """The texts that are UTF-8, and the problem of those that are not."""
    texts: list[str | None] = []
    for start, end in pairwise(offsets):
        try:
            texts.append(str(block[start:end], "utf-8"))
        except UnicodeDecodeError:
            texts.append(None)
    problems = [NO_UTF8 if text is None else None for text in texts]
    return pa.array(texts, pa.string()), pa.array(problems, pa.string())


@contextmanager
def told(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise GoneError(f"{path} is gone: its new name is read by the next run") from None
    except OSError as error:
        reason = trouble(error)
        raise UnreadableError(f"the capture {path} cannot be read: {reason}") from None
