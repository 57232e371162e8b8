"""Slices come to disk and into the store: whole, each record once, and paid for once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reconcile import fetching, job
from reconcile.days import Window, day_window, parse_moment
from reconcile.errors import (
    ApiError,
    BudgetError,
    ContractError,
    ReconcileError,
    ReportError,
    UnreachableError,
)
from reconcile.reports import download, underway
from reconcile.reports.budget import Budget
from reconcile.reports.client import Client
from reconcile.reports.plan import Step
from reconcile.reports.slices import Fetched, Slice, is_whole
from reconcile.sandbox.generate import Generated, generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Settings
from reconcile.store import Ledger, Store, read_json, write_json
from reconcile.tables import RECORDS

DAY = date(2026, 1, 5)
MORNING = datetime(2026, 1, 6, 2, tzinfo=UTC)
KEY, SECRET = "5a4d0b0e", "invented-for-the-sandbox"
PAGE, CREATE = "GET /v2/reports/records 200", "POST /v2/reports 200"


def quiet(_what: str, _rows: int) -> None:
    """No progress."""


def stop(_what: str, _rows: int) -> None:
    """Ends a run once something is on disk, as a signal would."""
    raise KeyboardInterrupt


@dataclass
class Nights:
    """A sandbox, a store, and what runs do with them."""

    sandbox: Sandbox
    settings: Settings
    as_of: datetime = MORNING
    part: Slice = field(default_factory=lambda: Slice(KEY, day_window(DAY)))
    account: Account = field(default_factory=lambda: Account(KEY, KEY, SECRET))
    budget: Budget = field(default_factory=lambda: Budget(None))

    @property
    def folder(self) -> Path:
        """Where slices lie."""
        return self.settings.store / ".work" / "slices"

    @property
    def requests(self) -> dict[str, int]:
        """How often the sandbox was asked what."""
        return dict(self.sandbox.request_counts)

    @property
    def note(self) -> dict[str, Any]:
        """What the slice's note says."""
        return read_json(self.folder / f"{self.part.name}.json")

    @property
    def files(self) -> set[str]:
        """The endings of the slice's files."""
        return {p.name.removeprefix(f"{self.part.name}.") for p in self.folder.iterdir()}

    @property
    def ledger(self) -> Ledger:
        """The store's."""
        return Store.open(self.settings.store).ledger()

    def change(self, **settings: Any) -> None:
        """Other settings from now on."""
        self.settings = self.settings.model_copy(update=settings)

    def fetch(self, via: str, progress: Callable[[str, int], None] = quiet) -> download.Outcome:
        """Brings the slice to disk."""
        desk = download.Desk(self.folder, self.settings, self.as_of, self.budget, progress)
        client = Client(self.account, self.settings, self.budget)
        try:
            return download.fetch(desk, client, Step(self.part, via, None))
        finally:
            client.close()

    def whole(self, via: str) -> Fetched:
        """Brings the slice to disk, in one."""
        outcome = self.fetch(via)
        assert outcome.failure is None
        [fetched] = outcome.fetched
        assert fetched.slice == self.part
        return fetched

    def failure(self, via: str) -> ReconcileError:
        """Why the slice does not come to disk."""
        outcome = self.fetch(via)
        assert outcome.failure is not None
        assert outcome.fetched == []
        return outcome.failure

    def night(
        self, *days: date, via: str | None = None, as_of: datetime | None = None,
        accounts: list[Account] | None = None, progress: Callable[[str, int], None] = quiet,
    ) -> job.Run:  # fmt: skip
        """A run that downloads these days into the store."""
        settings = self.settings.model_copy(update={"via": via or self.settings.via})
        with job.opened(settings, as_of or self.as_of, progress) as this:
            with fetching.connected(this, accounts or [self.account]) as vonage:
                fetching.fetch(this, vonage, list(days) or [self.part.day])
            job.finish(this, "fetch")
        return this

    def records(self, day: date | None = None) -> dict[str, dict[str, Any]]:
        """A day's records by their ids, each of which is there once."""
        path = Store(self.settings.store).path(RECORDS, day or self.part.day)
        rows = pq.read_table(path, partitioning=None).to_pylist()
        assert len({row["message_id"] for row in rows}) == len(rows)
        return {row["message_id"]: row for row in rows}


