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
from reconcile.receipts.lines import LONGEST_LINE_BYTES, first_line, read_lines

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
# The engine works on batches side by side: one for a whole block would keep one thread busy.
BATCH_ROWS = 4096

NO_JSON = "it is no JSON object"
NUMBER_ID = "its message id is a JSON number, whose digits cannot be trusted: capture it as text"
WRONG_WIDTH = "it has not as many fields as the header"
BAD_QUOTES = "a quote or a line end stands where CSV allows none"


@dataclass(frozen=True)
class Format:
    """One format: its name, and its reader."""

    name: str
    read: Callable[[Backend, Path], Iterator[pa.Table]]


def read_fields(con: Backend, path: Path) -> tuple[str, Iterator[pa.Table]]:
    """The format found, and blocks of raw fields (columns of `SCHEMA`), one row a line."""
    found = _which(path)
    return found.name, found.read(con, path)


def _which(path: Path) -> Format:
    """What begins with a brace is JSON whatever its name; else the ending of the name tells."""
    name = path.name.lower().removesuffix(".gz")
    braced = first_line(path).lstrip().startswith("{")
    return NDJSON if braced or name.endswith((".ndjson", ".jsonl", ".json", ".log")) else CSV


def _read_ndjson(con: Backend, path: Path) -> Iterator[pa.Table]:
    for lines in read_lines(path):
        con.con.register("captured_lines", _batches(lines))
        is_object = r"json_valid(text) AND regexp_matches(text, '^\s*\{')"
        keys = con.con.execute(
            f"SELECT DISTINCT json_keys(text) FROM captured_lines WHERE {is_object}"  # noqa: S608 - our own names
        ).fetchall()
        spelled = _spellings(sorted({name for (names,) in keys for name in names}))
        # One pass over the text for all of them; pointers, since a name may hold any character.
        names = [name for own in spelled.values() for name in own]
        pointers = ", ".join(map(_pointer, names)) or "''"
        place = {name: f"found[{at}]" for at, name in enumerate(names, 1)}
        fields = ", ".join(
            f'coalesce({", ".join(place[n] for n in own)}, NULL) AS "{field}"'
            if own
            else f'NULL::VARCHAR AS "{field}"'
            for field, own in spelled.items()
        )
        yield con.con.execute(f"""
            SELECT line, blank,
                CASE WHEN problem IS NOT NULL THEN problem WHEN blank THEN NULL
                     WHEN found IS NULL THEN {quote(NO_JSON)}
                     WHEN {_is_number(spelled["message_id"], place)} THEN {quote(NUMBER_ID)}
                     END AS problem, {fields}
            FROM (
                SELECT *, CASE WHEN {is_object} THEN json_extract_string(text, [{pointers}])
                          END AS found
                FROM captured_lines
            )
        """).to_arrow_table(BATCH_ROWS)  # noqa: S608 - our own names, others quoted
        con.con.unregister("captured_lines")


def _is_number(ids: list[str], place: dict[str, str]) -> str:
    """SQL that tells an id that is a number; only texts that look like one are parsed again."""
    kinds = "('UBIGINT', 'BIGINT', 'DOUBLE', 'HUGEINT')"
    return " OR ".join(
        f"CASE WHEN regexp_full_match({place[n]}, '[-+.0-9eE]+') "
        f"THEN json_type(text, {_pointer(n)}) IN {kinds} ELSE false END"
        for n in ids
    ) or "false"  # fmt: skip


