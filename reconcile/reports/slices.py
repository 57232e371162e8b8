"""Slices: what is downloaded as one, which way, and how many records may be paid for."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from reconcile.days import Window, day_window, iso
from reconcile.errors import BudgetError
from reconcile.reports.client import PRODUCT
from reconcile.settings import Settings
from reconcile.store import Ledger

# Above this Vonage advises the asynchronous API.
ASYNC_FROM_RECORDS = 10_000


@dataclass(frozen=True)
class Slice:
    """One account's window of records."""

    account_id: str
    window: Window
    product: str = PRODUCT

    @property
    def name(self) -> str:
        """A file name that tells it from all others."""
        ends = (iso(moment).replace(":", "") for moment in (self.window.start, self.window.end))
        return "-".join((self.product, self.account_id, *ends))

    @property
    def day(self) -> date:
        """The UTC day it lies in."""
        return self.window.start.date()


@dataclass(frozen=True)
class Fetched:
    """A slice that lies whole on disk, as it came.

    `billed`: the records that Vonage returned for it.
    """

    slice: Slice
    raw: Path
    via: str
    request_id: str
    rows: int
    billed: int
    new_columns: list[str] = field(default_factory=list)


@dataclass
class Budget:
    """Counts the records that Vonage bills in this run, and stops before there are too many."""

    most: int | None
    spent: int = 0

    def ask(self, records: int) -> None:
        """Whether so many more may be billed.

        Raises:
            BudgetError: they may not.
        """
        if self.most is not None and self.spent + max(records, 1) > self.most:
            raise BudgetError(
                f"max_billed_records is {self.most} and {self.spent} are spent: the next request "
                "could exceed it; raise it to go on"
            )

    def spend(self, records: int) -> None:
        """Notes what was billed."""
        self.spent += records


def is_whole(ledger: Ledger, account_id: str, day: date) -> bool:
    """Whether the ledger says that all of an account's day was downloaded."""
    window = day_window(day)
    return any(
        d["account_id"] == account_id
        and d["product"] == PRODUCT
        and d["start"] <= iso(window.start)
        and d["end"] >= iso(window.end)
        for d in ledger.downloads
    )


def expected_records(ledger: Ledger, account_id: str) -> int | None:
    """Records that a day of this account will have, by the day downloaded last; None: no idea."""
    known = [d for d in ledger.downloads if d["account_id"] == account_id]
    return int(max(known, key=lambda d: d["start"])["records"]) if known else None


def choose_via(settings: Settings, ledger: Ledger, part: Slice) -> str:
    """`sync` for parts of a day and for days expected to be small, else `async`.

    With `max_billed_records` it is `sync`: nobody knows what a report will hold before it is paid
    for, while pages can be counted one by one.
    """
    if settings.via != "auto":
        return settings.via
    expected = expected_records(ledger, part.account_id)
    whole = part.window == day_window(part.day)
    small = expected is not None and expected <= ASYNC_FROM_RECORDS
    return "async" if whole and not small and settings.max_billed_records is None else "sync"
