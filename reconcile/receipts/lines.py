"""A capture file → numbered lines, in blocks of bounded size, decompressed on the way."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from reconcile.errors import InputError

BLOCK_BYTES = 16 << 20
# No receipt is nearly as long; the rest of a longer line is passed over, and it is a reject.
LONGEST_LINE_BYTES = 1 << 20
GZIP_MAGIC = b"\x1f\x8b"
NEWLINE = 0x0A
# Spaces as JSON and CSV know them, line ends included.
SPACES = " \t\r\n"

SCHEMA = pa.schema(
    [("line", pa.int64()), ("text", pa.string()), ("blank", pa.bool_()), ("problem", pa.string())]
)
TOO_LONG = "it is longer than 1 MiB"
NO_UTF8 = "it is no UTF-8"


def read_lines(path: Path) -> Iterator[pa.Table]:
    """Blocks of lines: number from 1, text with its end, and the problem of an unreadable one.

    Raises:
        InputError: the file cannot be read, or its compression is broken.
    """
    number, rest = 1, b""
    try:
        with _open(path) as file:
            while data := file.read(BLOCK_BYTES):
                cut = data.rfind(b"\n") + 1
                if not cut:
                    # Of a line without an end no more is kept than shows that it is too long.
                    rest += data[: max(LONGEST_LINE_BYTES + 1 - len(rest), 0)]
                    continue
                lines = _table(rest + data[:cut], number)
                rest = data[cut:]
                number += lines.num_rows
                yield lines
        if rest:
            yield _table(rest + b"\n", number)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"the capture {path} cannot be read: {reason}") from None


def first_line(path: Path) -> str:
    """The first line that is not blank, as far as a short look shows it; "" if there is none."""
    try:
        with _open(path) as file:
            start = file.read(1 << 16).decode("utf-8", "replace")
    except (OSError, EOFError, zlib.error):
        return ""  # read_lines will say what is wrong
    return next((line for line in start.splitlines() if line.strip()), "")


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, decompressed, behind the byte order mark that some editors put first."""
    with path.open("rb") as file:
        magic = file.read(2)
    opened: Any = gzip.open if magic == GZIP_MAGIC else open
    with opened(path, "rb") as file:
        if file.read(len(codecs.BOM_UTF8)) != codecs.BOM_UTF8:
            file.seek(0)
        yield file


def _table(block: bytes, first: int) -> pa.Table:
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
        text, problem = _decode(block, offsets)
    too_long = np.diff(offsets) > LONGEST_LINE_BYTES + 1
    if too_long.any():
        problem = pc.if_else(pa.array(too_long), TOO_LONG, problem)
        text = pc.if_else(pa.array(too_long), pa.scalar(None, pa.string()), text)
    blank = pc.fill_null(pc.match_substring_regex(text, f"^[{SPACES}]*$"), fill_value=False)
    return pa.table([numbers, text, blank, problem], schema=SCHEMA)


def _decode(block: bytes, offsets: np.ndarray) -> tuple[pa.Array, pa.Array]:
    """The texts that are UTF-8, and the problem of those that are not."""
    texts: list[str | None] = []
    for start, end in pairwise(offsets):
        try:
            texts.append(block[start:end].decode("utf-8"))
        except UnicodeDecodeError:
            texts.append(None)
    problems = [NO_UTF8 if text is None else None for text in texts]
    return pa.array(texts, pa.string()), pa.array(problems, pa.string())