def _read_csv(_con: Backend, path: Path) -> Iterator[pa.Table]:
    header: _Header | None = None
    for lines in read_lines(path):
        if header is None:
            at = pc.index(lines["blank"], value=False).as_py()
            if at < 0:
                yield _fields(lines)
                continue
            header = _Header.read(lines["text"][at].as_py(), path)
            # The header counts as a blank line: it holds no receipt, and nothing is wrong with it.
            above = lines.slice(0, at + 1)
            yield _fields(above.set_column(2, "blank", pa.array([True] * len(above))))
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
    def read(cls, line: str | None, path: Path) -> _Header:
        if line is None:
            raise InputError(f"the capture {path} begins with a line that is no text: what is it?")
        line = line.strip("\r\n ")
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

    @property
    def well_formed(self) -> str:
        """A pattern of lines in which every quote opens or closes a field, or is within a word.

        Any other would make the parser take the lines below it for a part of it.
        """
        d = re.escape(self.delimiter)
        field = rf'(?:"(?:[^"\r]|"")*"|[^"\r{d}][^\r{d}]*|)'
        return f"^{field}(?:{d}{field})*$"


def _csv_block(lines: pa.Table, header: _Header) -> pa.Table:
    """Parses lines as CSV, each with its number in front, by which a refused one is missed."""
    text = pc.utf8_rtrim(lines["text"], characters="\r\n")
    tidy = pc.fill_null(pc.match_substring_regex(text, header.well_formed), fill_value=True)
    problem = pc.if_else(tidy, lines["problem"], BAD_QUOTES)
    good = pc.and_(pc.is_null(problem), pc.invert(lines["blank"]))
    number = pc.cast(lines["line"], pa.string())
    numbered = pc.binary_join_element_wise(number, text, header.delimiter).filter(good)
    rows = _parse(numbered, header)
    found = pc.index_in(lines["line"], pc.cast(rows["line"], pa.int64()))
    problem = pc.if_else(pc.and_(good, pc.is_null(found)), WRONG_WIDTH, problem)
    values = {
        field: pc.coalesce(*(rows[f"c{n}"].take(found) for n in places))
        for field, places in header.places.items()
        if places
    }
    return _fields(lines, problem, values)


def _parse(numbered: pa.ChunkedArray, header: _Header) -> pa.Table:
    """Rows of lines that are tidy; those of another width than the header are left out."""
    names = ["line", *(f"c{n}" for n in range(header.width))]
    if not len(numbered):
        return pa.table({name: pa.array([], pa.string()) for name in names})
    whole = pa.ListArray.from_arrays([0, len(numbered)], numbered.combine_chunks())
    return pacsv.read_csv(
        pa.BufferReader(pc.binary_join(whole, "\n")[0].as_buffer()),
        read_options=pacsv.ReadOptions(column_names=names, block_size=4 * LONGEST_LINE_BYTES),
        parse_options=pacsv.ParseOptions(
            delimiter=header.delimiter, invalid_row_handler=lambda _row: "skip"
        ),
        convert_options=pacsv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
        ),
    )


def _fields(
    lines: pa.Table, problem: pa.Array | None = None, values: dict[str, pa.Array] | None = None
) -> pa.Table:
    """Lines in the shape of `SCHEMA`; fields without values are null."""
    nothing = pa.nulls(lines.num_rows, pa.string())
    columns = [(values or {}).get(field, nothing) for field in FIELDS]
    problem = lines["problem"] if problem is None else problem
    return pa.table([lines["line"], lines["blank"], problem, *columns], schema=SCHEMA)


def _batches(table: pa.Table) -> pa.Table:
    return pa.Table.from_batches(table.to_batches(max_chunksize=BATCH_ROWS), table.schema)


def _spellings(names: list[str]) -> dict[str, list[str]]:
    """The names under which each field stands here, the most common spelling of a field first."""
    found: dict[str, list[str]] = {field: [] for field in FIELDS}
    plain = [(re.sub(r"[^a-z0-9]", "", name.lower()), name) for name in names]
    for field, spellings in FIELDS.items():
        for spelling in spellings:
            found[field] += [name for key, name in plain if key == spelling]
        found[field] = found[field][:MOST_SPELLINGS]
    return found


def _pointer(name: str) -> str:
    return quote("/" + name.replace("~", "~0").replace("/", "~1"))


NDJSON, CSV = Format("ndjson", _read_ndjson), Format("csv", _read_csv)
