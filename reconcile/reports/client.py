"""The Reports API v2, one method per endpoint.

Facts: Reports API reference (2.2.2 and the SDKs of 2026). Sync queries reach 24 h and page by
1,000 records; 10 requests/s are allowed there and 5/s on the asynchronous endpoints.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from reconcile.days import iso, parse_moment
from reconcile.errors import AuthError, ContractError, UnreachableError, UsageError
from reconcile.reports.budget import Budget
from reconcile.reports.raw import REQUIRED
from reconcile.reports.slices import Slice, Source
from reconcile.reports.transport import GarbledError, Pacer, Transport
from reconcile.settings import Account, Settings

DIRECTION = "outbound"
SYNC_PER_SECOND, ASYNC_PER_SECOND = 10, 5
IDS_PER_CALL = 20
PAGE_RECORDS = 1000
# How far Vonage's clock and ours may lie apart.
CLOCKS = timedelta(hours=1)
RECORDS = "/v2/reports/records"
# Only SMS knows parts of long messages.
CONCATENATED: dict[str, dict[str, str]] = {"SMS": {"show_concatenated": "true"}, "MESSAGES": {}}
EVERYBODY = "*"
# Statuses of reports that may still yield a file.
ALIVE = ("PENDING", "PROCESSING", "SUCCESS", "TRUNCATED")


@dataclass(frozen=True)
class Page:
    """One page of a sync query; `next` is the query of the page that follows, if one does."""

    records: list[dict[str, Any]]
    status: str
    request_id: str
    next: str | None
    ids_not_found: list[str]


@dataclass(frozen=True)
class Report:
    """The state of an asynchronous report."""

    request_id: str
    status: str
    items_count: int | None
    download: str | None
    received_at: str


class LoopError(UnreachableError):
    """A listing that leads back to where it was."""


class Client:
    """The access of one API key to the Reports API; threads may share it.

    Every method raises `ApiError` (or `AuthError`, `RateLimitError`) with the API's own words, and
    `UnreachableError` where no whole answer came within the allowed tries. Once the credentials
    (401), or they for an account (403), were refused, every further call for it ends so at once.
    """

    def __init__(self, account: Account, settings: Settings, budget: Budget | None = None) -> None:
        self._http, self._budget = Transport(account, settings), budget or Budget(None)
        self._sync, self._async = Pacer(SYNC_PER_SECOND), Pacer(ASYNC_PER_SECOND)
        self._refused: dict[str, AuthError] = {}

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def stop(self) -> None:
        """Lets no further request begin: the run is over."""
        self._http.stop()

    def pause(self, seconds: float) -> None:
        """Waits, unless the run is over."""
        self._http.pause(seconds)

    def records(
        self, part: Slice, after: str | None = None, seen: Iterable[str] = ()
    ) -> Iterator[Page]:
        """Pages of the records of a slice of at most 24 h.

        Follows `_links.next` (or `cursor` and `iv`) until there is none. A page that points to one
        that came before, or on without a record, is the last: an error with its number follows it.

        Args:
            part: whose records, and when they were received.
            after: the `next` of a page that is here already, to go on from there.
            seen: the `next` of every page that is here already.
        """
        base = _base(part.source) | {
            "date_start": iso(part.window.start),
            "date_end": iso(part.window.end),
            **_wanted(part.source),
        }
        query, known = after or urlencode(base), {*seen}
        for number in count(len(known) + 1):
            known.add(query)
            with self._welcome(part.account_id):
                page = self._page(query, base, PAGE_RECORDS)
            yield page
            where = f"page {number} of {part.name} points on to"
            if page.next is None:
                return
            if page.next in known:
                raise LoopError(f"{where} a page that came before: run again")
            if not page.records:
                raise UnreachableError(f"{where} more without a record: run again")
            query = page.next

    def records_by_id(self, source: Source, ids: list[str]) -> Page:
        """The newest state of at most 20 messages, by `message_id` or the API's own `id`."""
        base = _base(source) | {"id": ",".join(ids)} | CONCATENATED[source.product]
        with self._welcome(source.account_id, by_id=True):
            return self._page(urlencode(base), base, len(ids))

    def create_report(
        self, part: Slice, since: datetime, *, lost: bool = False, used: Container[str] = ()
    ) -> Report:
        """Asks for an asynchronous report of a slice.

        A report is paid for once it is asked for, even if the answer is lost: after a failure it
        is looked for among the account's reports before another is asked for.

        Args:
            part: whose records, and when they were received.
            since: when it was asked for first, at the earliest.
            lost: whether it was asked for before, without an answer.
            used: reports of the same slice that were of no use.
        """
        body = _base(part.source) | {
            "date_start": iso(part.window.start),
            "date_end": iso(part.window.end),
            **{k: True if v == "true" else v for k, v in _wanted(part.source).items()},
        }
        if part.subaccounts:
            body["include_subaccounts"] = True

        def attempt() -> Report:
            nonlocal lost
            if lost and (found := self._find_report(part, since, used)):
                return found
            lost = True
            return _report(self._http.json_once("POST", "/v2/reports", self._async, body=body))

        with self._welcome(part.account_id):
            return self._http.retrying(attempt, "POST /v2/reports")

    def _find_report(self, part: Slice, since: datetime, used: Container[str]) -> Report | None:
        """The newest report of this slice that was asked for since then and may end well."""
        query = {
            "account_id": part.account_id,
            "status": ",".join(ALIVE),
            "date_from": iso(since - CLOCKS),
        }
        listed = self._http.json_once("GET", "/v2/reports", self._async, query=query).get("reports")
        bodies = [body for body in (listed if isinstance(listed, list) else [])
                  if isinstance(body, dict) and _asks_for(body, part)]  # fmt: skip
        found = [report for report in map(_report, bodies) if report.request_id not in used]
        return max(found, key=lambda report: report.received_at, default=None)

    def report(self, request_id: str, account_id: str = EVERYBODY) -> Report:
        """The state of an asynchronous report, which is one of that account."""
        path = f"/v2/reports/{quote(request_id, safe='')}"

        def attempt() -> Report:
            return _report(self._http.json_once("GET", path, self._async))

        with self._welcome(account_id):
            return self._http.retrying(attempt, f"GET {path}")

    def clock(self, account_id: str, now: datetime) -> datetime | None:
        """Vonage's time, asked by what bills nothing: the list of an account's pending reports.

        Args:
            account_id: whether we are let in for it.
            now: by our clock.
        """
        query = {"account_id": account_id, "status": "PENDING", "date_from": iso(now - CLOCKS)}
        path = "/v2/reports"
        with self._welcome(account_id):
            return self._http.retrying(
                lambda: self._http.clock(path, self._async, query), f"GET {path}"
            )

    def download(self, href: str, target: Path) -> int:
        """Streams a finished report to a file, which appears only when it is whole.

        Returns:
            Its size in bytes.
        """
        path, query = _path_and_query(href)
        return self._http.file(path + (f"?{query}" if query else ""), target)

    @contextmanager
    def _welcome(self, account_id: str, *, by_id: bool = False) -> Iterator[None]:
        """Lets nobody ask again where credentials were refused; 403 by id forbids only that."""
        for who in (EVERYBODY, account_id):
            if who in self._refused:
                raise self._refused[who]
        try:
            yield
        except AuthError as error:
            if error.status == 401 or not by_id:
                self._refused[EVERYBODY if error.status == 401 else account_id] = error
            raise

    def _page(self, query: str, base: dict[str, Any], most: int) -> Page:
        """One page; every try may bill so many records at most."""

        def attempt() -> Page:
            with self._budget.asking(most) as bill:
                page = _page(self._http.json_once("GET", RECORDS, self._sync, query=query), base)
                bill(len(page.records))
            return page

        return self._http.retrying(attempt, f"GET {RECORDS}")


