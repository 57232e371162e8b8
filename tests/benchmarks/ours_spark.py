"""The job's own judging of one day on a Spark cluster: a master and two workers of this machine.

The clock starts when the session is up. The cluster's processes are of this one's session, so they
are counted and ended with it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ibis  # noqa: F401 - before the clock starts; the job imports it when it judges
from ours import without_networks
from program import CURRENCY, Task, tell, told

from reconcile import engine, judging, summarise  # noqa: F401 - likewise
from reconcile.cluster.bench import ClusterBench
from reconcile.judge import orphans, pair, rules  # noqa: F401 - likewise
from reconcile.settings import Settings
from reconcile.store import LEDGER, Store
from tests import rig_spark


@contextmanager
def bench(task: Task, scratch: Path) -> Iterator[ClusterBench]:
    """What judging works with: a cluster that was asked something already, and a store in
    `task.out`, into which the day is published."""
    with rig_spark.running(scratch / "cluster") as cluster:
        os.environ.update(cluster.environment)
        settings = Settings(
            store=task.out, currency=CURRENCY, memory_limit=task.memory_limit, engine="spark",
            spark=cluster.url,
        )  # fmt: skip
        store = _filled(task)
        with store.lock():
            con = engine.connect(task.memory_limit, None, store.work / "spill")
            ours = frozenset({task.account})
            with ClusterBench(store, con, store.ledger(), settings, task.as_of, ours) as there:
                yield there
            con.disconnect()


def _filled(task: Task) -> Store:
    """A store of its own with the day's records and receipts, which are the same files."""
    store = Store.open(task.out, create=True)
    for name in ("records", "receipts"):
        if not (task.out / name).exists():
            shutil.copytree(task.store / name, task.out / name, copy_function=os.link)
    if not (task.out / LEDGER).exists():
        shutil.copy(task.store / LEDGER, task.out)
    return store


if __name__ == "__main__":
    judging._judge_networks = without_networks  # type: ignore[assignment]
    task = told()
    with (
        tempfile.TemporaryDirectory(dir=task.out.parent, prefix="cluster-") as scratch,
        bench(task, Path(scratch)) as there,
    ):
        begun = time.perf_counter()
        judging.judge_day(there, task.day, covered=True)
        seconds = time.perf_counter() - begun
    tell(seconds)
