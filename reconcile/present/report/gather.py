"""The store's small tables → plain frames of a span of days: only this part reads the store."""

# ruff: noqa: S608 - SQL is put together from names of our own

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from reconcile import engine
from reconcile.days import DAY, days_between
from reconcile.engine import quote
from reconcile.errors import UsageError
from reconcile.present.odd import COLUMNS as ODD_COLUMNS
from reconcile.present.odd import ODD
from reconcile.reports.plan import sources_of
from reconcile.reports.slices import is_whole
from reconcile.settings import Settings
from reconcile.store import Store, unreadable
from reconcile.tables import (
    CAMPAIGNS,
    CHANGES,
    CONCENTRATIONS,
    ERROR_CODES,
    NETWORKS,
    REASONS,
    SUMMARY,
    Table,
)
from reconcile.vocabulary import VERDICTS

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends.duckdb import Backend

SHOWN_DAYS, MOST_DAYS = 14, 100
LOST = ("missing_lost_webhook", "missing_carrier_silent", "missing_platform_expired",
        "missing_unattributed", "missing_capture_outage")  # fmt: skip
COUNTS = ("messages", *VERDICTS, *LOST, "receipts", "duplicate_receipts", "orphans", "uncovered")
KEYS = ("date", "country", "country_name", "network_code", "network_name", "currency")


@dataclass(frozen=True)
class DayState:
    """What is known of a day: whether it is published, downloaded whole, and closed.

    `is_whole` is None where the ledger knows of no download at all.
    """

    day: date
    is_published: bool
    is_whole: bool | None
    is_closed: bool
    as_of: str


@dataclass(frozen=True)
class Gathered:
    """All that the report is made of.

    Attributes:
        days, before: the days asked for, and as many before them.
        states: of each of `days` what is known.
        published_before: those of `before` that are published.
        as_of: the latest as_of of what is shown.
        summary, summary_before: a row a day, network and currency, with `COUNTS` and money.
        odd: rows of `networks` that are odd; None where networks were never judged.
        latencies: country, network_code, bin, n: delivered messages by time.
        changes, changes_as_of: from, to, why, messages, and the last run that changed any.
        named_by_last_run: the holes that the last run named.
    """

    days: list[date]
    before: list[date]
    states: list[DayState]
    published_before: list[date]
    as_of: str
    rules_versions: list[str]
    summary: pd.DataFrame
    summary_before: pd.DataFrame
    reasons: pd.DataFrame
    error_codes: pd.DataFrame
    odd: pd.DataFrame | None
    odd_until: date | None
    latencies: pd.DataFrame
    concentrations: pd.DataFrame
    campaigns: pd.DataFrame
    changes: pd.DataFrame
    changes_as_of: str
    named_by_last_run: list[dict[str, str]]


def gather(settings: Settings, start: date | None, end: date | None) -> Gathered:
    """Reads what is published of the days from `start` to `end` (excluded).

    Without days: of the last fourteen published ones.

    Raises:
        UsageError: there is no store, nothing is published there, or too many days are asked for.
        InputError: a file of the store cannot be read.
    """
    store = Store.open(settings.store)
    published = [date.fromisoformat(day) for day in store.days(SUMMARY)]
    days = _span(store, published, start, end)
    before = days_between(days[0] - len(days) * DAY, days[0])
    with _reader(settings, store) as read:
        return _gathered(settings, store, read, days, before, set(published))


def _span(store: Store, published: list[date], start: date | None, end: date | None) -> list[date]:
    if not published:
        raise UsageError(f"nothing is published in {store.name}: `reconcile run` judges its days")
    if not start or not end:
        end = published[-1] + DAY
        start = max(published[-SHOWN_DAYS:][0], end - timedelta(days=MOST_DAYS))
    days = days_between(start, end)
    if len(days) > MOST_DAYS:
        raise UsageError(f"{len(days)} days are too many for a report: ask for {MOST_DAYS} or less")
    if not set(days).intersection(published):
        raise UsageError(
            f"nothing is published from {start} to {end} in {store.name}: published days lie "
            f"between {published[0]} and {published[-1]}; see `reconcile status`"
        )
    return days


class _Read:
    """Small queries over the files of a table; where there are none, a frame without rows."""

    def __init__(self, store: Store, con: Backend) -> None:
        self.store, self.con = store, con

    def __call__(self, table: Table, parts: list[Any], select: str, rest: str = "") -> pd.DataFrame:
        return self.sql(table, f"SELECT {select} FROM ({self.store.query(table, parts)}) {rest}")

    def sql(self, table: Table, query: str) -> pd.DataFrame:
        import duckdb

        try:
            found = self.con.con.execute(query).fetch_arrow_table()
        except duckdb.Error as error:
            raise unreadable(table, error) from None
        frame: pd.DataFrame = found.to_pandas(date_as_object=True)
        return frame


@contextmanager
def _reader(settings: Settings, store: Store) -> Iterator[_Read]:
    con = engine.connect(*engine.limits_of(settings, store.work))
    try:
        yield _Read(store, con)
    finally:
        con.disconnect()


