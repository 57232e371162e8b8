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


def worst_networks(
    store: Store, con: Backend, days: Iterable[date | str], form: str = "table"
) -> str:
    """The networks with most messages missing, unknown or suspect; "" if nothing is published."""
    days = list(days)
    frame = views.view(store, con, "network", days, None)
    if frame is None or frame.empty:
        return ""
    total = {name: int(frame[name].sum()) for name in views.COUNTS}
    parts = [f"{total[n]:,} {n.replace('_', ' ')}" for n in views.COUNTS[1:] if total[n]]
    span = f"{len(days)} day{'s' if len(days) != 1 else ''}"
    note = f"{total['messages']:,} messages on {span}: {', '.join(parts)}"
    return render(compact(frame.head(SHOWN)), form, "Networks with most unconfirmed messages", note)


def compact(frame: Any) -> Any:
    """The summary's frame as people read it: a network in one column, a rate with its interval."""
    rows = frame.to_dict("records")
    shown = frame[["country"]].copy()
    names = [(r["network_code"], r["network_name"]) for r in rows]
    shown["network"] = [" ".join(filter(None, name)) for name in names]
    for name in views.COUNTS[:6]:
        if name != "pending" or frame["pending"].any():
            shown[name] = frame[name]
    shown["missing rate"] = [
        interval(r["missing_rate"], r["missing_rate_low"], r["missing_rate_high"]) for r in rows
    ]
    shown["unconfirmed spend"] = [money(r["spend_unconfirmed"], r["currency"]) for r in rows]
    return shown


def money(amount: Any, currency: str) -> str:
    """An amount with its currency, where that is known."""
    return f"{amount:,.2f}" + (f" {currency}" if currency != UNKNOWN else "")


def interval(rate: float | None, low: float, high: float) -> str:
    """A rate with its interval, as `4.0 % (2.1–7.5)`."""
    if rate is None or rate != rate:
        return NOTHING
    return f"{rate * 100:.1f} % ({low * 100:.1f}–{high * 100:.1f})"
