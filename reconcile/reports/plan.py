"""The plan: which slices are lacking, which way each will come, and what that may cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from reconcile.days import DAY, Window, day_window, days_between
from reconcile.reports.slices import (
    Slice,
    Source,
    cut,
    days_with,
    expected_records,
    is_whole,
    missing,
)
from reconcile.settings import Settings
from reconcile.store import Ledger

# Above this Vonage advises the asynchronous API.
REPORT_FROM_RECORDS = 10_000
# Vonage cuts a report's file at 1 GB, about 7 million records. Days differ: we stay well below.
LARGEST_REPORT = 5_000_000
# A listing is one page after the other: only several at once use the allowed requests per second.
# Hours differ, so there are more of them than go at once.
RECORDS_A_LISTING, MOST_LISTINGS, LISTINGS_IN_THE_DARK = 5_000, 48, 12


@dataclass(frozen=True)
class Step:
    """A slice to download, which way, and how many records it may have (None: no idea)."""

    part: Slice
    via: str
    expected: int | None


def sources_of(settings: Settings, ledger: Ledger) -> list[Source]:
    """What should be downloaded, by the settings; without any account there, by the ledger."""
    configured = [
        Source(owner.account_id, product, owner.with_subaccounts)
        for owner in settings.owners()
        for product in settings.products
    ]
    if configured:
        return configured
    known = {(d["account_id"], d["product"], bool(d.get("subaccounts"))) for d in ledger.downloads}
    return [Source(*each) for each in sorted(known)]


def days_lacking(ledger: Ledger, settings: Settings, source: Source, today: date) -> list[date]:
    """Days before today that are not whole, since a source's first: holes are filled, too.

    A source that is new begins `lookback` ago. Nothing is filled further back than `fill_holes`, or
    before what was pruned.
    """
    first = min(days_with(ledger, source), default=None)
    kept = date.fromisoformat(ledger.pruned) if ledger.pruned else date.min
    if first is None:
        return days_between(max(kept, today - max(settings.lookback, DAY)), today)
    start = max(first, kept, today - settings.fill_holes)
    return [day for day in days_between(start, today) if not is_whole(ledger, source, day)]


def plan_day(
    ledger: Ledger, settings: Settings, sources: Iterable[Source], day: date,
    begun: Iterable[tuple[Slice, str]] = (),
) -> list[Step]:  # fmt: skip
    """What is lacking of a day, in slices; those that are under way go on as they were begun."""
    steps = []
    for source in sources:
        lacking = missing(ledger, source, day)
        for part, via in begun:
            if part.source == source and any(_within(part.window, hole) for hole in lacking):
                steps.append(Step(part, via, expected_records(ledger, source, part.window)))
                lacking = [rest for hole in lacking for rest in _without(hole, part.window)]
        steps += [step for hole in lacking for step in _steps(ledger, settings, source.slice(hole))]
    return sorted(steps, key=lambda step: step.part)


def _steps(ledger: Ledger, settings: Settings, part: Slice) -> list[Step]:
    via = choose_via(settings, ledger, part)
    pieces = cut(part.window, _pieces(via, expected_records(ledger, part.source, part.window)))
    return [Step(part.source.slice(piece), via, expected_records(ledger, part.source, piece))
            for piece in pieces]  # fmt: skip


def choose_via(settings: Settings, ledger: Ledger, part: Slice) -> str:
    """`sync` for parts of a day and for days expected to be small, else `async`.

    With `max_billed_records` it is `sync`: nobody knows what a report will hold before it is paid
    for, while pages can be counted one by one. Subaccounts together come as a report only.
    """
    if part.subaccounts:
        return "async"
    if settings.via != "auto":
        return settings.via
    expected = expected_records(ledger, part.source, part.window)
    whole = part.window == day_window(part.day)
    small = expected is not None and expected <= REPORT_FROM_RECORDS
    return "async" if whole and not small and settings.max_billed_records is None else "sync"


def _pieces(via: str, expected: int | None) -> int:
    """How many slices a window becomes."""
    if via == "async":
        return math.ceil((expected or 1) / LARGEST_REPORT)
    if expected is None:
        return LISTINGS_IN_THE_DARK
    return min(MOST_LISTINGS, math.ceil(max(expected, 1) / RECORDS_A_LISTING))


def _within(part: Window, whole: Window) -> bool:
    return whole.start <= part.start and part.end <= whole.end


def _without(whole: Window, part: Window) -> list[Window]:
    """What is left of a window; all of it where they do not meet."""
    if part.end <= whole.start or part.start >= whole.end:
        return [whole]
    edges = ((whole.start, part.start), (part.end, whole.end))
    return [Window(start, end) for start, end in edges if start < end]
