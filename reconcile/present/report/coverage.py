"""What the report does not know: holes, days that are half here, what is still changing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from reconcile.present import numbers
from reconcile.present.report.gather import Gathered
from reconcile.present.text import NOTHING

WHY = {
    "record_appeared": "its record appeared",
    "as_of_earlier": "judged as of an earlier moment",
    "receipt_came": "a receipt came",
    "record_changed": "the record changed",
    "rules_changed": "the rules changed",
    "time_passed": "only time passed",
}


@dataclass(frozen=True)
class Day:
    """One day as the table of coverage shows it."""

    name: str
    messages: str
    receipts: str
    download: str
    verdicts: str
    as_of: str
    is_hole: bool


@dataclass(frozen=True)
class Change:
    """How many messages went from one verdict to another, and why."""

    before: str
    after: str
    why: str
    messages: int


def days(found: Gathered) -> list[Day]:
    """Each day: what is here of it."""
    groups = found.summary.groupby("date", sort=True)
    sums = {day: (int(r["messages"].sum()), int(r["receipts"].sum())) for day, r in groups}
    rows = []
    for state in found.states:
        messages, receipts = sums.get(state.day, (0, 0))
        whole = {True: "whole", False: "incomplete", None: "not known"}[state.is_whole]
        judged = "closed" if state.is_closed else "open, may still change"
        rows.append(Day(
            numbers.day(state.day),
            numbers.count(messages) if state.is_published else NOTHING,
            numbers.count(receipts) if state.is_published else NOTHING,
            whole, judged if state.is_published else "not judged: a hole", state.as_of,
            not state.is_published,
        ))  # fmt: skip
    return rows


def gaps(found: Gathered) -> list[str]:
    """What is not here, as sentences; [] where nothing lacks."""
    holes = [state.day for state in found.states if not state.is_published]
    half = [s.day for s in found.states if s.is_published and s.is_whole is False]
    with_messages = set(found.summary["date"][found.summary["messages"] > 0])
    empty = [s.day for s in found.states if s.is_published and s.day not in with_messages]
    told = []
    if holes:
        told.append(f"Not judged, and in no sum: {spans(holes)}. Shown as holes, not as zeros.")
    if half:
        told.append(f"Not downloaded whole, so their sums are too low: {spans(half)}.")
    if empty:
        told.append(f"Without a message: {spans(empty)}.")
    for hole in found.named_by_last_run:
        account = f" (account {hole['account_id']})" if hole.get("account_id") else ""
        day = "all days" if hole["day"] == "*" else hole["day"]
        told.append(f"The last run named as incomplete: {day}{account}: {hole['reason']}")
    return told


def spans(found: Iterable[date]) -> str:
    """Days as spans: 3 Jan 2026, 5 to 9 Jan 2026."""
    runs: list[list[date]] = []
    for day in sorted(found):
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(
        numbers.day(run[0]) + (f" to {numbers.day(run[-1])}" if len(run) > 1 else "")
        for run in runs
    )


def changes(found: Gathered) -> list[Change]:
    """What the last run that changed any verdict changed in these days, the most first."""
    return [
        Change(r["from_verdict"] if isinstance(r["from_verdict"], str) else "not there",
               r["to_verdict"], WHY.get(r["why"], r["why"]), int(r["messages"]))
        for r in found.changes.to_dict("records")
    ]  # fmt: skip
