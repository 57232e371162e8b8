"""Brings the records that days lack into the store: all at once, each day's partition once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager
from datetime import date, datetime
from typing import Any

from reconcile import refreshing
from reconcile.days import iso
from reconcile.errors import ReconcileError
from reconcile.refreshing import Vonage
from reconcile.reports import download, keep, underway
from reconcile.reports.budget import Budget
from reconcile.reports.client import Client
from reconcile.reports.keep import Part
from reconcile.reports.plan import Step, plan_day
from reconcile.reports.slices import Fetched, Slice, Source, missing
from reconcile.run import Run
from reconcile.settings import Account
from reconcile.tables import RECORDS


@contextmanager
def connected(this: Run, accounts: Iterable[Account]) -> Iterator[Vonage]:
    """Clients for all accounts, and a pool that lets them work beside each other."""
    accounts, budget = list(accounts), Budget(this.settings.max_billed_records)
    desk = download.Desk(
        this.slices, this.settings, this.as_of, budget, this.progress, this.store.keep_slices
    )
    clients = {account.api_key: Client(account, this.settings, budget) for account in accounts}
    sources = {
        Source(owner.account_id, product, owner.with_subaccounts): clients[account.api_key]
        for account in accounts
        for owner in account.owners
        for product in this.settings.products
    }
    try:
        with download.at_once(clients.values()) as submit:
            yield Vonage(sources, desk, submit)
    finally:
        for client in clients.values():
            client.close()
        # An answer that was lost on its way was perhaps billed.
        billed = {"run": budget.spent, "perhaps": budget.lost, "store": this.ledger.billed}
        this.manifest["billed"] = billed


def steps_of(this: Run, sources: Iterable[Source], days: Iterable[date]) -> list[Step]:
    """The plan: every slice that these days lack."""
    begun, sources = underway.begun(this.slices), list(sources)
    return [
        step for day in days for step in plan_day(this.ledger, this.settings, sources, day, begun)
    ]


def fetch(this: Run, vonage: Vonage, days: list[date]) -> ReconcileError | None:
    """Downloads what these days lack, and asks again by id for what was not final.

    What fails is a hole; what came is taken in, each day once.

    Returns:
        The first failure, if there was one.
    """
    _clear_what_is_here(this)
    refreshing.take_in_what_was_left(this)
    under_way = [
        (step, vonage.submit(download.fetch, vonage.desk, vonage.sources[step.part.source], step))
        for step in steps_of(this, vonage.sources, days)
    ]
    answers = refreshing.ask(this, vonage, refreshing.not_final(this, days))
    parts = refreshing.parts_of(this, answers)
    failures: list[ReconcileError] = [
        each.failure for each in answers if each.failure and not each.is_refused
    ]
    outcomes: dict[date, list[download.Outcome]] = {}
    taken: dict[date, list[dict[str, Any]]] = {}
    for day in _as_they_come(sorted({*days, *parts}), under_way):
        outcomes[day] = [task.result() for step, task in under_way if step.part.day == day]
        fetched = [f for each in outcomes[day] for f in each.fetched]
        taken[day] = _take_in(this, day, fetched, parts.get(day, []))
    for day in sorted(outcomes):
        for entry in taken[day]:
            this.note("downloads", entry)
        failures += _tell_holes(this, day, outcomes[day])
    refreshing.enter(this, answers)
    return failures[0] if failures else None


def _as_they_come(days: list[date], under_way: list[tuple[Step, Future[Any]]]) -> Iterator[date]:
    """Each day once all its slices have come: others are still downloaded while it is taken in."""
    coming = {day: [task for step, task in under_way if step.part.day == day] for day in days}
    while coming:
        day = next((day for day in coming if all(task.done() for task in coming[day])), None)
        if day:
            del coming[day]
            yield day
        else:
            open_ = [task for tasks in coming.values() for task in tasks if not task.done()]
            wait(open_, return_when=FIRST_COMPLETED)


def _tell_holes(this: Run, day: date, outcomes: Iterable[download.Outcome]) -> list[ReconcileError]:
    """Names a day's holes, one for each account; all that failed."""
    failed: dict[str, list[ReconcileError]] = {}
    for each in outcomes:
        if each.failure:
            failed.setdefault(each.step.part.account_id, []).append(each.failure)
    for account_id, errors in failed.items():
        more = f" (and {len(errors) - 1} slices more)" if len(errors) > 1 else ""
        this.hole(day, f"{errors[0]}{more}", account_id)
    return [error for errors in failed.values() for error in errors]


def _clear_what_is_here(this: Run) -> None:
    """Drops the files of slices that a stopped run had taken in already, in whole or in part.

    Where it was in part, the slices within it go on by themselves.
    """
    while stale := [part for part, _ in underway.begun(this.slices) if _is_here(this, part)]:
        underway.clear(this.slices, *stale)
        this.store.keep_slices()


def _is_here(this: Run, part: Slice) -> bool:
    """Whether some of a slice was taken in: what is under way lies in one hole."""
    holes = missing(this.ledger, part.source, part.day)
    return not any(h.start <= part.window.start and part.window.end <= h.end for h in holes)


def _take_in(
    this: Run, day: date, fetched: list[Fetched], answered: list[Part]
) -> list[dict[str, Any]]:
    """Merges all that came for a day, enters it in the ledger, and drops its files.

    Returns:
        What the manifest says of it.
    """
    if not fetched and not answered:
        return []
    parts, told = [*map(_part_of, fetched), *answered], []
    bad = keep.publish(this.store, this.con, day, parts, this.as_of, this.settings.pii)
    with this.store.alone():
        for each, rejects in zip(fetched, bad, strict=False):
            entry = _entry(each, rejects, this.as_of) | _accounts(this, day, each)
            this.ledger.downloads.append(entry)
            told.append({"day": str(day), **entry, "new_columns": each.new_columns})
        this.store.save(this.ledger)
    for each in fetched:
        underway.clear(this.slices, each.slice, *each.within)
    this.store.keep_slices()
    return told


def _part_of(fetched: Fetched) -> Part:
    of = fetched.slice
    source = f"reports:{of.product}:{of.account_id}:{iso(of.window.start)}"
    return Part(
        fetched.raw, of.product, of.account_id, of.window, fetched.begun_at, source, fetched.asked
    )


def _entry(fetched: Fetched, rejects: int, as_of: datetime) -> dict[str, Any]:
    of = fetched.slice
    return {
        "account_id": of.account_id, "product": of.product, "start": iso(of.window.start),
        "end": iso(of.window.end), "via": fetched.via, "request_id": fetched.request_id,
        "records": fetched.rows - rejects, "billed": fetched.billed, "rejects": rejects,
        "as_of": iso(as_of),
    }  # fmt: skip


def _accounts(this: Run, day: date, fetched: Fetched) -> dict[str, Any]:
    """Whose records a report with subaccounts held: nothing else tells which are ours."""
    if not fetched.slice.subaccounts:
        return {}
    query = f"SELECT DISTINCT account_id FROM ({this.store.query(RECORDS, [day])}) ORDER BY ALL"  # noqa: S608 - our own names
    found = [row[0] for row in this.con.con.execute(query).fetchall()]
    return {"subaccounts": True, "accounts": found}
