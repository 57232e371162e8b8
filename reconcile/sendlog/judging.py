"""Brings the send log of a day before the core: for `judging`, which lends its bench."""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING

from reconcile.days import DAY, days_between
from reconcile.store import UNDATED, Staged, parquet_query
from reconcile.tables import RECORDS, SENT, UNRECORDED

if TYPE_CHECKING:
    import ibis

    from reconcile.judging import Bench


def covering_days(day: date) -> list[date]:
    """The days without which nobody can say that Reports does not know a message of this day."""
    return days_between(day - DAY, day + 2 * DAY)


def has_log(bench: Bench, day: date) -> bool:
    """Whether a send log has messages of this day."""
    return bench.store.has(SENT, day)


def lay(bench: Bench, day: date) -> None:
    """Lays `sent_of_day` and `sent_around`, which `judge.sendlog.with_unsent` reads."""
    store = bench.store
    bench.read("sent_of_day", SENT, store.files(SENT, day))
    bench.read("sent_around", SENT, store.files(SENT, *covering_days(day), UNDATED))


def judge_unrecorded(
    bench: Bench, day: date | None, *, covered: bool, fresh: Iterable[date] | None = None
) -> Staged | None:
    """Stages the messages of a day (None: those without a time) that were accepted and that
    Reports does not know; None: no send log speaks of it.

    Args:
        bench: what to work with.
        day: the UTC day.
        covered: whether it and the days beside it were downloaded.
        fresh: as `judging.judge_orphans` has it.
    """
    from reconcile.judge import sendlog as core
    from reconcile.judge.pair import Scope

    part, scope = str(day) if day else UNDATED, Scope(bench.now, several_owners=False)
    if not bench.store.has(SENT, part):
        return None
    bench.read("sent_to_find", SENT, bench.store.files(SENT, part))
    days: Iterable[date | str] | None = fresh
    if day:
        days = covering_days(day)
    elif fresh is not None:
        sent, lone = (bench.store.query(table, [UNDATED]) for table in (SENT, UNRECORDED))
        bench.lay("sent_to_find", f"SELECT * FROM ({sent}) SEMI JOIN ({lone}) USING (message_id)")
    days = bench.store.days(RECORDS) if days is None else days
    bench.read("records_around", RECORDS, bench.store.files(RECORDS, *days))
    bench.lay("sent_day", f"SELECT {covered and day is not None} AS is_covered")

    def build() -> ibis.Table:
        table = bench.table
        rows = core.unrecorded(
            table("sent_to_find"), table("records_around"), table("sent_day"),
            bench.accounts, scope,
        )  # fmt: skip
        return rows.order_by(list(UNRECORDED.key))

    return bench.make("unrecorded", UNRECORDED, part, build)


def counts(bench: Bench, staged: Staged | None) -> dict[str, int]:
    """How many messages of a day are unrecorded, and of how many we cannot know it."""
    if staged is None:
        return {}
    rows = parquet_query(UNRECORDED, staged.files)
    return bench.ask(
        f"SELECT count(*) FILTER (kind = 'unrecorded') AS unrecorded, "
        f"count(*) FILTER (kind = 'uncovered') AS unrecorded_uncovered, "
        f"count(*) FILTER (kind = 'foreign_account') AS unrecorded_foreign FROM ({rows})"
    )
