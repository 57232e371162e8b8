"""What is done beside the download, in a thread of its own: its waiting is others' time.

The thread has a connection to the same engine and a `Run` of its own, whose holes and notes come
behind those of the download, as if one had been done after the other. What both replace in the
store, each does within `Store.alone`. Whatever ends the run stops the thread; what it has published
by then stays, and the ledger says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from threading import Event, Thread
from time import monotonic

from reconcile import border, engine
from reconcile.run import Run

# Seconds that the thread is waited for once it was stopped. It may sit in a database or a bucket:
# then it is left behind, and the store, once it is let go, takes nothing of it.
GRACE = 2.0


class _Stopped(BaseException):
    """The run has ended without the work: no error of it, and nothing for it to handle."""


@contextmanager
def meanwhile(this: Run, work: Callable[[Run], bool]) -> Iterator[Callable[[], bool]]:
    """Begins some work, which goes on while this is open.

    Args:
        this: the run.
        work: gets a run of its own, and tells its progress at least once a block.

    Yields:
        A function that waits for the end of the work, enters what it found, and returns what it
        returned or raises what it raised.
    """
    stopped, ended = Event(), Future[bool]()

    def tell(what: str, rows: int) -> None:
        if stopped.is_set():
            raise _Stopped
        this.progress(what, rows)

    con = engine.second(this.con)
    border.with_key(this.con.con, con.con)
    own = replace(this, con=con, progress=tell, manifest={}, holes=[], unread=[])

    def act() -> None:
        try:
            ended.set_result(work(own))
        except BaseException as error:
            ended.set_exception(error)

    def outcome() -> bool:
        found = ended.result()
        _enter(this, own)
        return found

    thread = Thread(target=act, name="meanwhile", daemon=True)
    thread.start()
    try:
        yield outcome
    finally:
        stopped.set()
        patience = monotonic() + GRACE
        while thread.is_alive() and monotonic() < patience:
            con.con.interrupt()  # again and again: it may be between two statements
            thread.join(0.05)


def _enter(this: Run, own: Run) -> None:
    """Adds to a run what the work has found."""
    for hole in own.holes:
        this.hole(**hole)
    seconds = this.manifest.get("seconds", {}) | own.manifest.pop("seconds", {})
    this.manifest |= {"seconds": seconds, **own.manifest}
    this.unread, this.log_is_whole = own.unread, own.log_is_whole
