"""The asynchronous reports: each is made by a thread of its own, at its own pace."""

from __future__ import annotations

import json
import secrets
import threading
import time
import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from reconcile.sandbox.archive import write_archive
from reconcile.sandbox.cruelty import Cruelty
from reconcile.sandbox.fates import Fate
from reconcile.sandbox.protocol import (
    FILTERS,
    SWITCHES,
    Query,
    Request,
    Response,
    as_json,
    no_report,
    problem,
    read_moment,
    read_query,
)
from reconcile.sandbox.world import World

FILE_TTL = timedelta(hours=72)
REPORT_TTL = timedelta(days=4)
RUNNING = ("PENDING", "PROCESSING")
WITH_FILE = ("SUCCESS", "TRUNCATED")
REPORT_STATUSES = (*RUNNING, *WITH_FILE, "FAILED", "ABORTED")
_ECHOED = ("product", "account_id", "direction", "callback_url", *FILTERS)


class Host(Protocol):
    """What the reports need of the server: its time, pace and faults, and its books with a lock."""

    pending_seconds: float
    seconds_per_million: float
    link_host: str
    cruelty: Cruelty
    billed_records: int
    lock: threading.Lock

    @property
    def now(self) -> datetime:
        """The moment at which the world stands."""


@dataclass
class _Report:
    """An asynchronous report, from its creation to its file."""

    request_id: str
    account: str
    query: Query
    echo: dict[str, object]
    at: datetime
    file: Path
    fate: Fate
    status: str = "PENDING"
    started_at: datetime | None = None
    finished_at: datetime | None = None
    records: int = 0
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def is_running(self) -> bool:
        """Whether it may still end."""
        return self.status in RUNNING


