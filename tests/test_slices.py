"""Slices: which parts of a day the ledger holds, and how a window is cut."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.days import Window, day_window, iso
from reconcile.reports.slices import (
    Slice,
    Source,
    cut,
    days_with,
    expected_records,
    is_whole,
    missing,
    records_of,
)
from reconcile.store import Ledger

DAY = date(2026, 1, 5)
WHOLE = day_window(DAY)
OWN = Source("a1b2c3d4")


def at(hours: float, day: date = DAY) -> datetime:
    """A moment of a day."""
    return day_window(day).start + timedelta(hours=hours)


def entry(
    start: float = 0, end: float = 24, records: int = 0, day: date = DAY, **more: Any
) -> dict[str, Any]:
    """A download of some hours of a day, as the ledger has it."""
    return {"account_id": OWN.account_id, "product": "SMS", "start": iso(at(start, day)),
            "end": iso(at(end, day)), "records": records, **more}  # fmt: skip


def ledger(*entries: dict[str, Any]) -> Ledger:
    return Ledger(downloads=list(entries))


def holes(*entries: dict[str, Any], source: Source = OWN) -> list[tuple[datetime, datetime]]:
    """What a day lacks."""
    return [(hole.start, hole.end) for hole in missing(ledger(*entries), source, DAY)]


# What is lacking


def test_nothing_is_here() -> None:
    """Without a download all of the day is lacking."""
    assert holes() == [(at(0), at(24))]


@pytest.mark.parametrize(
    ("parts", "lacking"),
    [
        ([(0, 24)], []),
        ([(0, 9), (9, 24)], []),
        ([(9, 24), (0, 9)], []),
        ([(0, 15), (9, 24)], []),
        ([(0, 24), (3, 4)], []),
        ([(3, 4), (0, 24)], []),
        ([(0, 9), (10, 24)], [(9, 10)]),
        ([(2, 9), (9, 20)], [(0, 2), (20, 24)]),
        ([(0, 12), (3, 4)], [(12, 24)]),
        ([(4, 5), (6, 7)], [(0, 4), (5, 6), (7, 24)]),
    ],
)
def test_what_is_lacking(
    parts: list[tuple[float, float]], lacking: list[tuple[float, float]]
) -> None:
    """Slices may touch and overlap, in any order; what none of them holds is lacking."""
    assert holes(*(entry(*part) for part in parts)) == [(at(a), at(b)) for a, b in lacking]


def test_a_second_is_a_hole() -> None:
    """A day of which one second is not here is not whole."""
    second = 1 / 3600
    parts = entry(0, 9), entry(9 + second, 24)
    assert holes(*parts) == [(at(9), at(9 + second))]
    assert not is_whole(ledger(*parts), OWN, DAY)


@pytest.mark.parametrize(
    "other",
    [
        {"account_id": "00000000"}, {"product": "MESSAGES"},
        {"start": "2026-01-04T00:00:00Z", "end": "2026-01-05T00:00:00Z"},
        {"start": "2026-01-06T00:00:00Z", "end": "2026-01-07T00:00:00Z"},
    ],
)  # fmt: skip
def test_what_is_of_another(other: dict[str, Any]) -> None:
    """Another account's, product's or day's download fills no hole."""
    assert holes(entry() | other) == [(at(0), at(24))]


def test_subaccounts() -> None:
    """A download with subaccounts holds its primary's records too, and not the other way."""
    together = Source(OWN.account_id, subaccounts=True)
    assert holes(entry(subaccounts=True)) == []
    assert holes(entry(subaccounts=True), source=together) == []
    assert holes(entry(), source=together) == [(at(0), at(24))]
    assert holes(entry(0, 9, subaccounts=True), entry(9, 24), source=together) == [(at(9), at(24))]


edges = st.integers(0, 24)


