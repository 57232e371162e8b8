"""`show`, and the end of a run: which days, opened read-only, as text."""

from __future__ import annotations

from datetime import date
from typing import Any

from reconcile import engine
from reconcile.days import days_between
from reconcile.errors import UsageError
from reconcile.present import views
from reconcile.present.odd import odd_networks, odd_ones
from reconcile.present.text import render
from reconcile.present.worst import compact, worst_networks
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import NETWORKS


def show(settings: Settings, asked: Any, by: str, worst: int | None, form: str) -> str:
    """The published summaries of the days asked for (none: all there are)."""
    store = Store.open(settings.store)
    table, _ = views.VIEWS[by]
    days: list[Any] = list(store.days(table))
    if asked.start:
        days = [str(day) for day in days_between(asked.start, asked.end)]
    memory = settings.memory_limit or engine.half_of_memory()
    con = engine.connect(memory, settings.threads, store.work / "spill")
    frame = views.view(store, con, by, days, worst)
    if frame is None:
        raise UsageError(
            f"nothing is published for these days in {store.root}: see `reconcile status`"
        )
    if form == "table" and by == "network":
        return render(compact(frame), form)
    return render(frame, form)


def networks(settings: Settings, asked: Any, worst: int | None, form: str) -> str:
    """The networks that are odd on the days asked for; none: on the last that is published."""
    store = Store.open(settings.store)
    published = store.days(NETWORKS)
    days = [str(d) for d in days_between(asked.start, asked.end)] if asked.start else published[-1:]
    memory = settings.memory_limit or engine.half_of_memory()
    con = engine.connect(memory, settings.threads, store.work / "spill")
    frame = odd_networks(store, con, days)
    if frame is None:
        raise UsageError(
            f"no networks are published for these days in {store.root}: see `reconcile status`"
        )
    frame = frame.head(worst) if worst else frame
    return odd_ones(frame, days) if form == "table" else render(frame, form)


def after_run(ended: Any) -> str:
    """The worst networks of the days that a run judged, and those that are not to be believed."""
    days = [date.fromisoformat(entry["day"]) for entry in ended.manifest["judged"]]
    store, settings = ended.store, ended.settings
    memory = settings.memory_limit or engine.half_of_memory()
    con = engine.connect(memory, settings.threads, store.work / "spill")
    text = worst_networks(store, con, days)
    last = max(days, default=None)
    odd = odd_networks(store, con, [last]) if last else None
    return text + ("\n" + odd_ones(odd, [str(last)]) if odd is not None else "")
