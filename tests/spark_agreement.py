"""DuckDB and Spark agree: both run the core's own expressions over the same rows.

    python -m tests.spark_agreement --messages 200000 --seed 1

Traffic with every fault in it is fetched and ingested as the job does it. Both engines judge it as
it was known on its last evening, and when all of it was over, by both ways through the core, and
find the receipts that join nothing; all columns of all rows are compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa

from reconcile import engine
from reconcile.cluster.dialect import spark_sql
from reconcile.days import end_of, iso
from reconcile.judge import concentration, orphans, pair, rules
from reconcile.sandbox.generate import ACCOUNT, START
from reconcile.tables import RECEIPTS, RECORDS, Table
from tests.judged_traffic import taken_in

SHOWN = 5
CAMPAIGN = "^(?P<campaign>[a-z]+)-"


@dataclass(frozen=True)
class Case:
    """What is judged, and how; `records` and `receipts` are parquet files, or globs of them."""

    name: str
    records: str
    receipts: str
    limits: rules.Limits
    several_owners: bool
    accounts: frozenset[str] = frozenset()


@dataclass
class Compared:
    """What came out of both engines: rows that only one of them has, and some of these rows."""

    name: str
    rows: int
    only_duckdb: int
    only_spark: int
    examples: list[str] = field(default_factory=list)

    @property
    def differ(self) -> int:
        return self.only_duckdb + self.only_spark


def spark(folder: Path, **more: str) -> Any:
    """Spark on this machine alone, as an engine of Ibis that knows the core's one foreign word."""
    from pyspark.sql import SparkSession

    options = {
        "spark.driver.memory": "2g",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.local.dir": str(folder),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        "spark.sql.shuffle.partitions": "2",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        **more,
    }
    builder = SparkSession.builder.master("local[2]").appName("judging")
    for name, value in options.items():
        builder = builder.config(name, value)
    con = ibis.pyspark.connect(builder.getOrCreate())
    con.raw_sql(
        "CREATE OR REPLACE TEMPORARY FUNCTION epoch_ms(moment TIMESTAMP) RETURNS BIGINT "
        "RETURN unix_millis(moment)"
    )
    return con


def duckdb(folder: Path) -> Any:
    """The job's own engine."""
    return engine.connect(engine.half_of_memory(), 2, folder)


def compare(case: Case, ours: Any, theirs: Any) -> list[Compared]:
    """Judges a case on DuckDB (`ours`) and on Spark: judged messages, orphans, and where verdicts
    may concentrate."""
    found = []
    for name in ("messages", "orphans", "slices"):
        one, other = (_rows(con, case, name) for con in (ours, theirs))
        found.append(_difference(ours.con, f"{case.name}: {name}", one, other))
    return found


def _rows(con: Any, case: Case, name: str) -> pa.Table:
    """All columns of the judged messages, of the orphans, or of the day's slices."""
    records = _read(con, RECORDS, case.records)
    receipts = _read(con, RECEIPTS, case.receipts)
    scope = pair.Scope(case.limits.as_of, case.several_owners)
    if name in ("messages", "slices"):
        expression = rules.judge(pair.pair(records, receipts, scope), case.limits)
    else:
        lone = orphans.unjoined(receipts, records, scope)
        covered = ibis.memtable([(True,)], schema={"is_covered": "boolean"})
        expression = orphans.orphans(lone, records, covered, case.accounts, scope)
    con.create_view("found", expression, overwrite=True)
    if name == "slices":
        slices = concentration.slices(con.table("found"), CAMPAIGN)
        if con.name != "duckdb":
            return con.raw_sql(spark_sql(slices)).toArrow()  # its pattern is to be Java's
        return con.to_pyarrow(slices)
    if con.name == "duckdb":
        return con.con.execute("FROM found").to_arrow_table()
    return con.raw_sql("SELECT * FROM found").toArrow()


def _read(con: Any, table: Table, files: str) -> ibis.Table:
    """Parquet files as a table with the contract's columns."""
    if con.name == "duckdb":
        con.con.execute(
            f"CREATE OR REPLACE VIEW {table.name} AS SELECT {', '.join(table.names)} "
            f"FROM read_parquet({engine.quote(files)}, hive_partitioning = false)"
        )
        return con.table(table.name)
    return con.read_parquet(files, table_name=table.name).select(table.names)


def _difference(con: Any, name: str, ours: pa.Table, theirs: pa.Table) -> Compared:
    """Compares two lots of rows in any order, each as often as it is there."""
    assert ours.column_names == theirs.column_names
    con.register("ours", ours)
    con.register("theirs", theirs.cast(ours.schema))  # Spark's lists call their elements otherwise
    apart = [("ours", "theirs"), ("theirs", "ours")]
    lots = [f"(FROM {one} EXCEPT ALL FROM {other})" for one, other in apart]
    counts = [con.execute(f"SELECT count(*) FROM {lot}").fetchone()[0] for lot in lots]
    rows = [con.execute(f"FROM {lot} ORDER BY ALL LIMIT {SHOWN}").to_arrow_table() for lot in lots]
    con.unregister("ours")
    con.unregister("theirs")
    return Compared(name, ours.num_rows, *counts, _told(*(table.to_pylist() for table in rows)))


def _told(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    """Rows of one engine beside those of the other, in their order: only what differs."""
    told = []
    for one, other in zip_longest(ours, theirs, fillvalue={}):
        apart = {n: (one.get(n), other.get(n)) for n in one | other if one.get(n) != other.get(n)}
        told.append(f"{next(iter((one or other).values()))}: DuckDB and Spark say {apart}")
    return told


def cases(folder: Path, *, messages: int, days: int, seed: int) -> list[Case]:
    """Traffic as it was known on its last evening, and when all was over; by both ways."""
    made = taken_in(folder, messages=messages, days=days, seed=seed)
    evening = end_of(START + timedelta(days=days - 1)) - timedelta(hours=3)
    files = [f"{folder}/store/{table.name}/*/*.parquet" for table in (RECORDS, RECEIPTS)]
    ours = frozenset({ACCOUNT.api_key})
    return [
        Case(f"as of {iso(as_of)}, ids {'may be' if several else 'not'} shared", *files,
             limits_at(as_of), several, ours)
        for as_of in (evening, made.mature_at)
        for several in (False, True)
    ]  # fmt: skip


def limits_at(as_of: datetime) -> rules.Limits:
    """The settings as they come."""
    hours = timedelta(hours=1)
    return rules.Limits(as_of, 72 * hours, 24 * hours, timedelta(milliseconds=800))


def main(messages: int, days: int, seed: int) -> int:
    """Compares, and prints what was compared; 1 where anything differs."""
    differ = 0
    with tempfile.TemporaryDirectory(prefix="agreement-") as scratch:
        folder = Path(scratch)
        given = cases(folder, messages=messages, days=days, seed=seed)
        ours, theirs = duckdb(folder / "spill"), spark(folder / "spark")
        for case in given:
            began = time.monotonic()
            for found in compare(case, ours, theirs):
                print(f"{found.name}: {found.rows} rows, {found.only_duckdb} only DuckDB's, "
                      f"{found.only_spark} only Spark's")  # fmt: skip
                print(*found.examples, sep="\n", end="\n" if found.examples else "")
                differ += found.differ
            print(f"  {time.monotonic() - began:.0f} s", flush=True)
        theirs.disconnect()
    print("DuckDB and Spark agree row for row" if not differ else f"{differ} rows differ")
    return 1 if differ else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--days", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    sys.exit(main(**vars(parser.parse_args())))
