"""Makes the store that the programs judge: a day of labelled traffic of any size.

    python -m tests.benchmarks.traffic FOLDER 100000000

It is the traffic that `reconcile.sandbox.generate` writes for so many messages, every fault in its
share, chunk by chunk: a chunk becomes rows of `records` and of `receipts` and is added to the files
of the day and of the days of push. No more than some chunks are in memory, whatever the size.
Neither a world nor captures are written between; what the job's own readers would make of them is
the same, row for row (tests/test_benchmark_traffic.py).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from reconcile import border, engine
from reconcile.days import iso
from reconcile.receipts.ingest import _captured_span
from reconcile.sandbox.generate import ACCOUNT, START, Chunk, make, mature_at, plan
from reconcile.settings import Settings
from reconcile.store import ROW_GROUP_ROWS, Staged, Store, proven
from reconcile.tables import RECEIPTS, RECORDS, Table
from tests.benchmarks.crowd import crowd
from tests.benchmarks.growing import Growing
from tests.benchmarks.traffic_contract import Hidden, Rows, Source, file_of, lines_before, rows_of

SEED = 20260105
CHUNK = 2 * ROW_GROUP_ROWS
MEMORY = "500MB"  # for the engine, which only hashes


def prepare(
    folder: Path, messages: int, chunk: int = CHUNK, threads: int = 1, other_days: int = 0
) -> dict[str, object]:
    """Generates one day of messages and fills the store in `folder/store`.

    Args:
        folder: where to.
        messages: how many.
        chunk: how many are made at once.
        threads: how many chunks are made side by side; one more thread writes.
        other_days: of how many days before it there are records, too, and of how many after
            it receipts.
    """
    as_of = mature_at(START, 1)
    key = folder / "pii.key"
    key.write_text("a key for numbers that do not exist\n", "ascii")
    settings = Settings(store=folder / "store", pii_key_file=key)
    store = Store.open(settings.store, create=True)
    con = engine.connect(MEMORY, 1, folder / "spill")
    with store.lock():
        border.set_key(con, settings)
        own = Growing(store.place(RECORDS, START), RECORDS, as_of)
        heard: dict[str, Growing] = {}
        lines: Counter[Source] = Counter()
        for rows in _made(con, messages, chunk, threads, as_of):
            own.add(rows.records)
            receipts = _numbered(rows, lines)
            for day, place in rows.parts.items():
                path = store.place(RECEIPTS, day)
                heard.setdefault(day, Growing(path, RECEIPTS, as_of)).add(receipts[place])
        parts = [(RECORDS, str(START), own), *((RECEIPTS, day, heard[day]) for day in heard)]
        staged = [_staged(con, table, day, file) for table, day, file in parts]
        store.publish(staged)
        others = crowd(store, con, START, other_days, as_of)
        days = sorted({p.day for p in [*staged, *others] if p.table == RECEIPTS.name})
        [receipts] = con.con.execute(
            f"SELECT count(*) FROM ({store.query(RECEIPTS, days)})"
        ).fetchone()
        ledger = store.ledger()
        ledger.receipt_days = {day: _captured_span(store, con, day) for day in days}
        ledger.changed = days
        store.save(ledger)
    con.disconnect()
    shutil.rmtree(store.staging, ignore_errors=True)
    return {
        "day": str(START),
        "as_of": iso(as_of),
        "account": ACCOUNT.api_key,
        "receipts": receipts,
    }


def _made(con: Any, messages: int, chunk: int, threads: int, as_of: datetime) -> Iterator[Rows]:
    """The rows of all chunks, in order; few of them are made ahead."""

    con.con.execute("SET preserve_insertion_order = true")
    hidden = Hidden(con.con)

    def rows(part: Chunk) -> Rows:
        return rows_of(hidden, make(part, messages, SEED), as_of)

    under_way: deque[Future[Rows]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for part in plan(messages, 1, START, chunk):
            under_way.append(pool.submit(rows, part))
            if len(under_way) > threads:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def _numbered(rows: Rows, lines: Counter[Source]) -> pa.Table:
    """A chunk's receipts with their lines behind those that each capture has already."""
    receipts = rows.receipts
    names = receipts["source"].combine_chunks()
    places = {file_of(source): lines[source] + lines_before(source) + 1 for source in rows.sources}
    before = np.array([places[name] for name in names.dictionary.to_pylist()])
    lines.update(rows.sources)
    numbers = receipts["line"].to_numpy() + before[names.indices.to_numpy()]
    return receipts.set_column(RECEIPTS.names.index("line"), "line", pa.array(numbers))


def _staged(con: Any, table: Table, day: str, file: Growing) -> Staged:
    path = file.close()
    return Staged(table.name, day, path, proven(con, path, table))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("messages", type=int)
    parser.add_argument("--threads", type=int, default=min(os.cpu_count() or 1, 2))
    parser.add_argument("--other-days", type=int, default=0, help="also around it")
    asked = parser.parse_args()
    begun = time.perf_counter()
    told = prepare(asked.folder, asked.messages, threads=asked.threads, other_days=asked.other_days)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    took = {"seconds": time.perf_counter() - begun, "peak_mb": peak_kb / 1024}
    print(json.dumps(told | took))