@contextmanager
def nights(
    configure: Any, data: Path, now: datetime | None = MORNING, **flags: Any
) -> Iterator[Nights]:
    """Nights over a data folder, as it stands at a moment; flags are the sandbox's or settings."""
    own = {name: flags.pop(name) for name in ("faults", "truncate_after", "pending_seconds")
           if name in flags}  # fmt: skip
    quick = {"pending_seconds": 0, "seconds_per_million": 0}
    with Sandbox(data, now=now, **quick | own) as sandbox:
        yield Nights(sandbox, configure(base_url=sandbox.base_url, **flags))


@pytest.fixture(scope="session")
def long_day(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """A day that has three pages."""
    return generate(tmp_path_factory.mktemp("long") / "data", messages=2500, days=1, seed=3)


@pytest.fixture
def build(long_day: Generated, configure: Any) -> Iterator[Callable[..., Nights]]:
    """Nights of the long day, with faults and settings."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda **flags: stack.enter_context(nights(configure, long_day.folder, **flags))


@pytest.fixture
def small(world: Generated, configure: Any) -> Iterator[Nights]:
    """Nights of a day of one page, all of it mature."""
    with nights(configure, world.folder, world.mature_at) as found:
        found.as_of = world.mature_at
        yield found


# Both ways


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_both_ways_bring_the_world(small: Nights, world: Generated, via: str) -> None:
    """Pages and reports bring every message of the day, as the world has it."""
    small.change(pii="keep")
    assert small.night(via=via).exit_code == 0
    rows = pq.read_table(world.folder / "world" / f"day={DAY}").to_pylist()
    found = small.records()
    assert found.keys() == {row["message_id"] for row in rows}
    for row in rows:
        own = found[row["message_id"]]
        assert (own["recipient"], own["sender"]) == (row["to"], row["from"])
        assert own["status"] == (row["status"] or row["status_before"])
        assert (own["price"], own["received_at"]) == (row["total_price"], row["date_received"])


@pytest.mark.slow
def test_both_ways_agree(build: Callable[..., Nights], tmp_path: Path) -> None:
    """A day that came in pages equals the same day that came as a report, in every column."""
    found = []
    for via in ("sync", "async"):
        night = build(store=tmp_path / via, via=via)
        night.night()
        found.append(night.records())
    assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_the_ledger(small: Nights, via: str) -> None:
    """What was downloaded is entered with what was billed, and its files are gone."""
    small.night(via=via)
    entries = small.ledger.downloads
    assert [sum(entry[name] for entry in entries) for name in ("records", "billed", "rejects")] == [
        1000, 1000, 0]  # fmt: skip
    assert all(entry["request_id"] and entry["via"] == via for entry in entries)
    assert len(entries) == len({(entry["start"], entry["request_id"]) for entry in entries})
    assert small.ledger.billed == small.sandbox.billed_records == 1000
    assert list(small.folder.iterdir()) == []
    assert is_whole(small.ledger, small.part.source, DAY)
    assert not is_whole(small.ledger, small.part.source, DAY + timedelta(days=1))


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_what_was_billed_is_told(build: Callable[..., Nights], via: str) -> None:
    """The manifest tells what the run was billed, and what the store was, lost answers apart."""
    night = build(faults={"cut_mid_body": 1})
    billed = night.night(via=via).manifest["billed"]
    lost = 1000 if via == "sync" else 0
    assert billed == {"run": 2500, "perhaps": lost, "store": 2500}


@pytest.mark.parametrize("via", ["sync", "async"])
def test_a_slice_on_disk(small: Nights, via: str) -> None:
    """A slice that lies whole on disk is not asked for again, but taken in as of when it came."""
    before = small.whole(via)
    asked = small.requests
    small.as_of += timedelta(days=1)
    assert small.whole(via) == before
    small.night(via=via)
    assert small.requests == asked
    assert {row["fetched_at"] for row in small.records().values()} == {before.begun_at}


def test_the_other_way(build: Callable[..., Nights]) -> None:
    """A slice goes on the way on which it was begun, whatever the settings say now."""
    night = build()
    with pytest.raises(KeyboardInterrupt):
        night.fetch("sync", stop)
    assert night.whole("async").via == "sync"
    assert night.sandbox.billed_records == 2500


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_a_day_without_records(small: Nights, via: str) -> None:
    """A day on which nothing was sent is whole all the same."""
    small.part = Slice(KEY, day_window(DAY - timedelta(days=9)))
    assert small.night(via=via).exit_code == 0
    assert is_whole(small.ledger, small.part.source, small.part.day)
    assert small.ledger.billed == 0
    asked = small.requests
    small.night(via=via)
    assert small.requests == asked


# Pages


def test_pages_go_on(build: Callable[..., Nights]) -> None:
    """A listing that was stopped goes on behind the last whole page that is on disk."""
    night = build()
    with pytest.raises(KeyboardInterrupt):
        night.fetch("sync", stop)
    assert night.files == {"json", "pages"}
    with (night.folder / f"{night.part.name}.pages").open("a") as file:
        file.write('{"request_id": "torn')
    assert night.whole("sync").rows == 2500
    assert (night.budget.spent, night.requests) == (2500, {PAGE: 3})
    night.night()
    assert len(night.records()) == 2500
    assert night.requests == {PAGE: 3}


def test_pages_that_are_all_here(build: Callable[..., Nights]) -> None:
    """A run that was stopped behind the last page asks for nothing more."""
    night = build()
    night.whole("sync")
    note = night.note
    lines = [f'{{"request_id": "r", "next": null, "billed": 7, "records": [{{"message_id": "{n}", '
             f'"status": "", "date_received": "2026-01-05T0{n}:00:00Z"}}]}}\n'
             for n in range(1)]  # fmt: skip
    (night.folder / f"{night.part.name}.pages").write_text("".join(lines))
    write_json(night.folder / f"{night.part.name}.json",
               {name: note[name] for name in ("slice", "as_of", "via")})  # fmt: skip
    before = night.requests
    fetched = night.whole("sync")
    assert (fetched.rows, fetched.billed, night.requests) == (1, 7, before)


def test_a_refused_cursor(build: Callable[..., Nights]) -> None:
    """Where a cursor is refused what came is kept, and only the rest is asked for."""
    night = build(faults={"cursor_expired": 1})
    outcome = night.fetch("sync")
    assert outcome.failure is None
    rest, kept = sorted(outcome.fetched, key=lambda each: each.slice)
    assert (kept.billed, kept.within) == (1000, (night.part,))
    assert kept.rows + rest.rows == 2500
    assert (rest.slice.window.start, kept.slice.window.end) == (
        night.part.window.start, night.part.window.end)  # fmt: skip
    assert rest.slice.window.end == kept.slice.window.start
    again = 1000 - kept.rows
    assert 0 < again < 10  # those of the last second that came
    assert night.sandbox.billed_records == 2500 + again
    night.night(via="sync")
    assert len(night.records()) == 2500
    assert night.ledger.billed == night.sandbox.billed_records
    assert list(night.folder.iterdir()) == []


@pytest.mark.parametrize(
    "fault",
    [
        "page_twice", "cursor_only", "next_without_truncated", "items_count_wrong",
        "column_added", "columns_shuffled",
    ],
)  # fmt: skip
def test_pages_that_are_odd(build: Callable[..., Nights], fault: str) -> None:
    """Pages that are odd, and yet whole, bring each record once, and all that was paid is told."""
    night = build(faults={fault: 1})
    fetched = night.whole("sync")
    assert fetched.rows == 2500
    assert fetched.billed == night.sandbox.billed_records
    assert fetched.new_columns == (["surge_index"] if fault == "column_added" else [])


def test_an_empty_page(build: Callable[..., Nights]) -> None:
    """A page without a record that points on ends the run; the next goes on behind it."""
    night = build(faults={"empty_page": 1})
    assert "more without a record" in str(night.failure("sync"))
    assert night.whole("sync").rows == 2500
    assert night.sandbox.billed_records == 2500


def test_a_listing_that_loops(build: Callable[..., Nights]) -> None:
    """A listing that points back ends the run; the next asks for the rest of it only."""
    night = build(faults={"cursor_repeats": 1})
    assert "a page that came before" in str(night.failure("sync"))
    assert night.sandbox.billed_records == 2000
    outcome = night.fetch("sync")
    assert outcome.failure is None
    assert sum(each.billed for each in outcome.fetched) == night.sandbox.billed_records < 2510
    night.night(via="sync")
    assert len(night.records()) == 2500


@pytest.mark.parametrize("fault", ["cut_before_answer", "cut_mid_body", "html_page", "error_502"])
def test_pages_that_are_lost(build: Callable[..., Nights], fault: str) -> None:
    """Pages that do not come whole are asked for again, and what was lost is told apart."""
    night = build(faults={fault: 2})
    assert night.whole("sync").rows == 2500
    assert night.budget.spent == 2500
    # A refusal costs nothing; of all else nobody knows.
    assert night.budget.lost == (0 if fault == "error_502" else 2000)


def test_budget_of_pages(build: Callable[..., Nights]) -> None:
    """No page is asked for that could exceed `max_billed_records`; those that came are kept."""
    night = build()
    night.budget = Budget(2999)
    error = night.failure("sync")
    assert isinstance(error, BudgetError)
    assert "max_billed_records is 2999 and 2000 are spent" in str(error)
    assert (night.requests, night.sandbox.billed_records) == ({PAGE: 2}, 2000)
    night.budget = Budget(1000)
    assert night.whole("sync").rows == 2500
    assert night.sandbox.billed_records == 2500


def test_budget_behind_the_last_page(small: Nights) -> None:
    """Behind the last page nothing is asked for, so nothing can exceed the budget."""
    small.budget = Budget(1000)
    assert small.whole("sync").rows == 1000


def test_no_budget(small: Nights) -> None:
    """A budget of nothing asks for nothing, either way."""
    for via in ("sync", "async"):
        small.budget = Budget(0)
        assert isinstance(small.failure(via), BudgetError)
        underway.clear(small.folder, small.part)
    assert small.requests == {}


# Reports


def test_a_report_that_never_ends(build: Callable[..., Nights]) -> None:
    """A report that takes longer than `report_timeout` is waited for again by the next run."""
    night = build(report_timeout="200ms", pending_seconds=0.7)
    assert "is still PENDING: run again to go on" in str(night.failure("async"))
    asked = night.note["request_id"]
    night.change(report_timeout=timedelta(seconds=20))
    assert night.whole("async").request_id == asked
    assert night.requests[CREATE] == 1
    assert night.sandbox.billed_records == 2500


@pytest.mark.parametrize("retries", [0, 2])
def test_a_lost_answer(small: Nights, retries: int) -> None:
    """A report whose id was lost is found by this run, or by the next, not created again."""
    small.sandbox.faults = {"cut_before_answer": 1}
    small.change(retries=retries)
    if not retries:
        assert isinstance(small.failure("async"), UnreachableError)
        assert small.note.keys() == {"slice", "as_of", "via", "asked"}
        small.as_of += timedelta(days=1)
    assert small.whole("async").rows == 1000
    assert small.requests[CREATE] == 1
    assert small.sandbox.billed_records == 1000


def test_a_lost_question(small: Nights) -> None:
    """A question that a crash left without an answer, and that never arrived, is asked again."""
    underway.UnderWay(small.folder, small.part, small.as_of, "async").jot(asked=True)
    assert small.whole("async").rows == 1000
    assert small.requests["GET /v2/reports 200"] == small.requests[CREATE] == 1


def test_a_refused_question(small: Nights) -> None:
    """A report that was refused is not looked for later."""
    small.part = Slice("efgh5678", day_window(DAY))
    error = small.failure("async")
    assert isinstance(error, ApiError)
    assert error.status == 403
    assert small.note.keys() == {"slice", "as_of", "via"}


@pytest.mark.parametrize("fault", ["report_failed", "report_aborted"])
def test_a_report_that_ends_badly(small: Nights, fault: str) -> None:
    """A report that failed costs nothing; another is asked for, up to three times a run."""
    small.sandbox.faults = {fault: 3}
    assert small.whole("async").billed == small.sandbox.billed_records == 1000
    assert small.requests[CREATE] == 4


@pytest.mark.slow
def test_a_report_that_fails_too_often(small: Nights) -> None:
    """One that fails more often ends the run, and the next asks for another."""
    small.sandbox.faults = {"report_failed": 4}
    error = small.failure("async")
    assert isinstance(error, ReportError)
    assert "as FAILED, as did 3 before it: run again" in str(error)
    assert small.whole("async").rows == 1000
    assert small.requests[CREATE] == 5


def test_a_forgotten_report(small: Nights) -> None:
    """A report that Vonage knows no more is given up; what it cost was perhaps billed."""
    small.sandbox.faults = {"report_forgotten": 1}
    desk = download.Desk(small.folder, small.settings, small.as_of, small.budget, quiet)
    client = Client(small.account, small.settings, small.budget)
    outcome = download.fetch(desk, client, Step(small.part, "async", 700))
    client.close()
    assert [each.rows for each in outcome.fetched] == [1000]
    assert (small.budget.spent, small.budget.lost) == (1000, 700)
    assert small.requests[CREATE] == 2


def test_a_file_that_is_gone(small: Nights) -> None:
    """A file that Vonage holds no more has to be paid for again, and the ledger tells it."""
    small.sandbox.faults = {"file_gone": 1}
    assert small.whole("async").billed == small.sandbox.billed_records == 2000
    assert small.budget.spent == 2000


@pytest.mark.parametrize(
    "fault", ["zip_bad_crc", "zip_cut_short", "not_a_zip", "cut_mid_body", "error_503"]
)
def test_a_damaged_file(small: Nights, fault: str) -> None:
    """A file that came damaged is fetched again, which costs nothing."""
    small.change(retries=2)
    with pytest.raises(KeyboardInterrupt):  # the report is made, and only its file is to come
        small.fetch("async", stop)
    (small.folder / f"{small.part.name}.zip").unlink()
    small.sandbox.faults = {fault: 2}
    assert small.whole("async").billed == small.sandbox.billed_records == 1000
    assert small.requests[CREATE] == 1


def test_a_file_that_stays_damaged(small: Nights) -> None:
    """A file that comes damaged every time ends the run; the next fetches the same report's."""
    small.sandbox.faults = {"zip_bad_crc": 3}
    assert "is damaged" in str(small.failure("async"))
    assert small.sandbox.downloads == 3
    assert small.whole("async").rows == 1000
    assert small.requests[CREATE] == 1
    assert small.sandbox.billed_records == 1000


@pytest.mark.parametrize("fault", ["zip_two_csvs", "zip_other_members", "column_added"])
def test_a_file_that_is_odd(small: Nights, fault: str) -> None:
    """A file with more in it than one CSV of known columns brings all of its records."""
    small.sandbox.faults = {fault: 1}
    assert small.whole("async").rows == 1000


def test_a_file_without_ids(small: Nights) -> None:
    """A file without a needed column ends the run, and stays on disk: it is paid for."""
    small.sandbox.faults = {"column_missing": 9}
    assert isinstance(small.failure("async"), ContractError)
    assert "zip" in small.files
    small.sandbox.faults = {}
    assert small.whole("async").rows == 1000
    assert small.sandbox.billed_records == 1000


def test_a_count_that_is_wrong(small: Nights) -> None:
    """A file that holds other than was announced is not trusted: the next run asks another."""
    small.sandbox.faults = {"report_count_wrong": 1}
    error = small.failure("async")
    assert "announces 1001 records and holds 1000" in str(error)
    assert small.requests[CREATE] == 1
    assert small.whole("async").billed == 1001 + 1000
    assert small.requests[CREATE] == 2


def test_the_other_shape(small: Nights) -> None:
    """Reports in the other documented shape are understood from creation to file."""
    small.sandbox.faults = {"shape_flat": 99}
    assert small.whole("async").rows == 1000


# Reports that were cut


@pytest.mark.slow
def test_truncated_reports(build: Callable[..., Nights]) -> None:
    """A report that was cut gives what it has, and another is asked only for the rest, on and on.

    Of the last second that came there may be more: its records are paid for once again.
    """
    night = build(faults={"report_truncated": 1000}, truncate_after=700)
    outcome = night.fetch("async")
    assert outcome.failure is None
    found = sorted(outcome.fetched, key=lambda each: each.slice)
    assert all(690 < each.rows < 700 for each in found[1:])
    assert sum(each.rows for each in found) == 2500
    edges = [(each.slice.window.start, each.slice.window.end) for each in found]
    assert [end for _, end in edges[:-1]] == [start for start, _ in edges[1:]]
    assert (edges[0][0], edges[-1][1]) == (night.part.window.start, night.part.window.end)
    assert sum(each.billed for each in found) == night.sandbox.billed_records
    again = night.sandbox.billed_records - 2500
    assert again < 20
    night.night(via="async")
    assert len(night.records()) == 2500
    assert night.requests[CREATE] == 4
    assert night.ledger.billed == night.sandbox.billed_records
    assert is_whole(night.ledger, night.part.source, DAY)
    assert list(night.folder.iterdir()) == []


def test_truncated_and_unsorted(build: Callable[..., Nights]) -> None:
    """Where nobody knows what is lacking of a report that was cut, both halves are asked for."""
    night = build(faults={"report_truncated_unsorted": 1}, truncate_after=400)
    outcome = night.fetch("async")
    noon = night.part.window.start + timedelta(hours=12)
    assert [each.slice.window for each in outcome.fetched] == [
        Window(night.part.window.start, noon), Window(noon, night.part.window.end)]  # fmt: skip
    assert sum(each.rows for each in outcome.fetched) == 2500
    assert sum(each.billed for each in outcome.fetched) == night.sandbox.billed_records == 2900


def slowly(night: Nights) -> Callable[[str, int], None]:
    """A progress behind whose first step reports take longer than `report_timeout`."""
    night.change(report_timeout=timedelta(milliseconds=200))

    def tell(_what: str, _rows: int) -> None:
        night.sandbox.pending_seconds = 0.6

    return tell


def test_a_rest_that_does_not_come(build: Callable[..., Nights]) -> None:
    """A rest that does not come is a hole; what came before it is taken in, and not asked again."""
    night = build(faults={"report_truncated": 1}, truncate_after=400)
    this = night.night(via="async", progress=slowly(night))
    assert [hole["day"] for hole in this.holes] == [str(DAY)]
    assert 390 < len(night.records()) <= 400
    assert not is_whole(night.ledger, night.part.source, DAY)
    night.change(report_timeout=timedelta(seconds=20))
    assert night.night(via="sync").holes == []
    assert len(night.records()) == 2500
    assert night.requests[CREATE] == 2
    assert night.sandbox.billed_records == night.ledger.billed


@pytest.mark.slow
def test_a_half_that_does_not_come(build: Callable[..., Nights]) -> None:
    """Nor does a half that fails keep the other from coming."""
    night = build(faults={"report_truncated_unsorted": 1}, truncate_after=400)
    [first] = [hole["day"] for hole in night.night(via="async", progress=failing(night)).holes]
    assert first == str(DAY)
    assert {row["received_at"].hour >= 12 for row in night.records().values()} == {True}
    assert night.night(via="async").holes == []
    assert len(night.records()) == 2500
    assert night.sandbox.billed_records == night.ledger.billed == 2900


def failing(night: Nights) -> Callable[[str, int], None]:
    """A progress behind whose first step the next report fails, as often as it is asked for."""

    def tell(_what: str, _rows: int) -> None:
        if "report_failed" not in night.sandbox.faults:
            night.sandbox.faults = {"report_failed": 4}

    return tell


def test_records_of_truncated_reports(build: Callable[..., Nights]) -> None:
    """What the ledger says of a day's records is what the store holds."""
    night = build(faults={"report_truncated": 1000}, truncate_after=1300)
    night.night(via="async")
    assert sum(entry["records"] for entry in night.ledger.downloads) == len(night.records())


# Crashes


@pytest.mark.slow
@pytest.mark.parametrize("via", ["sync", "async"])
def test_stopped_behind_the_ledger(
    build: Callable[..., Nights], via: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was stopped between the ledger and its files pays nothing again."""
    faults = {"report_truncated": 1} if via == "async" else {"cursor_expired": 1}
    night = build(faults=faults)
    with monkeypatch.context() as patch:
        patch.setattr(underway, "clear", lambda *_: stop("", 0))
        with pytest.raises(KeyboardInterrupt):
            night.night(via=via)
    billed = night.sandbox.billed_records
    assert night.night(via=via).exit_code == 0
    assert night.sandbox.billed_records == night.ledger.billed == billed
    assert len(night.records()) == 2500
    night.night(via=via)
    assert list(night.folder.iterdir()) == []


def test_stopped_behind_the_ledger_of_a_part(
    build: Callable[..., Nights], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So does one whose slice had come in part: the report of the rest is not asked for again."""
    night = build(faults={"report_truncated": 1}, truncate_after=400)
    with monkeypatch.context() as patch:
        patch.setattr(underway, "clear", lambda *_: stop("", 0))
        with pytest.raises(KeyboardInterrupt):
            night.night(via="async", progress=slowly(night))
    assert night.requests[CREATE] == 2
    store, ledger = Store.open(night.settings.store), night.ledger
    # By the day before, the rest would be asked for in several listings.
    before = {"start": "2026-01-04T00:00:00Z", "end": "2026-01-05T00:00:00Z", "records": 9000}
    ledger.downloads.append(ledger.downloads[0] | before | {"billed": 0})
    store.save(ledger)
    night.change(report_timeout=timedelta(seconds=20))
    assert night.night(via="sync").exit_code == 0
    assert night.sandbox.billed_records == night.ledger.billed
    assert night.requests == {
        CREATE: 2, "GET /v3/media/{id} 200": 2,
        "GET /v2/reports/{id} 200": night.requests["GET /v2/reports/{id} 200"],
    }  # fmt: skip
    assert len(night.records()) == 2500


def test_the_day_of_a_stopped_run(build: Callable[..., Nights]) -> None:
    """A slice keeps the as_of of the run that began it: its records are as they were then."""
    night = build()
    with pytest.raises(KeyboardInterrupt):
        night.fetch("sync", stop)
    night.night(via="sync", as_of=parse_moment("2026-01-07T02:00:00Z"))
    assert {row["fetched_at"] for row in night.records().values()} >= {MORNING}
    assert {entry["as_of"] for entry in night.ledger.downloads} == {"2026-01-07T02:00:00Z"}


def test_a_signal_waits_for_answers_on_their_way() -> None:
    """What Vonage is about to answer is paid for: a signal lets it be put away, and begins no
    more."""
    came: list[str] = []

    def answer(name: str) -> None:
        time.sleep(0.3)
        came.append(name)

    names = [str(number) for number in range(download.AT_ONCE + 5)]

    def run() -> None:
        with download.at_once([]) as submit:
            for name in names:
                submit(answer, name)
            raise SystemExit(143)

    with pytest.raises(SystemExit):
        run()
    assert sorted(came) == names[: download.AT_ONCE]
