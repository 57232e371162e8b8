"""`fetch --plan`: what a run would ask of Vonage, and what it expects to pay for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reconcile.days import iso
from reconcile.present.text import render
from reconcile.settings import Settings

if TYPE_CHECKING:
    from reconcile.job import Foreseen

COLUMNS = ("day", "account", "product", "from", "to", "via", "records expected")


def foreseen(plan: Foreseen, settings: Settings, form: str) -> str:
    """One row a slice, and one for each source that is asked by id."""
    import pandas as pd

    rows = [
        (str(step.part.day), step.part.account_id, step.part.product, iso(step.part.window.start),
         iso(step.part.window.end), step.via, step.expected)
        for step in plan.steps
    ] + [
        (None, source.account_id, source.product, None, None, "by id", count)
        for source, count in plan.by_id.items()
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"records expected": "Int64"})
    frame = frame.astype(object).where(frame.notna(), None)
    return render(frame, form, "", _total(plan, settings))


def _total(plan: Foreseen, settings: Settings) -> str:
    by_id = min(sum(plan.by_id.values()), settings.refresh_limit)
    known = sum(step.expected or 0 for step in plan.steps) + by_id
    blind = sum(step.expected is None for step in plan.steps)
    words = f"to be billed: about {known:,} records"
    if blind:
        words += f", and those of slices without a day before them to go by ({blind})"
    if settings.max_billed_records is not None:
        words += f"; max_billed_records is {settings.max_billed_records:,}"
    return words if plan.steps or plan.by_id else "nothing to ask for"
