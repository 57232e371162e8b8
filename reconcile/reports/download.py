"""Downloads slices: page or poll, keep what was paid for, refresh by id.

A slice is one account's window, at most a day long. What Vonage was paid for lies in
`.work/slices` before anything else happens, so that a crash never makes us ask for it again.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reconcile.days import day_window, iso, parse_moment
from reconcile.errors import (
    ApiError,
    AuthError,
    DiskError,
    RateLimitError,
    ReportError,
    VonageError,
)
from reconcile.reports import raw as raw_slices
from reconcile.reports.client import IDS_PER_CALL, PAGE_RECORDS, Client, Report
from reconcile.reports.keep import merge as merge
from reconcile.reports.keep import publish
from reconcile.reports.keep import take_in as take_in
from reconcile.reports.slices import Budget as Budget
from reconcile.reports.slices import Fetched
from reconcile.reports.slices import Slice as Slice
from reconcile.reports.slices import choose_via as choose_via
from reconcile.reports.slices import is_whole as is_whole
from reconcile.settings import Settings
from reconcile.store import Ledger, Store, read_json, write_json

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

Progress = Callable[[str, int], None]


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
    request_id, taken = get(client, part, settings, folder, budget, progress)
    fetched = Fetched(
        part, folder / f"{part.name}.parquet", via, request_id, taken.rows, taken.rows,
        taken.new_columns,
    )  # fmt: skip
    taken.path.replace(fetched.raw)
    write_json(note, {"raw": fetched.raw.name, "via": via, "request_id": request_id,
                      "rows": fetched.rows, "billed": fetched.billed,
                      "new_columns": fetched.new_columns})  # fmt: skip
    return fetched


def begun_at(part: Slice, folder: Path, as_of: datetime) -> datetime:
    """When a slice was begun: the as_of of the first run that tried, kept until it is taken in.

    A report that a stopped run asked for shows the records as they were then, not as they are now.
    """
    note = folder / f"{part.name}.begun.json"
    if not note.exists():
        write_json(note, {"as_of": iso(as_of)})
    return parse_moment(str(read_json(note)["as_of"]))


def _by_pages(
    client: Client, part: Slice, _settings: Settings, folder: Path, budget: Budget,
    progress: Progress,
) -> tuple[str, raw_slices.RawSlice]:  # fmt: skip
    """Page after page, each on disk before the next is asked for."""
    kept = folder / f"{part.name}.pages"
    known = list(_read_pages(kept, only="next"))
    after = known[-1] if known else None
    if not known or after:
        budget.ask(PAGE_RECORDS)
        try:
            for page in client.records(part.window, after):
                _append_page(kept, page.request_id, page.next, page.records)
                budget.spend(len(page.records))
                progress(f"{part.account_id} {part.day}", len(page.records))
                if page.next:
                    budget.ask(PAGE_RECORDS)
        except ApiError as error:
            if after and not isinstance(error, (AuthError, RateLimitError)) and error.status < 500:
                kept.unlink()  # the place where it went on is known no more: begin anew next time
            raise
    taken = raw_slices.write_pages(_read_pages(kept, only="records"), folder / f"{part.name}.part")
    return next(_read_pages(kept, only="request_id")), taken


def _append_page(kept: Path, request_id: str, onward: str | None, records: Any) -> None:
    line = json.dumps({"request_id": request_id, "next": onward, "records": records}, default=str)
    try:
        with kept.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DiskError(f"{kept} cannot be written: {error.strerror or error}") from None


def _read_pages(kept: Path, only: str) -> Iterator[Any]:
    """One thing of each page that is whole; what a crash left half written is cut off."""
    if not kept.exists():
        return
    good = 0
    with kept.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            good += len(line)
            yield json.loads(line)[only]
    if good < kept.stat().st_size:
        os.truncate(kept, good)


def _by_report(
    client: Client, part: Slice, settings: Settings, folder: Path, budget: Budget,
    progress: Progress,
) -> tuple[str, raw_slices.RawSlice]:  # fmt: skip
    asked, archive = folder / f"{part.name}.report.json", folder / f"{part.name}.zip"
    request_id = _ask(client, part, asked, budget)
    if not archive.exists():
        try:
            report = _poll(client, request_id, settings, asked)
            write_json(asked, {"request_id": request_id, "items_count": report.items_count})
            client.download(str(report.download), archive)
        except ApiError as error:
            if error.status not in (404, 410):
                raise
            asked.unlink()
            raise ReportError(f"Vonage knows report {request_id} no more: run again") from None
    count = read_json(asked).get("items_count")
    try:
        taken = raw_slices.write_archive(archive, folder / f"{part.name}.part")
        if count is not None and count != taken.rows:
            raise ReportError(
                f"report {request_id} announces {count} records and holds {taken.rows}: run again"
            )
    except ReportError:
        archive.unlink()  # the file can be had again for 72 h, and costs nothing more
        raise
    budget.spend(taken.rows)
    progress(f"{part.account_id} {part.day}", taken.rows)
    return request_id, taken


def _ask(client: Client, part: Slice, asked: Path, budget: Budget) -> str:
    """The id of the slice's report, which is asked for only if it was not before.

    That it is being asked for stands on disk first: should the answer be lost, with us or without
    us, the report is looked for before another is paid for.
    """
    known = read_json(asked) if asked.exists() else {}
    if "request_id" in known:
        return str(known["request_id"])
    before = known.get("asked_at")
    if before is None:
        budget.ask(0)
        write_json(asked, {"asked_at": iso(datetime.now(UTC))})
    try:
        report = client.create_report(part.window, before and parse_moment(before))
    except ApiError as error:
        if error.status < 500:
            asked.unlink()  # it was refused: there is no report
        raise
    write_json(asked, {"request_id": report.request_id})
    return report.request_id


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


def refresh(
    store: Store, con: Backend, client: Client, ledger: Ledger, day: date, ids: list[str],
    account_id: str, as_of: datetime, pii: str, budget: Budget, progress: Progress,
) -> int:  # fmt: skip
    """Asks by id for the newest state of messages of one day, 20 a call.

    Returns:
        How many records came back. Ids that were not found keep the state they had.
    """
    part = Slice(account_id, day_window(day))
    raw = store.work / "slices" / f"refresh-{part.name}.part"
    raw.parent.mkdir(parents=True, exist_ok=True)
    asked, failure = 0, None

    def pages() -> Iterable[list[dict[str, Any]]]:
        nonlocal asked, failure
        for at in range(0, len(ids), IDS_PER_CALL):
            batch = ids[at : at + IDS_PER_CALL]
            try:
                budget.ask(len(batch))
                page = client.records_by_id(batch)
            except VonageError as error:
                failure = error  # what came before it is paid for, and is kept
                return
            asked += len(batch)
            budget.spend(len(page.records))
            progress(f"{account_id} {day} by id", len(page.records))
            yield page.records

    taken = raw_slices.write_pages(pages(), raw)
    publish(store, con, part, raw, as_of, pii, by="refresh")
    raw.unlink()
    ledger.refreshes.append({"account_id": account_id, "day": str(day), "asked": asked,
                             "billed": taken.rows, "as_of": iso(as_of)})  # fmt: skip
    store.save(ledger)
    if failure:
        raise failure
    return taken.rows
