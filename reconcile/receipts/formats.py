"""A capture's lines → raw fields: which format it is, and where each field of a receipt stands.

Every format yields the same columns, all text: what `FIELDS` names, the line's number, and the
problem of a line that could not be read. What the fields mean is for `normalise` to say.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from reconcile.engine import quote
from reconcile.errors import InputError
from reconcile.receipts.lines import read_lines

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# A field by its name in lower case without separators: messageId, message-id, MESSAGE_ID are one.
FIELDS: dict[str, tuple[str, ...]] = {
    "message_id": ("messageid",),
    "status": ("status",),
    "api_key": ("apikey",),
    "client_ref": ("clientref",),
    "to": ("to",),
    "msisdn": ("msisdn",),
    "network_code": ("networkcode",),
    "err_code": ("errcode", "errorcode"),
    "price": ("price",),
    "message_timestamp": ("messagetimestamp",),
    "scts": ("scts",),
    "sig": ("sig",),
    "captured_at": ("capturedat", "receivedat", "loggedat", "insertedat", "createdat"),
}
NEEDED = ("message_id", "status")
SCHEMA = pa.schema(
    [("line", pa.int64()), ("blank", pa.bool_()), ("problem", pa.string()),
     *((name, pa.string()) for name in FIELDS)]
)  # fmt: skip
MOST_SPELLINGS = 16

NO_JSON = "it is no JSON object"
NUMBER_ID = "its message id is a JSON number, whose digits cannot be trusted: capture it as text"
WRONG_WIDTH = "it has not as many fields as the header"


@dataclass(frozen=True)
class Format:
    """One format: its name, the endings and first characters that tell it, its reader."""

    name: str
    suffixes: tuple[str, ...]
    begins: str
    read: Callable[[Backend, Path], Iterator[pa.Table]]


def read_fields(con: Backend, path: Path) -> tuple[str, Iterator[pa.Table]]:
    """The format found, and blocks of raw fields (columns of `SCHEMA`), one row a line."""
    found = _which(path)
    return found.name, found.read(con, path)


def _which(path: Path) -> Format:
    """By the ending of the name (without .gz), else by how the first line begins."""
    name = path.name.lower().removesuffix(".gz")
    for known in FORMATS:
        if name.endswith(known.suffixes):
            return known
    first = next((t for block in read_lines(path) for t in block["text"].to_pylist() if t), "")
    return next(f for f in FORMATS if re.match(f.begins, first.lstrip("\ufeff \t")))


def _read_ndjson(con: Backend, path: Path) -> Iterator[pa.Table]:
    for lines in read_lines(path):
        con.con.register("captured_lines", lines)
        parsed = f"""
            SELECT line, problem, trim(text, E' \\t\\r\\n\ufeff') AS text,
                CASE WHEN json_valid(text) AND json_type(text) = 'OBJECT' THEN text::JSON END AS j
            FROM captured_lines
        """
        names = con.con.execute(
            f"SELECT DISTINCT unnest(json_keys(j)) AS name FROM ({parsed}) ORDER BY name"  # noqa: S608 - our own names
        ).fetchall()
        spelled = _spellings([name for (name,) in names])
        fields = ", ".join(f"{_json_text(spelled[f])} AS \"{f}\"" for f in FIELDS)
        numbers = " OR ".join(
            f"json_type(j, {_path(n)}) IN ('UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT')"
            for n in spelled["message_id"]
        )
        yield con.con.execute(f"""
            SELECT line, coalesce(text = '', false) AS blank,
                CASE WHEN problem IS NOT NULL THEN problem WHEN text = '' THEN NULL
                     WHEN j IS NULL THEN {quote(NO_JSON)}
                     WHEN {numbers or "false"} THEN {quote(NUMBER_ID)} END AS problem,
                {fields}
            FROM ({parsed}) ORDER BY line
        """).to_arrow_table()  # noqa: S608 - our own names, others quoted
        con.con.unregister("captured_lines")


def _read_csv(_con: Backend, path: Path) -> Iterator[pa.Table]:
    header: _Header | None = None
    for lines in read_lines(path):
        if header is None:
            at = pc.index(_blank(lines), value=False).as_py()
            if at < 0:
                yield _fields(lines, _blank(lines))
                continue
            header = _Header.read(str(lines["text"][at]), path)
            above = lines.slice(0, at + 1)
            yield _fields(above, pa.array([True] * len(above)))
            lines = lines.slice(at + 1)
        if lines.num_rows:
            yield _csv_block(lines, header)


@dataclass(frozen=True)
class _Header:
    """A CSV's first line: how it separates, how wide it is, where each field stands."""

    delimiter: str
    width: int
    places: dict[str, list[int]]

    @classmethod
    def read(cls, line: str, path: Path) -> _Header:
        line = line.strip("\ufeff\r\n ")
        delimiter = max(",;\t|", key=line.count)
        names = next(csv.reader([line], delimiter=delimiter))
        spelled = _spellings(names)
        missing = [field for field in NEEDED if not spelled[field]]
        if missing:
            raise InputError(
                f"the capture {path} has no column {' and no '.join(missing)} in its header "
                f"({', '.join(names)[:80]}): name its columns as Vonage names the fields"
            )
        places = {field: [names.index(n) for n in own] for field, own in spelled.items()}
        return cls(delimiter, len(names), places)


