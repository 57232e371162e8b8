"""A capture file → numbered lines, in blocks of bounded size, decompressed on the way."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from reconcile.errors import InputError

BLOCK_BYTES = 16 << 20
# No receipt is nearly as long; the rest of a longer line is passed over, and it is a reject.
LONGEST_LINE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
NEWLINE = 0x0A

SCHEMA = pa.schema([("line", pa.int64()), ("text", pa.string()), ("problem", pa.string())])
TOO_LONG = "it is longer than 1 MiB"
NO_UTF8 = "it is no UTF-8"


@dataclass
class _Carry:
    """What is left of a block behind its last newline."""

    data: bytes = b""
    too_long: bool = False


def read_lines(path: Path) -> Iterator[pa.Table]:
    """Blocks of lines: number from 1, text without its end, and the problem of an unreadable one.

    Raises:
        InputError: the file cannot be read, or its compression is broken.
    """
    number, carry = 1, _Carry()
    try:
        with _open(path) as file:
            while data := file.read(BLOCK_BYTES):
                block, carry = _whole_lines(data, carry)
                if block:
                    lines = _table(block, number, first_too_long=False)
                    number += lines.num_rows
                    yield _mark_long(lines)
        if carry.data or carry.too_long:
            yield _mark_long(_table(carry.data + b"\n", number, first_too_long=carry.too_long))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the capture {path} cannot be read: {reason}") from None


def _open(path: Path) -> IO[bytes]:
    file = path.open("rb")
    magic = file.read(2)
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if magic == GZIP_MAGIC else file  # type: ignore[return-value] # reads like one


def _whole_lines(data: bytes, carry: _Carry) -> tuple[bytes, _Carry]:
    """Cuts behind the last newline; what is behind it goes to the next block."""
    cut = data.rfind(b"\n") + 1
    if not cut:
        room = LONGEST_LINE_BYTES + 1 - len(carry.data)
        return b"", _Carry(carry.data + data[: max(room, 0)], len(data) > room)
    return carry.data + data[:cut], _Carry(data[cut:])


def _table(block: bytes, first: int, *, first_too_long: bool) -> pa.Table:
    """Lines of a block that ends with a newline, without copying its bytes where it is UTF-8."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE).astype(np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), ends + 1])
    numbers = pa.array(np.arange(first, first + len(ends), dtype=np.int64))
    text = pa.StringArray.from_buffers(
        len(ends), pa.py_buffer(offsets.tobytes()), pa.py_buffer(block)
    )
    problem = pa.nulls(len(ends), pa.string())
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        text, problem = _decode(block, ends)
    if first_too_long:
        problem = pa.array([TOO_LONG], pa.string())
    return pa.table([numbers, text, problem], schema=SCHEMA)


def _decode(block: bytes, ends: np.ndarray) -> tuple[pa.Array, pa.Array]:
    texts: list[str | None] = []
    problems: list[str | None] = []
    start = 0
    for end in ends:
        try:
            texts.append(block[start:end].decode("utf-8"))
            problems.append(None)
        except UnicodeDecodeError:
            texts.append(None)
            problems.append(NO_UTF8)
        start = int(end) + 1
    return pa.array(texts, pa.string()), pa.array(problems, pa.string())


def _mark_long(lines: pa.Table) -> pa.Table:
    import pyarrow.compute as pc

    long = pc.fill_null(pc.greater(pc.binary_length(lines["text"]), LONGEST_LINE_BYTES), False)  # noqa: FBT003 - the value, not an option
    if not pc.any(long).as_py():
        return lines
    problem = pc.if_else(long, TOO_LONG, lines["problem"])
    text = pc.if_else(long, pa.scalar(None, pa.string()), lines["text"])
    return pa.table([lines["line"], text, problem], schema=SCHEMA)
