"""What Vonage documents of its Reports API: requests, records, answers, and what is refused.

A request that is read is a `Query`; one that is refused raises a `Refused`, which holds its answer.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from reconcile.days import iso, parse_moment
from reconcile.errors import UsageError
from reconcile.vocabulary import STATUSES

PRICE_PER_RECORD = 0.0004  # EUR, the published price of 2020
MAX_IDS = 20
SYNC_PER_SECOND = 10
ASYNC_PER_SECOND = 5
LONGEST_SYNC = timedelta(hours=24)
RETENTION = timedelta(days=396)  # 13 months
DEFAULT_SPAN = timedelta(days=7)
FILTERS = ("status", "from", "to", "country", "network", "client_ref", "account_ref", "provider")
DATES = ("date_start", "date_end")
SWITCHES = ("include_subaccounts", "include_message", "show_concatenated")
DIRECTED = ("SMS", "MESSAGES")
# fmt: off
PRODUCTS = (
    "ASR", "CONVERSATIONS", "IN-APP-VOICE", "MESSAGES", "NUMBER-INSIGHT", "REPORTS-USAGE", "SMS",
    "SMS-TRAFFIC-CONTROL", "VERIFY-API", "VERIFY-V2", "VOICE-CALL", "VOICE-FAILED",
    "WEBSOCKET-CALL",
)
_SMS_OUTBOUND = (
    "account_id", "id", "message_id", "client_ref", "account_ref", "direction", "from", "to",
    "changed_from", "forced_from", "country", "country_name", "network", "network_name",
    "date_received", "date_finalized", "latency", "status", "error_code",
    "error_code_description", "currency", "total_price", "tier_volume", "concatenated", "udh",
    "dcs", "validity_period", "ip_address", "workflow_id", "message_body",
)
_SMS_INBOUND = (
    "account_id", "id", "message_id", "direction", "from", "to", "country", "country_name",
    "network", "network_name", "date_received", "currency", "total_price", "tier_volume",
    "message_body",
)
# The header of a real archive of 2025, and the body where it was asked for.
_MESSAGES = (
    "account_id", "message_id", "client_ref", "direction", "from", "to", "country",
    "country_name", "provider", "network", "network_name", "session_type", "session_id",
    "date_received", "date_finalized", "latency", "status", "error_code", "currency",
    "estimated_price", "total_price", "id", "message_body",
)
# fmt: on
_PROBLEMS = "https://developer.nexmo.com/api-errors"
_MISSING = "Missing required parameter"
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)")
TICK = timedelta(microseconds=1)


@dataclass(frozen=True)
class Request:
    """An HTTP request, read whole."""

    method: str
    target: str
    authorization: str
    body: bytes

    @property
    def path(self) -> str:
        """The decoded path, without the query."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """The decoded parameters; a raw `+` is a space here, as at Vonage."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def credentials(self) -> tuple[str, str]:
        """The key and the secret of a Basic authorization; blank where there is none."""
        scheme, _, encoded = self.authorization.partition(" ")
        try:
            pair = base64.b64decode(encoded, validate=True).decode()
        except ValueError:
            pair = ""
        key, _, secret = pair.partition(":")
        return (key, secret) if scheme.lower() == "basic" else ("", "")

    @property
    def endpoint(self) -> str:
        """The path with its id left out."""
        if self.path in ("/v2/reports/records", "/v2/reports", "/_sandbox", "/_sandbox/now"):
            return self.path
        parent = self.path.rpartition("/")[0]
        return f"{parent}/{{id}}" if parent in ("/v2/reports", "/v3/media") else "other"


@dataclass(frozen=True)
class Response:
    """An HTTP response; a body that is a path is sent from the file.

    Attributes:
        billed: how many records it costs.
        sent: how much of it reaches the client before the connection ends.
        silence: seconds from there until the connection is closed.
    """

    status: int
    body: bytes | Path
    headers: Mapping[str, str] = field(default_factory=dict)
    billed: int = 0
    sent: Literal["all", "half", "nothing"] = "all"
    silence: float = 0.0

    @property
    def size(self) -> int:
        """The bytes of its body."""
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)


