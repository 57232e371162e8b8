"""What the job does with a report: the archive to a raw slice, and that into a fresh store."""

from __future__ import annotations

import ibis.backends.duckdb  # noqa: F401 - before the clock starts; the job opens an engine anyway
from archive_program import Task, run

from reconcile import border, engine
from reconcile.days import day_window
from reconcile.reports import keep, raw
from reconcile.settings import Settings
from reconcile.store import Store


def read(task: Task) -> None:
    """Takes the archive in; the store's file of records is the result."""
    store = Store.open(task.out, create=True)
    with store.lock():
        taken = raw.write_archive(task.archive, store.work / "raw.parquet")
        con = engine.connect(task.memory_limit, None, store.work / "spill")
        border.set_key(con, Settings(store=task.out, pii_key_file=task.key))
        window = day_window(task.day)
        part = keep.Part(taken.path, "SMS", task.account, window, task.as_of, "reports:SMS")
        rejects = keep.publish(store, con, task.day, [part], task.as_of, "hash")
        con.disconnect()
    assert rejects == [0]


if __name__ == "__main__":
    run(read)
