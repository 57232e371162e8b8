"""Downloads slices: plan, page or poll, keep what was paid for, refresh by id.

A slice is one account's window, at most a day long. What Vonage was paid for lies whole in
`.work/slices` before anything else happens, so that a crash never makes us ask for it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconcile.days import Window, day_window, iso
from reconcile.errors import BudgetError, ReportError, VonageError
from reconcile.reports import parse
from reconcile.reports.client import IDS_PER_CALL, PAGE_RECORDS, PRODUCT, Client, Report
from reconcile.settings import Settings
from reconcile.store import Ledger, Staged, Store, read_json, write_json
from reconcile.tables import RECORDS, REJECTS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# Above this Vonage advises the asynchronous API.
ASYNC_FROM_RECORDS = 10_000
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class Slice:
    """One account's window of records."""

    account_id: str
    window: Window
    product: str = PRODUCT

    @property
    def name(self) -> str:
        """A file name that tells it from all others."""
        start = iso(self.window.start).replace(":", "")
        return f"{self.product}-{self.account_id}-{start}"

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
    """`sync` for parts of a day and for days expected to be small, else `async`."""
    if settings.via != "auto":
        return settings.via
    expected = expected_records(ledger, part.account_id)
    whole = part.window == day_window(part.day)
    small = expected is not None and expected <= ASYNC_FROM_RECORDS
    return "async" if whole and not small else "sync"


def fetch_slice(
    client: Client, part: Slice, via: str, settings: Settings, folder: Path, budget: Budget,
    progress: Progress,
) -> Fetched:  # fmt: skip
    """Brings one slice to disk, or finds it there since a run before was stopped.

    Raises:
        VonageError: it cannot be had now; what was paid for stays on disk.
        BudgetError: the next request could exceed `max_billed_records`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / f"{part.name}.json"
    if note.exists():
        known = read_json(note)
        return Fetched(part, folder / known["raw"], known["via"], known["request_id"],
                       known["rows"], known["billed"], known["new_columns"])  # fmt: skip
    get = _by_pages if via == "sync" else _by_report
    fetched = get(client, part, settings, folder, budget, progress)
    write_json(note, {"raw": fetched.raw.name, "via": via, "request_id": fetched.request_id,
                      "rows": fetched.rows, "billed": fetched.billed,
                      "new_columns": fetched.new_columns})  # fmt: skip
    return fetched


def _by_pages(
    client: Client, part: Slice, settings: Settings, folder: Path, budget: Budget,
    progress: Progress,
) -> Fetched:  # fmt: skip
    raw = folder / f"{part.name}.parquet"
    partial = raw.with_suffix(".part")
    first: list[str] = []

    def pages() -> Iterable[list[dict[str, Any]]]:
        budget.ask(PAGE_RECORDS)
        for page in client.records(part.window):
            first.append(page.request_id)
            budget.spend(len(page.records))
            progress(f"{part.account_id} {part.day}", len(page.records))
            yield page.records
            budget.ask(PAGE_RECORDS)

    taken = parse.write_pages(pages(), partial)
    partial.replace(raw)
    return Fetched(part, raw, "sync", first[0], taken.rows, taken.rows, taken.new_columns)


def _by_report(
    client: Client, part: Slice, settings: Settings, folder: Path, budget: Budget,
    progress: Progress,
) -> Fetched:  # fmt: skip
    asked = folder / f"{part.name}.report.json"
    archive, raw = folder / f"{part.name}.zip", folder / f"{part.name}.parquet"
    if not asked.exists():
        budget.ask(0)
        report = client.create_report(part.window)
        write_json(asked, {"request_id": report.request_id})
    request_id = str(read_json(asked)["request_id"])
    if not archive.exists():
        report = _poll(client, request_id, settings, asked)
        client.download(str(report.download), archive)
        write_json(asked, {"request_id": request_id, "items_count": report.items_count})
    count = read_json(asked).get("items_count")
    try:
        taken = parse.write_archive(archive, raw.with_suffix(".part"))
    except ReportError:
        archive.unlink()  # the file can be had again for 72 h, and costs nothing more
        raise
    if count is not None and count != taken.rows:
        archive.unlink()
        raise ReportError(f"report {request_id} announces {count} records and holds {taken.rows}")
    raw.with_suffix(".part").replace(raw)
    budget.spend(taken.rows)
    progress(f"{part.account_id} {part.day}", taken.rows)
    return Fetched(part, raw, "async", request_id, taken.rows, taken.rows, taken.new_columns)


def _poll(client: Client, request_id: str, settings: Settings, asked: Path) -> Report:
    """Waits, ever longer, until a report is there."""
    wait, longest = settings.poll_first.total_seconds(), settings.poll_max.total_seconds()
    ends = time.monotonic() + settings.report_timeout.total_seconds()
    while True:
        time.sleep(wait)
        report = client.report(request_id)
        if report.status == "SUCCESS" and report.download:
            return report
        if report.status in ("FAILED", "ABORTED", "TRUNCATED"):
            asked.unlink()
            raise ReportError(f"Vonage ended report {request_id} as {report.status}: run again")
        if time.monotonic() > ends:
            raise ReportError(
                f"report {request_id} is still {report.status or 'nothing'}: run again to go on "
                "waiting for the same report"
            )
        wait = min(wait * 1.5, longest)


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


def take_in(
    store: Store, con: Backend, ledger: Ledger, fetched: Fetched, as_of: datetime, pii: str
) -> int:
    """Merges a fetched slice into `records`, enters it in the ledger, and drops its raw file.

    Returns:
        How many of its rows were no records.
    """
    part = fetched.slice
    args = (fetched.raw, part.product, part.account_id, part.window, as_of, pii)
    fresh, bad = parse.records(*args), parse.rejects(*args)
    kept = merge(store, con, part.day, fresh, as_of)
    staged = [kept]
    found = con.con.execute(f"SELECT count(*) FROM ({bad})").fetchone()  # noqa: S608 - built from our own names only
    bad_rows = found[0] if found else 0
    if bad_rows:
        con.con.execute(f"""
            CREATE OR REPLACE VIEW rejects_merged AS
            SELECT * FROM ({store.query(REJECTS, [as_of.date()])})
            WHERE source NOT IN (SELECT source FROM ({bad}))
            UNION ALL SELECT * FROM ({bad}) ORDER BY source, line
        """)  # noqa: S608 - built from our own names only
        staged.append(store.write_view(con, "rejects_merged", REJECTS, as_of.date(), as_of))
    store.publish(staged)
    ledger.downloads.append(
        {"account_id": part.account_id, "product": part.product, "start": iso(part.window.start),
         "end": iso(part.window.end), "via": fetched.via, "request_id": fetched.request_id,
         "records": fetched.rows - bad_rows, "billed": fetched.billed, "rejects": bad_rows,
         "as_of": iso(as_of)}
    )  # fmt: skip
    store.save(ledger)
    for path in fetched.raw.parent.glob(f"{part.name}.*"):
        path.unlink()
    return bad_rows


def merge(store: Store, con: Backend, day: date, fresh: str, as_of: datetime) -> Staged:
    """Stages a day's records with fresh ones (SQL) among them: of one key the newest state stays."""
    columns = ", ".join(RECORDS.names)
    con.con.execute(f"""
        CREATE OR REPLACE VIEW records_merged AS
        SELECT {columns} FROM (({store.query(RECORDS, [day])}) UNION ALL BY NAME ({fresh}))
        QUALIFY row_number() OVER (
            PARTITION BY {", ".join(RECORDS.key)}
            ORDER BY fetched_at DESC, finalized_at DESC NULLS LAST
        ) = 1
        ORDER BY account_id, message_id
    """)  # noqa: S608 - built from our own names only
    return store.write_view(con, "records_merged", RECORDS, day, as_of)


