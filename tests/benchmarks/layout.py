"""How `verdicts` are best laid out: written, read as a whole by pandas, and asked for one message.

    python -m tests.benchmarks.layout --messages 5000000

A day is made and judged; its verdicts are then written in groups of several sizes, and compressed
in several ways, each as the store would write them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq

from reconcile.store import DICTIONARY_WORDS, ROW_GROUP_ROWS
from tests.benchmarks import contest
from tests.benchmarks.harness import machine, python, say

LIMIT = "8GB"
OURS = "ZSTD, COMPRESSION_LEVEL 1"
SIZES = tuple(ROW_GROUP_ROWS * part // 4 for part in (1, 2, 4, 8, 16, 32))
WAYS = (OURS, "ZSTD, COMPRESSION_LEVEL 3", "LZ4_RAW", "SNAPPY", "UNCOMPRESSED")
FEW = ["message_id", "country", "network_code", "verdict", "record_price"]
ASKED = 20


@dataclass(frozen=True)
class Layout:
    """A way to write the table: rows of a group, and how it is compressed, as DuckDB names it."""

    rows: int
    compression: str

    @property
    def is_ours(self) -> bool:
        return (self.rows, self.compression) == (ROW_GROUP_ROWS, OURS)


LAYOUTS = [*(Layout(rows, OURS) for rows in SIZES),
           *(Layout(ROW_GROUP_ROWS, way) for way in WAYS if way != OURS)]  # fmt: skip


def main() -> None:
    """Makes and judges a day, and prints a row for each layout."""
    told = _told()
    print(machine(LIMIT), "\n")
    with tempfile.TemporaryDirectory(dir=told.folder, prefix="layout-") as scratch:
        say(f"making and judging {told.messages:,} messages")
        day = contest.make(Path(scratch, "day"), told.messages)
        python(*day.call("ours.py", LIMIT))
        made = day.folder / "store" / "verdicts" / f"day={day.day}" / "verdicts.parquet"
        print("| rows a group | compression | MB | written, CPU s | by pandas, s | five columns, s "
              "| one message, ms |\n|---:|---|---:|---:|---:|---:|---:|")  # fmt: skip
        for layout, size, taken in measured(made, Path(scratch), told.runs):
            name = f"{layout.compression.lower().replace(', compression_level', '')}"
            cells = [f"{layout.rows:,}", name + (" (ours)" if layout.is_ours else ""), f"{size}",
                     *(f"{taken[what]:.2f}" for what in ("write", "all", "few")),
                     f"{taken['one'] * 1000:.0f}"]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)


def measured(made: Path, folder: Path, runs: int) -> Iterator[tuple[Layout, int, dict[str, float]]]:
    """Of each layout how many MB it takes, and medians of seconds: writing, reading, asking."""
    ids = pq.read_table(made, columns=["message_id"], partitioning=None)["message_id"]
    some = random.Random(1).sample(range(len(ids)), ASKED)
    asked = [ids[place].as_py() for place in some]
    con = duckdb.connect()
    con.execute(f"SET TimeZone = 'UTC'; SET memory_limit = '{LIMIT}'")
    con.execute("SET enable_external_file_cache = false")
    con.execute(f"CREATE TABLE verdicts AS FROM read_parquet('{made}', hive_partitioning = false)")
    taken: dict[Layout, dict[str, list[float]]] = {each: defaultdict(list) for each in LAYOUTS}
    sizes = {}
    path = folder / "verdicts.parquet"
    for run in range(runs):
        for layout, times in taken.items():
            write = partial(_write, con, layout, path)
            times["write"].append(_taken(write, time.process_time))
            sizes[layout] = path.stat().st_size >> 20
            times["all"].append(_taken(lambda: pd.read_parquet(path)))
            times["few"].append(_taken(lambda: pd.read_parquet(path, columns=FEW)))
            times["one"] += [_taken(partial(_ask, con, path, id_)) for id_ in asked]
            say(f"run {run + 1}: {layout}")
    for layout, times in taken.items():
        yield layout, sizes[layout], {what: statistics.median(t) for what, t in times.items()}


def _write(con: duckdb.DuckDBPyConnection, layout: Layout, path: Path) -> None:
    con.execute(
        f"COPY verdicts TO '{path}' (FORMAT parquet, COMPRESSION {layout.compression}, "
        f"ROW_GROUP_SIZE {layout.rows}, DICTIONARY_SIZE_LIMIT {DICTIONARY_WORDS})"
    )


def _ask(con: duckdb.DuckDBPyConnection, path: Path, message_id: str) -> None:
    found = con.execute(f"FROM '{path}' WHERE message_id = ?", [message_id])
    if not found.to_arrow_table().num_rows:
        raise SystemExit(f"{message_id} is not found")


def _taken(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    begun = clock()
    work()
    return clock() - begun


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to make a scratch folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
