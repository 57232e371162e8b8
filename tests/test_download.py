"""Slices come to disk and into the store: whole, once, and within the budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reconcile.days import Window, day_window
from reconcile.errors import ApiError, BudgetError, ReportError, UnreachableError
from reconcile.reports import download
from reconcile.reports.client import Client, Report
from reconcile.reports.slices import Budget, Slice, choose_via
from reconcile.sandbox.generate import Generated
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Settings
from reconcile.store import Ledger, Store, read_json, write_json

DAY = date(2026, 1, 5)
RECORDS = "GET /v2/reports/records 200"


@dataclass
class Night:
    """A store, a client of the sandbox, and what a run brings along."""

    sandbox: Sandbox
    client: Client
    settings: Settings
    store: Store
    con: Any
    world: Generated
    ledger: Ledger = field(default_factory=Ledger)
    part: Slice = field(default_factory=lambda: Slice("5a4d0b0e", day_window(DAY)))

    @property
    def folder(self) -> Path:
        """Where slices lie."""
        return self.store.work / "slices"

    @property
    def requests(self) -> dict[str, int]:
        """How often the sandbox was asked what."""
        return dict(self.sandbox.request_counts)

    @property
    def files(self) -> set[str]:
        """The files of the slice, by what follows its name."""
        return {p.name.removeprefix(self.part.name) for p in self.folder.iterdir()}

    def fetch(self, via: str, budget: Budget | None = None) -> download.Fetched:
        """Brings the slice to disk."""
        return download.fetch_slice(
            self.client, self.part, via, self.settings, self.folder, budget or Budget(None),
            lambda *_: None,
        )  # fmt: skip

    def keep(self, via: str, as_of: datetime) -> int:
        """Brings the slice to disk and takes it in."""
        fetched = self.fetch(via)
        return download.take_in(self.store, self.con, self.ledger, fetched, as_of, "keep")

    def refresh(self, ids: list[str], as_of: datetime, budget: Budget | None = None) -> int:
        """Asks again by id."""
        return download.refresh(
            self.store, self.con, self.client, self.ledger, DAY, ids, "5a4d0b0e", as_of, "keep",
            budget or Budget(None), lambda *_: None,
        )  # fmt: skip

    def records(self) -> dict[str, dict[str, Any]]:
        """The day's records by their ids."""
        path = self.store.root / "records" / f"day={DAY}" / "records.parquet"
        rows = pq.read_table(path, partitioning=None).to_pylist()
        assert len({row["message_id"] for row in rows}) == len(rows)
        return {row["message_id"]: row for row in rows}


@pytest.fixture
def build(world: Generated, account: Account, configure: Any, con: Any) -> Iterator[Any]:
    """A night of the tiny world, as it stands at a moment, with settings."""
    made: list[Night] = []

    def night(now: datetime | None = None, **flags: Any) -> Night:
        sandbox = Sandbox(world.folder, now=now or world.mature_at, pending_seconds=0,
                          seconds_per_million=0).__enter__()  # fmt: skip
        settings = configure(base_url=sandbox.base_url, **flags)
        store = Store.open(settings.store, create=True)
        made.append(Night(sandbox, Client(account, settings), settings, store, con, world))
        return made[-1]

    yield night
    for each in made:
        each.client.close()
        each.sandbox.close()


@pytest.fixture
def night(build: Callable[..., Night]) -> Night:
    """A night when all is mature."""
    return build()


# Both ways


@pytest.mark.parametrize("via", ["sync", "async"])
def test_both_ways_bring_the_world(night: Night, via: str) -> None:
    """Pages and reports bring every message of the day, as the world has it."""
    assert night.keep(via, night.world.mature_at) == 0
    world = pq.read_table(night.world.folder / "world" / f"day={DAY}").to_pylist()
    found = night.records()
    assert found.keys() == {row["message_id"] for row in world}
    for row in world:
        own = found[row["message_id"]]
        assert (own["recipient"], own["sender"]) == (row["to"], row["from"])
        assert own["status"] == (row["status"] or row["status_before"])
        assert (own["price"], own["received_at"]) == (row["total_price"], row["date_received"])


