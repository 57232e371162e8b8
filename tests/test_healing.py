"""Which closed days are judged again: those whose inputs changed, and no others."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import judge_support as core
import pytest

from reconcile import healing, judging
from reconcile.store import Store
from reconcile.tables import ORPHANS, VERDICTS

FIRST = datetime(2026, 9, 1, tzinfo=UTC)
DAYS = [(FIRST + timedelta(days=n)).date() for n in range(4)]
HOUR = timedelta(hours=1)
AS_OF = FIRST + timedelta(days=20)


def record(name: str, day: int, **fields: object) -> core.Row:
    return core.record(name, received_at=FIRST + timedelta(days=day, hours=6), **fields)


def receipt(name: str, day: int, hour: int = 7, **fields: object) -> core.Row:
    moment = FIRST + timedelta(days=day, hours=hour)
    return core.receipt(name, **({"pushed_at": moment, "captured_at": moment} | fields))


RECORDS = [record(f"{kind}{day}", day) for day in range(4) for kind in ("HEARD", "LOST")]
RECEIPTS = [receipt(f"HEARD{day}", day) for day in range(4)]


def judged(root: Path, covered: bool = True) -> Store:
    """A store of four closed days."""
    store = core.fill_store(root, RECORDS, RECEIPTS)
    ledger = store.ledger()
    ledger.downloads = [
        {"account_id": "a1", "start": f"{day}T00:00:00Z", "records": 2, "billed": 2}
        for day in DAYS
    ]  # fmt: skip
    store.save(ledger)
    with core.bench_for(store, AS_OF) as bench:
        for day in DAYS:
            assert judging.judge_day(bench, day, covered=covered).closed
    return store


@pytest.fixture(scope="module")
def four_days(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("healing") / "store"
    judged(root)
    return root


def copied(four_days: Path, folder: Path) -> Path:
    import shutil

    return Path(shutil.copytree(four_days, folder / "store"))


def touched(
    root: Path, new: list[core.Row], changed: list[str], as_of: datetime = AS_OF + HOUR,
    *, covered: bool = True, slices: date | None = None, records: list[core.Row] | None = None,
) -> set[date]:  # fmt: skip
    """The days to judge again, once receipts and records came to those of `judged`."""
    store = core.fill_store(root, records or RECORDS, RECEIPTS + new)
    ledger = store.ledger()
    ledger.changed = changed
    if slices:
        ledger.downloads.append(ledger.downloads[0] | {"start": f"{slices}T00:00:00Z"})
    store.save(ledger)
    with core.bench_for(store, as_of) as bench:
        return healing.touched(bench, lambda _day: covered, lambda _day: False)


def test_nothing_new(four_days: Path, tmp_path: Path) -> None:
    """Nothing changed, nothing is judged again; nor where new receipts are of no message there."""
    root = copied(four_days, tmp_path)
    assert touched(root, [], []) == set()
    assert touched(root, [receipt("STRANGER", 6)], ["2026-09-07"]) == set()


def test_a_late_capture(four_days: Path, tmp_path: Path) -> None:
    """Only the day of its message is touched, and the one in whose partition it lies."""
    root = copied(four_days, tmp_path)
    assert touched(root, [receipt("LOST1", 6)], ["2026-09-07"]) == {DAYS[1]}
    assert touched(root, [receipt("LOST1", 2)], ["2026-09-03"]) == {DAYS[1], DAYS[2]}
    timeless = core.receipt("LOST3")
    assert touched(root, [timeless], ["undated"]) == {DAYS[3]}


def test_a_late_capture_that_is_not_known_yet(four_days: Path, tmp_path: Path) -> None:
    """What was captured after as_of changes nothing as of then."""
    root = copied(four_days, tmp_path)
    late = [receipt("LOST1", 7)]
    assert touched(root, late, ["2026-09-08"], FIRST + timedelta(days=7)) == set()
    assert touched(root, late, ["2026-09-08"], FIRST + timedelta(days=8)) == {DAYS[1]}


def test_a_repetition(four_days: Path, tmp_path: Path) -> None:
    """A receipt that repeats another is one receipt more, which the tables count."""
    root = copied(four_days, tmp_path)
    again = receipt("HEARD1", 1, captured_at=FIRST + timedelta(days=5))
    assert touched(root, [again], ["2026-09-02"]) == {DAYS[1]}


def test_a_filled_hole(four_days: Path, tmp_path: Path) -> None:
    """A day with a slice more than when it was judged."""
    root = copied(four_days, tmp_path)
    assert touched(root, [], [], slices=DAYS[2]) == {DAYS[2]}


@pytest.mark.slow
def test_orphans_that_are_none_any_more(tmp_path: Path) -> None:
    """Days whose orphans a record that came since knows, or that are covered since."""
    root = tmp_path / "store"
    store = core.fill_store(root, RECORDS, [*RECEIPTS, receipt("LATER", 3)])
    ledger = store.ledger()
    ledger.downloads = [{"start": f"{day}T00:00:00Z", "account_id": "a1"} for day in DAYS]
    store.save(ledger)
    with core.bench_for(store, AS_OF) as bench:
        for day in DAYS:
            judging.judge_day(bench, day, covered=False)
    assert [len(core.published(store, ORPHANS, day)) for day in DAYS] == [0, 0, 0, 1]
    own = [receipt("LATER", 3)]
    assert touched(root, own, [], covered=True) == {DAYS[3]}
    assert touched(root, own, [], covered=False) == set()
    appeared = [*RECORDS, record("LATER", 2)]
    found = touched(root, own, [], covered=False, slices=DAYS[2], records=appeared)
    assert found == {DAYS[2], DAYS[3]}
    before = date(2026, 8, 31)  # a hole that was never judged, filled while others remain
    appeared = [*RECORDS, record("LATER", -1)]
    found = touched(root, own, [], covered=False, slices=before, records=appeared)
    assert found == {DAYS[2], DAYS[3]}  # the third day has a slice more since above


def test_judged_again_it_is_quiet(four_days: Path, tmp_path: Path) -> None:
    """Judged again, a touched day is as if the capture had never been late, and touched no more."""
    root = copied(four_days, tmp_path)
    new = [receipt("LOST1", 6)]
    [day] = touched(root, new, ["2026-09-07"])
    store = Store.open(root)
    with core.bench_for(store, AS_OF + HOUR) as bench:
        judging.judge_day(bench, day, covered=True)
        assert healing.touched(bench, lambda _day: True, lambda _day: False) == set()
    told = {row["message_id"]: row["verdict"] for row in core.published(store, VERDICTS, day)}
    assert told == {"HEARD1": "confirmed", "LOST1": "confirmed"}
