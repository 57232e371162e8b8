"""The Reports API v2, one method per endpoint.

Facts: Reports API reference (2.2.2 and the SDKs of 2026). Sync queries reach 24 h and page by
1,000 records; 10 requests/s are allowed there and 5/s on the asynchronous endpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from reconcile.days import Window, iso, parse_moment
from reconcile.errors import ReportError, UnreachableError, UsageError
from reconcile.reports.transport import Pacer, Transport
from reconcile.settings import Account, Settings

PRODUCT = "SMS"
DIRECTION = "outbound"
SYNC_PER_SECOND, ASYNC_PER_SECOND = 10, 5
IDS_PER_CALL = 20
PAGE_RECORDS = 1000
# How far Vonage's clock and ours may lie apart.
CLOCKS = timedelta(minutes=5)


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
    window: tuple[str, str]


class Client:
    """One account's access to the Reports API.

    Every method raises `ApiError` (or `AuthError`, `RateLimitError`) with the API's own words, and
    `UnreachableError` where no whole answer came within the allowed tries.
    """

    def __init__(self, account: Account, settings: Settings) -> None:
        self._account, self._http = account, Transport(account, settings)
        self._sync, self._async = Pacer(SYNC_PER_SECOND), Pacer(ASYNC_PER_SECOND)

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def records(self, window: Window, after: str | None = None) -> Iterator[Page]:
        """Pages of the records received in a window of at most 24 h.

        Follows `_links.next` (or `cursor` and `iv`) until there is none.

        Args:
            window: when they were received.
            after: the `next` of a page that is here already, to go on from there.
        """
        base = self._base() | {
            "date_start": iso(window.start),
            "date_end": iso(window.end),
            "show_concatenated": "true",
        }
        query = after or urlencode(base)
        seen = {query}
        while True:
            page = self._page(query, base)
            yield page
            if page.next is None:
                return
            if page.next in seen or not page.records:
                what = "the same cursor again" if page.records else "more without any record"
                raise UnreachableError(
                    f"a page of {iso(window.start)} points on to {what}: Vonage's listing does not "
                    "end; run again"
                )
            seen.add(query := page.next)

    def records_by_id(self, ids: list[str]) -> Page:
        """The newest state of at most 20 messages."""
        base = self._base() | {"id": ",".join(ids), "show_concatenated": "true"}
        return self._page(urlencode(base), base)

    def create_report(self, window: Window, asked_at: datetime | None = None) -> Report:
        """Asks for an asynchronous report of a window.

        A report is paid for once it is asked for, even if the answer is lost: after a failure it
        is looked for among the account's reports before another is asked for.

        Args:
            window: when its records were received.
            asked_at: when it was asked for before, if it was, without an answer.
        """
        body = self._base() | {
            "date_start": iso(window.start),
            "date_end": iso(window.end),
            "show_concatenated": True,
        }
        since = asked_at

        def attempt() -> Report:
            nonlocal since
            if since is not None and (found := self._find_report(window, since)):
                return found
            since = since or datetime.now(UTC)
            return _report(self._http.json_once("POST", "/v2/reports", self._async, body=body))

        return self._http.retrying(attempt, "POST /v2/reports")

    def _find_report(self, window: Window, since: datetime) -> Report | None:
        """The newest report of this window that was asked for since then and may end well."""
        query = {
            "account_id": self._account.account_id,
            "status": "PENDING,PROCESSING,SUCCESS",
            "date_from": iso(since - CLOCKS),
        }
        listed = self._http.json_once("GET", "/v2/reports", self._async, query=query).get("reports")
        found = [
            _report(body)
            for body in (listed if isinstance(listed, list) else [])
            if isinstance(body, dict) and body.get("product") == PRODUCT
        ]
        ours = [report for report in found if _same_window(report.window, window)]
        return max(ours, key=lambda report: report.received_at, default=None)

    def report(self, request_id: str) -> Report:
        """The state of an asynchronous report."""
        path = f"/v2/reports/{quote(request_id, safe='')}"
        return _report(self._http.json("GET", path, self._async))

    def download(self, href: str, target: Path) -> int:
        """Streams a finished report to a file, which appears only when it is whole.

        Returns:
            Its size in bytes.
        """
        path, query = _path_and_query(href)
        return self._http.file(path + (f"?{query}" if query else ""), target)

    def _base(self) -> dict[str, Any]:
        return {
            "account_id": self._account.account_id,
            "product": PRODUCT,
            "direction": DIRECTION,
        }

    def _page(self, query: str, base: dict[str, Any]) -> Page:
        body = self._http.json("GET", "/v2/reports/records", self._sync, query=query)
        records = body.get("records")
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise UnreachableError("Vonage's answer to GET /v2/reports/records holds no records")
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
    request_id, count = body.get("request_id"), body.get("items_count")
    if not request_id:
        raise ReportError("Vonage's answer names no request_id")
    asked = body.get("request_params")
    window = body | asked if isinstance(asked, dict) else body
    return Report(
        request_id=str(request_id),
        status=str(body.get("request_status") or body.get("status") or "").upper(),
        items_count=int(str(count)) if str(count).isdecimal() else None,
        download=_href(body, "download_report") or body.get("download_url") or None,
        received_at=str(body.get("receive_time") or ""),
        window=(str(window.get("date_start") or ""), str(window.get("date_end") or "")),
    )


def _same_window(found: tuple[str, str], wanted: Window) -> bool:
    try:
        return tuple(map(parse_moment, found)) == (wanted.start, wanted.end)
    except UsageError:
        return False