def _csv_block(lines: pa.Table, header: _Header) -> pa.Table:
    """Parses lines as CSV, each with its number in front, by which a refused one is missed."""
    blank = _blank(lines)
    text = pc.utf8_rtrim(lines["text"], characters="\r\n")
    open_quote = pc.equal(pc.bit_wise_and(pc.count_substring(text, '"'), 1), 1)
    good = pc.and_(pc.is_null(lines["problem"]), pc.invert(pc.or_(blank, _true(open_quote))))
    numbered = pc.binary_join_element_wise(
        pc.cast(lines["line"], pa.string()), text, header.delimiter
    ).filter(good)
    names = ["line", *(f"c{n}" for n in range(header.width))]
    rows = pa.table({name: pa.array([], pa.string()) for name in names})
    if len(numbered):
        rows = pacsv.read_csv(
            pa.BufferReader("\n".join(numbered.to_pylist()).encode()),
            read_options=pacsv.ReadOptions(column_names=names),
            parse_options=pacsv.ParseOptions(
                delimiter=header.delimiter, invalid_row_handler=lambda _row: "skip"
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    found = pc.index_in(lines["line"], pc.cast(rows["line"], pa.int64()))
    refused = pc.and_(pc.is_null(found), pc.and_(pc.is_null(lines["problem"]), pc.invert(blank)))
    problem = pc.if_else(refused, WRONG_WIDTH, lines["problem"])
    values = {
        field: pc.coalesce(*(rows[f"c{n}"].take(found) for n in places))
        for field, places in header.places.items()
        if places
    }
    return _fields(lines, blank, problem, values)


def _fields(
    lines: pa.Table, blank: pa.Array, problem: pa.Array | None = None,
    values: dict[str, pa.Array] | None = None,
) -> pa.Table:  # fmt: skip
    """Lines in the shape of `SCHEMA`; fields without values are null."""
    nothing = pa.nulls(lines.num_rows, pa.string())
    columns = [(values or {}).get(field, nothing) for field in FIELDS]
    return pa.table(
        [lines["line"], blank, lines["problem"] if problem is None else problem, *columns],
        schema=SCHEMA,
    )


def _blank(lines: pa.Table) -> pa.Array:
    return _true(pc.equal(pc.utf8_trim(lines["text"], characters=" \t\r\n\ufeff"), ""))


def _true(flags: pa.Array) -> pa.Array:
    """Nulls as false."""
    return pc.coalesce(flags, pa.scalar(value=False))


def _spellings(names: list[str]) -> dict[str, list[str]]:
    """The names under which each field stands here, the most common spelling of a field first."""
    found: dict[str, list[str]] = {field: [] for field in FIELDS}
    plain = [(re.sub(r"[^a-z0-9]", "", name.lower()), name) for name in names]
    for field, spellings in FIELDS.items():
        for spelling in spellings:
            found[field] += [name for key, name in plain if key == spelling]
        found[field] = found[field][:MOST_SPELLINGS]
    return found


def _json_text(names: list[str]) -> str:
    """SQL for the text of the first of these keys that a JSON object has."""
    if not names:
        return "NULL::VARCHAR"
    return f"coalesce({', '.join(f'json_extract_string(j, {_path(n)})' for n in names)}, NULL)"


def _path(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return quote(f'$."{escaped}"')


FORMATS = (
    Format("ndjson", (".ndjson", ".jsonl", ".json", ".log"), r"\{", _read_ndjson),
    Format("csv", (".csv", ".tsv", ".txt"), "", _read_csv),
)
