"""What datacompy says of the same day: records against receipts, by message_id, as a report.

What one writes who reaches for it: the columns that both sides have, its comparison of polars
frames (the faster one), its report. It runs in an environment of its own, whose pins are its own.
"""

from __future__ import annotations

import polars as pl
import program
from datacompy.polars import PolarsCompare
from program import Task

COLUMNS = ["message_id", "status", "error_code", "price"]


def judge(task: Task) -> None:
    """Compares, and writes the report."""
    records = pl.read_parquet(task.records(), columns=COLUMNS, hive_partitioning=False)
    receipts = pl.read_parquet(task.receipts_in_reach(), columns=COLUMNS, hive_partitioning=False)
    compared = PolarsCompare(
        records, receipts, join_columns="message_id", df1_name="records", df2_name="receipts"
    )
    task.out.mkdir(parents=True, exist_ok=True)
    (task.out / "report.txt").write_text(compared.report(), "utf-8")


if __name__ == "__main__":
    program.run(judge)
