"""The same tables by orjson and a Python loop, written by pyarrow.

It knows one spelling of each key, and no envelopes.
"""

from __future__ import annotations

import orjson
from ingest_program import Task, run
from ingest_rival import (
    NOT_A_RECEIPT,
    UNREADABLE,
    Columns,
    hidden,
    instant,
    instant_or_epoch,
    message_id,
    money,
    text,
    write,
)

from reconcile.receipts.fields import NO_ID, NO_STATUS, NUMBER_ID, STRANGERS
from reconcile.receipts.json_fields import NO_JSON
from reconcile.tables import RECEIPTS, REJECTS

HEALTHY = {"status", "ok", "health", "ping", "uptime", "version"}


def take(task: Task) -> None:
    """Writes what the capture holds."""
    key = task.key.read_text("ascii").strip().encode()
    source = str(task.captures)
    receipts, rejects = Columns(RECEIPTS.schema), Columns(REJECTS.schema)
    with task.captures.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            try:
                said = orjson.loads(line)
            except orjson.JSONDecodeError:
                said = None
            kind, reason = _refused(said)
            if reason is None:
                receipts.add(_receipt(said, source, number, key))
            else:
                rejects.add((source, number, kind, reason))
    write(task, receipts.table(), rejects.table())


def _refused(said: object) -> tuple[str | None, str | None]:
    """The kind and the reason of what is no receipt."""
    if not isinstance(said, dict):
        return UNREADABLE, NO_JSON
    identity, status = said.get("messageId"), said.get("status")
    if identity is not None and status is not None:
        if not isinstance(identity, str):
            return UNREADABLE, NUMBER_ID
        if text(identity) is None:
            return UNREADABLE, NO_ID
        return (None, None) if text(status) else (UNREADABLE, NO_STATUS)
    if "messageId" in said:
        return _stranger("inbound_sms") if "text" in said else (UNREADABLE, NO_STATUS)
    if "err-code" in said or "scts" in said:
        return UNREADABLE, NO_ID
    return _stranger("health_check" if said.keys() <= HEALTHY else "other")


def _stranger(name: str) -> tuple[str, str]:
    return NOT_A_RECEIPT + name, STRANGERS[name]


def _receipt(said: dict[str, object], source: str, number: int, key: bytes) -> tuple:
    get = said.get
    return (
        message_id(text(get("messageId"))),
        text(get("api-key")),
        "SMS",
        text(get("client-ref")),
        text(get("to")),
        hidden(text(get("msisdn")), key),
        text(get("network-code")),
        text(get("status")).lower(),
        text(get("err-code")),
        money(text(get("price"))),
        instant(text(get("message-timestamp"))),
        text(get("scts")),
        instant_or_epoch(text(get("captured_at"))),
        source,
        number,
        "unsigned",
    )


if __name__ == "__main__":
    run(take)
