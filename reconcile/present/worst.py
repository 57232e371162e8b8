"""The table at the end of a run: the networks whose messages are confirmed least."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile.present import views
from reconcile.present.text import NOTHING, render
from reconcile.store import Store
from reconcile.vocabulary import UNKNOWN

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

SHOWN = 10
# Columns that name a group → the column in which people read it.
TOGETHER = {"network_code": "network_name", "country": "country_name"}


def worst_networks(
    store: Store, con: Backend, days: Iterable[date | str], form: str = "table"
) -> str:
    """The networks with most messages missing, unknown or suspect; "" if nothing is published."""
    days = list(days)
    frame = views.view(store, con, "network", days)
    if frame is None or frame.empty:
        return ""
    total = {name: int(frame[name].sum()) for name in views.COUNTS}
    parts = [f"{total[n]:,} {n.replace('_', ' ')}" for n in views.COUNTS[1:] if total[n]]
    span = f"{len(days)} day{'s' if len(days) != 1 else ''}"
    note = f"{total['messages']:,} messages on {span}: {', '.join(parts)}"
    shown = compact(frame.head(SHOWN), "network")
    return render(shown, form, "Networks with most unconfirmed messages", note)


def compact(frame: Any, by: str) -> Any:
    """A view's frame as people read it: a network in one column, a rate with its interval."""
    this = views.VIEWS[by]
    if not this.measured:
        return frame.drop(columns=["currency", "spend"]).assign(cost=_spent(frame, "spend"))
    rows = frame.to_dict("records")
    shown = frame[[]].copy()
    for key in this.keys:
        # A country's name stands beside its code where nothing else needs the room.
        name = TOGETHER.get(key) if key != "country" or by == "country" else None
        shown[key.removesuffix("_code")] = [_named(row, key, name) for row in rows]
    if "trend" in frame:
        shown["trend"] = frame["trend"]
    for name in views.COUNTS[:6]:
        if name != "pending" or frame["pending"].any():
            shown[name] = frame[name]
    for name in ("missing", "unknown", "suspect"):
        shown[f"{name} rate"] = [_interval(row, name) for row in rows]
    shown["unconfirmed spend"] = _spent(frame, "spend_unconfirmed")
    return shown


def _named(row: dict[str, Any], key: str, name: str | None) -> Any:
    known = row[name] if name else None
    return f"{row[key]} {known}" if isinstance(known, str) else row[key]


def _spent(frame: Any, name: str) -> list[str]:
    return [money(row[name], row["currency"]) for row in frame.to_dict("records")]


def money(amount: Any, currency: str) -> str:
    """An amount with its currency, where that is known."""
    return f"{amount:,.2f}" + (f" {currency}" if currency != UNKNOWN else "")


def _interval(row: dict[str, Any], name: str) -> str:
    rate, low, high = (row[f"{name}_rate{end}"] for end in ("", "_low", "_high"))
    return interval(rate, low, high)


def interval(rate: float | None, low: float, high: float) -> str:
    """A rate with its interval, as `4.0 % (2.1–7.5)`."""
    if rate is None or rate != rate:
        return NOTHING
    return f"{rate * 100:.1f} % ({low * 100:.1f}–{high * 100:.1f})"