class Reports:
    """Creates reports and answers the requests that concern them."""

    def __init__(self, host: Host, world: World, scratch: Path) -> None:
        self._host, self._world, self._scratch = host, world, scratch
        self._reports: dict[str, _Report] = {}
        self._threads: list[threading.Thread] = []

    def create(self, request: Request, account: str) -> Response:
        """A new report, of the world as it stands now."""
        try:
            body = json.loads(request.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise problem(400, "#invalid-json", "Malformed JSON", "Malformed JSON payload.")
        # Booleans come as JSON's or as text: Vonage takes both.
        present = {name: value for name, value in body.items() if value is not None}
        given = {n: str(v).lower() if isinstance(v, bool) else str(v) for n, v in present.items()}
        at = self._host.now
        query = read_query(given, at, is_report=True)
        self._world.accounts.demand_right(account, query.account_id)
        if given.get("include_subaccounts") == "true":
            others = self._world.accounts.subaccounts(query.account_id)
            query = replace(query, subaccounts=others)
        echo: dict[str, object] = {name: given[name] for name in _ECHOED if name in given}
        echo |= {name: given.get(name) == "true" for name in SWITCHES}
        start, end = query.window(at)
        echo |= {"date_start": _stamp(query.start or start), "date_end": _stamp(end)}
        return as_json(self._describe(self._start(account, query, echo, at)))

    def show_all(self, request: Request, account: str) -> Response:
        """The account's reports that have one of some statuses.

        Asked with a subaccount's key, those of its records that its primary created.
        """
        given = request.query
        wanted = {each.strip() for each in given.get("status", "").split(",")}
        dates = {name: read_moment(given.get(name, "")) for name in ("date_from", "date_to")}
        wrong = [name for name, moment in dates.items() if name in given and moment is None]
        wrong += [] if wanted <= set(REPORT_STATUSES) else ["status"]
        wrong += [] if given.get("account_id") else ["account_id"]
        if wrong:
            kind, title = "/reports#invalid-request-parameters", "Invalid request parameter"
            raise problem(400, kind, title, f"Invalid request parameter: {', '.join(wrong)}.")
        asked = given["account_id"]
        self._world.accounts.demand_right(account, asked)
        since, until = dates["date_from"], dates["date_to"]
        reports = [
            self._describe(report)
            for report in self._of(account)
            if report.status in wanted
            and asked in (account, report.query.account_id)
            and (since is None or report.at >= since)
            and (until is None or report.at < until)
        ]
        link = {"href": self._host.link_host + request.target}
        return as_json({"items_count": len(reports), "self_link": link["href"], "reports": reports})

    def show(self, request: Request, account: str) -> Response:
        """The status of a report."""
        return as_json(self._describe(self._find(request, account)))

    def cancel(self, request: Request, account: str) -> Response:
        """The report, aborted."""
        report = self._find(request, account)
        if not self._abort(report):
            ended = "The job is already in a terminated state such as `SUCCESS`, `TRUNCATED`, "
            kind, title = "/reports#invalid-abort-operation", "Invalid Abort Operation"
            raise problem(409, kind, title, ended + "`FAILED` or `ABORTED`.")
        return as_json(self._describe(report))

    def download(self, request: Request, account: str) -> Response:
        """The file of a report that has ended."""
        name = request.path.rpartition("/")[2]
        for report in self._of(account):
            ended = report.finished_at
            if report.file.stem == name and ended and self._host.now - ended <= FILE_TTL:
                named = f'attachment; filename="{report.query.product}_{report.request_id}.zip"'
                kind = "application/octet-stream"
                headers = {"Content-Type": kind, "Content-Disposition": named}
                return Response(200, report.file, headers)
        raise no_report(name)

    def close(self) -> None:
        """Aborts every report and waits for the threads."""
        for report in list(self._reports.values()):
            self._abort(report)
        for thread in self._threads:
            thread.join()

    def _start(self, account: str, query: Query, echo: dict[str, object], at: datetime) -> _Report:
        """Starts a report of the world as it stands at a moment."""
        request_id = f"ri{secrets.token_hex(3)[1:]}-{uuid.uuid4()}"
        file = self._scratch / f"{uuid.uuid4()}.zip"
        fate = self._host.cruelty.fate(lambda: self._world.count(query, at))
        report = _Report(request_id, account, query, echo, at, file, fate)
        self._reports[request_id] = report
        thread = threading.Thread(target=self._process, args=[report], daemon=True)
        self._threads.append(thread)
        thread.start()
        return report

    def _process(self, report: _Report) -> None:
        host = self._host
        if report.cancelled.wait(host.pending_seconds):
            return
        with host.lock:
            if report.is_running:
                report.status, report.started_at = "PROCESSING", host.now
        begun = time.monotonic()
        records, ended = self._write(report)
        pace = host.seconds_per_million * records / 1e6
        left = max(0.0, begun + pace - time.monotonic())
        report.cancelled.wait(left + report.fate.slow_seconds)
        with host.lock:
            if report.is_running:
                report.status, report.records = ended, records
                report.finished_at = host.now if ended in WITH_FILE else None
                host.billed_records += records
            else:
                report.file.unlink(missing_ok=True)

    def _write(self, report: _Report) -> tuple[int, str]:
        """Writes a report's file if it is to have one: how many records, and how it ends."""
        query, fate, stopped = report.query, report.fate, report.cancelled.is_set
        if fate.status not in WITH_FILE:
            return 0, fate.status
        member = f"report_{query.product}_{query.account_id}_{self._host.now:%Y%m%d}.csv"
        where = report.file, member, stopped
        try:
            records = write_archive(self._world, query, report.at, *where, fate.longest, fate.order)
        except Exception:  # whatever it was, a client learns of it as it would from Vonage
            return 0, "FAILED"
        return records, fate.status

    def _abort(self, report: _Report) -> bool:
        """Aborts a report, unless it has ended."""
        with self._host.lock:
            if not report.is_running:
                return False
            report.status = "ABORTED"
            report.cancelled.set()
            return True

    def _of(self, account: str) -> list[_Report]:
        """The account's reports that are not forgotten yet, oldest first."""
        now = self._host.now
        reports = list(self._reports.values())
        return [r for r in reports if r.account == account and now - r.at <= REPORT_TTL]

    def _find(self, request: Request, account: str) -> _Report:
        name = request.path.rpartition("/")[2]
        for report in self._of(account):
            if report.request_id == name:
                return report
        raise no_report(name)

    def _describe(self, report: _Report) -> dict[str, object]:
        """A report as creation, status, list and cancellation show it."""
        with self._host.lock:
            host = self._host.link_host
            links = {"self": {"href": f"{host}/v2/reports/{report.request_id}"}}
            body: dict[str, object] = {
                "request_id": report.request_id,
                "request_status": report.status,
                **report.echo,
                "receive_time": _stamp(report.at),
                "_links": links,
            }
            if report.started_at:
                body["start_time"] = _stamp(report.started_at)
            if report.finished_at:
                body["items_count"] = report.records + report.fate.miscount
                media = f"{host}/v3/media/{report.file.stem}"
                links["download_report"] = {"href": media}
        return body


def _stamp(moment: datetime) -> str:
    """A time of a report, which the API writes without a colon."""
    return f"{moment:%Y-%m-%dT%H:%M:%S}+0000"
