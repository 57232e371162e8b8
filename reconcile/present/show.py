"""`show`, and the end of a run: which days, opened read-only, as text."""

from __future__ import annotations

from datetime import date
from typing import Any

from reconcile import engine
from reconcile.days import days_between
from reconcile.errors import UsageError
from reconcile.present import views
from reconcile.present.text import render
from reconcile.present.worst import compact, worst_networks
from reconcile.settings import Settings
from reconcile.store import Store


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


def after_run(ended: Any) -> str:
    """The worst networks of the days that a run judged."""
    days = [date.fromisoformat(entry["day"]) for entry in ended.manifest["judged"]]
    store, settings = ended.store, ended.settings
    memory = settings.memory_limit or engine.half_of_memory()
    return worst_networks(
        store, engine.connect(memory, settings.threads, store.work / "spill"), days
    )
