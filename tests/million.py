"""Every verdict of a million messages against a slow and independent judge.

    python -m tests.million --messages 1000000

Traffic with every fault in it is fetched and ingested by the job's own commands. Each of its days
is judged and published twice, as it was known on its last evening and when all of it was over; the
reference judge reads the same records and receipts, one message at a time, and every verdict and
list of reasons is compared.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import duckdb

from reconcile import engine, judging
from reconcile.days import DAY, end_of, iso
from reconcile.judge.rules import OUTAGE
from reconcile.sandbox.generate import ACCOUNT, START
from reconcile.settings import Settings
from reconcile.store import Store, parquet_query
from reconcile.tables import RECEIPTS, RECORDS, VERDICTS
from tests.judged_traffic import taken_in
from tests.reference_judge import judge_all

Row = dict[str, Any]
BATCH = 10_000
SHOWN = 5


def compare(store: Store, con: Any, days: Iterable[date], as_of: datetime) -> Counter[str]:
    """Judges days as of a moment; counts verdicts and, as `differ`, what the reference denies."""
    counts: Counter[str] = Counter()
    ours = frozenset({ACCOUNT.api_key})
    with judging.Bench(store, con, store.ledger(), Settings(), as_of, ours) as bench:
        for day in days:
            counts["days"] += 1
            judging.judge_day(bench, day, covered=True)
            for message_id, *rows in _messages(store, day):
                _compare(message_id, *rows, as_of, counts)
    return counts


def _compare(
    message_id: str, records: list[Row], receipts: list[Row], verdicts: list[Row],
    as_of: datetime, counts: Counter[str],
) -> None:  # fmt: skip
    wanted = judge_all(records, receipts, as_of)
    found = {(r["message_id"], r["account_id"], r["product"]): _said(r) for r in verdicts}
    counts["messages"] += len(found)
    counts.update(verdict for verdict, _ in found.values())
    for key in wanted.keys() | found.keys():
        if found.get(key) != wanted.get(key):
            counts["differ"] += 1
            if counts["differ"] <= SHOWN:
                print(f"{message_id}: {found.get(key)}, the reference says {wanted.get(key)}")
                for row in (*records, *receipts):
                    print("  ", {name: str(v) for name, v in row.items() if v is not None})


def _said(row: Row) -> tuple[str, list[str]]:
    """Verdict and reasons; an outage takes many messages to see, and one says `lost_webhook`."""
    return row["verdict"], [r if r != OUTAGE.name else "lost_webhook" for r in row["reasons"]]


def _messages(store: Store, day: date) -> Iterator[tuple[str, list[Row], list[Row], list[Row]]]:
    """Each message id of a day, its records, receipts and verdicts, in step and in little memory.

    Receipts of ids that no record of this day has are passed over.
    """
    con = duckdb.connect()
    con.execute(f"SET TimeZone = 'UTC'; SET temp_directory = '{store.work}'; SET threads = 2")
    con.execute(f"CREATE VIEW records AS {store.query(RECORDS, [day])}")
    con.execute(f"CREATE VIEW receipts AS {store.query(RECEIPTS, store.days(RECEIPTS))}")
    con.execute(f"CREATE VIEW verdicts AS {parquet_query(VERDICTS, [store.path(VERDICTS, day)])}")
    theirs = "SELECT * FROM receipts SEMI JOIN records USING (message_id)"
    lots = [_grouped(con, query) for query in ("FROM records", theirs, "FROM verdicts")]
    nothing: tuple[str, list[Row]] = ("", [])
    heads = [next(lot, nothing) for lot in lots]
    while message_id := min((name for name, rows in heads if rows), default=""):
        yield (message_id, *(rows if name == message_id else [] for name, rows in heads))  # type: ignore[misc]
        heads = [
            next(lot, nothing) if head[0] == message_id else head
            for lot, head in zip(lots, heads, strict=True)
        ]
    con.close()


def _grouped(con: Any, query: str) -> Iterator[tuple[str, list[Row]]]:
    """The rows of a query, all of one message id together, in the order of ids."""
    reader = con.cursor().execute(f"{query} ORDER BY message_id").to_arrow_reader(BATCH)
    rows = itertools.chain.from_iterable(batch.to_pylist() for batch in reader)
    for message_id, group in itertools.groupby(rows, itemgetter("message_id")):
        yield message_id, list(group)


def main(messages: int, days: int, seed: int) -> int:
    """Compares, and prints what was compared; 1 where anything differs."""
    differ = 0
    with tempfile.TemporaryDirectory(prefix="million-") as scratch:
        folder = Path(scratch)
        made = taken_in(folder, messages=messages, days=days, seed=seed)
        print(f"{messages} messages of {days} days, {made.receipts} receipts", flush=True)
        store = Store.open(folder / "store")
        con = engine.connect("2GiB", 2, folder / "spill")
        all_days = [START + n * DAY for n in range(days)]
        evening = end_of(all_days[-1]) - timedelta(hours=3)
        for as_of in (evening, made.mature_at):
            began = time.monotonic()
            counts = compare(store, con, all_days, as_of)
            differ += counts["differ"]
            told = ", ".join(f"{name} {n}" for name, n in sorted(counts.items()))
            print(f"as of {iso(as_of)}: {told}; {time.monotonic() - began:.0f} s", flush=True)
    print(f"{differ} verdicts differ from the reference" if differ else "every verdict is the same")
    return 1 if differ else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(**vars(parser.parse_args())))
