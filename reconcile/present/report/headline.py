"""The first screen of the report: what it comes to, and how that differs from the days before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reconcile.present import numbers
from reconcile.present.rates import MEASURES, confirmed, rate, totals
from reconcile.present.report.gather import COUNTS, LOST, Gathered
from reconcile.present.text import NOTHING

if TYPE_CHECKING:
    import pandas as pd

SENTENCES = {
    "confirmed": "record and receipt agree",
    "missing": "a receipt should be here and is not",
    "unknown": "nothing tells what became of them",
    "suspect": "record and receipts contradict each other",
    "pending": "too early to tell",
    "not_expected": "no receipt was to be expected",
}
LOSERS = {
    "missing_lost_webhook": "our webhook lost it",
    "missing_carrier_silent": "the carrier never said",
    "missing_platform_expired": "Vonage expired it at its deadline",
    "missing_unattributed": "nobody can say yet",
    "missing_capture_outage": "our own capture was down",
}


@dataclass(frozen=True)
class Tile:
    """One headline number: its name, its value and unit, what it means, and how it changed."""

    name: str
    value: str
    note: str
    change: str
    unit: str = ""


@dataclass(frozen=True)
class Headline:
    """The tiles, and the sentence that says what they are compared with."""

    tiles: list[Tile]
    compared: str


def headline(found: Gathered) -> Headline:
    """Counts are compared only where as many days are published before as now; rates always."""
    now, before = totals(found.summary, COUNTS), totals(found.summary_before, COUNTS)
    there, there_before = sum(s.is_published for s in found.states), len(found.published_before)
    counts_too = there == there_before
    past = before if there_before and before["messages"] else None
    tiles = [_count("messages", now, past if counts_too else None, "")]
    for verdict in ("confirmed", *MEASURES):
        tiles.append(_verdict(verdict, now, past))
    for verdict in ("pending", "not_expected"):
        if now[verdict]:
            tiles.append(_count(verdict, now, past if counts_too else None, SENTENCES[verdict]))
    spent_before = found.summary_before if past and counts_too else None
    return Headline([*tiles, *_money(found.summary, spent_before)],
                    _compared(found, there, there_before, past is not None))  # fmt: skip


def _count(name: str, now: Mapping[str, int], past: Mapping[str, int] | None, note: str) -> Tile:
    change = numbers.grown(now[name], past[name]) if past else ""
    return Tile(name.replace("_", " "), numbers.count(now[name]), note, change)


def _verdict(name: str, now: Mapping[str, int], past: Mapping[str, int] | None) -> Tile:
    def of(sums: Mapping[str, int]) -> float | None:
        return (confirmed(sums) if name == "confirmed" else rate(name, sums)).value

    change = numbers.points(of(now), of(past)) if past else ""
    note = f"{numbers.count(now[name])}: {SENTENCES[name]}"
    return Tile(name, numbers.percent(of(now)), note, change)


def _money(now: pd.DataFrame, past: pd.DataFrame | None) -> list[Tile]:
    """Spend, a currency at a time: they are never added up."""
    tiles = []
    for currency, rows in now.groupby("currency", sort=True):
        before = None if past is None else past[past["currency"] == currency]
        spent, open_ = _sum(rows, "spend"), _sum(rows, "spend_unconfirmed")
        share = numbers.percent(float(open_ / spent)) if spent else NOTHING
        notes = {
            "spend": "by Vonage's records",
            "spend_unconfirmed": f"{share} of it: missing, unknown and suspect ones",
        }
        for name, note in notes.items():
            amount = spent if name == "spend" else open_
            change = ""
            if before is not None:
                change = numbers.grown(float(amount), float(_sum(before, name)))
            value, unit = numbers.money(amount, str(currency)).split("\u00a0")
            tiles.append(Tile(name.replace("_", " "), value, note, change, unit))
    return tiles


def _sum(rows: pd.DataFrame, name: str) -> Decimal:
    return sum(rows[name], Decimal(0))


def _compared(found: Gathered, there: int, there_before: int, is_compared: bool) -> str:
    span = f"{numbers.day(found.before[0])} to {numbers.day(found.before[-1])}"
    if not there_before:
        return f"Nothing is published of {span}: there is nothing to compare with."
    if not is_compared:
        return f"Of {span} only days without messages are published: nothing to compare with."
    if there != there_before:
        return (
            f"Changes are to {span}, of which {numbers.plural(there_before, 'day')} "
            f"{'is' if there_before == 1 else 'are'} published, against {there} here: only rates "
            "are compared."
        )
    return f"Changes are to {span}, the same number of days before."


def lost_by(sums: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Who lost the missing receipts, in words, and how many; those that lost any."""
    return [(LOSERS[name], int(sums[name])) for name in LOST if int(sums[name])]
