"""A whole judging on DuckDB and on a Spark cluster of two workers: every table is compared.

    python -m tests.spark_cluster --messages 2000000 --kill

Traffic with every fault in it is fetched and ingested by the job's own commands, and judged as it
was known in the night after it. Then `reconcile judge` judges it when all of it is over: on DuckDB,
and on the cluster, of which `--kill` loses a worker while it writes; `--connect` goes through a
Spark Connect server.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from reconcile.days import DAY, end_of, iso
from reconcile.sandbox.generate import START
from reconcile.store import Store
from reconcile.tables import TABLES
from tests import rig_spark
from tests.judged_traffic import taken_in
from tests.rig_spark import Cluster

MADE = ("verdicts", "orphans", "summary", "reasons", "error_codes", "campaigns", "changes",
        "unrecorded", "networks", "concentrations")  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A table in two stores: its rows, in how many files, and those that only one store has."""

    table: str
    rows: int
    files: int
    only_ours: int
    only_theirs: int

    @property
    def differ(self) -> int:
        return self.only_ours + self.only_theirs


def compare(ours: Store, theirs: Store) -> list[Compared]:
    """Compares all that judging publishes, row for row, each as often as it is there."""
    con, found = duckdb.connect(), []
    con.execute("SET TimeZone = 'UTC'")
    for table in TABLES:
        if table.name not in MADE:
            continue
        days = sorted({*ours.days(table), *theirs.days(table)})
        one, other = (f"(FROM ({store.query(table, days)}))" for store in (ours, theirs))
        counts = [
            con.execute(f"SELECT count(*) FROM ({query})").fetchone()[0]
            for query in (one, f"{one} EXCEPT ALL {other}", f"{other} EXCEPT ALL {one}")
        ]
        files = len(theirs.files(table, *days))
        found.append(Compared(table.name, counts[0], files, *counts[1:]))
    return found


def judge(root: Path, as_of: datetime, *flags: str, env: dict[str, str] | None = None) -> float:
    """`reconcile judge` of all open days of a store; how many seconds it took."""
    began = time.monotonic()
    command = [sys.executable, "-m", "reconcile.cli", "judge", "--store", str(root)]
    told = subprocess.run(
        [*command, "--as-of", iso(as_of), *flags], env=plain() | (env or {}),
        capture_output=True, text=True,
    )  # fmt: skip
    if told.returncode not in (0, 3):  # 3: a day is incomplete, of whatever engine
        raise RuntimeError(f"judging failed: {told.stderr}")
    return time.monotonic() - began


def plain() -> dict[str, str]:
    """The environment without settings and secrets."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}


@contextmanager
def losing_a_worker(cluster: Cluster, root: Path) -> Iterator[list[str]]:
    """Kills a worker once the cluster writes a partition; yields what was seen of it."""
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            folders = list((root / ".work" / "staging").glob("parts-*"))
            if folders:
                time.sleep(0.5)  # its tasks are under way
                cluster.kill_worker()
                seen.append(folders[0].name)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def main(messages: int, days: int, seed: int, *, kill: bool, connect: bool) -> int:
    """Compares, and prints what was compared; 1 where anything differs."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as scratch, ExitStack() as stack:
        folder = Path(scratch)
        made = taken_in(folder, messages=messages, days=days, seed=seed)
        night = end_of(START + (days - 1) * DAY) + timedelta(hours=2)
        flags = ["--pii", "keep", "--memory-limit", "2GB", "--campaign", "(?P<campaign>[a-z]+)"]
        ours, theirs = folder / "store", folder / "theirs"
        judge(ours, night, *flags)
        shutil.copytree(ours, theirs)
        seconds = judge(ours, made.mature_at, *flags)
        print(f"{messages} messages of {days} days on DuckDB: {seconds:.0f} s", flush=True)
        cluster = stack.enter_context(rig_spark.running(folder / "cluster"))
        url = cluster.url
        if connect:
            _, url = stack.enter_context(rig_spark.connect_server(cluster))
        with ExitStack() as while_judging:
            lost = while_judging.enter_context(losing_a_worker(cluster, theirs)) if kill else []
            seconds = judge(theirs, made.mature_at, *flags, "--engine", "spark", "--spark", url,
                            env=cluster.environment)  # fmt: skip
        how = "through Connect " if connect else ""
        also = ", one of them killed in the middle" if lost else ""
        print(f"on two workers {how}of one core each{also}: {seconds:.0f} s", flush=True)
        found = compare(Store.open(ours), Store.open(theirs))
    for each in found:
        print(f"{each.table}: {each.rows} rows in {each.files} files, {each.differ} differ")
    differ = sum(each.differ for each in found)
    print(f"{differ} rows differ" if differ else "all tables are equal, row for row")
    return 1 if differ or (kill and not lost) else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kill", action="store_true", help="lose a worker in the middle")
    parser.add_argument("--connect", action="store_true", help="go through Spark Connect")
    sys.exit(main(**vars(parser.parse_args())))
