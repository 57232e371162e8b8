"""How verdicts changed between runs: what healed, what turned suspect, and why."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import judge_support as core
import pytest

from reconcile import judging
from reconcile.judge.changes import WHY
from reconcile.store import Store
from reconcile.tables import CHANGES

DAY = datetime(2026, 10, 1, tzinfo=UTC)
NIGHT = timedelta(days=1, hours=2)
HOUR = timedelta(hours=1)


def records(**late: Any) -> list[core.Row]:
    def one(name: str, **fields: Any) -> core.Row:
        given = {"received_at": DAY + 6 * HOUR, "fetched_at": DAY + NIGHT}
        return core.record(name, **(given | fields))

    return [
        one("HEALS"), one("KEPT"), one("LOST"),
        one("OPEN", status="accepted") if not late else one("OPEN", fetched_at=DAY + 5 * NIGHT),
        *([one("APPEARED")] if late else []),
    ]  # fmt: skip


def receipts(*names: str, **fields: Any) -> list[core.Row]:
    return [
        core.receipt(name, pushed_at=DAY + 7 * HOUR, captured_at=DAY + 7 * HOUR, **fields)
        for name in names
    ]


def judge(root: Path, given: list[core.Row], heard: list[core.Row], as_of: datetime) -> Store:
    store = core.fill_store(root, given, heard)
    with core.bench_for(store, as_of) as bench:
        judging.judge_day(bench, DAY.date(), covered=True)
    return store


def changed(store: Store) -> dict[str, list[core.Row]]:
    """Rows of each file of `changes`, in the order of their keys."""
    files = {part: core.published(store, CHANGES, part) for part in store.days(CHANGES)}
    for rows in files.values():
        keys = [[row[name] for name in CHANGES.key] for row in rows]
        assert keys == sorted(keys)
    return files


def told(rows: list[core.Row]) -> dict[str, tuple[Any, ...]]:
    return {
        row["message_id"]: (row["from_verdict"], row["from_reasons"], row["to_verdict"],
                            row["to_reasons"], row["why"])
        for row in rows
    }  # fmt: skip


@pytest.mark.slow
def test_a_day_heals(tmp_path: Path) -> None:
    """The first night changes nothing; later ones say what a receipt, a record and time changed."""
    root = tmp_path / "store"
    heard = receipts("KEPT")
    judge(root, records(), heard, DAY + NIGHT)
    heard += receipts("HEALS", "KEPT")  # of KEPT a repetition, which is context
    judge(root, records(late=True), heard, DAY + 5 * NIGHT)
    heard += receipts("LOST", status="failed", error_code="8")
    store = judge(root, records(late=True), heard, DAY + 6 * NIGHT)
    first, second, third = changed(store).values()
    assert first == []
    assert told(second) == {
        "HEALS": ("pending", ["in_flight"], "confirmed", [], "receipt_came"),
        "OPEN": ("pending", ["in_flight"], "missing", ["lost_webhook"], "record_changed"),
        "LOST": ("pending", ["in_flight"], "missing", ["lost_webhook"], "time_passed"),
        "APPEARED": (None, [], "missing", ["lost_webhook"], "record_appeared"),
    }
    assert told(third) == {
        "LOST": ("missing", ["lost_webhook"], "suspect", ["status_conflict"], "receipt_came"),
    }
    assert {row[-1] for row in told(second).values()} <= set(WHY)


@pytest.mark.slow
def test_twice_in_one_night(tmp_path: Path) -> None:
    """Judged twice by one run, a message changed once: from what it was before that run."""
    root = tmp_path / "store"
    judge(root, records(), receipts("KEPT"), DAY + NIGHT)
    night = DAY + 5 * NIGHT
    judge(root, records(), receipts("KEPT", "HEALS"), night)
    before = changed(core.fill_store(root, [], []))
    store = judge(root, records(late=True), receipts("KEPT", "HEALS", "LOST"), night)
    _, rows = changed(store).values()
    assert told(rows) == {
        "HEALS": ("pending", ["in_flight"], "confirmed", [], "receipt_came"),
        "LOST": ("pending", ["in_flight"], "confirmed", [], "time_passed"),
        "OPEN": ("pending", ["in_flight"], "missing", ["lost_webhook"], "time_passed"),
        "APPEARED": (None, [], "missing", ["lost_webhook"], "record_appeared"),
    }
    assert told(rows) != told(list(before.values())[1])
    again = judge(root, records(late=True), receipts("KEPT", "HEALS", "LOST"), night)
    assert list(changed(again).values()) == [[], rows]


@pytest.mark.slow
def test_changed_back(tmp_path: Path) -> None:
    """What one run changes and changes back is no change."""
    root, night = tmp_path / "store", DAY + 5 * NIGHT
    late = DAY + 4 * NIGHT
    judge(root, records(), receipts("KEPT"), late)
    judge(root, records(), receipts("KEPT", "LOST"), night)
    store = judge(root, records(), receipts("KEPT"), night)
    *_, rows = changed(store).values()
    assert "LOST" not in told(rows)


def test_as_of_moved_back(tmp_path: Path) -> None:
    """Judged as of an earlier night, all that differs differs for that."""
    root = tmp_path / "store"
    judge(root, records(), receipts("KEPT"), DAY + 5 * NIGHT)
    store = judge(root, records(), receipts("KEPT"), DAY + NIGHT)
    rows = next(iter(changed(store).values()))
    assert {row["why"] for row in rows} == {"as_of_earlier"}
    assert {row["message_id"] for row in rows} == {"HEALS", "LOST", "OPEN"}


@pytest.mark.slow
def test_other_days_stay(tmp_path: Path) -> None:
    """One file an as_of: the days that a run judges stand in it together, each once."""
    root = tmp_path / "store"
    later = {"received_at": DAY + 30 * HOUR}
    other = [
        row | later | {"message_id": f"X{row['message_id']}",
                       "finalized_at": row["finalized_at"] and row["finalized_at"] + 24 * HOUR}
        for row in records()
    ]  # fmt: skip
    both = [DAY.date(), (DAY + timedelta(days=1)).date()]
    for night in (DAY + timedelta(hours=30, seconds=3), DAY + 8 * NIGHT):
        store = core.fill_store(root, [*records(), *other], receipts("KEPT", "XKEPT"))
        with core.bench_for(store, night) as bench:
            for day in (*both, both[0]):
                judging.judge_day(bench, day, covered=True)
    _, rows = changed(store).values()
    assert {(row["date"], row["message_id"]) for row in rows} == {
        (both[0], "HEALS"), (both[0], "LOST"), (both[0], "OPEN"),
        (both[1], "XHEALS"), (both[1], "XLOST"), (both[1], "XOPEN"),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("stopped_after", [1, 99])
def test_stopped_while_publishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped_after: int
) -> None:
    """Stopped behind any rename and run again: the changes of an undisturbed run."""
    night, heard = DAY + 5 * NIGHT, receipts("KEPT", "HEALS")
    whole = tmp_path / "whole"
    judge(whole, records(), receipts("KEPT"), DAY + NIGHT)
    wanted = changed(judge(whole, records(late=True), heard, night))
    root = tmp_path / "store"
    judge(root, records(), receipts("KEPT"), DAY + NIGHT)
    publish = Store.publish

    def some(self: Store, staged: Any) -> None:
        publish(self, list(staged)[:stopped_after])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Store, "publish", some)
        with pytest.raises(KeyboardInterrupt):
            judge(root, records(late=True), heard, night)
    assert changed(judge(root, records(late=True), heard, night)) == wanted
