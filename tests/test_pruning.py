"""`prune`: what goes, what stays, and that nothing that was paid for is asked for again."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconcile import tables
from reconcile.days import DAY, days_between, iso, start_of
from reconcile.errors import LockedError, UsageError
from reconcile.healing import is_kept_whole
from reconcile.pruning import prune
from reconcile.reports import underway
from reconcile.reports.plan import days_lacking
from reconcile.reports.slices import Source, is_whole
from reconcile.sandbox.generate import generate
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Settings
from reconcile.store import Ledger, Store

Configure = Callable[..., Settings]
AS_OF = datetime(2026, 6, 30, 2, 30, tzinfo=UTC)
TODAY = date(2026, 6, 30)
SOURCE = Source("a1b2c3d4")


def ledger_of(days: list[date], open_from: date) -> Ledger:
    """Days that were downloaded whole and judged; from one on they are open."""
    downloads = [
        {"account_id": SOURCE.account_id, "product": "SMS", "start": iso(start_of(day)),
         "end": iso(start_of(day) + DAY), "records": 5, "billed": 5}
        for day in days
    ]  # fmt: skip
    judged = {str(d): {"closed": d < open_from, "as_of": iso(AS_OF)} for d in days}
    return Ledger(downloads=downloads, judged=judged, changed=[str(days[0]), "undated"],
                  receipt_days={str(day): [str(day), str(day)] for day in days})  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """200 days in every table, of which the last five are open; files of one letter each."""
    days = days_between(TODAY - 200 * DAY, TODAY)
    made = Store.open(tmp_path / "store", create=True)
    made.save(ledger_of(days, TODAY - 5 * DAY))
    for table in tables.TABLES:
        for day in [*days, "undated"]:
            name = f"{day}T023000Z".replace("-", "") if table is tables.CHANGES else day
            path = made.path(table, name)
            path.parent.mkdir(parents=True)
            path.write_text("x")
    return made


def state(store: Store) -> tuple[list[str], Any]:
    """All files of the store by name, and what the ledger says."""
    names = sorted(str(p.relative_to(store.root)) for p in store.root.rglob("*") if p.is_file())
    return [n for n in names if ".work" not in n], json.loads(
        (store.root / "ledger.json").read_text()
    )


def test_old_days_go(store: Store, configure: Configure) -> None:
    """Every table loses the days before, keeps the first day and what has no day."""
    found = prune(store, configure(), AS_OF, timedelta(days=100))
    first = str(TODAY - 100 * DAY)
    assert (str(found.before), found.held_by) == (first, None)
    assert found.partitions == {table.name: 100 for table in tables.TABLES}
    assert found.size == 100 * len(tables.TABLES)
    for table in tables.TABLES:
        if table is not tables.CHANGES:
            assert store.days(table)[0] == first
            assert store.days(table)[-1] == "undated"
    assert store.days(tables.CHANGES)[0] == first.replace("-", "") + "T023000Z"


def test_ledger_stays_true(store: Store, configure: Configure) -> None:
    """What was billed stays billed; days that are gone are neither whole nor lacking nor judged."""
    prune(store, configure(), AS_OF, timedelta(days=100))
    ledger, gone, kept = store.ledger(), TODAY - 150 * DAY, TODAY - 100 * DAY
    assert ledger.billed == 1000
    assert days_lacking(ledger, configure(), SOURCE, TODAY) == []
    assert not is_whole(ledger, SOURCE, gone)
    assert is_whole(ledger, SOURCE, kept)
    assert min(ledger.judged) == min(ledger.receipt_days) == str(kept)
    assert ledger.changed == ["undated"]


def test_open_days_hold_what_they_read(store: Store, configure: Configure) -> None:
    """However little is to be kept, open days and 42 days before them stay."""
    found = prune(store, configure(), AS_OF, timedelta(days=1))
    assert found.held_by == TODAY - 5 * DAY
    assert found.before == TODAY - 47 * DAY
    assert store.days(tables.RECORDS)[0] == str(found.before)


def test_dry_run_drops_nothing(store: Store, configure: Configure) -> None:
    """It counts what would go, and changes nothing."""
    before = state(store)
    told = prune(store, configure(), AS_OF, timedelta(days=100), dry=True)
    assert state(store) == before
    assert told == prune(store, configure(), AS_OF, timedelta(days=100))


def test_what_is_gone_stays_gone(store: Store, configure: Configure) -> None:
    """Who keeps more later gets nothing back; a second prune finds nothing to drop."""
    prune(store, configure(), AS_OF, timedelta(days=100))
    before = state(store)
    found = prune(store, configure(), AS_OF, timedelta(days=150))
    assert (found.partitions, found.before) == ({}, TODAY - 100 * DAY)
    assert state(store) == before


@pytest.mark.slow
def test_downloads_under_way(store: Store, configure: Configure) -> None:
    """What is left of downloads of days that are gone goes with them, others stay."""
    folder = store.work / "slices"
    folder.mkdir(parents=True)
    for day in (TODAY - 150 * DAY, TODAY - 3 * DAY):
        part = SOURCE.slice(underway._window([iso(start_of(day)), iso(start_of(day) + DAY)]))
        slice_ = underway.UnderWay(folder, part, AS_OF, "async")
        slice_.jot(request_id="r")
        slice_.archive.write_bytes(b"paid for")
    assert prune(store, configure(), AS_OF, timedelta(days=100)).slices == 1
    assert [part.day for part, _ in underway.begun(folder)] == [TODAY - 3 * DAY]
    assert len(list(folder.glob(f"*{TODAY - 150 * DAY}*"))) == 0


def test_locked_store(store: Store, configure: Configure) -> None:
    """A store that a run holds is left alone."""
    before = state(store)
    with store.lock(), pytest.raises(LockedError):
        prune(Store(store.root), configure(), AS_OF, timedelta(days=100))
    assert state(store) == before


def test_intake_that_was_stopped(store: Store, configure: Configure) -> None:
    """While captures are half taken in, nothing is dropped."""
    ledger = store.ledger()
    ledger.intake = {"days": ["2026-01-01"]}
    store.save(ledger)
    with pytest.raises(UsageError, match="reconcile ingest"):
        prune(store, configure(), AS_OF, timedelta(days=100))


@pytest.mark.slow
def test_killed_prune_is_finished_by_the_next(store: Store, configure: Configure) -> None:
    """SIGKILL while it drops: begun again it ends where an undisturbed one ends."""
    import shutil

    other = Store(store.root.with_name("undisturbed"))
    shutil.copytree(store.root, other.root)
    prune(other, configure(), AS_OF, timedelta(days=100))
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from reconcile import cli\n"
        "from reconcile.store import Store\n"
        "real, left = Store.drop, [300]\n"
        "def drop(store, table, day):\n"
        "    left[0] -= 1\n"
        "    if not left[0]:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    real(store, table, day)\n"
        "Store.drop = drop\n"
        "cli.main()\n"
    )
    flags = ["prune", "--keep", "100d", "--as-of", iso(AS_OF), "--store", str(store.root)]
    killed = subprocess.run([sys.executable, "-c", script, *flags], check=False)
    assert killed.returncode == -9
    assert state(store) != state(other)
    prune(store, configure(), AS_OF, timedelta(days=100))
    assert state(store) == state(other)
    folders = [p for p in store.root.rglob("day=*") if not any(p.iterdir())]
    assert folders == []


@pytest.mark.slow
def test_night_after_asks_for_nothing_old(
    console: Callable[..., tuple[int, str, str]], clean_environment: None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nights go on after a prune; what was dropped is neither asked for nor judged nor imported."""
    generate(tmp_path / "world", messages=400, days=1, seed=3)
    dlr = f"{tmp_path}/world/dlr/*"
    with Sandbox(tmp_path / "world", pending_seconds=0.05) as sandbox:
        for name, value in (("VONAGE_API_KEY", sandbox.api_key), ("RECONCILE_POLL_FIRST", "50ms"),
                            ("VONAGE_API_SECRET", sandbox.api_secret),
                            ("RECONCILE_BASE_URL", sandbox.base_url)):  # fmt: skip
            monkeypatch.setenv(name, value)
        day = ("--date", "2026-01-05")
        assert console("run", *day, "--as-of", "2026-01-20T02:30:00Z", "--dlr", dlr)[0] == 0
        billed = Store(Path("store")).ledger().billed
        later = ("--as-of", "2026-04-01T02:30:00Z")
        code, out, _ = console("prune", "--keep", "60d", *later)
        assert (code, "verdicts: 1 partition\n" in out) == (0, True)
        assert "before 2026-01-31: " in out
        asked = len(sandbox.requests)
        code, _, err = console("run", "--lookback", "2d", *later, "--dlr", dlr)
        assert (code, err) == (0, "")
        assert not [r for r in sandbox.requests[asked:] if "2026-01-05" in str(r)]
        assert Store(Path("store")).ledger().billed == billed
        assert not Path("store/records/day=2026-01-05").exists()
        for command in ("run", "judge"):
            code, _, err = console(command, *day, *later)
            assert (code, "2026-01-05 was pruned" in err) == (2, True)
        assert "the first day that is kept: 2026-01-31" in console("status")[1]
        report = tmp_path / "report.csv"
        names = '"account_id","id","message_id","date_received","status"'
        row = '"5a4d0b0e","1","0A000000C1D20001","2026-01-05T10:00:00Z","delivered"'
        report.write_text(f"{names}\n{row}\n")
        code, _, err = console("fetch", "--archive", str(report), *later)
        assert (code, "has days before 2026-01-31, which were pruned" in err) == (2, True)
        assert not Path("store/records/day=2026-01-05").exists()


def test_days_behind_what_is_gone_are_not_healed() -> None:
    """A closed day is judged again only while all that it was judged with is here."""
    horizon = timedelta(days=7, hours=24)
    ledger = Ledger(pruned="2026-03-01")
    assert not is_kept_whole(ledger, date(2026, 3, 8), horizon)
    assert is_kept_whole(ledger, date(2026, 3, 9), horizon)
    assert is_kept_whole(Ledger(), date(2026, 3, 8), horizon)


@pytest.mark.slow
def test_prune_is_quick(store: Store, configure: Configure) -> None:
    """Dropping 1,500 partitions is a matter of seconds."""
    begun = time.monotonic()
    prune(store, configure(), AS_OF, timedelta(days=100))
    assert time.monotonic() - begun < 10
