"""A full disk leaves the store as it was, and what was paid for is not paid for again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from reconcile import job
from reconcile.errors import DiskError
from reconcile.fetching import connected
from reconcile.run import opened
from reconcile.sandbox.generate import Generated
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account, Settings
from reconcile.store import Store

DAY = date(2026, 1, 5)


@pytest.fixture
def small_disk(tmp_path: Path, size: str) -> Iterator[Path]:
    """A file system of that size; only root may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fetch(settings: Settings, account: Account, world: Generated) -> None:
    with opened(settings, world.mature_at, lambda *_: None) as this:
        days = job.plan(this, job.Asked(DAY, DAY + timedelta(days=1)))
        with connected(this, [account]) as vonage:
            job.fetch(this, vonage, days)
        job.finish(this, "fetch")


@pytest.mark.slow
@pytest.mark.parametrize(("via", "size"), [("sync", "250k"), ("async", "64k"), ("async", "100k")])
def test_full_disk(
    small_disk: Path, world: Generated, account: Account, configure: Any, via: str
) -> None:
    """It ends in one line that names the place; with room, the next run pays for nothing twice."""
    with Sandbox(world.folder, now=world.mature_at, pending_seconds=0) as sandbox:
        settings = configure(base_url=sandbox.base_url, store=small_disk / "store", via=via)
        with pytest.raises(DiskError, match=r"cannot be written: .*No space left"):
            fetch(settings, account, world)
        store = Store.open(settings.store)
        assert store.ledger().downloads == []
        assert not list((settings.store / "records").rglob("*.parquet"))
        grow = ["mount", "-o", "remount,size=20m", str(small_disk)]
        subprocess.run(grow, check=True)
        fetch(settings, account, world)
        assert store.ledger().downloads[0]["records"] > 0
        assert sandbox.billed_records <= (1000 if via == "async" else 2000)
