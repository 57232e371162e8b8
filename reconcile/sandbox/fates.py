"""How an asynchronous report will end, which is settled when it is created.

A decree changes a report's fate. It is None where it has no hold on it: a report that fails has no
file that could be cut short.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from reconcile.sandbox.broken_answers import Knobs

SLOW_SECONDS = 2.0


@dataclass(frozen=True)
class Fate:
    """How a report will end.

    Attributes:
        status: SUCCESS, TRUNCATED, FAILED or ABORTED.
        longest: how many records its file holds at most.
        order: by what they are sorted, as `write_archive` takes it.
        miscount: how many more it says than its file holds.
        slow_seconds: how long it stays PROCESSING beyond its usual time.
    """

    status: str = "SUCCESS"
    longest: int | None = None
    order: str = "rowid"
    miscount: int = 0
    slow_seconds: float = 0.0


Size = Callable[[], int]
Decree = Callable[[Fate, Knobs, Size], Fate | None]


def ends(status: str) -> Decree:
    """The report ends in another status, without a file."""

    def decree(fate: Fate, _: Knobs, __: Size) -> Fate | None:
        return replace(fate, status=status) if fate == Fate() else None

    return decree


def truncated(order: str) -> Decree:
    """The report has a part of its records, if it has more than a file may."""

    def decree(fate: Fate, knobs: Knobs, size: Size) -> Fate | None:
        if fate.status != "SUCCESS" or size() <= knobs.truncate_after:
            return None
        return replace(fate, status="TRUNCATED", longest=knobs.truncate_after, order=order)

    return decree


def miscounted(fate: Fate, _: Knobs, __: Size) -> Fate | None:
    return replace(fate, miscount=1) if fate.status in ("SUCCESS", "TRUNCATED") else None


def slow(fate: Fate, _: Knobs, __: Size) -> Fate:
    return replace(fate, slow_seconds=SLOW_SECONDS)
