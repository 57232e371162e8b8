"""The core's expressions give the same rows on DuckDB and on Spark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import judge_support as core
import pyarrow.parquet as pq
import pytest
from random_traffic import Traffic
from test_rules import LINES, all_messages

from reconcile.tables import RECEIPTS, RECORDS
from tests.judged_traffic import taken_in
from tests.spark_agreement import Case, compare, duckdb, spark

pytest.importorskip("pyspark", reason="pyspark is not installed: pip install -e '.[spark]'")

pytestmark = [
    pytest.mark.skipif(not shutil.which("java"), reason="Spark needs a Java runtime (17 or later)"),
    # Of Spark's Python side, none of our own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:pyspark.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:pyspark.*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
# For few rows: what Spark compiles and plans takes longer than what it then does.
QUICK = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}
MESSAGES = 3000


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    ours, theirs = duckdb(tmp_path / "spill"), spark(tmp_path / "spark", **QUICK)
    yield ours, theirs
    ours.disconnect()
    theirs.disconnect()


# One test, and one judging: Spark takes its time to start, and each worker would start its own.
@pytest.mark.slow
def test_engines_agree(engines: tuple[Any, Any], tmp_path: Path) -> None:
    """Truth tables, random messages around every threshold, and traffic as the job takes it in."""
    records, receipts, _ = all_messages(several_owners=True)
    traffic = Traffic(8, 2000)
    for row in traffic.receipts[::100]:
        row["message_id"] = f"0{row['message_id']}"
    taken_in(tmp_path, messages=MESSAGES, days=2, seed=8)
    for table, rows in (
        (RECORDS, records + traffic.records), (RECEIPTS, receipts + traffic.receipts),
    ):  # fmt: skip
        beside = tmp_path / "store" / table.name / "day=others"
        beside.mkdir()
        pq.write_table(core.arrow(table, rows), beside / "part.parquet")
    files = [f"{tmp_path}/store/{table.name}/*/*.parquet" for table in (RECORDS, RECEIPTS)]
    case = Case("all", *files, core.LIMITS, several_owners=True, accounts=frozenset({"a1", "a2"}))
    messages, orphans, slices = compare(case, *engines)
    for found in (messages, orphans, slices):
        assert not found.differ, "\n".join(found.examples)
    assert messages.rows > len(LINES) + 2000 + MESSAGES
    assert orphans.rows > 20
    assert slices.rows > 50
