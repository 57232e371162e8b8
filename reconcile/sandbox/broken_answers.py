"""Answers as they come when something is wrong: in their stead, spoilt, or not whole.

A function of the first kind makes an answer to a `Hit` before any work is done; one of the second
spoils the answer that the API gave. Each is None where it has no hold on what is there: a request
without a cursor cannot have one that expired.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import formatdate
from typing import Any
from urllib.parse import urljoin

from reconcile.days import parse_moment
from reconcile.sandbox import protocol
from reconcile.sandbox.protocol import Request, Response

SKEW = timedelta(minutes=-10)
NOWHERE = "http://127.0.0.1:9"
_PAGING = ("cursor", "iv")
_STAMPS = ("receive_time", "received_at")
_FLAT = ("request_id", "receive_time", "start_time", "items_count")
_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>\r\n"
_CAPTIVE = b"<!DOCTYPE html><html><title>Sign in to the network</title><form></form></html>\n"
_HTML = {"Content-Type": "text/html"}

Body = dict[str, Any]


@dataclass(frozen=True)
class Knobs:
    """What the faults can be told; `Sandbox` says what each means."""

    stall_seconds: float
    truncate_after: int
    redirect_to: str | None


@dataclass(frozen=True)
class Hit:
    """A request that may be struck.

    Attributes:
        request: as it came.
        knobs: what the faults were told.
        again: makes a cursor and an iv, which will be answered as this request is.
    """

    request: Request
    knobs: Knobs
    again: Callable[[], dict[str, str]]


Instead = Callable[[Hit], Response | None]
Spoil = Callable[[Response, Hit], Response | None]
Change = Callable[[Body, Hit], bool]
"""Changes the body of an answer in place, and says whether it has hold on it."""


# Instead of an answer


def too_many(wait: Callable[[], str] | None = None) -> Instead:
    """A 429, with a Retry-After or without."""

    def instead(_: Hit) -> Response:
        headers = {"Retry-After": wait()} if wait else {}
        return protocol.too_many("At most so many requests a second are allowed.", headers).response

    return instead


def in_a_second() -> str:
    """The moment in a second, as HTTP writes dates."""
    return formatdate(time.time() + 1, usegmt=True)


def internal_error(_: Hit) -> Response:
    detail = "An unexpected error occurred."
    return protocol.problem(500, "#internal-error", "Internal error", detail).response


def bad_gateway(_: Hit) -> Response:
    return Response(502, _BAD_GATEWAY, _HTML)


def unavailable(_: Hit) -> Response:
    return Response(503, b"")


def captive_page(_: Hit) -> Response:
    return Response(200, _CAPTIVE, _HTML)


def elsewhere(hit: Hit) -> Response:
    return _redirect(NOWHERE, hit)


def other_host(hit: Hit) -> Response | None:
    return _redirect(hit.knobs.redirect_to, hit) if hit.knobs.redirect_to else None


def expired(hit: Hit) -> Response | None:
    if "cursor" not in hit.request.query:
        return None
    return protocol.invalid({"cursor": "Expired"}).response


def forbidden(_: Hit) -> Response:
    detail = "User not authorized to query the requested data."
    return protocol.problem(403, "#forbidden", "Forbidden", detail).response


def _redirect(host: str, hit: Hit) -> Response:
    return Response(302, b"", {"Location": host.rstrip("/") + hit.request.target})


# An answer that is not whole


def silent(response: Response, hit: Hit) -> Response:
    return replace(response, sent="nothing", silence=hit.knobs.stall_seconds)


def half_then_silent(response: Response, hit: Hit) -> Response:
    return replace(response, sent="half", silence=hit.knobs.stall_seconds)


def cut_off(response: Response, _: Hit) -> Response:
    return replace(response, sent="nothing")


def cut_in_half(response: Response, _: Hit) -> Response:
    return replace(response, sent="half")


# A page of records


def page(change: Change) -> Spoil:
    """Changes a page that came; it costs what it shows."""

    def spoil(response: Response, hit: Hit) -> Response | None:
        body = _read(response)
        if body is None or "records" not in body or not change(body, hit):
            return None
        return replace(_written(body, response), billed=len(body["records"]))

    return spoil


def twice(body: Body, hit: Hit) -> bool:
    """The link leads to this very page once more, which goes on as it should."""
    return _goes_on(body) and _point(body, hit, hit.again())


def empty(body: Body, hit: Hit) -> bool:
    """The records only come with the link."""
    _show(body, [])
    return _point(body, hit, hit.again())


def same_cursor(body: Body, hit: Hit) -> bool:
    asked = {name: hit.request.query.get(name, "") for name in _PAGING}
    return all(asked.values()) and _goes_on(body) and _point(body, hit, asked)


def without_link(body: Body, _: Hit) -> bool:
    return body["_links"].pop("next", None) is not None


def success(body: Body, _: Hit) -> bool:
    goes_on = _goes_on(body)
    body["request_status"] = "SUCCESS"
    return goes_on


def miscounted(body: Body, _: Hit) -> bool:
    body["items_count"] += 1
    return True


def none_found(body: Body, hit: Hit) -> bool:
    return _find(body, hit, ())


def found_by_record_id(body: Body, hit: Hit) -> bool:
    return _find(body, hit, ("id",))


def records(change: Callable[[dict[str, str]], dict[str, str]]) -> Spoil:
    """Changes each record of a page that has any."""

    def changed(body: Body, _: Hit) -> bool:
        body["records"] = list(map(change, body["records"]))
        return bool(body["records"])

    return page(changed)


def with_new_column(record: dict[str, str]) -> dict[str, str]:
    return {"surge_index": "1.0", **record}


def without_message_id(record: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in record.items() if name != "message_id"}


def in_other_order(record: dict[str, str]) -> dict[str, str]:
    """The same fields, sorted by their names' ends."""
    return dict(sorted(record.items(), key=lambda field: field[0][::-1]))


