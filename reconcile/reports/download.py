"""Downloads slices and refreshes, several at once; what was paid for is on disk first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from reconcile.errors import ContractError, DiskError, VonageError, trouble
from reconcile.reports import pages, report
from reconcile.reports.budget import Budget
from reconcile.reports.client import Client
from reconcile.reports.plan import Step
from reconcile.reports.slices import Fetched
from reconcile.reports.underway import Kept, UnderWay
from reconcile.settings import Settings

T = TypeVar("T")
Progress = Callable[[str, int], None]
# Slices at once; they share the requests per second that their account is allowed.
AT_ONCE = 8
# Seconds that answers on their way are waited for when a signal ends the run: they are paid for.
GRACE = 2.0


@dataclass(frozen=True)
class Desk:
    """What downloading works with, whatever it downloads.

    Attributes:
        folder: where slices under way lie.
        as_of: the run's.
    """

    folder: Path
    settings: Settings
    as_of: datetime
    budget: Budget
    progress: Progress
    kept: Kept = lambda: None


@dataclass
class Outcome:
    """What came of a step: slices that are here, and why it ended before it was whole."""

    step: Step
    fetched: list[Fetched] = field(default_factory=list)
    failure: VonageError | ContractError | None = None


def fetch(desk: Desk, client: Client, step: Step) -> Outcome:
    """Brings one step's slice to disk, or finds it there since a run before was stopped.

    What fails is told, not raised: what came before it was paid for and is taken in.

    Raises:
        DiskError: the disk refused; that is no slice's fault.
    """
    outcome = Outcome(step)
    try:
        for fetched in _fetch(desk, client, step):
            outcome.fetched.append(fetched)
    except (VonageError, ContractError) as error:
        outcome.failure = error
    except OSError as error:
        raise DiskError(f"{desk.folder} cannot be written: {trouble(error)}") from None
    return outcome


def _fetch(desk: Desk, client: Client, step: Step) -> Iterator[Fetched]:
    slice_ = UnderWay(desk.folder, step.part, desk.as_of, step.via, desk.kept)
    if not slice_.is_whole and not slice_.splits:
        if slice_.via == "sync":
            pages.fetch(client, slice_, desk.progress)
        else:
            report.fetch(client, slice_, desk.settings, desk.budget, step.expected, desk.progress)
    if slice_.is_whole:
        yield slice_.fetched()
        return
    spent, failures = int(slice_.facts["billed"]), []
    for part in slice_.splits:
        try:
            for fetched in _fetch(desk, client, replace(step, part=part, expected=None)):
                yield replace(fetched, billed=fetched.billed + spent,
                              within=(step.part, *fetched.within))  # fmt: skip
                spent = 0
        except (VonageError, ContractError) as error:
            failures.append(error)  # the others come all the same
    if failures:
        raise failures[0]


@contextmanager
def at_once(clients: Iterable[Client]) -> Iterator[Callable[..., Future[T]]]:
    """A way to let calls run beside each other; when it closes, nothing goes on.

    After an error the clients are stopped first, so that nobody waits for Vonage in vain.
    """
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="download")
    calls: list[Future[Any]] = []

    def submit(call: Callable[..., T], /, *given: Any) -> Future[T]:
        begun = pool.submit(call, *given)
        calls.append(begun)
        return begun

    try:
        yield submit
    except Exception:
        _stop(clients)
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    except BaseException:  # a signal: whoever gave it does not wait long
        _stop(clients)
        pool.shutdown(wait=False, cancel_futures=True)
        wait([call for call in calls if not call.cancelled()], timeout=GRACE)
        raise
    pool.shutdown(wait=True)


def _stop(clients: Iterable[Client]) -> None:
    for client in clients:
        client.stop()
