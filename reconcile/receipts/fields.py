"""The raw fields of a receipt, under which names captures hold them, and what other names mean.

Names are compared in lower case without separators: messageId, message-id and MESSAGE_ID are one.
Source: Vonage's references of the SMS API (delivery receipt) and the Messages API (message status).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# Names of a capture's own time, the surest first.
CAPTURED_AT = (
    "msec", "capturedat", "receivedat", "loggedat", "insertedat", "createdat", "ingestedat",
    "attimestamp", "timeiso8601", "timelocal", "eventtime", "requesttimeepoch", "timeepoch",
    "datetime", "time", "ts", "date",
)  # fmt: skip

# Each raw field, and the names it goes by; a Messages API status nests some of them.
FIELDS: dict[str, tuple[str, ...]] = {
    "message_id": ("messageid",),
    "message_uuid": ("messageuuid",),
    "status": ("status",),
    "api_key": ("apikey",),
    "client_ref": ("clientref",),
    "to": ("to",),
    "from": ("from",),
    "msisdn": ("msisdn",),
    "network_code": ("networkcode", "destinationnetworkcode"),
    "err_code": ("errcode", "errorcode"),
    "error_title": ("errortitle",),
    "error_type": ("errortype",),
    "price": ("price", "usageprice"),
    "message_timestamp": ("messagetimestamp",),
    "scts": ("scts",),
    "timestamp": ("timestamp",),
    "nonce": ("nonce",),
    "sig": ("sig",),
    "channel": ("channel",),
    "authorization": ("authorization", "httpauthorization"),
    "captured_at": CAPTURED_AT,
}
NESTED = {
    ("destination", "network_code"): "network_code",
    ("error", "title"): "error_title",
    ("error", "type"): "error_type",
    ("usage", "price"): "price",
}
MOST_SPELLINGS = 16

# What an envelope calls its payload: a body before a query, since a callback's URL may have one
# of its own.
BODIES = (
    "body", "requestbody", "rawbody", "payload", "jsonpayload", "textpayload", "data", "event",
    "dlr", "receipt", "webhook", "callback", "message", "msg", "log", "content", "form", "params",
    "fields", "json", "value", "record", "detail",
)  # fmt: skip
QUERIES = (
    "query", "querystring", "querystringparameters", "queryparams", "args", "rawquerystring",
    "requesturi", "uri", "url", "path", "requestpath", "request", "httprequest", "requesturl",
)  # fmt: skip
ENVELOPE = (*BODIES, *QUERIES)

# Raw fields of a block of lines; `body` is a payload's text as it was captured.
# `exact`: the sender's own parameters with their values as text; `extra`: those not among FIELDS.
SCHEMA = pa.schema(
    [("line", pa.int64()), ("blank", pa.bool_()), ("problem", pa.string()), ("kind", pa.string()),
     *((name, pa.string()) for name in FIELDS), ("body", pa.string()),
     ("extra", pa.string()), ("exact", pa.bool_())]
)  # fmt: skip

UNREADABLE, NOT_A_RECEIPT = "unreadable", "not_a_receipt"
# What reaches the same webhook or log without being a receipt: its kind, and what it is.
STRANGERS = {
    "inbound_sms": "an inbound SMS",
    "inbound_message": "an inbound message of the Messages API",
    "other_channel": "a status of another channel than SMS",
    "voice_event": "an event of the Voice API",
    "verify_event": "an event of the Verify API",
    "health_check": "a health check",
    "post_without_body": "a POST whose body the log does not hold: capture it (README)",
    "other_request": "a request without a receipt's parameters",
    "other": "it holds neither a message id nor what else a receipt says",
}
NO_ID = "it has no message id"
NO_STATUS = "it has no status, so it is no receipt"
NUMBER_ID = "its message id is a JSON number, whose digits cannot be trusted: capture it as text"
NESTED_ID = "its message id is a list or an object, not a text"
TWICE = "it says the same field twice, differently"

# What only a receipt says, though its id or its status is missing.
_OF_RECEIPTS = {"errcode", "scts", "networkcode", "messagetimestamp"}
# Beside one of these a message id is the sender's; without, it may be that of a queue around it.
_OF_SENDERS = _OF_RECEIPTS | {"msisdn", "to", "from", "price", "apikey", "channel", "clientref"}
_SURE_BODIES = {"body", "requestbody", "rawbody", "payload", "jsonpayload", "dlr", "receipt",
                "webhook", "callback"}  # fmt: skip
_HEALTHY = {"status", "ok", "health", "healthy", "healthcheck", "ping", "uptime", "version", "up"}
_BY_PLAIN = {spelling: field for field, own in FIELDS.items() for spelling in own}


def table(line: Any, **columns: Any) -> pa.Table:
    """Lines in the shape of `SCHEMA`; what is not given is null, no line is blank, none exact."""
    count = len(line)
    no = pa.array([False] * count, pa.bool_())
    given = {"line": line, "blank": no, "exact": no} | columns
    return pa.table(
        [given[f.name].cast(f.type) if f.name in given else pa.nulls(count, f.type)
         for f in SCHEMA], schema=SCHEMA,
    )  # fmt: skip


def plain(name: str) -> str:
    """A name without case and separators."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("@", "at"))


