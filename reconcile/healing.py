"""Closed days whose inputs changed since they were judged: they are judged again, and no others.

What may change them: a capture that came late, a hole of records that was filled, days before them
that were downloaded meanwhile (their receipts need not be `uncovered` any more).
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Any

from reconcile.days import DAY, iso
from reconcile.judging import Bench, look_back, receipt_days, slices_of
from reconcile.sendlog.judging import has_log
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
    closed = {day: told for day, told in judged.items() if told["closed"]}
    filled = {day for day, told in judged.items() if _is_filled(bench, day, told)}
    return {
        day
        for day, told in closed.items()
        if str(day) in bench.ledger.changed
        or day in filled
        or _sent_more(bench, day, _other(told, "recorded", recorded(day)))
        or _hears_more(bench, day)
        or _knows_more(bench, day, filled, _other(told, "covered", covered(day)))
    }


def _is_filled(bench: Bench, day: date, told: dict[str, Any]) -> bool:
    return _other(told, "slices", slices_of(bench.ledger, day))


def _other(told: dict[str, Any], name: str, now: object) -> bool:
    """Whether something is not what it was when a day was judged, where that is known."""
    return name in told and told[name] != now


def _sent_more(bench: Bench, day: date, recorded_anew: bool) -> bool:
    """Whether what the send log says of a day, or is held against, is not what it was."""
    near = {str(day + n * DAY) for n in (-1, 0, 1)}
    changed = not near.isdisjoint(bench.ledger.send_changed)
    return (changed or recorded_anew) and has_log(bench, day)


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


def _knows_more(bench: Bench, day: date, filled: Iterable[date], covered_anew: bool) -> bool:
    """Whether the orphans of a day may be none, or others, by records that came since."""
    orphans = bench.store.query(ORPHANS, [day])
    if covered_anew:
        return _any(bench, f"SELECT count(*) AS n FROM ({orphans})")
    near = set(look_back(bench, day)).intersection(filled)
    if not near:
        return False
    records = bench.store.query(RECORDS, sorted(near))
    return _any(
        bench,
        f"""
        SELECT count(*) AS n FROM ({orphans})
        WHERE message_id IN (SELECT message_id FROM ({records}))
    """,
    )


def _any(bench: Bench, query: str) -> bool:
    return bool(bench.ask(query)["n"])
