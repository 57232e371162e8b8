"""A message's receipts in order of time: which repeat, which decides, which do not count."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from reconcile.explaining.core import Case
from reconcile.explaining.told import Heard, Row
from reconcile.tables import RECEIPTS

# What tells of the deciding receipt, in a judged message: its columns are `receipt_*` there.
_DECIDING = ("status", "error_code", "network_code", "price", "pushed_at", "captured_at",
             "account_id", "product")  # fmt: skip


def time_line(case: Case, record: Row, judged: Row | None, as_of: datetime) -> list[Heard]:
    """The receipts of a message in order of time, those without any first."""
    from reconcile.judge.pair import EVENT

    rows = sorted(case.receipts, key=_moment)
    first: dict[tuple[Any, ...], tuple[str, int]] = {}
    for row in sorted(rows, key=_came):
        first.setdefault(tuple(row[name] for name in EVENT), (row["source"], row["line"]))
    ignored = [why_ignored(case, record, row, as_of) for row in rows]
    decides = None if judged is None else _deciding(rows, ignored, judged)
    heard = []
    for at, row in enumerate(rows):
        place = (row["source"], row["line"])
        origin = first[tuple(row[name] for name in EVENT)]
        moment = row["pushed_at"] or row["captured_at"]
        heard.append(
            Heard(
                {name: row[name] for name in RECEIPTS.names}, moment,
                ms_between(moment, record.get("received_at")), origin if origin != place else None,
                at == decides, ignored[at],
            )
        )  # fmt: skip
    return heard


def _moment(row: Row) -> tuple[Any, ...]:
    at = row["pushed_at"] or row["captured_at"]
    return at is not None, at or 0, *_came(row)


def _came(row: Row) -> tuple[Any, ...]:
    at = row["captured_at"]
    return at is None, at or 0, row["source"], row["line"]


def why_ignored(case: Case, record: Row, row: Row, as_of: datetime) -> str:
    """Why a receipt does not count for a record; empty if it does."""
    heard_at = row["captured_at"] or row["pushed_at"]
    if heard_at is not None and heard_at > as_of:
        return "it came after as_of"
    owners = sorted({each["account_id"] for each in case.records})
    owner = row["account_id"] if row["account_id"] in owners else (owners or [None])[0]
    if record and record["account_id"] != owner:
        return f"it belongs to the record of account {owner}"
    mine = sorted(each["product"] for each in case.records if each["account_id"] == owner)
    if record and "SMS" in mine and record["product"] != "SMS":
        return "it belongs to the record of product SMS"
    return ""


def _deciding(rows: list[Row], ignored: list[str], judged: Row) -> int | None:
    """The number of the deciding receipt: that of the judged message's columns."""
    alike = [
        at
        for at, row in enumerate(rows)
        if not ignored[at] and all(row[name] == judged[f"receipt_{name}"] for name in _DECIDING)
    ]
    return min(alike, key=lambda at: (rows[at]["signature"] == "invalid", at), default=None)


def ms_between(later: datetime | None, earlier: datetime | None) -> int | None:
    if later is None or earlier is None:
        return None
    return (later - earlier) // timedelta(milliseconds=1)
