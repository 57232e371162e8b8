"""`explain`: single messages in words that can be pasted into a ticket, or as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reconcile import vocabulary as words
from reconcile.days import iso
from reconcile.present.text import printable

if TYPE_CHECKING:
    from reconcile.explaining.told import Alone, Explained, Explanation, Heard, Held, OnlySent

# What the columns are called where a rule says what it looked at.
NAMES = {
    "as_of": "judged as of", "captured_after_ms": "captured after", "end": "end",
    "elapsed_ms": "elapsed", "error_code": "err-code", "expires_at": "validity ends",
    "fetched_at": "record fetched", "finalized_at": "ended", "grace_ends_at": "grace ends",
    "latency_ms": "latency", "matures_at": "mature at", "pushed_at": "pushed",
    "price": "record's price",
    "receipt_account_id": "receipt's account", "receipt_captured_at": "captured",
    "receipt_error_code": "err-code", "receipt_network_code": "receipt's network",
    "receipt_price": "receipt's price", "receipt_status": "deciding receipt",
    "received_at": "received", "sender_used": "sent as", "status": "record",
    "too_fast_ms": "too fast below", "validity_ms": "validity", "within_ms": "within",
}  # fmt: skip
NOTHING = "none"


def explained(found: Explanation, form: str) -> str:
    """All messages that there is something to say of; text ends with a newline."""
    if form == "json":
        import json

        told = [_plain(_json(each)) for each in found.told]
        return json.dumps(told, indent=1, ensure_ascii=False) + "\n"
    return "\n".join("\n".join(map(printable, _told(each))) + "\n" for each in found.told)


def duration(ms: int) -> str:
    """A span in its two largest units, as `72h 3m`, `6.5s` or `650ms`."""
    sign, ms = ("-" if ms < 0 else ""), abs(ms)
    hours, minutes, seconds = ms // 3_600_000, ms // 60_000 % 60, ms // 1000 % 60
    if hours:
        return f"{sign}{hours}h" + (f" {minutes}m" if minutes else "")
    if minutes:
        return f"{sign}{minutes}m" + (f" {seconds}s" if seconds else "")
    if ms < 1000:
        return f"{sign}{ms}ms" if ms else "0s"
    return f"{sign}{ms / 1000:.3f}".rstrip("0").rstrip(".") + "s"


# --- text -------------------------------------------------------------------------------------


def _told(each: Any) -> Iterator[str]:
    """The lines about one message."""
    if hasattr(each, "lines"):
        yield from _only_sent(each)
    else:
        yield from _alone(each) if hasattr(each, "kind") else _message(each)


def _message(each: Explained) -> Iterator[str]:
    record, judged = each.record, each.judged
    verdict = _answer(judged["verdict"], judged["reasons"]) if judged else "not judged"
    yield f"Message {each.message_id}: {verdict}"
    yield f"  {_basis(each)}"
    yield from _record(each)
    yield "Time line (UTC; since received)"
    yield from _columns(_time_line(each))
    if judged is None:
        yield f"Verdict: none, it was received after {iso(each.as_of)}"
        return
    yield f"Verdict: {verdict}"
    for held in each.rules:
        yield f"  {_rule(each, held)}"
        yield from (f"    {line}" for line in _values(each, held))
    if each.changes:
        yield "What would change the verdict"
        yield from _columns(
            (_answer(change.verdict, change.reasons), change.what) for change in each.changes
        )
    if record["status"] and record["status"] != judged["status"]:
        yield f"Since then Vonage's record has become {record['status']}"


def _basis(each: Explained) -> str:
    basis = f"judged as of {iso(each.as_of)} by rules version {words.RULES_VERSION}"
    published, judged = each.published, each.judged
    if published is None:
        return f"{basis}; not in the tables: its day was not judged since it is here"
    told = _answer(published.verdict, published.reasons)
    same = judged and told == _answer(judged["verdict"], judged["reasons"])
    if same and published.as_of == each.as_of:
        return f"{basis}, as the tables say"
    return f"{basis}; the tables, judged as of {iso(published.as_of)}, say {told}"


def _record(each: Explained) -> Iterator[str]:
    record = each.record
    yield "Record"
    sent = f", sent as {record['sender_used']}" if record["sender_used"] else ""
    network = " ".join(filter(None, (record["network_code"], record["network_name"])))
    country = " ".join(filter(None, (record["country"], record["country_name"])))
    code = record["error_code"]
    yield from _columns(
        (name, text)
        for name, text in (
            ("account", f"{record['account_id']}, product {record['product']}"),
            ("reference", record["client_ref"]),
            ("sender", record["sender"] and f"{record['sender']}{sent}"),
            ("recipient", record["recipient"]),
            ("network", f"{network}, {country}"),
            ("status", f"{record['status'] or NOTHING}"
                       + (f", hand-off error code {code}" if code else "")),
            ("price", _money(record["price"], each.currency)),
            ("validity", record["validity_ms"] and duration(record["validity_ms"])),
            ("part", record["concatenated"] and "one of a longer message"),
            ("fetched", iso(record["fetched_at"])),
            ("asked by id", record["asked_at"] and iso(record["asked_at"])),
        )
        if text
    )  # fmt: skip


def _time_line(each: Explained) -> Iterator[tuple[str, ...]]:
    """Received, the receipts, and the end of the record, in order of time."""
    record = each.record
    events: list[tuple[datetime | None, tuple[str, ...]]] = [
        (record["received_at"], (iso(record["received_at"]), "", "Vonage received it"))
    ]
    if ended := record["finalized_at"]:
        what = f"Vonage's record ended: {record['status'] or NOTHING}"
        after = _since(ended, record["received_at"])
        events.append((ended, (iso(ended), after, what)))
    events += [(heard.at, _heard(heard, record)) for heard in each.receipts]
    undated = [line for at, line in events if at is None]
    dated = sorted((at, n) for n, (at, _) in enumerate(events) if at)
    yield from undated
    yield from (events[n][1] for _, n in dated)


def _heard(heard: Heard, record: dict[str, Any]) -> tuple[str, ...]:
    row = heard.row
    after = "" if heard.after_ms is None else _signed(heard.after_ms)
    code = row["error_code"]
    meaning = f" ({words.ERROR_CODES[code].meaning})" if code in words.ERROR_CODES else ""
    notes = [
        f"receipt {row['status']}"
        + (f", err-code {code}{meaning}" if code not in (None, "0") else ""),
        _captured(row, heard, record),
        f"{row['source']} line {row['line']}",
        _repeats(heard),
        f"does not count: {heard.ignored}" if heard.ignored else "",
        "decides" if heard.decides else "",
    ]
    return iso(heard.at) if heard.at else "undated", after, "; ".join(filter(None, notes))


def _repeats(heard: Heard) -> str:
    if not heard.repeats:
        return ""
    source, line = heard.repeats
    return f"duplicate of {'' if source == heard.row['source'] else f'{source} '}line {line}"


def _captured(row: dict[str, Any], heard: Heard, record: dict[str, Any]) -> str:
    """When it was captured, where its place on the line does not say so."""
    if row["captured_at"] is None or row["captured_at"] == heard.at:
        return ""
    received = record.get("received_at")
    since = f" ({_since(row['captured_at'], received)})" if received else ""
    return f"captured {iso(row['captured_at'])}{since}"


def _rule(each: Explained, held: Held) -> str:
    if held.kind == "grid":
        row, column = each.cell or ("", "")
        says = _answer(held.verdict or "", [held.name] if held.name else [])
        head = f"grid: record {row} × receipt {column} → {says}"
    else:
        head = f"{held.kind}: {held.name}" + (f" → {held.verdict}" if held.verdict else "")
    idle = "" if held.counts else " (outranked)"
    return f"{head}{idle}: {held.sentence}"


def _values(each: Explained, held: Held) -> Iterator[str]:
    """What a rule looked at."""
    currency = each.currency
    if held.values:
        yield ", ".join(_value(name, value, currency) for name, value in held.values.items())
    for row in held.receipts:
        values = ", ".join(
            _value(name, value, currency)
            for name, value in row.items() if name not in ("source", "line")
        )  # fmt: skip
        yield f"{row['source']} line {row['line']}: {values}"


def _value(name: str, value: Any, currency: str | None) -> str:
    label = NAMES.get(name, name.replace("_", " "))
    if value is None:
        return f"{label} {NOTHING}"
    if name.endswith("_ms"):
        return f"{label} {duration(value)}"
    if isinstance(value, Decimal):
        return f"{label} {_money(value, currency)}"
    return f"{label} {iso(value) if isinstance(value, datetime) else value}"


def _alone(each: Alone) -> Iterator[str]:
    yield f"Message {each.message_id}: no record, " + (
        f"its receipts are orphans: {each.kind}" if each.kind else "receipts only"
    )
    yield f"  {each.sentence}"
    if each.resembles:
        yield f"  It resembles {', '.join(each.resembles)}: `reconcile explain` tells of it"
    yield "Time line (UTC)"
    told = (_heard(heard, {}) for heard in each.receipts)
    yield from _columns((at, what) for at, _, what in told)
    for heard in each.receipts[:1]:
        row = heard.row
        yield "Receipt"
        yield from _columns(
            (name, str(row[column]))
            for name, column in (("account", "account_id"), ("reference", "client_ref"),
                                 ("sender", "sender"), ("recipient", "recipient"),
                                 ("network", "network_code"))
            if row[column]
        )  # fmt: skip


def _only_sent(each: OnlySent) -> Iterator[str]:
    yield f"Message {each.message_id}: no record, no receipt" + (
        f"; it is {each.unrecorded}" if each.unrecorded else ", only the send log has it"
    )
    yield f"  {each.sentence}"
    yield "Send log (UTC)"
    yield from _columns(
        (
            iso(row["sent_at"]) if row["sent_at"] else "without a time",
            f"the API answered status {row['status']}"
            + (" (accepted)" if row["status"] == words.SENT_ACCEPTED else " (refused)"),
            f"{row['source']} line {row['line']}",
        )
        for row in each.lines
    )


def _columns(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Rows as indented columns, the last as long as it is."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        head = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        yield f"  {'  '.join([*head, row[-1]])}".rstrip()


def _answer(verdict: str, reasons: Iterable[str]) -> str:
    return ", ".join((verdict, *reasons)).replace(", ", ": ", 1)


def _since(later: datetime, earlier: datetime) -> str:
    return _signed(round((later - earlier).total_seconds() * 1000))


def _signed(ms: int) -> str:
    return duration(ms) if ms < 0 else f"+{duration(ms)}"


def _money(amount: Decimal | None, currency: str | None) -> str:
    if amount is None:
        return ""
    return f"{amount.normalize():f}" + (f" {currency}" if currency else "")


# --- JSON -------------------------------------------------------------------------------------


def _json(each: Explained | Alone | OnlySent) -> dict[str, Any]:
    """All that is known of a message, by the names that the tables use."""
    found = asdict(each)
    if "lines" in found:
        return {"message_id": found.pop("message_id"), "found": "send log", **found}
    receipts = [
        {**heard.pop("row"), "at": heard.pop("at"), **_repeated(heard)}
        for heard in found.pop("receipts")
    ]
    if "kind" in found:
        return {"message_id": found.pop("message_id"), "found": "receipts", **found,
                "receipts": receipts}  # fmt: skip
    judged, cell, record = (found.pop(name) for name in ("judged", "cell", "record"))
    as_known = {name: judged[name] for name in record} if judged else None
    return {
        "message_id": record["message_id"],
        "found": "record",
        "as_of": found.pop("as_of"),
        "rules_version": words.RULES_VERSION,
        "verdict": judged and judged["verdict"],
        "reasons": judged["reasons"] if judged else [],
        "record": record,
        "record_as_known": as_known,
        "receipts": receipts,
        "grid": cell and {"record": cell[0], "receipt": cell[1], "verdict": judged["cell_verdict"],
                          "reason": judged["cell_reason"]},
        **found,
    }  # fmt: skip


def _repeated(heard: dict[str, Any]) -> dict[str, Any]:
    source = heard["repeats"]
    return heard | {"repeats": source and {"source": source[0], "line": source[1]}}


def _plain(value: Any) -> Any:
    """A value as JSON carries it: times in UTC, money as text."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, datetime):
        return iso(value)
    return value.isoformat() if isinstance(value, date) else value
