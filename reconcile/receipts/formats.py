"""The formats of captures, found by what is in them, and how each becomes raw fields."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from reconcile.errors import InputError
from reconcile.receipts import json_fields, lines, query_fields, table_fields
from reconcile.receipts.fields import SCHEMA, meaning, table
from reconcile.receipts.lines import (
    BLOCK_BYTES,
    PROBE_BYTES,
    Lines,
    Mark,
    digest,
    split_lines,
    split_objects,
)

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# So many lines are looked at to tell a format. The most of them decide, so that a strange line
# among them does not; what a beginning alone tells is surer.
LOOKED_AT = 20
SURE = LOOKED_AT + 1
ID = r"(?i)message[-_]?(?:id|uuid)="


@dataclass
class Reading:
    """One capture being read: from where, and when it is through how far and in what state.

    Attributes:
        path: the capture.
        start: what was read before.
        ended: whether nothing more is to come, given what broke off and the bytes that wait.
        state: what the format must remember between runs; JSON values.
        mark: how far it was read.
        waits: bytes of a last line that has no end yet.
        damage: why it could not be read to its end; empty if it could.
        enter: enters what needs no second look; none: everything is looked at.
    """

    path: Path
    start: Mark = field(default_factory=Mark)
    ended: Callable[[str, int], bool] = lambda _damage, _waiting: True
    state: dict[str, Any] = field(default_factory=dict)
    mark: Mark = field(default_factory=Mark)
    waits: int = 0
    damage: str = ""
    enter: json_fields.Enter | None = None

    def lines(self, split: Callable[[bytes, int], Any] = split_lines) -> Iterator[pa.Table]:
        """The capture's new lines in blocks; afterwards the mark stands behind them."""
        found = Lines(self.path, self.start, self.ended, split)
        yield from found
        self.mark, self.waits, self.damage = found.mark, found.waits, found.damage


@dataclass(frozen=True)
class Block:
    """Some lines.

    Attributes:
        lines: their numbers.
        fields: the raw fields (`fields.SCHEMA`) of those that were not entered already.
        raw: gives the bytes of lines that are asked for.
    """

    lines: Any
    fields: pa.Table
    raw: Callable[[Any], pa.Table]


# What is left to do for a block, with a connection of one's own: blocks are worked on side by side.
Work = Callable[["DuckDBPyConnection"], Block]


@dataclass(frozen=True)
class Format:
    """One format: its name, what it is, how many lines look like it, and its reader, by block."""

    name: str
    sentence: str
    looks: Callable[[bytes, list[str]], int]
    read: Callable[[DuckDBPyConnection, Reading], Iterator[Work]]


def found_in(path: Path, formats: Sequence[Format] = ()) -> Format | None:
    """The format of a capture, by its content, else by its name; None: it holds nothing yet.

    Args:
        path: the capture.
        formats: those that it can have; none: `FORMATS`.

    Raises:
        InputError: it is none of them.
    """
    formats = formats or FORMATS
    by_name = {known.name: known for known in formats}
    start = lines.start_of(path)
    decoded = start.decode("utf-8", "replace")
    text = [line for line in decoded.split("\n") if line.strip(lines.SPACES)]
    if not text:
        return None
    looks = [known.looks(start, text[:LOOKED_AT]) for known in formats]
    if any(looks):
        return formats[looks.index(max(looks))]
    name = path.name.lower()
    if re.search(r"\.(ndjson|jsonl|json|log)\b", name):
        return by_name["ndjson"]
    if re.search(r"\.(csv|tsv|txt)\b", name):
        return by_name["csv"]
    if b"\n" not in start and not lines.is_quiet(path):
        return None  # its first line is being written
    names = ", ".join(by_name)
    raise InputError(
        f"the capture {path} is in no format that is known ({names}): "
        "`reconcile ingest --dry-run` shows what files hold; if it is no capture, narrow dlr"
    )


Parse = Callable[["DuckDBPyConnection", pa.Table], pa.Table]


def read_lines(
    parse: Parse, split: Callable[[bytes, int], Any] = split_lines
) -> Callable[[DuckDBPyConnection, Reading], Iterator[Work]]:
    """A reader of lines, of which a block at once is parsed."""

    def read(con: DuckDBPyConnection, reading: Reading) -> Iterator[Work]:
        del con
        return (partial(_parsed, parse, block) for block in reading.lines(split))

    return read


def _parsed(parse: Parse, block: pa.Table, con: DuckDBPyConnection) -> Block:
    return block_of(block, parse(con, block))


def _read_json(
    split: Callable[[bytes, int], Any] = split_lines,
) -> Callable[[DuckDBPyConnection, Reading], Iterator[Work]]:
    """A reader of JSON objects, which may enter some as they are."""

    def read(con: DuckDBPyConnection, reading: Reading) -> Iterator[Work]:
        return read_lines(partial(json_fields.from_json, enter=reading.enter), split)(con, reading)

    return read


def block_of(block: pa.Table, found: pa.Table) -> Block:
    """What was found in lines, beside them."""

    def raw(wanted: Any) -> pa.Table:
        return block.select(["line", "raw"]).filter(pc.is_in(block["line"], wanted))

    return Block(block["line"], found, raw)


def _read_csv(con: DuckDBPyConnection, reading: Reading) -> Iterator[Work]:
    del con
    for block in reading.lines():
        above = SCHEMA.empty_table()
        if "header" not in reading.state:
            above = _header(block, reading)
        yield partial(_csv, above, block, reading)


def _csv(above: pa.Table, block: pa.Table, reading: Reading, con: DuckDBPyConnection) -> Block:
    rest = block.slice(above.num_rows)
    if not rest.num_rows:
        return block_of(block, above)
    header = table_fields.Header.read(reading.state["header"])
    found = table_fields.from_csv(con, rest, header, f"the capture {reading.path}")
    return block_of(block, pa.concat_tables([above, found]))


