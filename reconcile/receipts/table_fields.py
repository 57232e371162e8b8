"""Columns → raw fields: CSV with any column order, parquet, rows of a database.

A table may also hold envelopes: a column with the payload beside one with the capture's time.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from reconcile.engine import quote
from reconcile.errors import InputError
from reconcile.receipts import json_fields
from reconcile.receipts.fields import (
    CAPTURED_AT,
    NESTED_ID,
    NUMBER_ID,
    TWICE,
    Meaning,
    meaning,
    plain,
    spellings,
    table,
)
from reconcile.receipts.lines import LONGEST_LINE_BYTES, GoneError

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

WRONG_WIDTH = "it has not as many fields as the header"
BAD_QUOTES = "a quote or a line end stands where CSV allows none"
DELIMITERS = ",;\t|"
ROWS_AT_ONCE = 100_000
Columns = Mapping[str, Any]


def from_columns(
    con: DuckDBPyConnection, line: Any, columns: Columns, numeric: frozenset[str], where: str,
    *, as_captured: bool = False,
) -> pa.Table:  # fmt: skip
    """Raw fields of rows: columns of `SCHEMA`, in no certain order.

    Args:
        con: the engine.
        line: the rows' numbers.
        columns: text by its name in the table.
        numeric: names of columns that held numbers.
        where: what to call the table in an error.
        as_captured: whether a payload's text is what was captured, byte for byte; a database may
            have written it anew.

    Raises:
        InputError: the table has no column for a message id and a status, nor for a payload.
    """
    means = understood(columns, where)
    if means.receipt:
        return _receipts(line, columns, numeric)
    return _payloads(con, line, columns, means, as_captured=as_captured)


def understood(names: Mapping[str, Any] | list[str], where: str) -> Meaning:
    """What a table's columns hold: receipts or payloads.

    Raises:
        InputError: neither.
    """
    names = list(names)
    means = meaning(names)
    if not means.receipt and not means.envelope:
        spelled = spellings(names)
        lacks = [f for f in ("message_id", "status") if not spelled[f]]
        raise InputError(
            f"{where} has no column {' and no '.join(lacks) or 'message_id'} "
            f"({', '.join(names)[:80]}): name its columns as Vonage names the fields"
        )
    return means


def _receipts(line: Any, columns: Columns, numeric: frozenset[str]) -> pa.Table:
    count = len(line)
    nothing = pa.nulls(count, pa.string())
    problem, values = nothing, {}
    for field, own in spellings(columns).items():
        values[field] = pc.coalesce(nothing, *(columns[n] for n in own)) if own else nothing
        if field != "captured_at":
            for name in own[1:]:
                other = pc.fill_null(pc.not_equal(columns[name], values[field]), fill_value=False)
                problem = pc.if_else(other, TWICE, problem)
        if field in ("message_id", "message_uuid") and numeric.intersection(own):
            problem = pc.if_else(pc.is_valid(values[field]), NUMBER_ID, problem)
    problem = pc.if_else(json_fields.nested_id(values), NESTED_ID, problem)
    return table(line, problem=problem, **values)


def _payloads(
    con: DuckDBPyConnection, line: Any, columns: Columns, means: Meaning, *, as_captured: bool
) -> pa.Table:
    count = len(line)
    nothing = pa.nulls(count, pa.string())
    payload = nothing
    for name in means.envelope:
        told = pc.is_in(columns[name], pa.array([*json_fields.NOTHING, None], pa.string()))
        text = pc.if_else(told, nothing, columns[name])
        payload = pc.coalesce(payload, text)
    times = [n for key in (*CAPTURED_AT, "timestamp") for n in columns if plain(n) == key]
    bearer = spellings(columns)["authorization"]
    none = pc.is_null(payload)
    level = {
        "line": line, "text": payload, "body": payload if as_captured else nothing,
        "outer_at": pc.coalesce(nothing, *(columns[n] for n in times)),
        "outer_authorization": pc.coalesce(nothing, *(columns[n] for n in bearer)),
        "outer_kind": pa.array([means.kind] * count), "outer_problem": pa.array(
            [means.problem] * count),
    }  # fmt: skip
    rows = pa.table([level[f.name] for f in json_fields.LEVEL], schema=json_fields.LEVEL)
    empty = rows.filter(none)
    parts = [table(empty["line"], kind=empty["outer_kind"], problem=empty["outer_problem"])]
    parts += json_fields.from_texts(con, rows.filter(pc.invert(none)), queries=True)
    return pa.concat_tables(parts)


@dataclass(frozen=True)
class Header:
    """A CSV's first line: how it separates, and the names of its columns."""

    delimiter: str
    names: tuple[str, ...]

    @classmethod
    def read(cls, line: str) -> Header:
        line = line.strip("\r\n ")
        delimiter = max(DELIMITERS, key=line.count)
        try:
            names = next(csv.reader([line], delimiter=delimiter))
        except csv.Error:  # a line end within the line: these are no columns' names
            names = [line]
        return cls(delimiter, tuple(names))

    @property
    def well_formed(self) -> str:
        """A pattern of lines in which every quote opens or closes a field, or is within a word.

        Any other would make the parser take the lines below it for a part of it.
        """
        d = re.escape(self.delimiter)
        field = rf'(?:"(?:[^"\r]|"")*"|[^"\r{d}][^\r{d}]*|)'
        return f"^{field}(?:{d}{field})*$"


