"""Every fault of the sandbox × every way to download: the world's records, or a clear error.

A table at the end of the tests' output shows how each ended, in how many requests, and for how many
records. A run that ends with an error has changed no record; the run after it, without the fault,
ends whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from reconcile import job
from reconcile.days import DAY as A_DAY
from reconcile.days import iso, start_of
from reconcile.errors import ReconcileError
from reconcile.fetching import connected
from reconcile.run import opened
from reconcile.sandbox.cruelty import FAULTS
from reconcile.sandbox.generate import ACCOUNT, Generated, generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Settings
from reconcile.store import Store

DAY = date(2026, 1, 5)
EARLY = datetime(2026, 1, 6, 2, tzinfo=UTC)
STRIKES = 2
WAYS = ("sync", "async", "refresh")
# Which endpoints a way asks; a fault that strikes none of them has no row there.
ASKS = {
    "sync": {"records"},
    "async": {"create", "status", "list", "file"},
    "refresh": {"by_id"},
}
# Faults that no patience heals: they end the run with an error, in these ways.
ERRORS = {
    "cursor_repeats": {"sync"},
    "empty_page": {"sync"},
    "column_missing": {"sync", "refresh"},
    "redirect_elsewhere": set(WAYS),
    "ids_refused": {"refresh"},
    "report_count_wrong": {"async"},
}  # fmt: skip
# How many records more than the world's (and those asked for again) a fault may cost at most, in
# multiples of a page for each strike: what was lost on its way had been paid for.
LOSES_PAGES = ("stall", "stall_mid_body", "cut_before_answer", "cut_mid_body", "page_twice",
               "cursor_repeats", "column_missing")  # fmt: skip
# Where silence ends requests, slow answers may be lost, too: the manifest tells how many were.
STALLS = ("stall", "stall_mid_body")
# A report of which Vonage keeps no file is paid for again, and so are rows in no order.
LOSES_REPORTS = {"report_forgotten": 1.0, "file_gone": 1.0, "report_truncated_unsorted": 1.0,
                 "report_truncated": 0.05, "report_count_wrong": 1.0}  # fmt: skip


@dataclass
class Night:
    """A world with a fault, a store, and one way to bring the one into the other."""

    sandbox: Sandbox
    settings: Callable[..., Settings]
    account: Account
    world: Generated

    @property
    def store(self) -> Path:
        """The folder of the store."""
        return self.settings().store

    def fetch(self, as_of: datetime, via: str) -> list[str]:
        """Fetches the day; what went wrong, in words."""
        settings = self.settings(base_url=self.sandbox.base_url, via=via)
        self.sandbox.now = as_of
        know_the_day_before(Store.open(settings.store, create=True))
        try:
            with opened(settings, as_of, lambda *_: None) as this:
                days = job.plan(this, job.Asked(DAY, DAY + timedelta(days=1)))
                with connected(this, [self.account]) as vonage:
                    job.fetch(this, vonage, days)
                job.finish(this, "fetch")
        except ReconcileError as error:
            return [str(error)]
        return [hole["reason"] for hole in this.holes]

    def perhaps(self) -> int:
        """How many records the last run was perhaps billed, by its manifest, for lost answers."""
        manifest = Store.open(self.store).last_manifest()
        assert manifest
        return int(manifest["billed"]["perhaps"])

    def digest(self) -> str:
        """The records as bytes; nothing where there are none."""
        file = self.store / "records" / f"day={DAY}" / "records.parquet"
        return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""

    def states(self) -> dict[str, Any]:
        """Each message's status by its id; an id that comes twice fails."""
        file = self.store / "records" / f"day={DAY}" / "records.parquet"
        rows = pq.read_table(file, partitioning=None).to_pylist()
        states = {row["message_id"]: row["status"] for row in rows}
        assert len(states) == len(rows)
        return states


