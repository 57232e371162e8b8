"""Outages of our own capture: when a bin is one, and what a judged day then says."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import judge_support as core
import pytest

from reconcile import judging
from reconcile.judge import outages
from reconcile.tables import SUMMARY, VERDICTS

# The start of a bin, five days before as_of.
BEGUN = (core.AS_OF - timedelta(days=5)).replace(hour=10, minute=0, second=0, microsecond=0)
NETWORKS = ("26201", "26202", "26203")


def message(number: int, *, network: str, heard: bool, **fields: object) -> core.Row:
    """A message whose end is in the bin, heard of or not."""
    given = {
        "received_at": BEGUN + timedelta(seconds=number), "network_code": network,
        "finalized_at": BEGUN + timedelta(seconds=number, milliseconds=900),
        "receipts": int(heard), "receipt_status": "delivered" if heard else None,
        "verdict": "confirmed" if heard else "missing",
        "reasons": [] if heard else ["lost_webhook", "charged_not_delivered"],
    }  # fmt: skip
    return core.verdict(f"M{number:03d}", **(given | fields))


def found(rows: list[core.Row]) -> list[int]:
    """The bins of an outage, in minutes after `BEGUN`."""
    table = core.put("outage_verdicts", VERDICTS, rows)
    bins = outages.outages(table, core.AS_OF, core.LIMITS.grace)
    got = core.connection().con.execute(core.connection().compile(bins)).fetchall()
    begun = round(BEGUN.timestamp() * 1000)
    return sorted((n * outages.BIN_MS - begun) // 60_000 for (n,) in got)


def bin_of(silent: int, heard: int, networks: tuple[str, ...] = NETWORKS) -> list[core.Row]:
    each = [n < silent for n in range(silent + heard)]
    return [
        message(n, network=networks[n % len(networks)], heard=not mute)
        for n, mute in enumerate(each)
    ]


@pytest.mark.parametrize(("rows", "outage"), [
    (bin_of(20, 0), True), (bin_of(19, 0), False),
    (bin_of(16, 4), True), (bin_of(15, 5), False),
    (bin_of(20, 0, NETWORKS[:2]), False),
], ids=["20", "19", "80 %", "75 %", "two networks"])  # fmt: skip
def test_thresholds(rows: list[core.Row], outage: bool) -> None:
    """Twenty messages, four fifths of them silent, on three networks: no less is an outage."""
    assert found(rows) == ([0] if outage else [])


def test_bins() -> None:
    """A bin ends before its sixth minute begins; what is in grace or has no end is not due."""
    late = timedelta(minutes=5)
    edge = [
        message(n, network=NETWORKS[n % 3], heard=False,
                finalized_at=BEGUN + late - timedelta(milliseconds=n < 10))
        for n in range(30)
    ]  # fmt: skip
    assert found(edge) == [5]
    assert found([row | {"record_status": "accepted"} for row in edge]) == []
    soon = core.AS_OF - core.LIMITS.grace
    assert found([row | {"finalized_at": soon + timedelta(milliseconds=1)} for row in edge]) == []
    assert found([row | {"finalized_at": soon} for row in edge]) != []
    no_end = [row | {"finalized_at": None, "received_at": BEGUN} for row in edge]
    assert found(no_end) == [0]
    half = [row | {"receipt_status": "accepted", "receipts": 1} for row in edge]
    assert found(half) == [5]


def test_a_judged_day(tmp_path: Path) -> None:
    """The verdict stays missing, its reason is the outage, and the summary counts it apart."""
    day = BEGUN.date()
    records = [
        core.record(f"M{n:03d}", received_at=BEGUN + timedelta(seconds=n), recipient=f"{n}",
                    network_code=NETWORKS[n % 3])
        for n in range(60)
    ]  # fmt: skip
    records += [core.record(f"L{n}", received_at=BEGUN + timedelta(hours=n + 1)) for n in range(3)]
    open_ones = [core.record("OPEN", received_at=BEGUN, status="accepted")]
    heard = [f"M{n:03d}" for n in range(0, 60, 10)] + ["L0"]
    receipts = [core.receipt(name, pushed_at=BEGUN + timedelta(hours=2)) for name in heard]
    store = core.fill_store(tmp_path / "store", records + open_ones, receipts)
    with core.bench_for(store, core.AS_OF) as bench:
        judging.judge_day(bench, day, covered=True)
    rows = core.published(store, VERDICTS, day)
    told = {row["message_id"]: (row["verdict"], row["reasons"][:1]) for row in rows}
    assert [row["message_id"] for row in rows] == sorted(told)
    silent = {f"M{n:03d}" for n in range(60)}.difference(heard)
    assert {n for n, said in told.items() if said == ("missing", ["capture_outage"])} == silent
    assert told["L1"] == told["L2"] == ("missing", ["lost_webhook"])
    assert told["OPEN"] == ("missing", ["carrier_silent"])
    summary = core.published(store, SUMMARY, day)
    assert sum(row["missing"] for row in summary) == len(silent) + 3
    assert sum(row["missing_capture_outage"] for row in summary) == len(silent)
    assert sum(row["missing_lost_webhook"] for row in summary) == 2
    [rate] = [row["missing_rate"] for row in summary if row["network_code"] == "26202"]
    assert rate == 0  # what we did not hear ourselves is nobody's rate
