"""The job's own judging of one day, publication, checks and ledger included."""

from __future__ import annotations

import ibis  # noqa: F401 - before the clock starts; the job imports it when it judges
from program import CURRENCY, Task, run

from reconcile import engine, judging, summarise  # noqa: F401 - likewise
from reconcile.judge import orphans, pair, rules  # noqa: F401 - likewise
from reconcile.settings import Settings
from reconcile.store import Store


def judge(task: Task) -> None:
    """Judges the day in its store, which then holds the five tables."""
    settings = Settings(store=task.store, currency=CURRENCY, memory_limit=task.memory_limit)
    store = Store.open(settings.store)
    with store.lock():
        con = engine.connect(task.memory_limit, None, store.work / "spill")
        ours = frozenset({task.account})
        with judging.Bench(store, con, store.ledger(), settings, task.as_of, ours) as bench:
            judging.judge_day(bench, task.day, covered=True)
        con.disconnect()


if __name__ == "__main__":
    run(judge)
