"""Slices: what is downloaded as one, and which of them the ledger says are here."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from reconcile.days import Window, day_window, iso, parse_moment
from reconcile.store import Ledger


@dataclass(frozen=True, order=True)
class Source:
    """Whose records, and of which product; with `subaccounts` those of its subaccounts too.

    Only a report can hold the records of subaccounts beside those of their primary.
    """

    account_id: str
    product: str = "SMS"
    subaccounts: bool = False

    @property
    def name(self) -> str:
        """For people, and for the names of files."""
        return f"{self.product}-{self.account_id}{'+' if self.subaccounts else ''}"

    def slice(self, window: Window) -> Slice:
        """A window of it."""
        return Slice(self.account_id, window, self.product, self.subaccounts)


@dataclass(frozen=True, order=True)
class Slice:
    """One source's window of records, at most a UTC day."""

    account_id: str
    window: Window
    product: str = "SMS"
    subaccounts: bool = False

    @property
    def source(self) -> Source:
        """Whose records they are."""
        return Source(self.account_id, self.product, self.subaccounts)

    @property
    def name(self) -> str:
        """A file name that tells it from all others."""
        ends = (iso(moment).replace(":", "") for moment in (self.window.start, self.window.end))
        return "-".join((self.source.name, *ends))

    @property
    def day(self) -> date:
        """The UTC day it lies in."""
        return self.window.start.date()


@dataclass(frozen=True)
class Fetched:
    """A slice that lies whole on disk, as it came.

    Attributes:
        slice: what it holds. A row of `asked` that lies outside of its window is another's.
        asked: the window that was asked for when the file came.
        raw: the file.
        via, request_id: how it came.
        begun_at: the as_of of the run that asked for it: the records are as they were then.
        rows: how many rows the file has.
        billed: the records that Vonage returned for it, however often.
        within: the slices that it was cut from.
    """

    slice: Slice
    asked: Window
    raw: Path
    via: str
    request_id: str
    begun_at: datetime
    rows: int
    billed: int
    new_columns: list[str] = field(default_factory=list)
    within: tuple[Slice, ...] = ()


def missing(ledger: Ledger, source: Source, day: date) -> list[Window]:
    """The parts of a source's day that the ledger does not hold, in order; none: it is whole."""
    holes, (at, end) = [], (day_window(day).start, day_window(day).end)
    parts = [d for d in ledger.of_day(day) if _is_of(d, source)]
    for start, stop in sorted((parse_moment(d["start"]), parse_moment(d["end"])) for d in parts):
        if start > at:
            holes.append(Window(at, start))
        at = max(at, stop)
    return [*holes, Window(at, end)] if at < end else holes


def is_whole(ledger: Ledger, source: Source, day: date) -> bool:
    """Whether the ledger says that all of a source's day was downloaded."""
    return not missing(ledger, source, day)


def days_with(ledger: Ledger, source: Source | None = None) -> set[date]:
    """The days of which something was downloaded."""
    return {
        date.fromisoformat(day)
        for day in ledger.days_downloaded
        if source is None or any(_is_of(d, source) for d in ledger.of_day(day))
    }


def records_of(ledger: Ledger, source: Source, day: date) -> int:
    """How many records of a source's day were downloaded."""
    return sum(int(d["records"]) for d in ledger.of_day(day) if _is_of(d, source))


def expected_records(ledger: Ledger, source: Source, window: Window) -> int | None:
    """Records that a window will have, by its share of the last whole day; None: no idea.

    The day before is the best guess that the ledger holds; where there is none, the day nearest.
    """
    day = window.start.date()
    here = sorted(days_with(ledger, source))
    nearest = [*(d for d in reversed(here) if d < day), *(d for d in here if d >= day)]
    near = next((d for d in nearest if is_whole(ledger, source, d)), None)
    if near is None:
        return None
    a_day = day_window(day)
    share = (window.end - window.start) / (a_day.end - a_day.start)
    return round(records_of(ledger, source, near) * share)


def cut(window: Window, pieces: int) -> list[Window]:
    """A window in so many pieces of about one length; they meet at whole seconds."""
    step = (window.end - window.start) / max(pieces, 1)
    meets = [(window.start + step * n).replace(microsecond=0) for n in range(1, pieces)]
    edges = sorted({window.start, window.end, *(m for m in meets if m > window.start)})
    return [Window(*ends) for ends in pairwise(edges)]


def _is_of(entry: dict[str, Any], source: Source) -> bool:
    """Whether a download is one of a source; one with subaccounts holds its primary's as well."""
    return (entry["account_id"], entry["product"]) == (source.account_id, source.product) and (
        not source.subaccounts or bool(entry.get("subaccounts"))
    )
