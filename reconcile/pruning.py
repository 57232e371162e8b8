"""Drops days that are older than anybody wants to keep; what was paid for them stays in the ledger.

The ledger is told first: from then on these days are neither downloaded, judged nor healed,
whatever of them still lies there. A prune that was killed is finished by the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from reconcile.days import DAY, day_of
from reconcile.errors import UsageError
from reconcile.job import LONGEST_SPAN, open_days
from reconcile.networking import REACH
from reconcile.reports import underway
from reconcile.reports.slices import Slice
from reconcile.settings import Settings
from reconcile.store import Ledger, Store
from reconcile.tables import TABLES, Table


@dataclass
class Pruned:
    """What was dropped, or would be.

    Attributes:
        before: the first day that is kept.
        held_by: the first open day, where it keeps more days than were asked for.
        partitions: table → how many of its partitions.
        slices: downloads under way of such days.
        size: bytes of all that.
    """

    before: date
    held_by: date | None = None
    partitions: dict[str, int] = field(default_factory=dict)
    slices: int = 0
    size: int = 0


def prune(
    store: Store, settings: Settings, as_of: datetime, keep: timedelta, *, dry: bool = False
) -> Pruned:
    """Drops all partitions, and downloads under way, of days before as_of's own less `keep`.

    No open day goes, and nothing that judging one may read. What has no day stays.

    Args:
        store: its lock is held meanwhile, but not where it is only looked at.
        settings: how far back a night reads.
        as_of: what is old.
        keep: how much is kept.
        dry: only says what would go.

    Raises:
        UsageError: a run was stopped while it took captures in.
        DiskError: something cannot be dropped.
    """
    if dry:
        return _prune(store, settings, as_of, keep, dry=True)
    with store.lock(settings.lock_expiry):
        return _prune(store, settings, as_of, keep, dry=False)


def _prune(
    store: Store, settings: Settings, as_of: datetime, keep: timedelta, *, dry: bool
) -> Pruned:
    ledger = store.ledger()
    if ledger.intake or ledger.send_intake:
        raise UsageError(
            f"a run was stopped while it took captures into {store.name}: "
            "`reconcile ingest` finishes that, then prune"
        )
    found = _first_kept(ledger, settings, day_of(as_of), keep)
    if not dry:
        _enter(ledger, found.before)
        store.save(ledger)
    for table, day in _old_partitions(store, found.before):
        found.partitions[table.name] = found.partitions.get(table.name, 0) + 1
        found.size += store.size(table, day)
        if not dry:
            store.drop(table, day)
    for part in _old_slices(store, found.before):
        found.slices += 1
        if not dry:
            underway.clear(store.work / "slices", part)
            store.keep_slices()
    return found


def _first_kept(ledger: Ledger, settings: Settings, today: date, keep: timedelta) -> Pruned:
    """The first day that is kept: at the earliest what was pruned before, which is gone."""
    first_open = min(open_days(ledger), default=today)
    wanted = today - DAY * math.ceil(keep / DAY)
    latest = first_open - _reach(settings)
    before = min(wanted, latest)
    gone = date.fromisoformat(ledger.pruned) if ledger.pruned else before
    return Pruned(max(before, gone), first_open if latest < wanted else None)


def _reach(settings: Settings) -> timedelta:
    """How far before an open day lie those that judging it, and the days it changes, may read."""
    receipts = math.ceil((settings.longest_validity + settings.grace) / DAY)
    return DAY * (1 + max(receipts, REACH + LONGEST_SPAN))


def _enter(ledger: Ledger, before: date) -> None:
    first = ledger.pruned = str(before)
    ledger.judged = {day: told for day, told in ledger.judged.items() if day >= first}
    ledger.receipt_days = {d: span for d, span in ledger.receipt_days.items() if d >= first}
    ledger.changed = [day for day in ledger.changed if day >= first]
    ledger.send_changed = [day for day in ledger.send_changed if day >= first]


def _old_partitions(store: Store, before: date) -> Iterator[tuple[Table, str]]:
    for table in TABLES:
        for name in store.days(table):
            day = _day_of_partition(name)
            if day is not None and day < before:
                yield table, name


def _day_of_partition(name: str) -> date | None:
    """The day of a partition by day or as_of; None: it has none."""
    try:
        return date.fromisoformat(name.partition("T")[0])
    except ValueError:
        return None


def _old_slices(store: Store, before: date) -> Iterator[Slice]:
    """Downloads under way that no run will take in; a whole comes before its pieces."""
    seen: set[Slice] = set()
    folder = store.work / "slices"
    while fresh := [p for p, _ in underway.begun(folder) if p.day < before and p not in seen]:
        seen.update(fresh)
        yield from fresh
