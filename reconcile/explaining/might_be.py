"""What would change a verdict: the same message with another receipt, another record, or later.

No rule is repeated here: the core is asked what it would say.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from reconcile import vocabulary as words
from reconcile.days import iso
from reconcile.explaining.core import Case, Core
from reconcile.explaining.timeline import ms_between, why_ignored
from reconcile.explaining.told import Change, Row
from reconcile.tables import RECEIPTS

_MOMENTS = ("matures_at", "grace_ends_at")


def might_be(case: Case, record: Row, as_of: datetime) -> Iterator[tuple[str, Case]]:
    """The same message as it might be: in words, and as a case to be judged."""
    if record["received_at"] > as_of:
        return
    begun, mine = _ended(case, record, as_of), [
        row for row in case.receipts if not why_ignored(case, record, row, as_of)
    ]  # fmt: skip
    ways: list[tuple[str, Row, list[Row]]] = []
    again = record | {"fetched_at": as_of, "asked_at": as_of}
    ways.append(("if Vonage, asked for it by id now, still told no other", again, mine))
    for status in ("delivered", "failed", words.UNKNOWN):
        ways.append(
            (
                f"if one receipt without fault said {status}",
                record,
                [_receipt(record, status, begun)],
            )
        )
    if mine:
        ways.append(("if no receipt had come", record, []))
    for status in ("delivered", "failed", words.UNKNOWN):
        ended = _record(record, status, begun)
        ways.append((f"if Vonage's record said {status}", ended, mine))
    ways.append(("if Vonage's record were not final", _record(record, "accepted", None), mine))
    if len(mine) > 1:
        for row in mine:
            rest = [each for each in mine if each is not row]
            ways.append((f"without the receipt in {row['source']}, line {row['line']}",
                         record, rest))  # fmt: skip
    ways.append(
        (
            "if Vonage's record and one receipt without fault both said delivered",
            _record(record, "delivered", begun),
            [_receipt(record, "delivered", begun)],
        )
    )
    for n, (what, changed, receipts) in enumerate(ways):
        name = f"{case.name} {record['account_id']} {record['product']} {n}"
        yield what, Case(name, [changed], receipts)


def _ended(case: Case, record: Row, as_of: datetime) -> datetime:
    """When a message ended, or may have ended, by as_of."""
    pushed = [row["pushed_at"] for row in case.receipts if row["pushed_at"]]
    received: datetime = record["received_at"]
    times = [record["finalized_at"], *sorted(pushed), received + timedelta(seconds=10)]
    fit = [each for each in times if each and received <= each <= as_of]
    return fit[0] if fit else received


def _receipt(record: Row, status: str, at: datetime) -> Row:
    """A receipt that agrees with a record in all but perhaps the end."""
    code = {"delivered": "0", "failed": "8"}.get(status)
    return dict.fromkeys(RECEIPTS.names) | {
        name: record[name]
        for name in ("account_id", "product", "client_ref", "sender", "recipient", "network_code",
                     "price")
    } | {"status": status, "error_code": code, "pushed_at": at, "captured_at": at, "source": "",
         "line": 0, "signature": "unsigned"}  # fmt: skip


def _record(record: Row, status: str, ended: datetime | None) -> Row:
    """The record with another end."""
    return record | {
        "status": status,
        "finalized_at": ended,
        "latency_ms": ms_between(ended, record["received_at"]),
    }


def once_later(
    core: Core, case: Case, record: Row, facts: Row, as_of: datetime
) -> list[tuple[str, Row]]:
    """The same message judged when it is mature and when its grace is over, with nothing new."""

    key = (case.name, record["account_id"], record["product"])
    moments = sorted({facts[name] for name in _MOMENTS if facts[name] > as_of})
    return [
        (f"if nothing new comes by {iso(moment)}", core.judge([case], moment)[key])
        for moment in moments
    ]


def changes_of(row: Row, ways: list[tuple[str, Row]]) -> list[Change]:
    """What would change the verdict or its reasons, each answer once."""
    from reconcile.judge.rules import CONTEXT_NAMES

    def answer(of: Row) -> tuple[str, ...]:
        return of["verdict"], *(name for name in of["reasons"] if name not in CONTEXT_NAMES)

    told = {answer(row)}
    found = []
    for what, other in ways:
        if (new := answer(other)) not in told:
            told.add(new)
            found.append(Change(what, new[0], list(new[1:])))
    return found
