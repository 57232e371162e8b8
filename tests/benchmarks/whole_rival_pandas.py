"""The same night in plain pandas: the three programs of the other benchmarks, one after the other.

`records` and `receipts` are published tables, so they are written, and judging reads them again: as
ours does. No staging, contracts, checks, envelopes, identity of captures or ledger; one account.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import archive_program
import archive_rival_pandas
import ingest_program
import ingest_rival_ndjson
import program
import rival_plain_pandas
from whole_program import Task, run


def work(task: Task) -> dict[str, float]:
    """Does all of it; returns the seconds of each part."""
    archive = archive_program.Task(
        task.archive, task.key, task.out, task.day, task.as_of, task.account, ""
    )
    captures = ingest_program.Task(task.captures, task.key, task.out, task.as_of, "")
    day = program.Task(task.out, task.out, task.day, task.as_of, task.account, "")
    return {
        "archive": _seconds(lambda: archive_rival_pandas.read(archive)),
        "captures": _seconds(lambda: ingest_rival_ndjson.take(captures)),
        "judging": _seconds(lambda: rival_plain_pandas.judge(day)),
    }


def _seconds(part: Callable[[], None]) -> float:
    begun = time.perf_counter()
    part()
    return time.perf_counter() - begun


if __name__ == "__main__":
    run(work)
