"""Published tables → the small frames that are shown: sums over days, with their intervals."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile.store import Store, parquet_query, read_query
from reconcile.tables import CAMPAIGNS, ERROR_CODES, REASONS, SUMMARY, VERDICTS, Table
from reconcile.vocabulary import VERDICTS as SIX_VERDICTS
from reconcile.where import checked

if TYPE_CHECKING:
    import pandas as pd
    from ibis.backends.duckdb import Backend


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
        """The columns of its frame, in order."""
        first = [*self.keys, "currency", *self.names]
        if not self.measured:
            return [*first, "messages", "spend"]
        return [*first, *COUNTS, *MONEY, *RATES, "unconfirmed"]


COUNTS = ("messages", *SIX_VERDICTS)
MONEY = ("spend", "spend_unconfirmed")
RATES = tuple(
    f"{name}_rate{end}"
    for name in ("missing", "unknown", "suspect")
    for end in ("", "_low", "_high")
)
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


def view(
    store: Store, con: Backend, by: str, days: Iterable[date | str], worst: int | None = None,
    where: str | None = None,
) -> Any:  # fmt: skip
    """A pandas frame with the `columns` of a view: one row a group and currency.

    Args:
        worst: so many rows, those with most messages missing, unknown or suspect.
        where: a condition on the columns of the view's table, on each row before it is added up.

    Returns:
        None where no day has the table.
    """
    from ibis import _

    this = VIEWS[by]
    rows = _rows(store, con, this, days, where)
    if rows is None:
        return None
    found = _sums(rows, this, [*this.keys, "currency"])
    order = [_.unconfirmed.desc() if this.measured else _.messages.desc()]
    if this.in_order and not worst:
        order = []
    found = found.order_by([*order, *this.keys, "currency"]).select(this.columns)
    return _frame(con, found.limit(worst) if worst else found)


def trends(
    store: Store, con: Backend, by: str, days: list[str], where: str | None = None
) -> dict[tuple[str, ...], list[float | None]]:
    """Of each group and currency a number a day: its share unconfirmed, else its messages.

    None stands for a day on which nothing was to be told.
    """
    this = VIEWS[by]
    rows = _rows(store, con, this, days, where)
    if rows is None:
        return {}
    daily = _frame(con, _sums(rows, this, [*this.keys, "currency", "date"]))
    value = daily["messages"]
    if this.measured:
        told = daily["messages"] - daily["pending"] - daily["not_expected"]
        value = daily["unconfirmed"] / told.where(told > 0)
    keys = [*this.keys, "currency"]
    wide = (
        daily[keys]
        .assign(day=daily["date"].astype(str), value=value)
        .pivot(index=keys, columns="day", values="value")
        .reindex(columns=days)
    )
    plain = float if this.measured else int
    values = [[None if v != v else plain(v) for v in row] for row in wide.to_numpy().tolist()]
    return dict(zip(wide.index.to_list(), values, strict=True))


def _rows(
    store: Store, con: Backend, this: View, days: Iterable[date | str], where: str | None
) -> Any:
    """The rows of the view's table, with the columns that it is keyed by."""
    from ibis import _

    files = [path for path in (store.path(this.table, day) for day in days) if path.exists()]
    if not files:
        return None
    query = parquet_query(this.table, files)
    if where is not None:
        query = f"SELECT * FROM ({query}) AS t WHERE {checked(where, this.table)}"  # noqa: S608
    rows = read_query(con, this.table, query)
    if this.table is not VERDICTS:
        return rows
    hour = _.received_at.hour().cast("string").lpad(2, "0") + ":00"
    return rows.mutate(hour=hour, date=_.received_at.date(), first=_.reasons[0])


def _sums(rows: Any, this: View, keys: list[str]) -> Any:
    # Money of several currencies is never added up.
    from ibis import _

    from reconcile.summarise import rated, tallies

    named = {name: _[name].max() for name in this.names}
    if not this.measured:
        added = {"messages": _.messages.sum(), "spend": _.spend.sum()}
        return rows.group_by(keys).agg(**named, **added)
    counted = (*COUNTS, *MONEY, "missing_capture_outage")
    of_messages = tallies()
    added = (
        {name: of_messages[name] for name in counted}
        if this.table is VERDICTS
        else {name: _[name].sum() for name in counted}
    )
    grouped = rows.group_by(keys).agg(**named, **added)
    return rated(grouped).mutate(unconfirmed=_.missing + _.unknown + _.suspect)


def _frame(con: Backend, rows: Any) -> pd.DataFrame:
    frame: pd.DataFrame = con.to_pyarrow(rows).to_pandas(date_as_object=True)
    return frame
