"""`status`: which days are whole, open or missing, and what Vonage billed."""

from __future__ import annotations

from datetime import date, timedelta

from reconcile.days import days_between
from reconcile.present.text import render
from reconcile.settings import Settings
from reconcile.store import Store


def status(settings: Settings, form: str) -> str:
    """One row a day between the first and the last downloaded."""
    import pandas as pd

    store = Store.open(settings.store)
    ledger = store.ledger()
    fetched: dict[date, list[dict[str, object]]] = {}
    for entry in ledger.downloads:
        fetched.setdefault(date.fromisoformat(entry["start"][:10]), []).append(entry)
    span = days_between(min(fetched), max(fetched) + timedelta(days=1)) if fetched else []
    rows = []
    for day in span:
        parts, judged = fetched.get(day, []), ledger.judged.get(str(day))
        asked = [r for r in ledger.refreshes if r.get("day") == str(day)]
        state = "not judged" if judged is None else "closed" if judged["closed"] else "open"
        rows.append({
            "day": str(day),
            "records": sum(int(str(p["records"])) for p in parts) if parts else None,
            "download": ", ".join(str(p["via"]) for p in parts) or "MISSING",
            "verdicts": state if parts else "–",
            "judged as of": judged["as_of"] if judged else None,
            "billed": sum(int(str(p["billed"])) for p in parts) + sum(r["billed"] for r in asked),
        })  # fmt: skip
    columns = ["day", "records", "download", "verdicts", "judged as of", "billed"]
    frame = pd.DataFrame(rows, columns=columns).astype({"records": "Int64"})
    frame = frame.astype(object).where(frame.notna(), None)
    last = store.last_manifest()
    note = f"billed in all: {ledger.billed:,} records"
    if last:
        note += f"; last run {last['command']} as of {last['as_of']}, exit {last['exit_code']}"
    return render(frame, form, "", note)