def _base(source: Source) -> dict[str, Any]:
    return {
        "account_id": source.account_id,
        "product": source.product,
        "direction": DIRECTION,
    }


def _wanted(source: Source) -> dict[str, str]:
    """What a listing is told besides: of Messages only channel SMS, as what comes is billed."""
    return CONCATENATED[source.product] | (
        {"provider": "sms"} if source.product == "MESSAGES" else {}
    )


def _page(body: dict[str, Any], base: dict[str, Any]) -> Page:
    records = body.get("records")
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise GarbledError(f"Vonage's answer to GET {RECORDS} holds no records")
    lacking = [name for name in REQUIRED if records and not any(name in r for r in records)]
    if lacking:
        raise ContractError(f"Vonage's records lack {', '.join(lacking)}: nothing can be joined")
    lost = str(body.get("ids_not_found") or "").split(",")
    return Page(
        records=records,
        status=str(body.get("request_status") or ""),
        request_id=str(body.get("request_id") or ""),
        next=_next_query(body, base),
        ids_not_found=[name.strip() for name in lost if name.strip()],
    )


def _path_and_query(href: str) -> tuple[str, str]:
    """What of a link is followed, on the configured host: no answer may lead us elsewhere."""
    try:
        parts = urlsplit(href)
    except ValueError:
        raise UnreachableError("Vonage's answer holds a link that is none: run again") from None
    return "/" + parts.path.lstrip("/"), parts.query


def _next_query(body: dict[str, Any], base: dict[str, Any]) -> str | None:
    """The query of the next page: the next link's own, else the first with `cursor` and `iv`."""
    href = _href(body, "next")
    if href:
        # As it came: decoded and encoded again, a plus sign would not be the same.
        return _path_and_query(href)[1]
    if body.get("cursor"):
        return urlencode(base | {"cursor": str(body["cursor"]), "iv": str(body.get("iv") or "")})
    if body.get("request_status") == "TRUNCATED":
        raise UnreachableError("Vonage says that there are more records and does not say where")
    return None


def _href(body: dict[str, Any], name: str) -> str | None:
    """A link of an answer, be it an object with an href or bare."""
    links = body.get("_links")
    link = links.get(name) if isinstance(links, dict) else None
    href = link.get("href") if isinstance(link, dict) else link
    return href if isinstance(href, str) and href else None


def _report(body: dict[str, Any]) -> Report:
    """A report's state, in either of the two shapes that the documentation shows."""
    request_id, items = body.get("request_id"), body.get("items_count")
    if not request_id:
        raise GarbledError("Vonage's answer names no request_id")
    return Report(
        request_id=str(request_id),
        status=str(body.get("request_status") or body.get("status") or "").upper(),
        items_count=int(str(items)) if str(items).isdecimal() else None,
        download=_href(body, "download_report") or body.get("download_url") or None,
        received_at=str(body.get("receive_time") or ""),
    )


def _asks_for(body: dict[str, Any], part: Slice) -> bool:
    """Whether a report that is listed has the parameters of ours."""
    asked = body.get("request_params")
    told = body | asked if isinstance(asked, dict) else body
    try:
        window = tuple(parse_moment(str(told.get(name))) for name in ("date_start", "date_end"))
    except UsageError:
        return False
    with_subaccounts = str(told.get("include_subaccounts") or False).lower() == "true"
    return (
        window == (part.window.start, part.window.end)
        and told.get("product") == part.product
        and str(told.get("account_id") or part.account_id) == part.account_id
        and with_subaccounts == part.subaccounts
    )
