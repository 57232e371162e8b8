"""One table as CSV: UTF-8, ISO 8601 times, exact money, and no cell that a spreadsheet computes.

A text that begins with `=`, `+`, `-`, `@`, a tab, a line's end or an apostrophe gets an apostrophe
before it: senders and references are other people's text, and spreadsheets run what looks like a
formula. Who reads the file by program takes one leading apostrophe away, or reads the parquet.
Numbers are never changed.
"""

# ruff: noqa: S608 - SQL is put together from names of the contract

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from reconcile.errors import DiskError, trouble
from reconcile.selection import Selection
from reconcile.tables import Column

_RISKY = r"'^[''=+\-@\t\r\n]'"


def write_csv(path: Path, chosen: Selection) -> None:
    """Writes the rows with a header, sorted by what is here of the table's key; null is empty.

    Raises:
        DiskError: the disk refused.
    """
    import duckdb

    told = ", ".join(f'{_cell(column)} AS "{column.name}"' for column in chosen.contract)
    key = [f'chosen."{name}"' for name in chosen.table.key if name in chosen.columns]
    order = f" ORDER BY {', '.join(key)}" if key else ""
    rows = chosen.relation().query("chosen", f"SELECT {told} FROM chosen{order}")
    try:
        rows.write_csv(str(path), header=True)
    except duckdb.IOException as error:
        raise DiskError(f"{path} cannot be written: {trouble(error)}") from None


def _cell(column: Column) -> str:
    """SQL of a column as CSV carries it."""
    name = f'chosen."{column.name}"'
    if pa.types.is_string(column.type):
        return f"CASE WHEN regexp_matches({name}, {_RISKY}) THEN '''' || {name} ELSE {name} END"
    if pa.types.is_timestamp(column.type):
        return f"strftime({name} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%gZ')"
    if pa.types.is_nested(column.type):
        return f"to_json({name})::VARCHAR"
    return name