def know_the_day_before(store: Store) -> None:
    """Lets the plan expect a day of that size, which is one listing."""
    ledger = store.ledger()
    if not ledger.downloads:
        ledger.downloads.append({
            "account_id": ACCOUNT.api_key, "product": "SMS", "start": iso(start_of(DAY - A_DAY)),
            "end": iso(start_of(DAY)), "records": 2300, "billed": 0,
        })  # fmt: skip
        store.save(ledger)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Generated:
    """A day of 2,300 messages: three pages."""
    return generate(tmp_path_factory.mktemp("small") / "data", messages=2300, days=1, seed=5)


@pytest.fixture
def night(
    small: Generated, account: Account, configure: Any, request: pytest.FixtureRequest
) -> Iterator[Night]:
    """A night of that world. Only silence is to end a request: an answer that was slow, as on a
    machine with much to do, would be paid for again."""
    patience = "1500ms" if request.node.callspec.params["fault"] in STALLS else "60s"

    def settings(**flags: Any) -> Settings:
        found: Settings = configure(
            read_timeout=patience, retries=5, poll_first="20ms", poll_max="40ms", **flags
        )
        return found

    with Sandbox(small.folder, pending_seconds=0, seconds_per_million=0, stall_seconds=2.0,
                 truncate_after=500) as sandbox:  # fmt: skip
        yield Night(sandbox, settings, account, small)


def world_states(small: Generated, as_of: datetime) -> dict[str, Any]:
    """Each message's status as the world has it at a moment."""
    rows = pq.read_table(small.folder / "world" / f"day={DAY}").to_pylist()
    return {
        row["message_id"]: row["status"]
        if row["date_finalized"] and row["date_finalized"] <= as_of else row["status_before"]
        for row in rows
    }  # fmt: skip


CASES = [
    pytest.param(fault.name, way, id=f"{fault.name}-{way}")
    for fault in FAULTS
    for way in WAYS
    if ASKS[way] & set(fault.endpoints) and fault.name != "redirect_file"
]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "way"), CASES)
def test_fault(
    night: Night, small: Generated, fault: str, way: str, record_property: Callable[..., None]
) -> None:
    """It ends with the world's records, or with an error: unchanged, and whole next time."""
    sandbox, as_of, owed = night.sandbox, small.mature_at, 2300
    if way == "refresh":
        as_of = EARLY + timedelta(days=1)
        assert night.fetch(EARLY, "sync") == []
        owed = sum(state in ("accepted", "buffered", "submitted", None)
                   for state in night.states().values())  # fmt: skip
        assert owed > 25
    before, asked, billed = night.digest(), len(sandbox.requests), sandbox.billed_records
    sandbox.faults = {fault: STRIKES}
    via = "async" if way == "async" else "sync"
    problems = night.fetch(as_of, via)
    strikes = sandbox.cruelty.struck[fault]
    assert strikes, "the fault never struck"
    if problems:
        assert fault in ERRORS, problems
        assert all("Traceback" not in line and "\n" not in line for line in problems)
        if way != "refresh":
            assert night.digest() == before
        sandbox.faults = {}
        if fault != "ids_refused":
            assert night.fetch(as_of + timedelta(minutes=1), via) == []
    else:
        assert way not in ERRORS.get(fault, ())
    if fault not in ("ids_refused", "ids_missing"):
        assert night.states() == world_states(small, as_of)
    extra = sandbox.billed_records - billed - owed
    pages = STRIKES * (1000 if way == "sync" else 20) if fault in LOSES_PAGES else 0
    if fault in STALLS and way != "async":
        pages = night.perhaps()
        assert pages >= strikes
    allowed = pages if way != "async" else STRIKES * 2300 * LOSES_REPORTS.get(fault, 0)
    if fault == "cursor_expired":
        allowed = 50  # those of the second at which it broke off
    assert extra <= allowed
    record_property("fault", {
        "fault": fault, "way": way, "struck": strikes,
        "ended": f"error, then whole: {problems[0][:60]}" if problems else "whole",
        "requests": len(sandbox.requests) - asked, "billed": sandbox.billed_records - billed,
        "extra": extra,
    })  # fmt: skip
