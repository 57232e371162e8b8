"""The Reports API v2, one method per endpoint: errors, rate limit and retries are settled here.

Facts: Reports API reference (2.2.2 and the SDKs of 2026). Sync queries reach 24 h and page by
1,000 records; 10 requests/s are allowed there and 5/s on the asynchronous endpoints.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from decimal import Decimal
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl, urljoin, urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from reconcile import __version__
from reconcile.days import Window, iso, parse_moment
from reconcile.errors import (
    ApiError,
    AuthError,
    DiskError,
    RateLimitError,
    ReportError,
    UnreachableError,
    UsageError,
)
from reconcile.settings import LOOPBACK, Account, Settings

T = TypeVar("T")

PRODUCT = "SMS"
DIRECTION = "outbound"
SYNC_PER_SECOND, ASYNC_PER_SECOND = 10, 5
IDS_PER_CALL = 20
PAGE_RECORDS = 1000
TRANSIENT = (429, 500, 502, 503, 504)
CHUNK_BYTES = 1 << 20
# Requests are spaced a little wider than the limit, so that their arrivals keep it too.
SLACK = 1.03

TERMINAL = ("SUCCESS", "TRUNCATED", "FAILED", "ABORTED")


class Pacer:
    """Lets requests through at most so often, whatever the number of threads."""

    def __init__(self, per_second: float) -> None:
        self._gap = SLACK / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleeps until the next request may go."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._gap
        time.sleep(turn - now)


@dataclass(frozen=True)
class Page:
    """One page of a sync query."""

    records: list[dict[str, Any]]
    status: str
    request_id: str
    next: dict[str, str] | None
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
        self._account, self._settings = account, settings
        self._sync, self._async = Pacer(SYNC_PER_SECOND), Pacer(ASYNC_PER_SECOND)
        self._session = requests.Session()
        self._session.auth = (account.api_key, account.api_secret)
        self._session.headers["User-Agent"] = f"dlr-reconcile/{__version__}"
        # A proxy of the company's has no business on loopback.
        self._session.trust_env = urlsplit(settings.base_url).hostname not in LOOPBACK

    def close(self) -> None:
        """Ends the connections."""
        self._session.close()

    # --- endpoints ------------------------------------------------------------------------

    def records(self, window: Window) -> Iterator[Page]:
        """Pages of the records received in a window of at most 24 h.

        Follows `_links.next` (or `cursor` and `iv`) until there is none.
        """
        query: dict[str, str] | None = self._base() | {
            "date_start": iso(window.start),
            "date_end": iso(window.end),
            "show_concatenated": "true",
        }
        seen: set[str] = set()
        number = 0
        while query is not None:
            number += 1
            page = self._page(query)
            yield page
            query = page.next
            if query is not None:
                cursor = query.get("cursor", "")
                if cursor in seen or not page.records:
                    what = "a page without records" if not page.records else "the same cursor again"
                    raise UnreachableError(
                        f"Vonage's page {number} of {iso(window.start)} points on to {what}: "
                        "run again"
                    )
                seen.add(cursor)

    def records_by_id(self, ids: list[str]) -> Page:
        """The newest state of at most 20 messages."""
        return self._page(self._base() | {"id": ",".join(ids), "show_concatenated": "true"})

    def create_report(self, window: Window) -> Report:
        """Asks for an asynchronous report of a window."""
        body = self._base() | {
            "date_start": iso(window.start),
            "date_end": iso(window.end),
            "show_concatenated": True,
        }
        asked_at = datetime.now(UTC) - timedelta(minutes=5)
        posted = False

        def attempt() -> Report:
            nonlocal posted
            if posted and (found := self._find_report(window, asked_at)):
                return found
            posted = True
            return _report(self._once("POST", "/v2/reports", self._async, body=body))

        return self._retrying(attempt, "POST /v2/reports")

    def _find_report(self, window: Window, since: datetime) -> Report | None:
        """A report of this window that was asked for since then, though its answer never came."""
        statuses = "PENDING,PROCESSING,SUCCESS"
        query = {"account_id": self._account.account_id, "status": statuses,
                 "date_from": iso(since), "date_to": iso(datetime.now(UTC) + timedelta(minutes=5))}  # fmt: skip
        listed = self._once("GET", "/v2/reports", self._async, query=query).get("reports")
        for body in listed if isinstance(listed, list) else []:
            if isinstance(body, dict) and body.get("product") == PRODUCT:
                report = _report(body)
                if _same_window(report.window, window):
                    return report
        return None

    def report(self, request_id: str) -> Report:
        """The state of an asynchronous report."""
        return _report(self._json("GET", f"/v2/reports/{request_id}", self._async))

    def download(self, href: str, target: Path) -> int:
        """Streams a finished report to a file, which appears only when it is whole.

        Returns:
            Its size in bytes.
        """
        url = self._on_host(href)
        partial = target.with_name(target.name + ".part")

        def attempt() -> int:
            with self._get_file(url) as answer:
                size = _save(answer, partial)
            partial.replace(target)
            return size

        return self._retrying(attempt, f"GET {urlsplit(url).path}")

    # --- how requests are made ------------------------------------------------------------

    def _base(self) -> dict[str, Any]:
        return {
            "account_id": self._account.account_id,
            "product": PRODUCT,
            "direction": DIRECTION,
        }

    def _page(self, query: dict[str, str]) -> Page:
        body = self._json("GET", "/v2/reports/records", self._sync, query=query)
        records = body.get("records")
        if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
            raise UnreachableError("Vonage's answer to GET /v2/reports/records holds no records")
        return Page(
            records=records,
            status=str(body.get("request_status") or ""),
            request_id=str(body.get("request_id") or ""),
            next=_next_query(body, query),
            ids_not_found=[i.strip() for i in str(body.get("ids_not_found") or "").split(",") if i.strip()],
        )  # fmt: skip

    def _on_host(self, href: str) -> str:
        """A link's path and query on the configured host: no answer may lead us elsewhere."""
        parts = urlsplit(href)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return self._settings.base_url + path

    def _json(
        self, method: str, path: str, pacer: Pacer, *,
        query: dict[str, str] | None = None, body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        return self._retrying(
            lambda: self._once(method, path, pacer, query=query, body=body), f"{method} {path}"
        )

    def _once(
        self, method: str, path: str, pacer: Pacer, *,
        query: dict[str, str] | None = None, body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        pacer.wait()
        answer = self._session.request(
            method, self._settings.base_url + path, params=query, json=body,
            timeout=self._timeouts(), allow_redirects=False,
        )  # fmt: skip
        if not 200 <= answer.status_code < 300:
            _refuse(answer, f"{method} {path}")
        return _object(answer, f"{method} {path}")

    @contextmanager
    def _get_file(self, url: str) -> Iterator[requests.Response]:
        """A file's answer. One redirect to another https host is followed, without credentials."""
        where = f"GET {urlsplit(url).path}"
        answer = self._session.get(
            url, stream=True, timeout=self._timeouts(), allow_redirects=False
        )
        if answer.is_redirect:
            there = urljoin(url, answer.headers["Location"])
            answer.close()
            if urlsplit(there).scheme != "https":
                raise ApiError(answer.status_code, "redirect refused", "not to https", "", where)
            with requests.Session() as bare:
                bare.trust_env = self._session.trust_env
                answer = bare.get(there, stream=True, timeout=self._timeouts(),
                                  allow_redirects=False, auth=_no_auth)  # fmt: skip
        with answer:
            if answer.status_code != 200:
                _refuse(answer, where)
            yield answer

    def _timeouts(self) -> tuple[float, float]:
        return (
            self._settings.connect_timeout.total_seconds(),
            self._settings.read_timeout.total_seconds(),
        )

    def _retrying(self, attempt: Callable[[], T], where: str) -> T:
        """Tries again after 429, 5xx and lost connections: ever later, with jitter, not for ever."""
        longest = self._settings.retry_longest.total_seconds()
        for tries in range(self._settings.retries + 1):
            last = tries == self._settings.retries
            wait = min(longest, 0.5 * 2**tries) * random.uniform(0.5, 1)
            try:
                return attempt()
            except ApiError as error:
                if error.status not in TRANSIENT or last:
                    raise
                if error.retry_after is not None:
                    wait = min(longest, error.retry_after)
            except requests.RequestException as error:
                if last or isinstance(error, requests.exceptions.SSLError):
                    raise UnreachableError(_unreachable(error, self._settings, where)) from None
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")


def _refuse(answer: requests.Response, where: str) -> NoReturn:
    """Raises an answer that is no success, with the API's own words where it has any."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    problem = found if isinstance(found, dict) else {}
    title = str(problem.get("title") or answer.reason or "no reason given")
    if answer.is_redirect:
        title = f"a redirect to {urlsplit(answer.headers['Location']).hostname}, which is refused"
    invalid = problem.get("invalid_parameters")
    detail = str(problem.get("detail") or "")
    if isinstance(invalid, list):
        named = (f"{p.get('name')}: {p.get('reason')}" for p in invalid if isinstance(p, dict))
        detail = "; ".join(filter(None, (detail, *named)))
    kind = {401: AuthError, 403: AuthError, 429: RateLimitError}.get(answer.status_code, ApiError)
    error = kind(answer.status_code, title, detail, str(problem.get("instance") or ""), where)
    error.retry_after = _retry_after(answer)
    raise error


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds to wait by the answer's Retry-After, which may be a number or a date."""
    header = answer.headers.get("Retry-After")
    if header is None:
        return None
    try:
        return Retry().parse_retry_after(header)
    except InvalidHeader:
        return None


def _object(answer: requests.Response, where: str) -> dict[str, Any]:
    try:
        found = json.loads(answer.content, parse_float=Decimal)
    except ValueError:
        start = answer.text[:40].strip().lower()
        page = "an HTML page" if start.startswith("<") else "something else"
        raise UnreachableError(
            f"{where} was answered with {page} instead of JSON: is a proxy in between, or "
            "base_url wrong?"
        ) from None
    if not isinstance(found, dict):
        raise UnreachableError(f"{where} was answered with JSON that is no object")
    return found


def _unreachable(error: requests.RequestException, settings: Settings, where: str) -> str:
    host = urlsplit(settings.base_url).netloc
    if isinstance(error, requests.exceptions.SSLError):
        return f"{host}: TLS cannot be verified: {error}"
    if isinstance(error, requests.Timeout):
        return f"{host} did not answer {where} in time, {settings.retries + 1} times: try later"
    if isinstance(error, requests.ConnectionError):
        return f"{host} could not be reached for {where}: check base_url and the network"
    return f"{host}: {where} failed: {type(error).__name__}"


def _next_query(body: dict[str, Any], query: dict[str, str]) -> dict[str, str] | None:
    """The query of the next page: the next link's own, else this one with `cursor` and `iv`."""
    links = body.get("_links")
    onward = links.get("next") if isinstance(links, dict) else None
    href = onward.get("href") if isinstance(onward, dict) else onward
    if isinstance(href, str) and href:
        return dict(parse_qsl(urlsplit(href).query))
    if body.get("cursor"):
        return query | {"cursor": str(body["cursor"]), "iv": str(body.get("iv") or "")}
    if body.get("request_status") == "TRUNCATED":
        raise UnreachableError("Vonage says that there are more records and does not say where")
    return None


def _report(body: dict[str, Any]) -> Report:
    """A report's state, in either of the two shapes that the documentation shows."""
    links = body.get("_links")
    onward = links.get("download_report") if isinstance(links, dict) else None
    href = onward.get("href") if isinstance(onward, dict) else body.get("download_url")
    request_id, count = body.get("request_id"), body.get("items_count")
    if not request_id:
        raise ReportError("Vonage's answer names no request_id")
    return Report(
        request_id=str(request_id),
        status=str(body.get("request_status") or body.get("status") or "").upper(),
        items_count=None if count is None else int(count),
        download=str(href) if href else None,
        received_at=str(body.get("receive_time") or ""),
        window=(str(body.get("date_start") or ""), str(body.get("date_end") or "")),
    )


def _same_window(found: tuple[str, str], wanted: Window) -> bool:
    try:
        return tuple(map(parse_moment, found)) == (wanted.start, wanted.end)
    except UsageError:
        return False


def _save(answer: requests.Response, target: Path) -> int:
    """Streams a body to disk and holds its length against the one announced."""
    size = 0
    try:
        with target.open("wb") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                size += file.write(chunk)
    except requests.RequestException:
        raise
    except OSError as error:
        raise DiskError(f"{target} cannot be written: {error.strerror or error}") from None
    announced = answer.headers.get("Content-Length")
    if announced is not None and announced.isdigit() and int(announced) != size:
        raise requests.ConnectionError(f"{size} of {announced} bytes came")
    return size


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sends nothing, not even what a .netrc would offer."""
    return request