def _find(body: Body, hit: Hit, known_by: Iterable[str]) -> bool:
    """Leaves the records that some field of theirs lets an asker find."""
    ids = protocol.read_ids(hit.request.query)
    _show(body, [r for r in body["records"] if any(r[name] in ids for name in known_by)])
    known = {record[name] for record in body["records"] for name in known_by}
    if unknown := [each for each in ids if each not in known]:
        body["ids_not_found"] = ",".join(unknown)
    return True


def _show(body: Body, shown: list[dict[str, str]]) -> None:
    price = round(len(shown) * protocol.PRICE_PER_RECORD, 4)
    body.update(records=shown, items_count=len(shown), price=price)


def _goes_on(body: Body) -> bool:
    return "next" in body["_links"]


def _point(body: Body, hit: Hit, paging: dict[str, str]) -> bool:
    """Makes a page lead on to a cursor."""
    link = urljoin(body["_links"]["self"]["href"], protocol.next_target(hit.request.query, paging))
    body["_links"]["next"] = {"href": link}
    body.update(paging, request_status="TRUNCATED")
    return True


# An answer about reports


def forgotten(response: Response, hit: Hit) -> Response | None:
    """What was there is not known any more."""
    name = hit.request.path.rpartition("/")[2]
    return protocol.no_report(name).response if response.status == 200 else None


def flat(response: Response, _: Hit) -> Response | None:
    """The other shape in which a version of the documentation shows reports."""
    body = _read(response)
    if body is None:
        return None
    if "reports" in body:
        body["reports"] = [_flattened(each) for each in body["reports"]]
    else:
        body = _flattened(body)
    return _written(body, response)


def _flattened(body: Body) -> Body:
    links = body.pop("_links")
    shown = {name: body.pop(name) for name in _FLAT if name in body}
    shown["status"] = body.pop("request_status")
    if "download_report" in links:
        shown["download_url"] = links["download_report"]["href"]
    return shown | {"request_params": body}


# Any answer


def skewed(response: Response, _: Hit) -> Response:
    """The answer of a machine whose clock is slow."""
    date = formatdate(time.time() + SKEW.total_seconds(), usegmt=True)
    body = _read(response)
    if body is not None:
        for part in (body, *body.get("reports", ())):
            part |= {name: _moved(part[name]) for name in _STAMPS if name in part}
        response = _written(body, response)
    return replace(response, headers={**response.headers, "Date": date})


def _moved(stamp: str) -> str:
    return f"{parse_moment(stamp) + SKEW:%Y-%m-%dT%H:%M:%S}{stamp[19:]}"


def _read(response: Response) -> Body | None:
    """The JSON of an answer that is a success."""
    if response.status != 200 or not isinstance(response.body, bytes):
        return None
    body: Body = json.loads(response.body)
    return body


def _written(body: Body, response: Response) -> Response:
    return replace(response, body=json.dumps(body).encode())
