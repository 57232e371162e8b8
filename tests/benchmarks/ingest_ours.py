"""What the job does with captures: into a store, fresh or with what a run before left in it."""

from __future__ import annotations

import ibis.backends.duckdb  # noqa: F401 - before the clock starts; the job opens an engine anyway
from ingest_program import Task, run

from reconcile import border, engine
from reconcile.receipts import ingest
from reconcile.receipts.intake import COUNTED, Wishes
from reconcile.settings import Settings
from reconcile.store import Store


def take(task: Task) -> dict[str, int]:
    """Takes captures in; says how many lines it read, and what became of them."""
    store = Store.open(task.out, create=True)
    with store.lock():
        con = engine.connect(task.memory_limit, None, store.work / "spill")
        border.set_key(con, Settings(store=task.out, pii_key_file=task.key))
        files, nothing = ingest.find([str(task.captures)])
        taken = ingest.ingest(
            store, con, store.ledger(), files, [], task.as_of, Wishes("hash"), lambda *_: None
        )
        con.disconnect()
    assert not nothing
    assert not taken.problems, taken.problems
    return {name: sum(getattr(c, name) for c in taken.captures) for name in COUNTED}


if __name__ == "__main__":
    run(take)
