"""A store that a Spark cluster of two workers judges, one of which is lost in the middle.

`python -m tests.engines_agree` does it at scale; the tests, with a small day.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path

from tests import rig_spark
from tests.judged_stores import judge
from tests.rig_spark import Cluster


@contextmanager
def losing_a_worker(cluster: Cluster, root: Path) -> Iterator[list[str]]:
    """Kills a worker once the cluster writes a partition; yields what was seen of it."""
    seen: list[str] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            folders = list((root / ".work" / "staging").glob("parts-*"))
            if folders:
                time.sleep(0.5)  # its tasks are under way
                cluster.kill_worker()
                seen.append(folders[0].name)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def judged_on_a_cluster(
    store: Path, as_of: datetime, *flags: str, kill: bool, connect: bool
) -> tuple[float, bool]:
    """Judges the open days of a store on two workers.

    Args:
        store: where it is; the cluster's own files lie beside it.
        as_of, flags: of `reconcile judge`.
        kill: whether to kill a worker while it writes.
        connect: whether to go through a Spark Connect server.

    Returns:
        How many seconds it took once the cluster was up, and whether a worker was killed.
    """
    with ExitStack() as stack:
        cluster = stack.enter_context(rig_spark.running(store.with_name("cluster")))
        url = cluster.url
        if connect:
            _, url = stack.enter_context(rig_spark.connect_server(cluster))
        lost = stack.enter_context(losing_a_worker(cluster, store)) if kill else []
        seconds = judge(store, as_of, *flags, "--engine", "spark", "--spark", url,
                        env=cluster.environment)  # fmt: skip
        return seconds, bool(lost)
