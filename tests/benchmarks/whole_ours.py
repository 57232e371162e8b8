"""The job's own night, offline: a report's archive, captures, judging, publication, manifest.

These are the calls of `fetch --archive`, `ingest` and `judge`, in one run as `reconcile run` makes
them: captures are taken in beside the records. The networks as a whole, which the rival does not
judge, are left out here and timed by `whole_ours_networks.py`.
"""

from __future__ import annotations

import ibis.backends.duckdb  # noqa: F401 - before the clock starts; the job opens an engine anyway
import pandas as pd  # noqa: F401 - likewise: for the networks
from ours import without_networks
from program import CURRENCY
from whole_program import Task, run

from reconcile import importing, job, judging, summarise  # noqa: F401 - likewise
from reconcile.judge import orphans, pair, rules  # noqa: F401 - likewise
from reconcile.meanwhile import meanwhile
from reconcile.receipts import ingest  # noqa: F401 - likewise
from reconcile.run import Run, stage
from reconcile.settings import Settings


def work(task: Task) -> dict[str, float]:
    """Does all of it, without the networks."""
    judging._judge_networks = without_networks  # type: ignore[assignment]
    return work_all(task)


def work_all(task: Task) -> dict[str, float]:
    """The same, and the day's networks; returns the manifest's seconds."""
    settings = Settings(
        store=task.out, pii_key_file=task.key, currency=CURRENCY, memory_limit=task.memory_limit
    )
    with job.opened(settings, task.as_of, lambda *_: None) as this:

        def captures(own: Run) -> bool:
            with stage(own, "captures"):
                return job.ingest(own, [str(task.captures)])

        with meanwhile(this, captures) as heard:
            with stage(this, "archive"):
                importing.take_in(this, task.archive)
            assert heard()
        with stage(this, "judging"), job.bench_of(this) as bench:
            job.judge(this, bench, [task.day])
        job.assess(this)
        job.finish(this, "run")
    assert not this.holes, this.holes
    return dict(this.manifest["seconds"])


if __name__ == "__main__":
    run(work)