def _gathered(
    settings: Settings, store: Store, read: _Read, days: list[date], before: list[date],
    published: set[date],
) -> Gathered:  # fmt: skip
    about = [store.about(SUMMARY, day) or {} for day in days if day in published]
    judged = [date.fromisoformat(day) for day in store.days(NETWORKS)]
    judged = [day for day in judged if days[0] <= day <= days[-1]]
    changes = store.days(CHANGES)[-1:]
    return Gathered(
        days=days,
        before=before,
        states=_states(settings, store, days, published),
        published_before=[day for day in before if day in published],
        as_of=max(told["as_of"] for told in about),
        rules_versions=sorted({told["rules_version"] for told in about}),
        summary=_summary(read, days),
        summary_before=_summary(read, before),
        reasons=_counted(read, REASONS, days, "verdict, reason, is_context",
                         "sum(messages_first)::BIGINT AS messages_first"),
        error_codes=_counted(read, ERROR_CODES, days, "receipt_status, receipt_error_code",
                             "max(meaning) AS meaning"),
        odd=_odd(read, judged) if judged else None,
        odd_until=max(judged, default=None),
        latencies=_latencies(read, judged),
        concentrations=read(CONCENTRATIONS, days, "date, verdict, rank, sentence",
                            "ORDER BY date DESC, verdict, rank"),
        campaigns=_campaigns(read, days),
        changes=_changes(read, changes, days),
        changes_as_of=_as_of(store, changes),
        named_by_last_run=list((store.last_manifest() or {}).get("incomplete", [])),
    )  # fmt: skip


def _states(
    settings: Settings, store: Store, days: list[date], published: set[date]
) -> list[DayState]:
    ledger = store.ledger()
    sources = sources_of(settings, ledger) if ledger.downloads else []
    found = []
    for day in days:
        judged = ledger.judged.get(str(day), {})
        whole = all(is_whole(ledger, source, day) for source in sources) if sources else None
        as_of = (store.about(SUMMARY, day) or {}).get("as_of", "")
        found.append(DayState(day, day in published, whole, bool(judged.get("closed")), as_of))
    return found


def _summary(read: _Read, days: list[date]) -> pd.DataFrame:
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in COUNTS)
    money = "sum(spend) AS spend, sum(spend_unconfirmed) AS spend_unconfirmed"
    names = "date, country, max(country_name) AS country_name, network_code, "
    return read(
        SUMMARY, list(days),
        f"{names} max(network_name) AS network_name, currency, {sums}, {money}",
        "GROUP BY date, country, network_code, currency "
        "ORDER BY date, country, network_code, currency",
    )  # fmt: skip


def _counted(read: _Read, table: Table, days: list[date], keys: str, more: str) -> pd.DataFrame:
    return read(
        table, list(days), f"{keys}, {more}, sum(messages)::BIGINT AS messages",
        f"GROUP BY {keys} ORDER BY messages DESC, {keys}",
    )  # fmt: skip


def _odd(read: _Read, days: list[date]) -> pd.DataFrame:
    named = ", ".join(map(quote, ODD))
    return read(
        NETWORKS, list(days), ", ".join((*ODD_COLUMNS, "country_name", "messages")),
        f"WHERE network_verdict IN ({named}) ORDER BY date, country, network_code, span",
    )  # fmt: skip


def _latencies(read: _Read, days: list[date]) -> pd.DataFrame:
    """Only days as such, and only networks: spans and countries hold the same messages again."""
    bins = ("country, network_code, unnest(range(len(latency_histogram))) AS bin, "
            "unnest(latency_histogram) AS n")  # fmt: skip
    rows = read.store.query(NETWORKS, days)
    return read.sql(
        NETWORKS,
        "SELECT country, network_code, bin, sum(n)::BIGINT AS n FROM "
        f"(SELECT {bins} FROM ({rows}) WHERE span = '1d' AND network_code <> '*') "
        "WHERE n > 0 GROUP BY ALL ORDER BY ALL",
    )


def _campaigns(read: _Read, days: list[date]) -> pd.DataFrame:
    counts = ", ".join(f"sum({name})::BIGINT AS {name}" for name in ("messages", *VERDICTS))
    return read(
        CAMPAIGNS, list(days),
        f"campaign, {counts}, sum(missing_capture_outage)::BIGINT AS missing_capture_outage",
        "GROUP BY campaign ORDER BY sum(missing + unknown + suspect) DESC, campaign",
    )  # fmt: skip


def _changes(read: _Read, parts: list[str], days: list[date]) -> pd.DataFrame:
    keys = "from_verdict, to_verdict, why"
    return read(
        CHANGES, list(parts), f"{keys}, count(*)::BIGINT AS messages",
        f"WHERE date BETWEEN '{days[0]}' AND '{days[-1]}' "
        f"GROUP BY {keys} ORDER BY messages DESC, {keys}",
    )  # fmt: skip


def _as_of(store: Store, parts: list[str]) -> str:
    told = store.about(CHANGES, parts[0]) if parts else None
    return str(told["as_of"]) if told else ""