def refresh(
    store: Store, con: Backend, client: Client, ledger: Ledger, day: date, ids: list[str],
    account_id: str, as_of: datetime, pii: str, budget: Budget, progress: Progress,
) -> int:  # fmt: skip
    """Asks by id for the newest state of messages of one day, 20 a call.

    Returns:
        How many records came back. Ids that were not found keep the state they had.
    """
    folder = store.work / "slices"
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / f"refresh-{account_id}-{day}.parquet"

    failure: VonageError | None = None

    def pages() -> Iterable[list[dict[str, Any]]]:
        nonlocal failure
        for at in range(0, len(ids), IDS_PER_CALL):
            batch = ids[at : at + IDS_PER_CALL]
            try:
                budget.ask(len(batch))
                page = client.records_by_id(batch)
            except VonageError as error:
                failure = error  # what came before it is paid for, and is kept
                return
            budget.spend(len(page.records))
            progress(f"{account_id} {day} by id", len(page.records))
            yield page.records

    taken = parse.write_pages(pages(), raw)
    try:
        fresh = parse.records(raw, PRODUCT, account_id, day_window(day), as_of, pii)
        store.publish([merge(store, con, day, fresh, as_of)])
    finally:
        raw.unlink()
    ledger.refreshes.append({"account_id": account_id, "day": str(day), "asked": len(ids),
                             "billed": taken.rows, "as_of": iso(as_of)})  # fmt: skip
    store.save(ledger)
    if failure:
        raise failure
    return taken.rows


