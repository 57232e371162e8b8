"""The table at the end of a run: the networks whose messages are confirmed least."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile.present import views
from reconcile.present.rates import MEASURES
from reconcile.present.text import NOTHING, render_rows
from reconcile.store import Store
from reconcile.vocabulary import UNKNOWN

if TYPE_CHECKING:
    import duckdb

SHOWN = 10
# Columns that name a group → the column in which people read it.
TOGETHER = {"network_code": "network_name", "country": "country_name"}


def worst_networks(store: Store, con: duckdb.DuckDBPyConnection, days: Iterable[date | str]) -> str:
    """The networks with most messages missing, unknown or suspect; "" if nothing is published."""
    days = list(days)
    rows = views.view(store, con, "network", days)
    if not rows:
        return ""
    total = {name: sum(row[name] for row in rows) for name in views.COUNTS}
    parts = [f"{total[n]:,} {n.replace('_', ' ')}" for n in views.COUNTS[1:] if total[n]]
    span = f"{len(days)} day{'s' if len(days) != 1 else ''}"
    note = f"{total['messages']:,} messages on {span}: {', '.join(parts)}"
    names, shown = compact(rows[:SHOWN], "network")
    return render_rows(names, shown, "table", "Networks with most unconfirmed messages", note)


def compact(rows: list[views.Row], by: str) -> tuple[list[str], list[views.Row]]:
    """A view's rows as people read them: a network in one column, a rate with its interval.

    Returns:
        The names of the columns, and the rows.
    """
    this = views.VIEWS[by]
    keys = [key.removesuffix("_code") if this.measured else key for key in this.keys]
    trend = ["trend"] if rows and "trend" in rows[0] else []
    if not this.measured:
        told = [{**row, "cost": money(row["spend"], row["currency"])} for row in rows]
        return [*keys, *trend, *this.names, "messages", "cost"], told
    counts = [n for n in views.COUNTS[:6] if n != "pending" or any(r["pending"] for r in rows)]
    told = [_measured(row, by) for row in rows]
    rates = [f"{name} rate" for name in MEASURES]
    return [*keys, *trend, *counts, *rates, "unconfirmed spend"], told


def _measured(row: views.Row, by: str) -> views.Row:
    told = dict(row)
    for key in views.VIEWS[by].keys:
        # A country's name stands beside its code where nothing else needs the room.
        name = TOGETHER.get(key) if key != "country" or by == "country" else None
        told[key.removesuffix("_code")] = (
            f"{row[key]} {row[name]}" if name and row[name] else row[key]
        )
    for name in MEASURES:
        told[f"{name} rate"] = interval(
            *(row[f"{name}_rate{end}"] for end in ("", "_low", "_high"))
        )
    told["unconfirmed spend"] = money(row["spend_unconfirmed"], row["currency"])
    return told


def money(amount: Any, currency: str) -> str:
    """An amount with its currency, where that is known."""
    return f"{amount:,.2f}" + (f" {currency}" if currency != UNKNOWN else "")


def interval(rate: float | None, low: float | None, high: float | None) -> str:
    """A rate with its interval, as `4.0 % (2.1–7.5)`."""
    if rate is None or low is None or high is None:
        return NOTHING
    return f"{rate * 100:.1f} % ({low * 100:.1f}–{high * 100:.1f})"
