"""`show`: what was published for some days, added up or row by row, as text or as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from reconcile import engine
from reconcile.errors import UsageError
from reconcile.present import views
from reconcile.present.odd import COLUMNS as ODD_COLUMNS
from reconcile.present.odd import odd_networks, odd_ones
from reconcile.present.text import as_json, plain, render_rows
from reconcile.present.worst import compact
from reconcile.selection import Selection, partitions, rows_query
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import BY_NAME, CAMPAIGNS, NETWORKS, VERDICTS, Table
from reconcile.where import checked

SCHEMA = "reconcile.show/1"
# How many of the last days a trend has, and how many of them are read message by message.
TREND_DAYS, MESSAGE_DAYS = 28, 14
# How many rows of a table a terminal gets.
FEW = 20


@dataclass(frozen=True)
class Wanted:
    """What is to be shown: of which days, how many rows, only those that hold, in which form."""

    asked: Any
    worst: int | None
    where: str | None
    form: str


def show(settings: Settings, wanted: Wanted, by: str) -> str:
    """The published summaries, added up by one of `views.VIEWS`; no days asked: all there are."""
    store, this = Store.open(settings.store), views.VIEWS[by]
    days = partitions(store, this.table, wanted.asked.start, wanted.asked.end)
    if this.table is VERDICTS and not wanted.asked.start:
        days = days[-MESSAGE_DAYS:]
    con = _connected(settings, store)
    rows = views.view(store, con, by, days, wanted.worst, wanted.where)
    if rows is None:
        raise _nothing(store, this.table)
    over = days[-TREND_DAYS:] if len(days) > 1 and by != "day" else []
    if over:
        told, none = views.trends(store, con, by, over, wanted.where), [None] * len(over)
        for row in rows:
            row["trend"] = told.get(tuple(row[name] for name in (*this.keys, "currency")), none)
    if wanted.form == "json":
        return _json(this.table, by, days, wanted, rows, over)
    if wanted.form == "csv":
        return render_rows(this.columns, rows, "csv")
    names, shown = compact(rows, by)
    legend = {"trend": _trend(over, by)} if over and rows else {}
    note = "" if rows else "No row: nobody sent anything, or the condition holds for none."
    return render_rows(names, shown, wanted.form, _title(by, days, wanted), note, legend)


def rows_of(settings: Settings, wanted: Wanted, name: str) -> str:
    """Rows of any table, by its key; a terminal gets the first few."""
    if name not in BY_NAME:
        raise UsageError(f"there is no table {name}: the tables are {', '.join(BY_NAME)}")
    table, store, asked = BY_NAME[name], Store.open(settings.store), wanted.asked
    names = partitions(store, table, asked.start, asked.end)
    if not names:
        raise _nothing(store, table)
    query = rows_query(store, table, asked.start, asked.end)
    if wanted.where is not None:
        query = f"SELECT * FROM ({query}) AS t WHERE {checked(wanted.where, table)}"  # noqa: S608
    found = Selection(_connected(settings, store), table, query, table.names)
    few = wanted.worst or (FEW if wanted.form == "table" else None)
    rows = found.arrow(few).to_pylist()
    if wanted.form == "json":
        return _json(table, None, names, wanted, rows, [])
    note = f"{len(rows):,} of {found.count():,} rows of {name}"
    return render_rows(table.names, rows, wanted.form, "", note)


def networks(settings: Settings, wanted: Wanted) -> str:
    """The networks that are odd on the days asked for; none: on the last that is published."""
    store = Store.open(settings.store)
    days = partitions(store, NETWORKS, wanted.asked.start, wanted.asked.end)
    days = days if wanted.asked.start else days[-1:]
    odd = odd_networks(store, _connected(settings, store), days, wanted.where)
    if odd is None:
        raise _nothing(store, NETWORKS)
    rows = odd.rows[: wanted.worst]
    if wanted.form == "table":
        return odd_ones(replace(odd, rows=rows), days)
    if wanted.form == "json":
        return _json(NETWORKS, "odd", days, wanted, rows, [])
    return render_rows(ODD_COLUMNS, rows, wanted.form)


def _json(
    table: Table, by: str | None, names: list[str], wanted: Wanted, rows: Iterable[Any],
    over: list[str],
) -> str:  # fmt: skip
    """What docs/show.schema.json describes."""
    told: dict[str, Any] = {
        "schema": SCHEMA, "table": table.name, "by": by, "partitions": names, "where": wanted.where
    }  # fmt: skip
    if over:
        told["trend_days"] = over
    return as_json(told | {"rows": [plain(row) for row in rows]})


def _connected(settings: Settings, store: Store) -> Any:
    return engine.bare(*engine.limits_of(settings, store.work))


def _nothing(store: Store, table: Table) -> UsageError:
    hint = "; the setting `campaign` makes it" if table is CAMPAIGNS else ""
    return UsageError(
        f"nothing is published for these days in {store.name}: table {table.name} has none of "
        f"them{hint}; see `reconcile status`"
    )


def _title(by: str, days: list[str], wanted: Wanted) -> str:
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    only = f", where {wanted.where}" if wanted.where else ""
    return f"By {by}, {span} (UTC days, {len(days)} published){only}"


def _trend(over: list[str], by: str) -> str:
    what = "share unconfirmed" if views.VIEWS[by].measured else "messages"
    return f"{what} a day, {over[0]} to {over[-1]}, each row from 0 to its own highest"