def _header(block: pa.Table, reading: Reading) -> pa.Table:
    """The first line that is not blank names the columns. It counts as a blank one: it holds no
    receipt, and nothing is wrong with it."""
    at = pc.index(block["blank"], value=False).as_py()
    above = block if at < 0 else block.slice(0, at + 1)
    if at >= 0:
        line = block["text"][at].as_py()
        if line is None:
            raise InputError(
                f"the capture {reading.path} begins with a line that is no text: "
                "if it is no capture, narrow dlr"
            )
        header = table_fields.Header.read(line)
        table_fields.understood(list(header.names), f"the capture {reading.path}")
        reading.state["header"] = line.strip("\r\n")
    return table(above["line"], blank=pa.array([True] * above.num_rows))


def _read_parquet(con: DuckDBPyConnection, reading: Reading) -> Iterator[Work]:
    rows, where = 0, f"the capture {reading.path}"
    with _unpacked(reading.path) as path:
        for line, columns, numeric in table_fields.parquet_rows(con, path, where):
            rows += len(line)
            yield partial(_columns, line, columns, numeric, where)
        with lines.told(reading.path), path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            head = file.read(PROBE_BYTES)
            file.seek(max(size - PROBE_BYTES, 0))
            tail = file.read()
    reading.mark = Mark(size, rows, digest(head), digest(tail))


@contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file itself, or what it holds compressed, in a file that only its owner can read."""
    if lines.compression(path) is lines.PLAIN:
        yield path
        return
    with tempfile.NamedTemporaryFile() as whole, lines.opened(path) as source:
        while part := source.read(BLOCK_BYTES):
            whole.write(part)
        if source.damage:
            raise InputError(f"the capture {path} cannot be read: {source.damage}")
        whole.flush()
        yield Path(whole.name)


def _columns(
    line: Any, columns: Any, numeric: frozenset[str], where: str, con: DuckDBPyConnection
) -> Block:
    found = table_fields.from_columns(con, line, columns, numeric, where)
    return Block(line, found, partial(table_fields.as_json, line, columns))


def _from_queries(con: DuckDBPyConnection, block: pa.Table) -> pa.Table:
    del con
    return _told(block, lambda text: query_fields.from_queries(query_fields.query_of(text)))


def _from_access_log(con: DuckDBPyConnection, block: pa.Table) -> pa.Table:
    del con
    return _told(block, query_fields.from_access_log)


def _told(block: pa.Table, parse: Callable[[pa.Array], pa.Table]) -> pa.Table:
    """Lines parsed, blank and unreadable ones set aside."""
    aside = pc.or_(block["blank"], pc.is_valid(block["problem"]))
    parts = []
    if pc.any(aside).as_py():
        rest = block.filter(aside)
        parts.append(table(rest["line"], blank=rest["blank"], problem=rest["problem"]))
        block = block.filter(pc.invert(aside))
    found = parse(block["text"].combine_chunks())
    columns = {name: found[name] for name in found.column_names}
    exact = pa.array([True] * block.num_rows, pa.bool_())
    return pa.concat_tables([*parts, table(block["line"], exact=exact, **columns)])


def _looks_like_csv(_start: bytes, text: list[str]) -> int:
    if text[0].lstrip().startswith("{") or re.search(query_fields.ACCESS, text[0]):
        return 0
    header = table_fields.Header.read(text[0])
    means = meaning(header.names)
    return SURE if len(header.names) > 1 and (means.receipt or means.envelope) else 0


def looks_like_ndjson(_start: bytes, text: list[str]) -> int:
    """How many lines are objects, as it seems."""
    return sum(line.lstrip().startswith("{") for line in text)


def looks_like_objects(_start: bytes, text: list[str]) -> int:
    """Whether objects lie in an array, take several lines, or share one."""
    first = text[0].strip()
    array = first.startswith("[{") or first == "["
    return SURE if array or _pretty(text) or _glued(first) else 0


def _pretty(text: list[str]) -> bool:
    below = text[1].lstrip() if len(text) > 1 else "}"
    return (text[0].startswith("{") and text[0].rstrip().endswith(("{", ",", "["))
            and below.startswith(('"', "{", "}", "[", "]")))  # fmt: skip


def _glued(line: str) -> bool:
    """Whether an object follows another on a line, as streams to object stores write them."""
    line = line.lstrip()
    if not line.startswith("{"):
        return False
    try:
        _, end = json.JSONDecoder().raw_decode(line)
    except (ValueError, RecursionError):
        return False
    return line[end:].lstrip().startswith("{")


FORMATS = (
    Format("parquet", "Columns by their names, in any order.",
           lambda start, _: SURE * start.startswith(b"PAR1"), _read_parquet),
    Format("json", "An array of objects, or objects that take several lines each, or share one.",
           looks_like_objects, _read_json(split_objects)),
    Format("ndjson", "A JSON object a line: a receipt, or an envelope around one.",
           looks_like_ndjson, _read_json()),
    Format("access_log", "A web server's log of GET callbacks (combined format).",
           lambda _, text: sum(bool(re.search(query_fields.ACCESS, line)) for line in text),
           read_lines(_from_access_log)),
    Format("csv", "A header, then a row a line; separated by comma, semicolon, tab or bar.",
           _looks_like_csv, _read_csv),
    Format("form", "A form body, query string or URL a line.",
           lambda _, text: sum(bool(re.search(ID, line) and re.search(query_fields.QUERY, line))
                               for line in text), read_lines(_from_queries)),
)  # fmt: skip
BY_NAME = {known.name: known for known in FORMATS}