def test_both_ways_agree(build: Callable[..., Night], tmp_path: Path) -> None:
    """A day that came in pages equals the same day that came as a report, in every column."""
    moment = datetime(2026, 1, 5, 18, tzinfo=UTC)
    found = []
    for via in ("sync", "async"):
        night = build(moment, store=tmp_path / via)
        night.keep(via, moment)
        found.append(night.records())
    assert found[0] == found[1]


@pytest.mark.parametrize("via", ["sync", "async"])
def test_the_ledger(night: Night, via: str) -> None:
    """What was downloaded is entered with what was billed, and its files are gone."""
    night.keep(via, night.world.mature_at)
    entry = night.store.ledger().downloads[0]
    assert (entry["records"], entry["billed"], entry["via"]) == (1000, 1000, via)
    assert entry["request_id"]
    assert night.store.ledger().billed == night.sandbox.billed_records == 1000
    assert list(night.folder.iterdir()) == []
    assert download.is_whole(night.ledger, "5a4d0b0e", DAY)
    assert not download.is_whole(night.ledger, "5a4d0b0e", DAY + timedelta(days=1))


@pytest.mark.parametrize("via", ["sync", "async"])
def test_a_slice_on_disk(night: Night, via: str) -> None:
    """A slice that lies on disk is not asked for again."""
    first = night.fetch(via)
    before = night.requests
    assert night.fetch(via) == first
    assert night.requests == before
    assert night.sandbox.billed_records == first.rows == 1000


def test_names_of_slices() -> None:
    """Slices that begin together and end apart have names of their own."""
    window = day_window(DAY)
    half = Window(window.start, window.start + timedelta(hours=12))
    assert Slice("a", window).name != Slice("a", half).name


# Pages


class Stopping(Client):
    """A client whose listings end in an error behind a number of pages."""

    pages = 1

    def records(self, window: Window, after: str | None = None) -> Iterator[Any]:
        """As many pages as are allowed."""
        for number, page in enumerate(super().records(window, after)):
            if number == self.pages:
                raise UnreachableError("stopped by the test")
            yield page


@pytest.fixture
def long_day(
    tmp_path_factory: pytest.TempPathFactory, account: Account, configure: Any, con: Any
) -> Iterator[Night]:
    """A night of a day that has three pages."""
    from reconcile.sandbox.generate import generate

    world = generate(tmp_path_factory.mktemp("long") / "data", messages=2500, days=1, seed=3)
    with Sandbox(world.folder, now=world.mature_at) as sandbox:
        settings = configure(base_url=sandbox.base_url)
        store = Store.open(settings.store, create=True)
        client = Stopping(account, settings)
        yield Night(sandbox, client, settings, store, con, world)
        client.close()


def test_pages_go_on(long_day: Night) -> None:
    """A listing that was stopped goes on behind the last page that is on disk."""
    with pytest.raises(UnreachableError):
        long_day.fetch("sync")
    assert long_day.files == {".pages"}
    with (long_day.folder / f"{long_day.part.name}.pages").open("a") as file:
        file.write('{"request_id": "torn')
    long_day.client.pages = 9  # type: ignore[attr-defined]
    budget = Budget(None)
    assert long_day.fetch("sync", budget).rows == 2500
    # The page that was under way when the listing was stopped has to be had twice.
    assert (budget.spent, long_day.requests) == (1500, {RECORDS: 4})
    long_day.keep("sync", long_day.world.mature_at)
    assert len(long_day.records()) == 2500


def test_a_place_that_is_forgotten(long_day: Night) -> None:
    """A listing whose cursor Vonage knows no more begins anew."""
    with pytest.raises(UnreachableError):
        long_day.fetch("sync")
    long_day.sandbox._cursors.clear()
    long_day.client.pages = 9  # type: ignore[attr-defined]
    with pytest.raises(ApiError, match="cursor"):
        long_day.fetch("sync")
    assert long_day.fetch("sync").rows == 2500


def test_budget_of_pages(long_day: Night) -> None:
    """No page is asked for that could exceed `max_billed_records`; those that came are kept."""
    long_day.client.pages = 9  # type: ignore[attr-defined]
    with pytest.raises(BudgetError, match="max_billed_records is 2999 and 2000 are spent"):
        long_day.fetch("sync", Budget(2999))
    assert (long_day.requests, long_day.sandbox.billed_records) == ({RECORDS: 2}, 2000)
    assert long_day.fetch("sync", Budget(1000)).rows == 2500
    assert long_day.sandbox.billed_records == 2500


