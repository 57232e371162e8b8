"""The plan: which slices a day lacks, which way each comes, and what is not asked for twice."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from test_download import CREATE, DAY, KEY, Nights, build, long_day, stop
from test_slices import at, entry, ledger

from reconcile import job
from reconcile.days import Window, day_window
from reconcile.reports import plan
from reconcile.reports.plan import Step, choose_via, days_lacking, plan_day, sources_of
from reconcile.reports.slices import Slice, Source
from reconcile.store import Ledger

__all__ = ["build", "long_day"]
OWN = Source("a1b2c3d4")
WHOLE = day_window(DAY)
BEFORE = DAY - timedelta(days=1)


def day_before(records: int) -> Ledger:
    """The day before came whole, with so many records."""
    return ledger(entry(0, 24, records, BEFORE))


def planned(known: Ledger, settings: Any, *begun: tuple[Slice, str]) -> list[Step]:
    return plan_day(known, settings, [OWN], DAY, begun)


def tiles(steps: list[Step], window: Window = WHOLE) -> bool:
    """Whether the slices of a plan follow each other from end to end of a window."""
    windows = [step.part.window for step in steps]
    return (windows[0].start, windows[-1].end) == (window.start, window.end) and all(
        one.end == other.start for one, other in pairwise(windows)
    )


# Which way


@pytest.mark.parametrize(
    ("flags", "records", "hours", "wanted"),
    [
        ({}, None, 24, "async"), ({}, plan.REPORT_FROM_RECORDS, 24, "sync"),
        ({}, plan.REPORT_FROM_RECORDS + 1, 24, "async"), ({}, 10**6, 6, "sync"),
        ({"via": "sync"}, None, 24, "sync"), ({"via": "async"}, 1, 24, "async"),
        ({"via": "async"}, 1, 6, "async"), ({"max_billed_records": 5000}, None, 24, "sync"),
        ({"max_billed_records": 5000, "via": "async"}, None, 24, "async"),
    ],
)  # fmt: skip
def test_choose_via(
    configure: Any, flags: dict[str, Any], records: int | None, hours: int, wanted: str
) -> None:
    """Large days come as reports, small ones and parts in pages, as do days with a budget."""
    known = Ledger() if records is None else day_before(records)
    part = OWN.slice(Window(at(0), at(hours)))
    assert choose_via(configure(**flags), known, part) == wanted


@pytest.mark.parametrize("flags", [{}, {"via": "sync"}, {"max_billed_records": 5000}])
def test_subaccounts_together_come_as_a_report(configure: Any, flags: dict[str, Any]) -> None:
    """Only a report can hold the records of subaccounts beside those of their primary."""
    part = Source(OWN.account_id, subaccounts=True).slice(Window(at(0), at(6)))
    assert choose_via(configure(**flags), day_before(5), part) == "async"


# How many pieces


def test_a_report_is_one_slice(configure: Any) -> None:
    """A day of unknown size, and one of any usual size, is one report."""
    for known in (Ledger(), day_before(plan.LARGEST_REPORT)):
        [step] = planned(known, configure())
        assert (step.part, step.via) == (OWN.slice(WHOLE), "async")


def test_large_days_are_several_reports(configure: Any) -> None:
    """A day that would not fit into one report is asked for in pieces that do."""
    steps = planned(day_before(2 * plan.LARGEST_REPORT + 2), configure())
    assert [step.via for step in steps] == ["async"] * 3
    assert tiles(steps)
    assert all((step.expected or 0) <= plan.LARGEST_REPORT for step in steps)


def test_listings_go_at_once(configure: Any) -> None:
    """A listing is page after page: a day of some pages is cut into several, but not too many."""
    for listings in (1, 2, 3):
        records = listings * plan.RECORDS_A_LISTING
        steps = planned(day_before(records), configure(via="sync"))
        assert (len(steps), tiles(steps)) == (listings, True)
        assert sum(step.expected or 0 for step in steps) == records
    most = planned(day_before(10**9), configure(via="sync"))
    assert (len(most), tiles(most)) == (plan.MOST_LISTINGS, True)


def test_a_listing_of_unknown_size(configure: Any) -> None:
    """A budget makes listings of a day that nobody knows the size of; they tile it."""
    steps = planned(Ledger(), configure(max_billed_records=10))
    assert {step.via for step in steps} == {"sync"}
    assert {step.expected for step in steps} == {None}
    assert tiles(steps)


def test_a_small_day(configure: Any) -> None:
    """A day of which next to nothing is expected is one listing."""
    [step] = planned(day_before(0), configure())
    assert (step.part.window, step.via, step.expected) == (WHOLE, "sync", 0)


def test_only_the_holes(configure: Any) -> None:
    """Of a day that is partly here only the rest is asked for, in pages."""
    known = ledger(entry(0, 24, 24, BEFORE), entry(0, 6), entry(12, 20))
    steps = planned(known, configure())
    assert [(step.part.window, step.via, step.expected) for step in steps] == [
        (Window(at(6), at(12)), "sync", 6), (Window(at(20), at(24)), "sync", 4)]  # fmt: skip


def test_a_day_that_is_here(configure: Any) -> None:
    """A day that is whole is not asked for."""
    assert planned(ledger(entry()), configure()) == []


# What is under way


def test_begun_slices_go_on(configure: Any) -> None:
    """A slice that is under way goes on as it was begun; the rest is planned around it."""
    begun = OWN.slice(Window(at(6), at(9)))
    steps = planned(Ledger(), configure(via="sync"), (begun, "async"))
    assert (begun, "async") in [(step.part, step.via) for step in steps]
    assert {step.via for step in steps if step.part != begun} == {"sync"}
    assert tiles(steps)


def test_begun_slices_of_others(configure: Any) -> None:
    """What is under way of another source, or is here already, changes nothing."""
    other = Source("00000000").slice(WHOLE)
    known = ledger(entry(0, 24, 24, BEFORE), entry(0, 12))
    here = OWN.slice(Window(at(0), at(6)))
    across = OWN.slice(Window(at(6), at(13)))
    steps = planned(known, configure(), (other, "async"), (here, "sync"), (across, "sync"))
    assert [step.part.window for step in steps] == [Window(at(12), at(24))]


def test_other_pieces_than_before(build: Any) -> None:
    """A listing that was begun in one piece goes on so, though several would be planned now."""
    night: Nights = build()
    with pytest.raises(KeyboardInterrupt):
        night.fetch("sync", stop)
    night.night(via="sync")
    assert night.sandbox.billed_records == night.ledger.billed == 2500
    assert len(night.ledger.downloads) == 1


def test_a_report_before_listings(build: Any) -> None:
    """A report that was asked for is waited for, though pages would be asked for now."""
    night: Nights = build(report_timeout="0s", pending_seconds=0.3)
    assert "still" in str(night.failure("async"))
    night.change(report_timeout=timedelta(seconds=20), max_billed_records=3000)
    assert night.night().exit_code == 0
    assert night.requests[CREATE] == 1
    assert night.sandbox.billed_records == night.ledger.billed == 2500


@pytest.mark.slow
def test_a_budget_spread_over_nights(build: Any) -> None:
    """With too small a budget a day comes over several nights, and nothing is paid twice."""
    night: Nights = build(max_billed_records=2000)
    billed = []
    for _ in range(6):
        before, ended = night.sandbox.billed_records, night.night()
        billed.append(night.sandbox.billed_records - before)
        if not ended.holes:
            break
        assert "max_billed_records is 2000" in ended.holes[0]["reason"]
        assert ended.exit_code == 3
    assert max(billed) <= 2000
    assert sum(billed) == night.ledger.billed == 2500
    assert len(night.records()) == 2500


# Which days


TODAY = date(2026, 1, 20)


def test_a_new_source_looks_back(configure: Any) -> None:
    """A source of which nothing is here begins `lookback` ago, and at least with yesterday."""
    assert days_lacking(Ledger(), configure(lookback="3d"), OWN, TODAY) == [
        date(2026, 1, 17), date(2026, 1, 18), date(2026, 1, 19)]  # fmt: skip
    assert days_lacking(Ledger(), configure(lookback="1h"), OWN, TODAY) == [date(2026, 1, 19)]


def test_holes_since_the_first_day(configure: Any) -> None:
    """Every day since a source's first that is not whole is lacking, however long ago."""
    days = [date(2026, 1, day) for day in range(10, 20) if day not in (12, 15)]
    known = ledger(*(entry(day=day) for day in days), entry(0, 3, day=date(2026, 1, 15)))
    assert days_lacking(known, configure(lookback="1d"), OWN, TODAY) == [
        date(2026, 1, 12), date(2026, 1, 15)]  # fmt: skip
    assert days_lacking(known, configure(fill_holes="5d"), OWN, TODAY) == [date(2026, 1, 15)]


