"""The least that any judging must do: read its columns, and count the bare join on message_id.

No receipt is reduced, nothing is judged, sorted or written.
"""

from __future__ import annotations

import duckdb
import program
from program import Task

# What judging reads of each, besides the message_id.
RECORDS = (
    "product", "account_id", "client_ref", "sender", "sender_used", "recipient", "country",
    "country_name", "network_code", "network_name", "received_at", "finalized_at", "latency_ms",
    "status", "error_code", "price", "currency", "validity_ms", "fetched_at",
)  # fmt: skip
RECEIPTS = (
    "account_id", "product", "client_ref", "sender", "recipient", "network_code", "status",
    "error_code", "price", "pushed_at", "scts", "captured_at", "source", "line", "signature",
)  # fmt: skip


def judge(task: Task) -> None:
    """Reads and counts; the one number goes into a file."""
    con = duckdb.connect()
    con.execute(f"SET memory_limit = '{task.memory_limit}'")
    con.execute(f"SET temp_directory = '{task.out / 'spill'}'")
    con.execute("SET preserve_insertion_order = false")
    for name, files in (("records", task.records()), ("receipts", task.receipts_in_reach())):
        paths = [str(file) for file in files]
        con.execute(f"CREATE VIEW {name} AS FROM read_parquet({paths}, hive_partitioning = false)")
    for name, columns in (("records", RECORDS), ("receipts", RECEIPTS)):
        con.execute(f"SELECT {', '.join(f'count({c})' for c in columns)} FROM {name}").fetchall()
    joined = "SELECT count(*) AS pairs FROM records JOIN receipts USING (message_id)"
    con.execute(f"COPY ({joined}) TO '{task.target('pairs')}' (FORMAT parquet)")


if __name__ == "__main__":
    program.run(judge)
