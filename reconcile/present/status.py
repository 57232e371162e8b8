"""`status`: which days are whole, open or full of holes, and what Vonage billed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

from reconcile.days import day_window, days_between
from reconcile.present.text import render
from reconcile.reports.plan import sources_of
from reconcile.reports.slices import Source, days_with, missing
from reconcile.settings import Settings
from reconcile.store import Ledger, Store

COLUMNS = ("day", "records", "download", "lacking", "verdicts", "judged as of", "billed")


def status(settings: Settings, form: str) -> str:
    """One row a day between the first and the last downloaded."""
    import pandas as pd

    store = Store.open(settings.store)
    ledger = store.ledger()
    sources, here = sources_of(settings, ledger), days_with(ledger)
    span = days_between(min(here), max(here) + timedelta(days=1)) if here else []
    rows = [_row(ledger, sources, day) for day in span]
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"records": "Int64"})
    frame = frame.astype(object).where(frame.notna(), None)
    return render(frame, form, "", _note(store, ledger, sum(bool(row[3]) for row in rows)))


def _row(ledger: Ledger, sources: Iterable[Source], day: date) -> tuple[object, ...]:
    parts = ledger.of_day(day)
    judged = ledger.judged.get(str(day))
    state = "not judged" if judged is None else "closed" if judged["closed"] else "open"
    return (
        str(day),
        sum(int(part["records"]) for part in parts) if parts else None,
        ", ".join(sorted({str(part["via"]) for part in parts})) or "MISSING",
        "; ".join(filter(None, (_hole(ledger, source, day) for source in sources))),
        state if parts else "–",
        judged["as_of"] if judged else None,
        sum(int(part["billed"]) for part in parts),
    )


def _hole(ledger: Ledger, source: Source, day: date) -> str:
    """What a day lacks of a source, as hours of the day."""
    holes = missing(ledger, source, day)
    if not holes:
        return ""
    spans = ", ".join(
        "all day" if hole == day_window(day) else f"{hole.start:%H:%M:%S}–{hole.end:%H:%M:%S}"
        for hole in holes
    )
    return f"{source.name} {spans}"


def _note(store: Store, ledger: Ledger, holes: int) -> str:
    note = f"billed in all: {ledger.billed:,} records"
    if holes:
        note += (
            f"; days that are not whole: {holes}, `reconcile fetch --plan` shows what fills them"
        )
    if ledger.pruned:
        note += f"; the first day that is kept: {ledger.pruned}"
    if last := store.last_manifest():
        note += f"; last run {last['command']} as of {last['as_of']}, exit {last['exit_code']}"
    return note
