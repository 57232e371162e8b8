"""Whether two programs made the same tables of a capture: partitions, columns, types and rows."""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from reconcile.tables import RECEIPTS, REJECTS


def differences(ours: Path, theirs: Path) -> list[str]:
    """One line a difference; none where both hold the same rows, rejects in the order of lines."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET memory_limit = '3GB'")
    con.execute(f"SET temp_directory = '{ours.parent / 'spill'}'")
    found = []
    for table in (RECEIPTS.name, REJECTS.name):
        files = [sorted(p.relative_to(f) for p in f.glob(f"{table}/*/*")) for f in (ours, theirs)]
        if files[0] != files[1]:
            found.append(f"partitions: {set(files[0]) ^ set(files[1])}")
        for file in set(files[0]) & set(files[1]):
            told = _of_file(con, ours / file, theirs / file)
            if table == REJECTS.name:
                told += _unsorted(con, ours / file, theirs / file)
            found += [f"{file}: {difference}" for difference in told]
    return found


def _of_file(con: duckdb.DuckDBPyConnection, *paths: Path) -> list[str]:
    shapes = [[(f.name, f.type) for f in pq.read_schema(path)] for path in paths]
    if shapes[0] != shapes[1]:
        return [f"columns: {set(shapes[0]) ^ set(shapes[1])}"]
    files = [f"read_parquet('{path}', hive_partitioning = false)" for path in paths]
    found = []
    for words, left, right in (("only ours", *files), ("only theirs", *reversed(files))):
        rows = f"FROM {left} EXCEPT ALL FROM {right} LIMIT 3"
        told = con.execute(f"SELECT x::VARCHAR FROM ({rows}) AS x").fetchall()
        found += [f"{words}: {row[0]}" for row in told]
    return found


def _unsorted(con: duckdb.DuckDBPyConnection, *paths: Path) -> list[str]:
    found = []
    for whose, path in zip(("ours", "theirs"), paths, strict=True):
        falls = (f"SELECT (source, line) < lag((source, line)) OVER () AS falls "
                 f"FROM read_parquet('{path}', hive_partitioning = false)")  # fmt: skip
        if con.execute(f"SELECT count(*) FROM ({falls}) WHERE falls").fetchone() != (0,):
            found.append(f"{whose} is not sorted")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    told = parser.parse_args()
    for difference in differences(told.ours, told.theirs):
        print(difference)
