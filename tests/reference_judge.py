"""A slow and obvious judge: one message at a time, in plain Python, straight from the rules' text.

It shares nothing with `reconcile.judge` but the vocabulary of statuses and codes, and the facts of
which country has which mobile country code. The two must agree on every message.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from reconcile import vocabulary

Row = dict[str, Any]

DEFINITE = {"delivered", "read", "failed", "rejected", "expired", "undeliverable", "deleted"}
KNOWN = DEFINITE | {"unknown", "accepted", "buffered", "submitted"}
LEFT_OUT_OF_EVENTS = {"captured_at", "source", "line", "signature"}
HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def judge_all(
    records: list[Row], receipts: list[Row], as_of: datetime
) -> dict[tuple[str, str, str], tuple[str, list[str]]]:
    """Verdict and reasons of each record that was received by as_of."""
    by_id: dict[str, list[Row]] = {}
    for record in records:
        if record["received_at"] <= as_of:
            by_id.setdefault(record["message_id"], []).append(as_known(record, as_of))
    told = {}
    for message_id, owners in by_id.items():
        heard = [r for r in receipts if r["message_id"] == message_id and is_known(r, as_of)]
        for record in owners:
            mine = [r for r in heard if owner_of(r, owners) is record]
            key = (message_id, record["account_id"], record["product"])
            told[key] = judge(record, mine, as_of, owners)
    return told


def is_known(receipt: Row, as_of: datetime) -> bool:
    moment = receipt["captured_at"] or receipt["pushed_at"]
    return moment is None or moment <= as_of


def as_known(record: Row, as_of: datetime) -> Row:
    """The record as it was at as_of: an end that came later is taken away."""
    if record["finalized_at"] is not None and record["finalized_at"] > as_of:
        return record | {"status": None, "finalized_at": None, "latency_ms": None}
    return record


def owner_of(receipt: Row, owners: list[Row]) -> Row:
    candidates = [o for o in owners if o["account_id"] == receipt["account_id"]]
    if not candidates:
        smallest = min(o["account_id"] for o in owners)
        candidates = [o for o in owners if o["account_id"] == smallest]
    for owner in candidates:
        if owner["product"] == "SMS":
            return owner
    return candidates[0]


def judge(
    record: Row, receipts: list[Row], as_of: datetime, owners: list[Row]
) -> tuple[str, list[str]]:
    """The verdict of one record, and its reasons in order."""
    deciding = deciding_of(receipts)
    because = contradictions(record, receipts, deciding)
    if because:
        verdict = "suspect"
    else:
        verdict, because = answer(record, deciding, as_of)
        verdict, because = refine(verdict, because, record, deciding)
    return verdict, because + context(record, receipts, deciding, owners)


def happened_at(receipt: Row) -> datetime | None:
    return receipt["pushed_at"] or receipt["captured_at"]


def event_of(receipt: Row) -> tuple[Any, ...]:
    return tuple(v for k, v in sorted(receipt.items()) if k not in LEFT_OUT_OF_EVENTS)


def events_of(receipts: list[Row]) -> list[Row]:
    """Each event once, as it was captured first; forged only if all its copies are."""
    events: dict[tuple[Any, ...], list[Row]] = {}
    for receipt in receipts:
        events.setdefault(event_of(receipt), []).append(receipt)
    found = []
    for copies in events.values():
        times = [c["captured_at"] for c in copies if c["captured_at"]]
        forged = all(c["signature"] == "invalid" for c in copies)
        found.append(copies[0] | {"captured_at": min(times, default=None), "forged": forged})
    return found


def deciding_of(receipts: list[Row]) -> Row | None:
    """The last definite receipt, else the last unknown one, else the last."""
    events = events_of(receipts)
    trusted = [e for e in events if not e["forged"]] or events
    for wanted in (DEFINITE, {"unknown"}, None):
        fitting = [e for e in trusted if wanted is None or e["status"] in wanted]
        if fitting:
            return max(fitting, key=place_in_time)
    return None


def place_in_time(receipt: Row) -> list[tuple[bool, Any]]:
    """Time first, then the remaining fields in a fixed order; what is blank comes first."""
    fields = ["status", "error_code", "network_code", "price", "scts", "pushed_at",
              "sender", "recipient", "client_ref", "account_id", "product"]  # fmt: skip
    values = [happened_at(receipt), *(receipt[f] for f in fields)]
    return [(v is not None, v if v is not None else 0) for v in values]


def outcome(status: str | None) -> str | None:
    if status == "read":
        return "delivered"
    return status if status in DEFINITE else None


def country_of_code(network_code: str | None) -> str | None:
    countries = vocabulary.mcc_countries().get((network_code or "")[:3], ())
    return countries[0] if countries else None


def country_of(record: Row) -> str | None:
    by_code = country_of_code(record["network_code"])
    return by_code or vocabulary.home_countries().get(record["country"])


def contradictions(record: Row, receipts: list[Row], deciding: Row | None) -> list[str]:
    received, because = record["received_at"], []
    if any(
        r["recipient"] and record["recipient"] and r["recipient"] != record["recipient"]
        for r in receipts
    ):
        because.append("recipient_mismatch")
    ended, latency = record["finalized_at"], record["latency_ms"]
    if (
        (ended and received - ended > SECOND)
        or (latency is not None and latency < 0)
        or any(r["pushed_at"] and received - r["pushed_at"] > 60 * SECOND for r in receipts)
    ):
        because.append("time_travel")
    here = country_of(record)
    theirs = {country_of_code(r["network_code"]) for r in receipts} - {None}
    if here and theirs - {here}:
        because.append("foreign_network")
    if any(r["signature"] == "invalid" for r in receipts):
        because.append("bad_signature")
    if deciding:
        status, code = deciding["status"], deciding["error_code"]
        if (status in {"delivered", "read"} and code not in {None, "0"}) or (
            status in {"failed", "rejected"} and code == "0"
        ):
            because.append("status_error_contradiction")
    if len({outcome(r["status"]) for r in receipts} - {None}) > 1:
        because.append("conflicting_finals")
    return because


def answer(record: Row, deciding: Row | None, as_of: datetime) -> tuple[str, list[str]]:
    """What the grid says of a record and its deciding receipt."""
    status, received = record["status"], record["received_at"]
    said = deciding["status"] if deciding else None
    definite, unknown = said in DEFINITE, said == "unknown"
    in_grace = as_of - (record["finalized_at"] or received) < 24 * HOUR
    if status in DEFINITE:
        if unknown:
            return "unknown", ["status_unknown"]
        if not definite:
            return ("pending", ["in_flight"]) if in_grace else ("missing", ["lost_webhook"])
        assert deciding
        return ("confirmed", []) if agree(record, deciding) else ("suspect", ["status_conflict"])
    if unknown and status == "unknown":
        return "unknown", ["status_unknown"]
    if status == "unknown":
        if in_grace and not definite:
            return "pending", ["in_flight"]
        return "unknown", ["record_unknown"]
    limit = validity_of(record)
    if as_of < received + limit + 24 * HOUR:
        return "pending", ["record_open" if definite or unknown else "in_flight"]
    if unknown:
        return "unknown", ["status_unknown"]
    fresh = record["fetched_at"] >= received + limit
    if definite:
        return ("suspect", ["record_never_final"]) if fresh else ("unknown", ["record_stale"])
    return "missing", ["carrier_silent" if fresh else "unattributed"]


def agree(record: Row, receipt: Row) -> bool:
    ours, theirs = outcome(record["status"]), outcome(receipt["status"])
    nowhere = {"failed", "rejected", "undeliverable", "expired"}
    return ours == theirs or (
        record["product"] != receipt["product"] and ours in nowhere and theirs in nowhere
    )


def validity_of(record: Row) -> timedelta:
    own = record["validity_ms"]
    return 72 * HOUR if own is None else timedelta(milliseconds=own)


def refine(
    verdict: str, because: list[str], record: Row, deciding: Row | None
) -> tuple[str, list[str]]:
    said = deciding["status"] if deciding else None
    code = deciding["error_code"] if deciding else None
    if record["status"] == "deleted" and said not in DEFINITE | {"unknown"}:
        return "not_expected", ["record_deleted"]
    if "expired" in (record["status"], said) and at_deadline(record, deciding):
        return "missing", ["platform_expired"]
    if verdict == "confirmed" and said in {"failed", "rejected"} and code in {None, "1", "99"}:
        return "unknown", ["error_unknown"]
    strange = []
    if {record["status"], said} - KNOWN - {None}:
        strange.append("unmapped_status")
    if deciding and code is not None and not is_mapped(code, deciding["product"]):
        strange.append("unmapped_error")
    if strange and verdict in {"confirmed", "missing", "pending"}:
        return "unknown", strange
    return verdict, because


def at_deadline(record: Row, deciding: Row | None) -> bool:
    received, elapsed = record["received_at"], None
    if record["latency_ms"] is not None:
        elapsed = timedelta(milliseconds=record["latency_ms"])
    elif record["finalized_at"]:
        elapsed = record["finalized_at"] - received
    elif deciding and deciding["pushed_at"]:
        elapsed = deciding["pushed_at"] - received
    limit = validity_of(record)
    return elapsed is not None and abs(elapsed - limit) <= min(timedelta(minutes=15), limit / 10)


def is_mapped(code: str, product: str) -> bool:
    if code in vocabulary.ERROR_CODES:
        return True
    return product == "MESSAGES" and code.isdigit() and int(code) >= 1000


def context(record: Row, receipts: list[Row], deciding: Row | None, owners: list[Row]) -> list[str]:
    held = []
    if len(receipts) > len({event_of(r) for r in receipts}):
        held.append("duplicate_receipt")
    finals = [r for r in events_of(receipts) if r["status"] in DEFINITE | {"unknown"}]
    others = [r for r in events_of(receipts) if r["status"] not in DEFINITE | {"unknown"}]
    if any(
        happened_at(late) and happened_at(final) and happened_at(late) > happened_at(final)
        for late in others
        for final in finals
    ):
        held.append("out_of_order")
    received = record["received_at"]
    if deciding and deciding["captured_at"] and deciding["captured_at"] - received > 72 * HOUR:
        held.append("late_capture")
    if record["sender"] and record["sender_used"] and record["sender"] != record["sender_used"]:
        held.append("sender_rewritten")
    if (
        deciding
        and deciding["network_code"] not in {None, record["network_code"]}
        and record["network_code"] != "unknown"
        and country_of_code(deciding["network_code"]) == country_of(record)
    ):
        held.append("network_differs")
    if deciding and deciding["account_id"] not in {None, record["account_id"]}:
        held.append("account_differs")
    if len(owners) > 1 and any(
        r["account_id"] not in {o["account_id"] for o in owners} for r in receipts
    ):
        held.append("ambiguous_account")
    ours, theirs = record["price"], deciding["price"] if deciding else None
    if ours is not None and theirs is not None:
        apart = abs(ours - theirs)
        if apart > abs(ours) * Decimal("0.01") and apart > Decimal("0.0001"):
            held.append("price_differs")
    end = outcome(record["status"]) or outcome(deciding["status"] if deciding else None)
    if ours and ours > 0 and end not in {None, "delivered"}:
        held.append("charged_not_delivered")
    latency = record["latency_ms"]
    if record["status"] in {"delivered", "read"} and latency is not None and latency < 800:
        held.append("too_fast")
    return held
