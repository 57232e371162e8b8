"""Plays the networks' history again: how often each rule would have flagged one, by which q."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from reconcile import networking
from reconcile.days import DAY, days_between
from reconcile.errors import UsageError
from reconcile.judge import networks as core
from reconcile.judge.networks import NETWORK_RULES, SPANS
from reconcile.judge.statistics import Flags
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import NETWORKS

if TYPE_CHECKING:
    from ibis.backends.duckdb import Backend

# Settings of `false_discoveries` that are tried, the most careful last.
TRIED = (0.2, 0.1, 0.05, 0.02, 0.01, 0.001, 0.0001)


def replay(
    store: Store, con: Backend, settings: Settings, many: int, wanted: float
) -> pd.DataFrame:
    """One row a rule: how many networks a day it would have flagged, and how to have fewer.

    Args:
        store, con: where the history is.
        settings: the capability table and `false_discoveries` as they stand.
        many: how many of the last published days are played again.
        wanted: flags a day that are not too many.

    Raises:
        UsageError: there is no history that could be played.
    """
    published = [date.fromisoformat(day) for day in store.days(NETWORKS)]
    if not published:
        raise UsageError(f"no networks are published in {store.name}: run `reconcile run` first")
    last = published[-1]
    first = max(published[0], last - (many - 1) * DAY)
    days = days_between(first - networking.REACH * DAY, last + DAY)
    window = networking.assemble(days, networking.read(con, store.query(NETWORKS, days), first),
                                 settings.capability_table())  # fmt: skip
    played = [at for at in range(networking.REACH, len(days)) if days[at] in set(published)]
    flags = _flags(window, played, sorted({*TRIED, settings.false_discoveries}))
    now = flags[settings.false_discoveries]
    networks = max(len(window.networks), 1)
    rows = []
    for name in [*(rule.name for rule in NETWORK_RULES), "suspect"]:
        enough = [q for q in flags if flags[q][name] / len(played) <= wanted]
        rows.append({
            "rule": name, "days": len(played), "networks": networks, "flagged": now[name],
            "a_day": now[name] / len(played),
            "a_day_of_300": now[name] / len(played) * 300 / networks,
            "false_discoveries_wanted": max(enough) if enough else None,
        })  # fmt: skip
    return pd.DataFrame(rows)


def _flags(
    window: networking.Window, played: list[int], tried: list[float]
) -> dict[float, dict[str, int]]:
    """For each q: how many networks each rule, and the verdict suspect, flags on these days."""
    names = [*(rule.name for rule in NETWORK_RULES), "suspect"]
    found = {q: dict.fromkeys(names, 0) for q in tried}

    def play(at: int) -> dict[float, dict[str, Flags]]:
        past = window.history.past(at)
        told = [core.examine(window.history.present(at, days), past) for days in SPANS.values()]
        judged = {q: [core.held(each, q) for each in told] for q in tried}
        return {q: {n: np.any([holds[n] for holds, _ in spans], axis=0) for n in names[:-1]}
                | {"suspect": np.any([suspect for _, suspect in spans], axis=0)}
                for q, spans in judged.items()}  # fmt: skip

    # Columns are computed outside of Python's lock: days are played beside each other.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for played_day in pool.map(play, played):
            for q, flags in played_day.items():
                for name, flagged in flags.items():
                    found[q][name] += int(flagged.sum())
    return found
