"""Published tables → the few rows that are shown: sums over days, with their intervals.

Plain SQL and plain rows: `show` has to answer at once.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; a condition was checked (where.py)

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile.present.rates import MEASURES, Rate, rate, told_of
from reconcile.selection import reading
from reconcile.store import Store, parquet_query
from reconcile.tables import CAMPAIGNS, ERROR_CODES, REASONS, SUMMARY, VERDICTS, Table
from reconcile.vocabulary import VERDICTS as SIX_VERDICTS
from reconcile.where import checked

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]


@dataclass(frozen=True)
class View:
    """What `show --by` adds up: a table's rows by these columns.

    Attributes:
        names: further columns, of which each group has one value.
        measured: whether the six verdicts are counted, with rates; else messages and spend alone.
        in_order: by its key, not the worst first.
    """

    table: Table
    keys: tuple[str, ...]
    names: tuple[str, ...] = ()
    measured: bool = True
    in_order: bool = False

    @property
    def columns(self) -> list[str]:
        """The columns of its rows, in order."""
        first = [*self.keys, "currency", *self.names]
        if not self.measured:
            return [*first, "messages", "spend"]
        return [*first, *COUNTS, *MONEY, *RATES, "unconfirmed"]


COUNTS = ("messages", *SIX_VERDICTS)
MONEY = ("spend", "spend_unconfirmed")
RATES = tuple(f"{name}_rate{end}" for name in MEASURES for end in ("", "_low", "_high"))
VIEWS = {
    "network": View(SUMMARY, ("country", "network_code"), ("country_name", "network_name")),
    "country": View(SUMMARY, ("country",), ("country_name",)),
    "campaign": View(CAMPAIGNS, ("campaign",)),
    "day": View(SUMMARY, ("date",), in_order=True),
    "hour": View(VERDICTS, ("hour",), in_order=True),
    "reason": View(REASONS, ("verdict", "reason"), measured=False),
    "error-code": View(
        ERROR_CODES, ("receipt_status", "receipt_error_code"), ("meaning",), measured=False
    ),
}  # fmt: skip
# A message as a row of counts, by the definitions of `summary` (summarise.py).
_MESSAGES = f"""
    SELECT *, received_at::DATE AS date, strftime(received_at, '%H:00') AS hour, 1 AS messages,
        {", ".join(f"(verdict = '{name}')::INT AS {name}" for name in SIX_VERDICTS)},
        (verdict = 'missing' AND reasons[1] IS NOT DISTINCT FROM 'capture_outage')::INT
            AS missing_capture_outage,
        coalesce(record_price, 0) AS spend,
        CASE WHEN verdict IN {MEASURES} THEN coalesce(record_price, 0) ELSE 0 END
            AS spend_unconfirmed"""


def view(
    store: Store, con: duckdb.DuckDBPyConnection, by: str, days: Iterable[date | str],
    worst: int | None = None, where: str | None = None,
) -> list[Row] | None:  # fmt: skip
    """One row a group and currency, with the `columns` of a view; None: no day has the table.

    Args:
        worst: so many rows, those with most messages missing, unknown or suspect.
        where: a condition on the columns of the view's table, on each row before it is added up.

    Raises:
        UsageError: a condition that cannot be used.
        InputError: a file of the table cannot be read.
    """
    this = VIEWS[by]
    rows = _rows(store, this, days, where)
    if rows is None:
        return None
    first = [f"{'unconfirmed' if this.measured else 'messages'} DESC"]
    order = [*([] if this.in_order and not worst else first), *this.keys, "currency"]
    limit = f" LIMIT {worst}" if worst else ""
    asked = f"{_sums(rows, this, ())} ORDER BY {', '.join(order)}{limit}"
    found = [_rated(row) if this.measured else row for row in _asked(con, this, asked)]
    return [{name: row[name] for name in this.columns} for row in found]


def trends(
    store: Store, con: duckdb.DuckDBPyConnection, by: str, days: list[str],
    where: str | None = None,
) -> dict[tuple[str, ...], list[float | None]]:  # fmt: skip
    """Of each group and currency a number a day: its share unconfirmed, else its messages.

    None stands for a day on which nothing was to be told.
    """
    this = VIEWS[by]
    told: dict[tuple[str, ...], list[float | None]] = {}
    rows = _rows(store, this, days, where)
    places = {day: at for at, day in enumerate(days)}
    for row in _asked(con, this, _sums(rows, this, ("date",))) if rows else ():
        key = tuple(row[name] for name in (*this.keys, "currency"))
        share = Rate(row["unconfirmed"], told_of(row)).value if this.measured else row["messages"]
        told.setdefault(key, [None] * len(days))[places[str(row["date"])]] = share
    return told


def _rows(store: Store, this: View, days: Iterable[date | str], where: str | None) -> str | None:
    """SQL of the rows of the view's table, with the columns that are added up."""
    files = store.files(this.table, *days)
    if not files:
        return None
    query = f"({parquet_query(this.table, files)}) AS t"
    if where is not None:
        query += f" WHERE {checked(where, this.table)}"
    return f"{_MESSAGES if this.table is VERDICTS else 'SELECT *'} FROM {query}"


def _sums(rows: str, this: View, further: tuple[str, ...]) -> str:
    """Rows added up by the view's keys and `further` columns."""
    # Money of several currencies is never added up.
    keys = [*this.keys, "currency", *further]
    counted = (*COUNTS, "missing_capture_outage") if this.measured else ("messages",)
    added = [
        *(f"max({name}) AS {name}" for name in this.names),
        *(f"sum({name})::BIGINT AS {name}" for name in counted),
        *(f"sum({name}) AS {name}" for name in (MONEY if this.measured else MONEY[:1])),
    ]
    if this.measured:
        added.append(f"sum({' + '.join(MEASURES)})::BIGINT AS unconfirmed")
    return f"SELECT {', '.join([*keys, *added])} FROM ({rows}) GROUP BY {', '.join(keys)}"


def _rated(row: Row) -> Row:
    for name in MEASURES:
        found = rate(name, row)
        low, high = found.ends or (None, None)
        row |= {f"{name}_rate": found.value, f"{name}_rate_low": low, f"{name}_rate_high": high}
    return row


def _asked(con: duckdb.DuckDBPyConnection, this: View, query: str) -> list[Row]:
    with reading(this.table):
        found = con.execute(query)
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]
