"""Closed days whose inputs changed since they were judged: they are judged again, and no others.

What may change them: a capture that came late, a hole of records that was filled, days before them
that were downloaded meanwhile (their receipts need not be `uncovered` any more).
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from reconcile.days import DAY, iso
from reconcile.judging import Bench, look_back, receipt_days, slices_of
from reconcile.sendlog.judging import has_log
from reconcile.store import UNDATED, Ledger
from reconcile.tables import ORPHANS, RECEIPTS, RECORDS, VERDICTS


def touched(
    bench: Bench, covered: Callable[[date], bool], recorded: Callable[[date], bool]
) -> set[date]:
    """The closed days to judge again.

    Args:
        bench: what to work with; `ledger.changed` names the partitions of receipts that are new,
            `ledger.send_changed` those of the send log.
        covered: whether all days to which a day's receipts can belong are here.
        recorded: whether a day and those beside it are.
    """
    judged = {date.fromisoformat(day): told for day, told in bench.ledger.judged.items()}
    here, never = map(date.fromisoformat, bench.ledger.days_downloaded), {"slices": 0}
    filled = {
        day for day in here
        if _other(judged.get(day, never), "slices", slices_of(bench.ledger, day))
    }  # fmt: skip
    near = _near_receipts(bench)
    return {
        day
        for day, told in judged.items()
        if told["closed"]
        and is_kept_whole(bench.ledger, day, bench.horizon)
        and (
            str(day) in bench.ledger.changed
            or day in filled
            or (_is_whole_now(told, "covered", covered, day) and _has_orphans(bench, day))
            or ((near is None or day in near) and _hears_more(bench, day))
            or _sent_more(bench, day, told, recorded)
            or (bool(filled) and _orphans_known(bench, day, filled))
        )
    }


def is_kept_whole(ledger: Ledger, day: date, horizon: timedelta) -> bool:
    """Whether nothing was pruned of what a day was judged with; else it stays as it was found."""
    return str(day - DAY * math.ceil(horizon / DAY)) >= ledger.pruned


def _other(told: dict[str, Any], name: str, now: object) -> bool:
    """Whether something is not what it was when a day was judged, where that is known."""
    return name in told and told[name] != now


def _is_whole_now(
    told: dict[str, Any], name: str, is_whole: Callable[[date], bool], day: date
) -> bool:
    """Whether days that were not all here when a day was judged are so now."""
    return told.get(name) is False and is_whole(day)


def _near_receipts(bench: Bench) -> set[date] | None:
    """The days whose receipts can lie in partitions that are new; None: it can be any."""
    if UNDATED in bench.ledger.changed:
        return None
    parts = map(date.fromisoformat, bench.ledger.changed)
    return {day for part in parts for day in look_back(bench, part)}


def _sent_more(
    bench: Bench, day: date, told: dict[str, Any], recorded: Callable[[date], bool]
) -> bool:
    """Whether what the send log says of a day, or is held against, is not what it was."""
    if not has_log(bench, day):
        return False
    near = {str(day + n * DAY) for n in (-1, 0, 1)}
    return (
        not near.isdisjoint(bench.ledger.send_changed)
        or _other(told, "logged", bench.log_is_whole)
        or _is_whole_now(told, "recorded", recorded, day)
    )


def _hears_more(bench: Bench, day: date) -> bool:
    """Whether a message of a day has another number of receipts than its verdict says."""
    parts = receipt_days(bench, day)
    new = set(parts).intersection(bench.ledger.changed)
    if not new:
        return False
    query = bench.store.query
    heard = f"coalesce(captured_at, pushed_at) <= TIMESTAMPTZ '{iso(bench.as_of)}'"
    return _any(
        bench,
        f"""
        WITH told AS (SELECT message_id, receipts FROM ({query(VERDICTS, [day])})),
        ids AS (SELECT DISTINCT message_id FROM ({query(RECEIPTS, sorted(new))})
            WHERE message_id IN (SELECT message_id FROM told)),
        now AS (SELECT message_id, count(*) AS n FROM ({query(RECEIPTS, parts)})
            WHERE message_id IN (FROM ids) AND coalesce({heard}, true) GROUP BY message_id)
        SELECT count(*) AS n FROM now
        JOIN (SELECT message_id, sum(receipts) AS n FROM told GROUP BY message_id) AS before
            USING (message_id)
        WHERE now.n <> before.n
    """,
    )


def _has_orphans(bench: Bench, day: date) -> bool:
    return _any(bench, f"SELECT count(*) AS n FROM ({bench.store.query(ORPHANS, [day])})")


def _orphans_known(bench: Bench, day: date, filled: set[date]) -> bool:
    """Whether orphans of a day have a record among those of days that were filled since."""
    near = filled.intersection(look_back(bench, day))
    if not near:
        return False
    records = bench.store.query(RECORDS, sorted(near))
    return _any(
        bench,
        f"""
        SELECT count(*) AS n FROM ({bench.store.query(ORPHANS, [day])})
        WHERE message_id IN (SELECT message_id FROM ({records}))
    """,
    )


def _any(bench: Bench, query: str) -> bool:
    return bool(bench.ask(query)["n"])