@given(parts=st.lists(st.tuples(edges, edges).map(sorted), max_size=6))
def test_holes_are_what_is_left(parts: list[list[int]]) -> None:
    """An hour is lacking just where no download holds it."""
    found = missing(ledger(*(entry(*part) for part in parts if part[0] < part[1])), OWN, DAY)
    lacking = {hour for hour in range(24) for hole in found if hole.start <= at(hour) < hole.end}
    assert lacking == {hour for hour in range(24) if not any(a <= hour < b for a, b in parts)}
    assert all(one.end < other.start for one, other in pairwise(found))


# What will come


def test_no_idea() -> None:
    """Before a day was whole nobody knows how many records another will have."""
    assert expected_records(ledger(), OWN, WHOLE) is None
    assert expected_records(ledger(entry(0, 23, 900)), OWN, WHOLE) is None


def test_as_many_as_before() -> None:
    """A day will have what the last whole day before it had, however many slices that came in."""
    day = DAY - timedelta(days=1)
    known = ledger(
        entry(0, 9, 400, day), entry(9, 24, 600, day),
        entry(0, 24, 5, day - timedelta(days=1)), entry(0, 24, 7, DAY + timedelta(days=1)),
    )  # fmt: skip
    assert records_of(known, OWN, day) == 1000
    assert expected_records(known, OWN, WHOLE) == 1000
    assert expected_records(known, OWN, Window(at(6), at(12))) == 250


def test_as_many_as_after() -> None:
    """Where no day before is whole, the nearest after it tells."""
    known = ledger(
        entry(0, 24, 7, DAY + timedelta(days=2)), entry(0, 24, 9, DAY + timedelta(days=5))
    )
    assert expected_records(known, OWN, WHOLE) == 7


def test_days_of_a_source() -> None:
    """The days of which something is here, of one source or of all."""
    known = ledger(entry(0, 1), entry(day=DAY + timedelta(days=1), account_id="00000000"))
    assert days_with(known, OWN) == {DAY}
    assert days_with(known) == {DAY, DAY + timedelta(days=1)}


# Names and cuts


def test_names() -> None:
    """Slices that differ in anything have names of their own, which are names of files."""
    slices = [
        Slice(account, window, product, subaccounts)
        for account in ("a1b2c3d4", "00000000")
        for window in (WHOLE, Window(at(0), at(12)), Window(at(0.001), at(12)))
        for product in ("SMS", "MESSAGES")
        for subaccounts in (False, True)
    ]
    names = {each.name for each in slices}
    assert len(names) == len(slices)
    assert not {"/", ":", " "} & {letter for name in names for letter in name}
    assert all(each.source.slice(each.window) == each for each in slices)


@given(
    start=st.integers(0, 86_399), seconds=st.integers(1, 86_400), pieces=st.integers(0, 40),
    fraction=st.sampled_from([0, 1, 999]),
)  # fmt: skip
def test_cuts(start: int, seconds: int, pieces: int, fraction: int) -> None:
    """Pieces follow each other from end to end, meet at whole seconds, and none is empty."""
    begin = at(0) + timedelta(seconds=start, milliseconds=fraction)
    window = Window(begin, begin + timedelta(seconds=seconds))
    found = cut(window, pieces)
    assert (found[0].start, found[-1].end) == (window.start, window.end)
    assert all(one.end == other.start for one, other in pairwise(found))
    assert all(piece.end.microsecond == 0 for piece in found[:-1])
    assert all(piece.start < piece.end for piece in found)
    assert len(found) <= max(pieces, 1)


def test_cut_evenly() -> None:
    """Pieces are of one length, as near as whole seconds allow."""
    assert cut(WHOLE, 4) == [Window(at(6 * n), at(6 * n + 6)) for n in range(4)]


def test_a_second_is_not_cut() -> None:
    """A second stays whole: times are told in whole seconds."""
    second = Window(at(9), at(9) + timedelta(seconds=1))
    assert cut(second, 2) == [second]