def spellings(names: Iterable[str]) -> dict[str, list[str]]:
    """The names under which each raw field stands here, the surest spelling of a field first."""
    found: dict[str, list[str]] = {field: [] for field in FIELDS}
    known = [(key, name) for name in names if (key := plain(name)) in _BY_PLAIN]
    known.sort(key=lambda pair: FIELDS[_BY_PLAIN[pair[0]]].index(pair[0]))  # stable
    for key, name in known:
        own = found[_BY_PLAIN[key]]
        if len(own) < MOST_SPELLINGS:
            own.append(name)
    return found


@dataclass(frozen=True)
class Meaning:
    """What a line's names make of it.

    Attributes:
        receipt: it names a message and a status.
        envelope: names under which a payload may lie, in the order in which they are looked at.
        kind: of a stranger; none: it is a receipt that lacks something.
        problem: what it is instead of a receipt, or what it lacks.
    """

    receipt: bool = False
    envelope: tuple[str, ...] = ()
    kind: str = ""
    problem: str = ""


def meaning(names: Iterable[str]) -> Meaning:
    """What names (a JSON object's keys, a query's parameters, a table's columns) say of a line."""
    names = list(names)
    keys = {plain(name) for name in names}
    identified = bool(keys & {"messageid", "messageuuid"})
    wraps = keys & (_SURE_BODIES if "status" in keys else set(BODIES))
    if identified and wraps and not keys & _OF_SENDERS:
        return _stranger("other", _envelope(names))
    if identified and "status" in keys:
        return Meaning(receipt=True)
    if identified and keys & {"text", "keyword", "type", "messagetype", "udh"}:
        return _stranger("inbound_message" if "messageuuid" in keys else "inbound_sms")
    if identified:
        return Meaning(problem=NO_STATUS)
    if keys & _OF_RECEIPTS or {"msisdn", "status"} <= keys:
        return Meaning(problem=NO_ID)
    inner = _envelope(names)
    if keys & {"conversationuuid", "calluuid"} or {"uuid", "direction"} <= keys:
        return _stranger("voice_event", inner)
    if "requestid" in keys and not inner:
        return _stranger("verify_event")
    return _stranger("health_check" if keys <= _HEALTHY else "other", inner)


def stranger(name: str) -> tuple[str, str]:
    """The kind of a stranger, and what it is."""
    return f"{NOT_A_RECEIPT}:{name}", STRANGERS[name]


def _envelope(names: list[str]) -> tuple[str, ...]:
    known = [(ENVELOPE.index(key), name) for name in names if (key := plain(name)) in ENVELOPE]
    return tuple(name for _at, name in sorted(known))


def _stranger(name: str, inner: tuple[str, ...] = ()) -> Meaning:
    kind, problem = stranger(name)
    return Meaning(envelope=inner, kind=kind, problem=problem)