def test_budget_behind_the_last_page(night: Night) -> None:
    """Behind the last page nothing is asked for, so nothing can exceed the budget."""
    assert night.fetch("sync", Budget(1000)).rows == 1000


def test_no_budget(night: Night) -> None:
    """A budget of nothing asks for nothing, either way."""
    for via in ("sync", "async"):
        with pytest.raises(BudgetError):
            night.fetch(via, Budget(0))
    assert night.requests == {}


# Reports


def test_a_report_is_resumed(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ended between the creation of a report and its end goes on with the same one."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Client, "report", stop)
        with pytest.raises(KeyboardInterrupt):
            night.fetch("async")
    asked = read_json(night.folder / f"{night.part.name}.report.json")["request_id"]
    assert night.fetch("async").request_id == asked
    assert night.requests["POST /v2/reports 200"] == 1
    assert night.sandbox.billed_records == 1000


def test_a_question_without_an_answer(build: Callable[..., Night], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """A report whose id never reached the disk is found, not created again."""
    night = build()
    night.sandbox.now = None  # the report's time is the wall clock's, as at Vonage
    create = Client.create_report

    def lose(self: Client, *args: Any) -> Report:
        create(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Client, "create_report", lose)
        with pytest.raises(KeyboardInterrupt):
            night.fetch("async")
    assert read_json(night.folder / f"{night.part.name}.report.json").keys() == {"asked_at"}
    fetched = night.fetch("async")
    assert night.requests["POST /v2/reports 200"] == 1
    assert fetched.request_id


def test_a_refused_question(night: Night) -> None:
    """A report that was refused is not looked for."""
    night.part = Slice("efgh5678", day_window(DAY))
    stranger = Account("efgh5678", "5a4d0b0e", "invented-for-the-sandbox")
    night.client.close()
    night.client = Client(stranger, night.settings)
    with pytest.raises(ApiError, match="403"):
        night.fetch("async")
    assert night.files == set()


def test_a_vanished_report(night: Night) -> None:
    """A report that Vonage knows no more is given up, and the next run asks for another."""
    night.folder.mkdir(parents=True)
    write_json(night.folder / f"{night.part.name}.report.json", {"request_id": "ri-gone"})
    with pytest.raises(ReportError, match="knows report ri-gone no more: run again"):
        night.fetch("async")
    assert night.fetch("async").rows == 1000


@pytest.mark.parametrize("status", ["FAILED", "ABORTED", "TRUNCATED"])
def test_a_report_that_ends_badly(
    night: Night, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report that failed is a ReportError, and the next run asks for another."""
    ended = Report("ri-1", status, None, None, "", ("", ""))
    with monkeypatch.context() as patch:
        patch.setattr(Client, "report", lambda *_: ended)
        with pytest.raises(ReportError, match=f"as {status}: run again"):
            night.fetch("async")
    assert night.fetch("async").rows == 1000


def test_a_report_that_never_ends(build: Callable[..., Night]) -> None:
    """A report that takes longer than `report_timeout` is waited for again by the next run."""
    night = build(report_timeout="300ms")
    night.sandbox.pending_seconds = 1.0
    with pytest.raises(ReportError, match="is still PENDING: run again to go on"):
        night.fetch("async")
    time.sleep(0.8)
    assert night.fetch("async").rows == 1000
    assert night.requests["POST /v2/reports 200"] == 1


def test_a_short_report(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that holds another number of records than was announced is a ReportError."""
    show = Client.report

    def boast(self: Client, request_id: str) -> Report:
        report = show(self, request_id)
        more = (report.items_count or 0) + 1
        return Report(request_id, report.status, more, report.download, "", report.window)

    with monkeypatch.context() as patch:
        patch.setattr(Client, "report", boast)
        with pytest.raises(ReportError, match="announces 1001 records and holds 1000"):
            night.fetch("async")
    assert night.fetch("async").rows == 1000
    assert night.sandbox.billed_records == 1000
    assert night.sandbox.downloads == 2


# The newest state


def test_a_refresh(build: Callable[..., Night]) -> None:
    """The newest state of a message wins, and what was not asked for stays as it was."""
    early = datetime(2026, 1, 5, 23, 59, tzinfo=UTC)
    night = build(early)
    night.keep("sync", early)
    before = night.records()
    waiting = [i for i, row in before.items() if row["finalized_at"] is None]
    night.sandbox.now = night.world.mature_at
    asked = [*waiting[:21], "0NOBODY0"]
    assert night.refresh(asked, night.world.mature_at) == 21
    after = night.records()
    assert after.keys() == before.keys()
    assert {i for i in after if after[i]["fetched_at"] == night.world.mature_at} == set(asked[:21])
    assert {i: after[i] for i in after if i not in asked} == {
        i: before[i] for i in before if i not in asked
    }
    entry = night.store.ledger().refreshes[0]
    assert (entry["asked"], entry["billed"]) == (22, 21)
    assert night.ledger.billed == night.sandbox.billed_records


def test_an_older_state_does_not_win(build: Callable[..., Night]) -> None:
    """A state that was fetched earlier does not replace one that was fetched later."""
    late = datetime(2026, 1, 7, tzinfo=UTC)
    night = build(late)
    night.keep("sync", late)
    before = night.records()
    night.sandbox.now = datetime(2026, 1, 5, 23, 59, tzinfo=UTC)
    night.refresh(list(before)[:20], late - timedelta(days=1))
    assert night.records() == before


def test_a_refresh_that_stops(night: Night) -> None:
    """What came before a refresh had to stop is kept and entered, and the failure is raised."""
    night.keep("sync", night.world.mature_at - timedelta(hours=1))
    ids = list(night.records())
    with pytest.raises(BudgetError):
        night.refresh(ids, night.world.mature_at, Budget(45))
    fresh = [r for r in night.records().values() if r["fetched_at"] == night.world.mature_at]
    entry = night.store.ledger().refreshes[0]
    assert (len(fresh), entry["asked"], entry["billed"]) == (40, 40, 40)


def test_rejects_are_kept(night: Night, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that are no records of the day are counted and put to the rejects, however they came."""
    ids = next(night.client.records(day_window(DAY + timedelta(days=1)))).records[:3]
    night.keep("sync", night.world.mature_at)
    night.refresh([record["message_id"] for record in ids], night.world.mature_at)
    day = night.world.mature_at.date()
    path = night.store.root / "rejects" / f"day={day}" / "rejects.parquet"
    rows = pq.read_table(path, partitioning=None).to_pylist()
    assert {row["source"] for row in rows} == {"refresh:SMS:5a4d0b0e:2026-01-05T00:00:00Z"}
    assert [row["line"] for row in rows] == [1, 2, 3]


# Plans


@pytest.mark.parametrize(
    ("flags", "records", "hours", "wanted"),
    [
        ({}, None, 24, "async"), ({}, 10_000, 24, "sync"), ({}, 10_001, 24, "async"),
        ({}, 10_001, 6, "sync"), ({"via": "sync"}, None, 24, "sync"),
        ({"via": "async"}, 1, 24, "async"), ({"max_billed_records": 5000}, None, 24, "sync"),
    ],
)  # fmt: skip
def test_choose_via(
    configure: Any, flags: dict[str, Any], records: int | None, hours: int, wanted: str
) -> None:
    """Large days come as reports, small ones and parts in pages, as do days with a budget."""
    start = day_window(DAY).start
    part = Slice("a", Window(start, start + timedelta(hours=hours)))
    entry = {"account_id": "a", "start": "2026-01-04T00:00:00Z", "records": records}
    ledger = Ledger(downloads=[entry] if records is not None else [])
    assert choose_via(configure(**flags), ledger, part) == wanted


def test_budget() -> None:
    """A budget allows as much as is left, and a request of unknown size while anything is."""
    budget = Budget(10)
    budget.ask(10)
    budget.spend(9)
    budget.ask(0)
    with pytest.raises(BudgetError):
        budget.ask(2)
    Budget(None).ask(10**9)
