"""`campaigns`: what a regular expression takes out of client_ref, counted as in the summary."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import judge_support as core
import pytest

from reconcile import judging
from reconcile.errors import SettingsError
from reconcile.settings import Settings
from reconcile.store import Store
from reconcile.tables import CAMPAIGN_COUNTS, CAMPAIGNS, SUMMARY

DAY = (core.AS_OF - timedelta(days=5)).date()
REFERENCES = {
    "A1": "spring-2026/DE/1", "A2": "spring-2026/GB/2", "A3": "autumn-2026/DE/1", "A4": None,
    "A5": "no campaign at all", "A6": "-/x", "A7": "NA-2026/1",
}  # fmt: skip


def judged(folder: Path, pattern: str | None) -> Store:
    records = [
        core.record(name, client_ref=ref, price=core.money("0.05"), currency="EUR")
        for name, ref in REFERENCES.items()
    ]
    heard = [core.receipt("A1", pushed_at=core.AS_OF - timedelta(days=4, hours=20))]
    store = core.fill_store(folder / "store", records, heard)
    bench = core.bench_for(store, core.AS_OF)
    bench.settings = Settings(campaign=pattern)
    with bench:
        judging.judge_day(bench, DAY, covered=True)
    return store


@pytest.mark.slow
def test_campaigns(tmp_path: Path) -> None:
    """A row a campaign; references without one are `unknown`, and nothing is counted twice."""
    store = judged(tmp_path, r"^(?:x|(?P<campaign>[A-Za-z]*-\d{4}))/")
    rows = {row["campaign"]: row for row in core.published(store, CAMPAIGNS, DAY)}
    counted = {name: row["messages"] for name, row in rows.items()}
    assert counted == {"NA-2026": 1, "autumn-2026": 1, "spring-2026": 2, "unknown": 3}
    assert list(rows) == sorted(rows)
    spring = rows["spring-2026"]
    assert (spring["confirmed"], spring["missing"], spring["missing_rate"]) == (1, 1, 0.5)
    assert (spring["spend"], spring["spend_unconfirmed"]) == (Decimal("0.1"), Decimal("0.05"))
    summary = core.published(store, SUMMARY, DAY)
    for name in CAMPAIGN_COUNTS:
        if name.endswith("_ms") or "_rate" in name:
            continue
        assert sum(row[name] for row in rows.values()) == sum(row[name] for row in summary), name


@pytest.mark.slow
def test_none(tmp_path: Path) -> None:
    """Without the setting there is no table."""
    assert judged(tmp_path, None).days(CAMPAIGNS) == []


def test_a_pattern_that_only_python_reads(tmp_path: Path) -> None:
    """One clear line, before anything is judged."""
    with pytest.raises(SettingsError, match="without looking ahead"):
        judged(tmp_path, r"(?P<campaign>\w+)(?=-)")
