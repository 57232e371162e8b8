"""Whether two programs made the same records of the archive: the same columns, rows and types."""

from __future__ import annotations

import argparse
from pathlib import Path

import duckdb


def differences(ours: Path, theirs: Path) -> list[str]:
    """One line a difference; none where both files hold the same, in whatever order."""
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET memory_limit = '3GB'")
    files = [f"read_parquet('{path}', hive_partitioning = false)" for path in (ours, theirs)]
    shapes = [[row[:2] for row in con.execute(f"DESCRIBE FROM {f}").fetchall()] for f in files]
    if shapes[0] != shapes[1]:
        return [f"columns: {set(shapes[0]) ^ set(shapes[1])}"]
    found = []
    for words, left, right in (("only ours", *files), ("only theirs", *reversed(files))):
        rows = f"FROM {left} EXCEPT ALL FROM {right} LIMIT 3"
        told = con.execute(f"SELECT x::VARCHAR FROM ({rows}) AS x").fetchall()
        found += [f"{words}: {row[0]}" for row in told]
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    told = parser.parse_args()
    for difference in differences(told.ours, told.theirs):
        print(difference)
