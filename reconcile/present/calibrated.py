"""`calibrate`: what the rules on networks would have done with this account's own history."""

from __future__ import annotations

from reconcile import engine
from reconcile.calibrating import replay
from reconcile.present.text import render
from reconcile.settings import Settings
from reconcile.store import Store


def calibrated(settings: Settings, days: int, wanted: float, form: str) -> str:
    """The table, and for people what its last column means."""
    store = Store.open(settings.store)
    con = engine.connect(*engine.limits_of(settings, store.work))
    frame = replay(store, con, settings, days, wanted)
    note = (
        f"{int(frame.days.max())} days of {int(frame.networks.max())} networks, each day held "
        f"against the 28 before; false_discoveries is {settings.false_discoveries:g}. The last "
        f"column would have kept flags to {wanted:g} a day (–: none that was tried)."
    )
    return render(frame, form, note=note if form == "table" else "")
