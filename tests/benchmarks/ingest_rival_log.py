"""The same tables by a regular expression a line and urllib's parse_qsl, written by pyarrow.

It knows one spelling of each parameter. A log's times are read once each: many lines share one.
"""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache
from urllib.parse import parse_qsl

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

from reconcile.receipts.fields import NO_ID, NO_STATUS, STRANGERS
from reconcile.receipts.query_fields import NO_REQUEST
from reconcile.tables import RECEIPTS, REJECTS

LINE = re.compile(r'\S+ \S+ \S+ \[([^\]]+)\] "([A-Z]+) ([^ ?"]*)(?:\?([^ "]*))? ').match
HEALTH = re.compile("/(?:health[a-z]*|live|ready|ping|status)?").fullmatch


def take(task: Task) -> None:
    """Writes what the log holds."""
    key = task.key.read_text("ascii").strip().encode()
    source = str(task.captures)
    receipts, rejects = Columns(RECEIPTS.schema), Columns(REJECTS.schema)
    with task.captures.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            if line.isspace():
                continue
            found = LINE(line)
            if found is None:
                rejects.add((source, number, UNREADABLE, NO_REQUEST))
                continue
            time, method, path, query = found.groups()
            said = dict(parse_qsl(query, keep_blank_values=True)) if query else {}
            kind, reason = _refused(said, method, path)
            if reason is None:
                receipts.add(_receipt(said, time, source, number, key))
            else:
                rejects.add((source, number, kind, reason))
    write(task, receipts.table(), rejects.table())


def _refused(said: dict[str, str], method: str, path: str) -> tuple[str | None, str | None]:
    """The kind and the reason of what is no receipt."""
    if "messageId" in said:
        if "status" not in said:
            return _stranger("inbound_sms") if "text" in said else (UNREADABLE, NO_STATUS)
        if text(said["messageId"]) is None:
            return UNREADABLE, NO_ID
        return (None, None) if text(said["status"]) else (UNREADABLE, NO_STATUS)
    if "err-code" in said or "scts" in said:
        return UNREADABLE, NO_ID
    if method == "POST":
        return _stranger("post_without_body")
    return _stranger("health_check" if HEALTH(path) else "other_request")


def _stranger(name: str) -> tuple[str, str]:
    return NOT_A_RECEIPT + name, STRANGERS[name]


@lru_cache(maxsize=1000)
def _logged(time: str) -> datetime | None:
    if "/" not in time:
        return instant_or_epoch(time)
    try:
        return datetime.strptime(time, "%d/%b/%Y:%H:%M:%S %z")
    except ValueError:
        return None


def _receipt(said: dict[str, str], time: str, source: str, number: int, key: bytes) -> tuple:
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
        _logged(time),
        source,
        number,
        "unsigned",
    )


if __name__ == "__main__":
    run(take)
