"""Stores that the command `reconcile judge` judges, each in its way, held against each other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from reconcile.days import iso
from reconcile.store import Store
from reconcile.tables import TABLES

MADE = ("verdicts", "orphans", "summary", "reasons", "error_codes", "campaigns", "changes",
        "unrecorded", "networks", "concentrations")  # fmt: skip
ALL = tuple(table.name for table in TABLES)


@dataclass(frozen=True)
class Compared:
    """A table in two stores: its rows, in how many files, and those that only one store has."""

    table: str
    rows: int
    files: int
    only_ours: int
    only_theirs: int

    @property
    def differ(self) -> int:
        return self.only_ours + self.only_theirs


def compare(ours: Store, theirs: Store, names: Iterable[str] = MADE) -> list[Compared]:
    """Compares tables, by default all that judging publishes: row for row, each as often as it is
    there."""
    con, found = duckdb.connect(), []
    con.execute("SET TimeZone = 'UTC'")
    for table in TABLES:
        if table.name not in names:
            continue
        days = sorted({*ours.days(table), *theirs.days(table)})
        one, other = (f"(FROM ({store.query(table, days)}))" for store in (ours, theirs))
        counts = [
            con.execute(f"SELECT count(*) FROM ({query})").fetchone()[0]
            for query in (one, f"{one} EXCEPT ALL {other}", f"{other} EXCEPT ALL {one}")
        ]
        files = len(theirs.files(table, *days))
        found.append(Compared(table.name, counts[0], files, *counts[1:]))
    return found


def begin(
    store: Path | str, as_of: datetime, *flags: str, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Begins `reconcile judge` of all open days of a store."""
    command = [sys.executable, "-m", "reconcile.cli", "judge", "--store", str(store)]
    return subprocess.Popen(
        [*command, "--as-of", iso(as_of), *flags], env=plain() | dict(env or {}),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def judge(
    store: Path | str, as_of: datetime, *flags: str, env: Mapping[str, str] | None = None
) -> float:
    """The same, to its end; how many seconds it took."""
    began = time.monotonic()
    running = begin(store, as_of, *flags, env=env)
    _, told = running.communicate()
    if running.returncode not in (0, 3):  # 3: a day is incomplete, of whatever engine
        raise RuntimeError(f"judging failed: {told}")
    return time.monotonic() - began


def plain() -> dict[str, str]:
    """The environment without settings and secrets."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("RECONCILE", "VONAGE"))}