def from_csv(con: DuckDBPyConnection, lines: pa.Table, header: Header, where: str) -> pa.Table:
    """Parses lines as CSV, each with its number in front, by which a refused one is missed."""
    line, named, rest = csv_columns(lines, header)
    found = from_columns(con, line, named, frozenset(), where, as_captured=True)
    told = table(rest["line"], blank=rest["blank"], problem=rest["problem"])
    return pa.concat_tables([found, told])


def csv_columns(lines: pa.Table, header: Header) -> tuple[Any, dict[str, Any], pa.Table]:
    """The numbers of lines that are rows, their columns by name, and the lines that are none."""
    text = pc.utf8_rtrim(lines["text"], characters="\r\n")
    tidy = pc.fill_null(pc.match_substring_regex(text, header.well_formed), fill_value=True)
    problem = pc.if_else(tidy, lines["problem"], BAD_QUOTES)
    good = pc.and_(pc.is_null(problem), pc.invert(lines["blank"]))
    number = pc.cast(lines["line"], pa.string())
    numbered = pc.binary_join_element_wise(number, text, header.delimiter).filter(good)
    rows = _parse(numbered, header).combine_chunks()
    line = pc.cast(rows["line"], pa.int64())
    missed = pc.is_null(pc.index_in(lines["line"], line))
    problem = pc.if_else(pc.and_(good, missed), WRONG_WIDTH, problem)
    rest = lines.set_column(lines.schema.get_field_index("problem"), "problem", problem)
    return line, _named(header.names, rows), rest.filter(missed)


def _named(names: tuple[str, ...], rows: pa.Table) -> dict[str, Any]:
    """Columns by their names; of two with one name the second has a space, which means nothing."""
    found: dict[str, Any] = {}
    for n, name in enumerate(names):
        while name in found:
            name += " "
        found[name] = pc.if_else(
            pc.equal(rows[f"c{n}"], ""), pa.scalar(None, pa.string()), rows[f"c{n}"]
        )
    return found


def _parse(numbered: pa.ChunkedArray, header: Header) -> pa.Table:
    """Rows of lines that are tidy; those of another width than the header are left out."""
    names = ["line", *(f"c{n}" for n in range(len(header.names)))]
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


def parquet_rows(
    con: DuckDBPyConnection, path: Path, where: str
) -> Iterator[tuple[Any, dict[str, Any], frozenset[str]]]:
    """A parquet file's rows, as numbers, columns of text by name, and the names of the numeric.

    Raises:
        GoneError: it is not there any more.
        InputError: it cannot be read.
    """
    import duckdb

    rows = f"read_parquet({quote(str(path))}, file_row_number = true, hive_partitioning = false)"
    try:
        kinds = con.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()
        columns = {name: str(kind) for name, kind, *_ in kinds if name != "file_row_number"}
        numeric = frozenset(name for name, kind in columns.items() if _is_numeric(kind))
        texts = ", ".join(f"{_as_text(name, kind)}" for name, kind in columns.items())
        cursor = con.cursor()
        reader = cursor.execute(
            f"SELECT file_row_number + 1 AS line_number, {texts or 'NULL'} FROM {rows}"
        ).to_arrow_reader(ROWS_AT_ONCE)
        for batch in reader:
            line = batch.column(0)
            yield line, dict(zip(columns, batch.columns[1:], strict=True)), numeric
    except duckdb.Error as error:
        if not path.exists():
            raise GoneError(f"{where} is gone: its new name is read by the next run") from None
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"{where} cannot be read as parquet: {reason}") from None


def as_json(line: Any, columns: Columns, wanted: Any) -> pa.Table:
    """The rows of these numbers as JSON texts, as a reject keeps them."""
    here = pc.is_in(line, wanted)
    chosen = {name: pc.filter(column, here).to_pylist() for name, column in columns.items()}
    numbers = pc.filter(line, here)
    texts = [
        json.dumps(dict(zip(chosen, row, strict=True)), ensure_ascii=False).encode()
        for row in zip(*chosen.values(), strict=True)
    ]
    return pa.table([numbers, pa.array(texts, pa.binary())], names=["line", "raw"])


def _as_text(name: str, kind: str) -> str:
    column = '"' + name.replace('"', '""') + '"'
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP", "UNION")):
        return f"to_json({column})::VARCHAR"
    return f"TRY(decode({column}))" if kind == "BLOB" else f"{column}::VARCHAR"


def _is_numeric(kind: str) -> bool:
    return kind.removeprefix("U").startswith(
        ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
    )
