"""The table at the end of a run: the networks whose messages are confirmed least."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

from reconcile.present import views
from reconcile.present.text import render
from reconcile.store import Store

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

SHOWN = 10


def worst_networks(store: Store, con: Backend, days: Iterable[date | str], form: str = "table") -> str:
    """The networks with most messages missing, unknown or suspect; "" where nothing is published."""
    days = list(days)
    frame = views.view(store, con, "network", days, None)
    if frame is None or frame.empty:
        return ""
    total = {name: int(frame[name].sum()) for name in views.COUNTS}
    found = f"{total['messages']:,} messages on {len(days)} day{'s' if len(days) != 1 else ''}: " + (
        ", ".join(f"{total[n]:,} {n.replace('_', ' ')}" for n in views.COUNTS[1:] if total[n])
    )
    return render(compact(frame.head(SHOWN)), form, "Networks with most unconfirmed messages", found)


def compact(frame: Any) -> Any:
    """The summary's frame with each rate and its interval as one column, for people."""
    shown = frame[["country", "network_code", "network_name", *views.COUNTS[:6]]].copy()
    for name in ("missing", "suspect"):
        shown[f"{name} rate (95 %)"] = [
            interval(row[f"{name}_rate"], row[f"{name}_rate_low"], row[f"{name}_rate_high"])
            for row in frame.to_dict("records")
        ]
    shown["spend_unconfirmed"] = frame["spend_unconfirmed"]
    shown["currency"] = frame["currency"]
    return shown


def interval(rate: float, low: float, high: float) -> str:
    """A rate with its interval, as `4.0 % (2.1–7.5)`."""
    if rate is None or rate != rate:
        return "–"
    return f"{rate * 100:.1f} % ({low * 100:.1f}–{high * 100:.1f})"
