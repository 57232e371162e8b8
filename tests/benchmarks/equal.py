"""Whether two programs wrote the same five tables: row for row, rates within 1e-12.

Percentiles are interpolated and then rounded to a millisecond: where it is half of one, engines
that interpolate by another formula fall to either side, so they may be 1 ms apart.
"""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path

import duckdb
from program import TABLES

from reconcile.store import Store
from reconcile.tables import BY_NAME, Table

SHARES_APART, MS_APART = 1e-12, 1
SPAN = 2_000_000


def differences(ours: Path, theirs: Path, day: date) -> list[str]:
    """One line a difference; none where all tables are the same."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    return [
        line
        for name in TABLES
        for line in _table_differences(con, BY_NAME[name], _rows(ours, name, day),
                                       _rows(theirs, name, day))
    ]  # fmt: skip


def _table_differences(
    con: duckdb.DuckDBPyConnection, table: Table, ours: str, theirs: str
) -> list[str]:
    found = []
    types = [con.execute(f"DESCRIBE FROM {side}").fetchall() for side in (ours, theirs)]
    shapes = [[(row[0], row[1]) for row in side] for side in types]
    if shapes[0] != shapes[1]:
        return [f"{table.name}: columns {set(shapes[0]) ^ set(shapes[1])}"]
    close = {name: SHARES_APART for name, kind in shapes[0] if kind == "DOUBLE"}
    close |= {name: MS_APART for name, _ in shapes[0] if name.startswith("latency_p")}
    exact = ", ".join(f'"{name}"' for name, _ in shapes[0] if name not in close)
    for span in _spans(con, table, ours):
        for words, left, right in (("only ours", ours, theirs), ("only theirs", theirs, ours)):
            rows = (
                f"SELECT {exact} FROM {left} WHERE {span} "
                f"EXCEPT ALL SELECT {exact} FROM {right} WHERE {span}"
            )
            for row in con.execute(f"SELECT x::VARCHAR FROM ({rows} LIMIT 3) AS x").fetchall():
                found.append(f"{table.name}, {words}: {row[0]}")
    if close and not found:
        apart = " OR ".join(
            f"(a.{name} IS NULL) <> (b.{name} IS NULL) OR abs(a.{name} - b.{name}) > {most}"
            for name, most in close.items()
        )
        joined = f"{ours} a JOIN {theirs} b USING ({', '.join(table.key)})"
        rows = f"SELECT a::VARCHAR, b::VARCHAR FROM {joined}"
        for row in con.execute(f"{rows} WHERE {apart} LIMIT 3").fetchall():
            found.append(f"{table.name}, numbers apart: {row}")
    if table.name == "verdicts" and not found:
        for side in (ours, theirs):
            order = f"SELECT message_id < lag(message_id) OVER () AS falls FROM {side}"
            falls = con.execute(f"SELECT count(*) FROM ({order}) WHERE falls").fetchone()
            if falls != (0,):
                found.append(f"verdicts: {side} is not sorted by message_id")
    return found


def _spans(con: duckdb.DuckDBPyConnection, table: Table, ours: str) -> list[str]:
    """Conditions of which each row keeps exactly one: all rows at once need too much memory."""
    if table.name != "verdicts":
        return ["true"]
    counted = f"SELECT message_id, row_number() OVER () AS n FROM {ours}"
    rows = con.execute(f"SELECT message_id FROM ({counted}) WHERE n % {SPAN} = 0").fetchall()
    ids = sorted({row[0] for row in rows})
    starts = [*(f"message_id >= '{one}'" for one in ids)]
    ends = [*(f"message_id < '{one}'" for one in ids)]
    return [f"{a} AND {b}" for a, b in zip(["true", *starts], [*ends, "true"], strict=True)]


def _rows(folder: Path, name: str, day: date) -> str:
    """A day's rows, whether they are in one file or in several."""
    files = Store(folder).files(BY_NAME[name], day) or [folder / name / f"day={day} is not there"]
    return f"read_parquet({[str(file) for file in files]})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    parser.add_argument("--day", type=date.fromisoformat, required=True)
    told = parser.parse_args()
    for difference in differences(told.ours, told.theirs, told.day):
        print(difference)