@dataclass(frozen=True)
class Query:
    """What a request asks for. Two requests with equal queries ask for the same listing."""

    account_id: str
    product: str
    direction: str = ""
    start: datetime | None = None
    end: datetime | None = None
    ids: tuple[str, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()
    include_message: bool = False
    show_concatenated: bool = False
    subaccounts: tuple[str, ...] = ()

    def window(self, at: datetime) -> tuple[datetime, datetime]:
        """The half-open time asked for, but not what the API holds no more at a moment."""
        oldest = at - RETENTION
        if self.ids:
            return oldest, at + TICK
        return max(self.start or at - DEFAULT_SPAN, oldest), self.end or at

    def echo(self) -> dict[str, object]:
        """What a listing repeats of its query."""
        shown = ("product", "account_id", "direction", "include_message", "show_concatenated")
        return {name: getattr(self, name) for name in shown}

    def fields(self) -> list[str]:
        """The fields of a record, in the order of the CSV."""
        sms = _SMS_INBOUND if self.direction == "inbound" else _SMS_OUTBOUND
        hidden = {"message_body": self.include_message, "concatenated": self.show_concatenated}
        names = sms if self.product == "SMS" else _MESSAGES
        return [name for name in names if hidden.get(name, True)]


class Refused(Exception):  # noqa: N818 - no error of the sandbox, but an answer that it gives
    """A request that the API answers with a problem."""

    def __init__(
        self, status: int, problem: Mapping[str, object], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, problem)
        instance = secrets.token_hex(16)
        self.response = as_json({**problem, "instance": instance}, status, headers)


class RateLimit:
    """How many requests an account may make in a second, those refused included."""

    def __init__(self, *, retry_after: bool) -> None:
        self._wait = {"Retry-After": "1"} if retry_after else {}
        self._arrivals: defaultdict[tuple[str, int], deque[float]] = defaultdict(deque)
        self._lock = threading.Lock()

    def admit(self, account: str, endpoint: str) -> None:
        """Counts a request, and refuses it where it is too many."""
        if not endpoint.startswith("/v2/reports"):
            return
        limit = SYNC_PER_SECOND if endpoint.endswith("/records") else ASYNC_PER_SECOND
        with self._lock:
            arrivals = self._arrivals[account, limit]
            arrivals.append(time.monotonic())
            while arrivals[0] <= arrivals[-1] - 1.0:
                arrivals.popleft()
            is_over = len(arrivals) > limit
        if is_over:
            detail = f"At most {limit} requests a second are allowed."
            raise too_many(detail, self._wait)


def too_many(detail: str, headers: Mapping[str, str] | None = None) -> Refused:
    return problem(429, "/reports#rate-limit", "Rate limit exceeded", detail, headers)


def no_report(name: str) -> Refused:
    detail = f"Report {name} does not exist, or you do not have access."
    return problem(404, "#not-found", "Invalid report ID", detail)


def invalid(wrong: Mapping[str, str], is_report: bool = False) -> Refused:
    listed = [{"name": name, "reason": reason} for name, reason in wrong.items()]
    body: dict[str, object] = {"title": "Unprocessable entity", "invalid_parameters": listed}
    if is_report:  # the type is odd, but it is the one that the definition shows
        body |= {"type": f"{_PROBLEMS}#not-found", "detail": "Unprocessable entity."}
    return Refused(422, body)


def problem(
    status: int, kind: str, title: str, detail: str, headers: Mapping[str, str] | None = None
) -> Refused:
    body = {"type": _PROBLEMS + kind, "title": title, "detail": detail}
    return Refused(status, body, headers)


def as_json(
    body: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    kind = {"Content-Type": "application/json"}
    return Response(status, json.dumps(body).encode(), {**kind, **(headers or {})})


def read_query(given: Mapping[str, str], at: datetime, *, is_report: bool) -> Query:
    """Validates parameters; a refusal names every one that is wrong."""
    wrong = _wrong_parameters(given, at, is_report)
    if wrong:
        raise invalid(wrong, is_report)
    ids = read_ids(given)
    others = [name for name in (*DATES, *FILTERS, "cursor", "iv") if name in given]
    if ids and others:
        detail = "When using message_id, the following parameters are not supported: "
        listed = f"[{', '.join(others)}]"
        raise problem(422, "/reports#invalid-filter", "Invalid filter", detail + listed)
    return Query(
        account_id=given["account_id"],
        product=given["product"],
        direction=given.get("direction", ""),
        start=read_moment(given.get("date_start", "")),
        end=read_moment(given.get("date_end", "")),
        ids=ids,
        filters=tuple((name, given[name]) for name in FILTERS if given.get(name)),
        include_message=given.get("include_message") == "true",
        show_concatenated=given.get("show_concatenated") == "true",
    )


def read_ids(given: Mapping[str, str]) -> tuple[str, ...]:
    """The ids that a request names, each once."""
    return tuple(dict.fromkeys(re.findall(r"[^\s,]+", given.get("id", ""))))


def next_target(given: Mapping[str, str], paging: Mapping[str, str]) -> str:
    """The path of a next page: every parameter as given, but dates in the API's own form."""
    moments = {name: read_moment(given[name]) for name in DATES if name in given}
    dates = {name: iso(moment)[:-1] + "-0000" for name, moment in moments.items() if moment}
    return f"/v2/reports/records?{urlencode({**given, **dates, **paging})}"


def _wrong_parameters(given: Mapping[str, str], at: datetime, is_report: bool) -> dict[str, str]:
    """Each parameter that is missing or cannot be meant, and why."""
    needed = {"account_id", "product"}
    needed |= {"direction"} if given.get("product") in DIRECTED else set()
    # A report fills a date that is not given; a request for records takes both or none.
    needed |= set(DATES) if not is_report and any(name in given for name in DATES) else set()
    wrong = {name: _MISSING for name in sorted(needed) if not given.get(name)}
    for name, (allows, reason) in _RULES.items():
        if given.get(name) and not allows(given[name]):
            wrong[name] = reason
    if is_report and given.get("id"):
        wrong["id"] = "Not supported in an asynchronous report"
    if not wrong and any(name in given for name in DATES):
        start = read_moment(given.get("date_start", "")) or at - DEFAULT_SPAN
        end = read_moment(given.get("date_end", "")) or at
        longest, words = (RETENTION, "13 months") if is_report else (LONGEST_SYNC, "24 hours")
        if end < start:
            wrong["date_end"] = "Must not be earlier than date_start"
        elif end - start > longest:
            wrong["date_end"] = f"Must be no more than {words} later than date_start"
    return wrong


def read_moment(text: str) -> datetime | None:
    """A moment in a form that the API takes, or None."""
    try:
        return parse_moment(text) if _DATE.fullmatch(text) else None
    except UsageError:  # the form of a date, but no date: a 31st of February
        return None


def _is_date(text: str) -> bool:
    return read_moment(text) is not None


_BAD_DATE = "Must be an ISO-8601 date such as 2017-12-01T00:00:00Z or 2017-12-01T00:00:00%2B0000"
_BAD_SWITCH = "Must be true or false"
_RULES: dict[str, tuple[Callable[[str], bool], str]] = {
    "account_id": (lambda text: len(text) == 8, "Must be exactly 8 characters long"),
    "product": (
        lambda text: text in PRODUCTS,
        "Could not resolve product name. Please use one of the following values "
        f"[{', '.join(PRODUCTS)}]",
    ),
    "direction": (lambda text: text in ("inbound", "outbound"), "Must be inbound or outbound"),
    "status": (lambda text: text in STATUSES, f"Must be one of [{', '.join(STATUSES)}]"),
    "id": (lambda text: text.count(",") < MAX_IDS, f"Must be at most {MAX_IDS} ids"),
    **dict.fromkeys(DATES, (_is_date, _BAD_DATE)),
    **dict.fromkeys(SWITCHES, (lambda text: text in ("true", "false"), _BAD_SWITCH)),
}