def test_sources_have_days_of_their_own(configure: Any) -> None:
    """An account that is added later does not make the others' days lacking."""
    known = ledger(entry(day=date(2026, 1, 19)))
    settings = configure(lookback="2d")
    assert days_lacking(known, settings, OWN, TODAY) == []
    assert len(days_lacking(known, settings, Source("00000000"), TODAY)) == 2


def test_sources_of_the_settings(configure: Any) -> None:
    """Every owner and product of the settings is a source."""
    accounts = [{"api_key": "aaaaaaaa", "subaccounts": ["bbbbbbbb"]},
                {"api_key": "cccccccc", "include_subaccounts": True}]  # fmt: skip
    settings = configure(accounts=accounts, products=["SMS", "MESSAGES"])
    assert sources_of(settings, ledger(entry())) == [
        Source(name, product, together)
        for name, together in (("aaaaaaaa", False), ("bbbbbbbb", False), ("cccccccc", True))
        for product in ("SMS", "MESSAGES")
    ]


def test_sources_of_the_ledger(configure: Any) -> None:
    """Without an account in the settings, the sources are those that the ledger knows."""
    known = ledger(entry(), entry(subaccounts=True), entry(product="MESSAGES"), entry(0, 1))
    assert sources_of(configure(), known) == [
        Source("a1b2c3d4", "MESSAGES"),
        Source("a1b2c3d4"),
        Source("a1b2c3d4", subaccounts=True),
    ]


def test_unsettled_days_are_left(build: Any) -> None:
    """A day that has not settled is not asked for, and named."""
    night: Nights = build()
    moment = datetime(2026, 1, 6, 0, 59, tzinfo=UTC)
    with job.opened(night.settings, moment, lambda *_: None) as this:
        assert job.plan(this, job.Asked(DAY, DAY + timedelta(days=1))) == []
    [hole] = this.holes
    assert hole["reason"] == "skipped: it settles at 2026-01-06T01:00:00Z"
    assert night.part.account_id == KEY
