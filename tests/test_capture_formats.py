"""The same receipts come out equal, field by field, however they were captured.

`python -m tests.capture_styles` does the same with 10,000 receipts in all combinations.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.capture_styles import (
    COMPRESS,
    OPTIONAL,
    SHAPES,
    STYLES,
    TRAFFIC,
    Callback,
    Reader,
    Shape,
    callbacks,
    cell,
    differences,
    expected,
    local,
    plain,
    reader,
    shapes_of,
    statuses,
    written,
)

COUNT = 200
AT = datetime(2026, 1, 5, 10, 0, 1, 250_000, tzinfo=UTC)
Rows = list[dict[str, Any]]


@pytest.fixture
def read(con: Any, tmp_path: Path) -> Iterator[Reader]:
    """A reader of captures."""
    with reader(con, tmp_path) as found:
        yield found


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text.replace(" +0000", "+00:00"))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _ms(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def test_the_measure(read: Reader) -> None:
    """What all else is held against, plain NDJSON, says what was sent."""
    sent = callbacks(COUNT)
    for row, callback in zip(plain(read, sent).to_pylist(), sent, strict=True):
        own = callback.fields
        assert (row["message_id"], row["account_id"], row["product"]) == (
            own["messageId"], own["api-key"], "SMS")  # fmt: skip
        assert (row["recipient"], row["sender"]) == (own["msisdn"], own["to"].strip())
        assert (row["status"], row["price"]) == (own["status"].lower(), Decimal(own["price"]))
        told = tuple(row[n] for n in ("network_code", "scts", "client_ref", "error_code"))
        assert told == tuple(own.get(name) for name in OPTIONAL)
        assert row["pushed_at"] == _moment(own["message-timestamp"])
        assert row["captured_at"] == _ms(callback.at)


def test_the_measure_of_statuses(read: Reader) -> None:
    """Likewise for the Messages API, whose fields are nested."""
    sent = statuses(COUNT)
    for row, callback in zip(plain(read, sent).to_pylist(), sent, strict=True):
        own = callback.fields
        assert (row["message_id"], row["product"]) == (own["message_uuid"], "MESSAGES")
        assert (row["recipient"], row["sender"]) == (own["to"], own["from"])
        price = own.get("usage", {}).get("price")
        assert row["price"] == (None if price is None else Decimal(price))
        assert row["network_code"] == own.get("destination", {}).get("network_code")
        error = own.get("error")
        assert row["error_code"] == (None if error is None else str(error["title"]))
        assert (row["client_ref"], row["status"]) == (own.get("client_ref"), own["status"])
        assert row["pushed_at"] == _moment(own["timestamp"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("traffic", "shape"), [(t, shape) for t in TRAFFIC for shape in shapes_of(t)],
    ids=lambda value: value.name if isinstance(value, Shape) else value,
)  # fmt: skip
def test_shapes(
    read: Reader, traffic: str, shape: Shape, record_property: Callable[[str, object], None]
) -> None:
    """A format is equal to plain NDJSON in every field style and in every compression."""
    sent = TRAFFIC[traffic](COUNT)
    same = plain(read, sent)
    styles = list(STYLES) if traffic == "SMS" else ["vonage"]
    first = sum(map(ord, shape.name))
    for n, style in enumerate(styles):
        each = list(COMPRESS)[(first + n) % len(COMPRESS)]
        found = cell(read, sent, same, shape, style, each)
        record_property("capture", {"traffic": traffic, **vars(found)})
        assert found.difference == ""


# Names of a capture's own time, in an envelope and beside a receipt's fields.
TIMES = ("captured_at", "received_at", "receivedAt", "RECEIVED-AT", "time", "ts", "@timestamp",
         "time_iso8601", "time_local", "msec", "logged_at", "created_at", "insertedAt", "date",
         "datetime", "eventTime")  # fmt: skip
FORMS: dict[str, Any] = {
    "ISO, Z": "2026-01-05T10:00:01.250Z", "ISO, zone": "2026-01-05T12:00:01.250+02:00",
    "ISO, comma": "2026-01-05 10:00:01,250", "ISO, ns": "2026-01-05T10:00:01.250999999Z",
    "s": 1767607201.25, "s, text": "1767607201.250", "ms": 1767607201250,
    "ms, text": "1767607201250", "µs": 1767607201250000, "µs, text": "1767607201250000",
    "log": local(AT), "log, zone": local(AT, -8),
}  # fmt: skip


@pytest.mark.parametrize("wrapped", [False, True])
def test_times_of_capture(read: Reader, wrapped: bool) -> None:
    """The time of capture is known under any usual name, in any usual form."""
    names = (*TIMES, "timestamp") if wrapped else TIMES
    lines, wanted = [], []
    [sent] = callbacks(1)
    for name, (form, value) in itertools.product(names, FORMS.items()):
        inner = {"body": sent.fields} if wrapped else sent.fields
        lines.append(json.dumps(inner | {name: value}))
        whole = AT.replace(microsecond=0) if form.startswith("log") else AT
        wanted.append((name, form, whole))
    rows = read.read("\n".join(lines).encode()).to_pylist()
    found = [row["captured_at"] for row in rows]
    told = [(*each[:2], at) for each, at in zip(wanted, found, strict=True)]
    assert told == wanted


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_fields_that_no_line_has(read: Reader, shape: Shape) -> None:
    """A capture in which no line has one of the optional fields, or any, is read all the same."""
    for missing in ((name,) for name in OPTIONAL) if shape is SHAPES[0] else (OPTIONAL,):
        sent = [
            Callback({k: v for k, v in c.fields.items() if k not in missing} | kept, c.at)
            for c in callbacks(12)
            for kept in [{"err-code": "0"} if "typed" in shape.name else {}]
        ]
        found = read.read(written(shape, sent, STYLES["vonage"]))
        assert differences(found, expected(plain(read, sent), shape)) == ""


WRAPPED: dict[str, Callable[[dict[str, str]], Any]] = {
    "lists of one, as parsers of queries give": lambda f: {"query": {n: [v] for n, v in f.items()}},
    "lists of one, bare": lambda f: {n: [v] for n, v in f.items()},
    "a queue's message with an id of its own": lambda f: {
        "messageId": "059f36b4", "receiptHandle": "x", "body": json.dumps(f)},
    "a queue's message with a status, too": lambda f: {
        "message_id": "q-1", "status": 204, "payload": f},
    "a notification": lambda f: {
        "Type": "Notification", "MessageId": "22b80b92", "Message": json.dumps(f)},
    "a log's level and text": lambda f: f | {"level": "info", "msg": "DLR received"},
}  # fmt: skip


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_ids_of_others(read: Reader, wrapping: str) -> None:
    """The id is the message's, whatever ids stand around it."""
    [sent] = callbacks(1)
    line = json.dumps(WRAPPED[wrapping](sent.fields))
    [row] = read.read(line.encode()).to_pylist()
    assert (row["reason"], row["message_id"]) == (None, sent.fields["messageId"])
    assert (row["status"], row["sender"]) == (sent.fields["status"].lower(), sent.fields["to"])
