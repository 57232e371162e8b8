"""The job's own judging of one day, publication, checks and ledger included.

The networks as a whole, which no rival judges, are left out here and timed by `ours_networks.py`.
"""

from __future__ import annotations

import ibis  # noqa: F401 - before the clock starts; the job imports it when it judges
import pyarrow as pa
from program import CURRENCY, Task, run

from reconcile import engine, judging, summarise  # noqa: F401 - likewise
from reconcile.judge import orphans, pair, rules  # noqa: F401 - likewise
from reconcile.settings import Settings
from reconcile.store import Store


def judge(task: Task) -> None:
    """Judges the day in its store, which then holds the five tables."""
    judging._judge_networks = without_networks  # type: ignore[assignment]
    judge_all(task)


def judge_all(task: Task) -> None:
    """The same, and its networks."""
    settings = Settings(store=task.store, currency=CURRENCY, memory_limit=task.memory_limit)
    store = Store.open(settings.store)
    with store.lock():
        con = engine.connect(task.memory_limit, None, store.work / "spill")
        ours = frozenset({task.account})
        with judging.Bench(store, con, store.ledger(), settings, task.as_of, ours) as bench:
            judging.judge_day(bench, task.day, covered=True)
        con.disconnect()


def without_networks(bench: judging.Bench, *_: object) -> list[object]:
    """Judges no networks: what is thought of each is not known."""
    names = ("country", "network_code", "network_verdict")
    bench.put("network_verdicts", pa.table({name: pa.array([], pa.string()) for name in names}))
    return []


if __name__ == "__main__":
    run(judge)
