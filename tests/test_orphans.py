"""Receipts that join no record: what each of them is."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path
from typing import Any

import ibis
import judge_support as core
import pytest
from test_rules import RECEIPT_WORDS, RECORD_WORDS, read_words

from reconcile import judging
from reconcile.days import end_of
from reconcile.judge import orphans
from reconcile.judge.pair import Scope
from reconcile.store import UNDATED
from reconcile.tables import ORPHANS, RECEIPTS, RECORDS
from tests.truth_tables import Line, read_orphans

RECEIVED = core.AS_OF - timedelta(days=5)


@functools.cache
def _compiled(accounts: frozenset[str], covered: bool) -> str:
    con = core.connection()
    records = con.table("records_in")
    scope = Scope(core.AS_OF, several_owners=False)
    lone = orphans.unjoined(con.table("receipts_in"), records, scope)
    day = ibis.memtable([(covered,)], schema={"is_covered": "boolean"})
    name = f"orphans_{len(accounts)}_{covered}"
    con.create_view(name, orphans.orphans(lone, records, day, accounts, scope))
    return name


def orphans_of(
    records: list[core.Row],
    receipts: list[core.Row],
    *,
    accounts: tuple[str, ...] = ("a1", "a2"),
    covered: bool = True,
) -> list[core.Row]:
    """The orphans among the receipts, in order of their line."""
    core.put("records_in", RECORDS, records)
    core.put("receipts_in", RECEIPTS, receipts)
    view = _compiled(frozenset(accounts), covered)
    return (
        core.connection()
        .con.execute(f"SELECT * FROM {view} ORDER BY line")
        .to_arrow_table()
        .to_pylist()
    )


def kind_of(receipt: core.Row, *records: core.Row, **how: Any) -> str:
    """The kind of the one orphan."""
    (row,) = orphans_of(list(records), [receipt], **how)
    return str(row["kind"])


def heard(message_id: str, apart: timedelta = timedelta(seconds=7), **fields: Any) -> core.Row:
    """A receipt of our account for the handset A, pushed so long after the record was received."""
    given = {"account_id": "a1", "recipient": "A", "pushed_at": RECEIVED + apart}
    return core.receipt(message_id, **(given | fields))


@pytest.mark.parametrize("line", read_orphans(), ids=lambda line: line.name)
def test_line(line: Line) -> None:
    """A receipt that joins no record is of the kind that its line says."""
    record: list[core.Row] = []
    if (text := line.cells["record"]) != "-":
        told = read_words(text, RECORD_WORDS, RECEIVED, "finalized_at")
        record = [core.record("1A", received_at=RECEIVED, **told)]
    words = line.cells["receipt"].split()
    zeros = next((word.removeprefix("id=") for word in words if word.startswith("id=")), "")
    bare = " ".join(word for word in words if not word.startswith("id="))
    told = read_words(bare, RECEIPT_WORDS, RECEIVED, "pushed_at")
    lone = core.receipt(f"{zeros}1A" if zeros else "9F", **told)
    covered = {"all here": True, "not all here": False}[line.cells["days it can belong to"]]
    assert kind_of(lone, *record, covered=covered) == line.cells["kind"], line


def test_every_kind_has_lines() -> None:
    """A kind that no line shows would be one that nothing holds to its sentence."""
    shown = [line.section for line in read_orphans()]
    assert all(shown.count(kind) >= 3 for kind in orphans.KINDS)
    assert all(line.section == line.cells["kind"] for line in read_orphans())


def test_joined_receipt_is_no_orphan() -> None:
    """A receipt whose id a record has is none, whatever else it says."""
    assert not orphans_of([core.record("1A")], [heard("1A", account_id="a9", recipient="B")])


def test_unknown_message() -> None:
    """No record has the id, and all days it can belong to are here."""
    assert kind_of(heard("9F"), core.record("1A")) == "unknown_message"


def test_uncovered() -> None:
    """The same where days before it were not downloaded: we cannot know."""
    assert kind_of(heard("9F"), core.record("1A"), covered=False) == "uncovered"


def test_foreign_account() -> None:
    """Its api-key is none of ours, whether the days are here or not."""
    for covered in (True, False):
        assert kind_of(heard("9F", account_id="a9"), covered=covered) == "foreign_account"


def test_no_api_key_is_not_foreign() -> None:
    """A receipt that names no account may be ours."""
    assert kind_of(heard("9F", account_id=None)) == "unknown_message"


def test_no_account_known_no_receipt_foreign() -> None:
    """Where we do not know which accounts are ours, none is foreign."""
    assert kind_of(heard("9F", account_id="a9"), accounts=()) == "unknown_message"


@pytest.mark.parametrize(("theirs", "ours"), [("1A", "001A"), ("0001A", "1A"), ("01A", "001A")])
def test_near_match(theirs: str, ours: str) -> None:
    """Ids that differ in leading zeros, of one handset, within 72 h: suggested, not joined."""
    assert kind_of(heard(theirs), core.record(ours)) == "near_match"


@pytest.mark.parametrize("recipient", ["B", None])
def test_near_match_needs_the_same_recipient(recipient: str | None) -> None:
    """Another handset, or none named: no near match."""
    assert kind_of(heard("1A", recipient=recipient), core.record("001A")) == "unknown_message"


def test_near_match_needs_a_recipient_on_both_sides() -> None:
    """Two blanks are not the same handset."""
    receipt = heard("1A", recipient=None)
    assert kind_of(receipt, core.record("001A", recipient=None)) == "unknown_message"


@pytest.mark.parametrize("sign", [1, -1])
def test_near_match_reaches_72_hours(sign: int) -> None:
    """At exactly 72 h it is one, a millisecond farther it is none."""
    far = timedelta(hours=72)
    record = core.record("001A")
    assert kind_of(heard("1A", sign * far), record) == "near_match"
    farther = sign * (far + timedelta(milliseconds=1))
    assert kind_of(heard("1A", farther), record) == "unknown_message"


def test_near_match_goes_by_capture_without_push_time() -> None:
    """The capture stands in for the push; without either there is no near match."""
    seen = RECEIVED + timedelta(hours=1)
    assert (
        kind_of(heard("1A", pushed_at=None, captured_at=seen), core.record("001A")) == "near_match"
    )
    assert kind_of(heard("1A", pushed_at=None), core.record("001A")) == "unknown_message"


def test_trailing_zeros_are_no_near_match() -> None:
    """Only leading zeros may differ."""
    assert kind_of(heard("1A"), core.record("1A0")) == "unknown_message"


def test_near_match_is_told_though_days_are_missing() -> None:
    """A near match is one, covered or not; a foreign account comes before it."""
    assert kind_of(heard("1A"), core.record("001A"), covered=False) == "near_match"
    assert kind_of(heard("1A", account_id="a9"), core.record("001A")) == "foreign_account"


def test_several_near_records_make_one_orphan() -> None:
    """A receipt that resembles two records is still one row."""
    assert len(orphans_of([core.record("01A"), core.record("001A")], [heard("1A")])) == 1


def test_each_copy_is_an_orphan() -> None:
    """Duplicates among orphans are each a row: every line is accounted for."""
    assert len(orphans_of([], [heard("9F"), heard("9F")])) == 2


@pytest.mark.parametrize(
    ("network_code", "country"),
    [("26201", "DE"), ("64901", "NA"), ("23455", "GB"), ("US-FIXED", "unknown"),
     ("90112", "unknown"), (None, "unknown")],
)  # fmt: skip
def test_country_comes_from_the_network_code(network_code: str | None, country: str) -> None:
    """By its mobile country code; Namibia is the text NA."""
    (row,) = orphans_of([], [heard("9F", network_code=network_code)])
    assert row["country"] == country


def test_not_yet_captured_is_no_orphan() -> None:
    """What was captured after as_of is not known yet."""
    later = core.AS_OF + timedelta(seconds=1)
    assert not orphans_of([], [heard("9F", captured_at=later)])


def test_record_after_as_of_joins_nothing() -> None:
    """A record received after as_of is not known: a receipt of that id is an orphan."""
    later = core.record("9F", received_at=core.AS_OF + timedelta(days=1))
    assert kind_of(heard("9F"), later) == "unknown_message"


def test_all_kinds_have_a_sentence() -> None:
    """The kinds that this file meets are those that are explained."""
    assert set(orphans.KINDS) == {"foreign_account", "near_match", "uncovered", "unknown_message"}


def test_look_back_reaches_as_far_as_receipts_come(tmp_path: Path) -> None:
    """A receipt of day D is held against records of D + 1 down to D − 8 (7 d validity, 24 h)."""
    with core.bench_for(core.fill_store(tmp_path / "s", [], []), core.AS_OF) as bench:
        day = core.AS_OF.date()
        days = judging.look_back(bench, day)
        assert days == [day + timedelta(days=n) for n in range(-8, 2)]


def test_undated_orphans_are_held_against_all_days(tmp_path: Path) -> None:
    """An undated receipt joins a record of any day; else it stands in the partition `undated`."""
    long_ago = core.record("1A", received_at=core.AS_OF - timedelta(days=300))
    receipts = [core.receipt("1A"), core.receipt("9F")]
    store = core.fill_store(tmp_path / "s", [long_ago], receipts)
    with core.bench_for(store, core.AS_OF) as bench:
        store.publish([judging.judge_orphans(bench, None, covered=False)])
    rows = core.published(store, ORPHANS, UNDATED)
    assert [(row["message_id"], row["kind"]) for row in rows] == [("9F", "uncovered")]


def test_undated_orphans_are_held_against_what_is_new(tmp_path: Path) -> None:
    """Held before, they are held against fresh days alone; what joined another day joins it still.

    New undated receipts, or an earlier moment, have all days looked at again.
    """
    fresh = core.AS_OF.date() - timedelta(days=1)
    records = [core.record("1A", received_at=core.AS_OF - timedelta(days=300))]
    receipts = [core.receipt(name, line=n) for n, name in enumerate(("1A", "2B", "9F"))]
    store = core.fill_store(tmp_path / "s", records, receipts)
    with core.bench_for(store, core.AS_OF) as bench:
        assert not judging.is_held(bench, ORPHANS, [])
        store.publish([judging.judge_orphans(bench, None, covered=False)])
        assert judging.is_held(bench, ORPHANS, [str(fresh)])
        assert not judging.is_held(bench, ORPHANS, [UNDATED])
        late = core.fill_store(tmp_path / "late", [core.record("2B", received_at=core.AS_OF
                               - timedelta(days=1))], [])  # fmt: skip
        store.path(RECORDS, fresh).parent.mkdir(parents=True)
        late.path(RECORDS, fresh).rename(store.path(RECORDS, fresh))
        store.publish([judging.judge_orphans(bench, None, covered=False, fresh=[fresh])])
    assert [row["message_id"] for row in core.published(store, ORPHANS, UNDATED)] == ["9F"]
    with core.bench_for(store, core.AS_OF - timedelta(days=2)) as bench:
        assert not judging.is_held(bench, ORPHANS, [])


def test_orphans_are_sorted_by_their_key(tmp_path: Path) -> None:
    """Rows of `orphans` are in order of source and line, whatever order they were read in."""
    day = RECEIVED.date()
    receipts = [heard("9F", source=source, line=line)
                for source, line in (("b", 1), ("a", 10), ("a", 9), ("b", 0))]  # fmt: skip
    store = core.fill_store(tmp_path / "s", [], receipts)
    with core.bench_for(store, end_of(day) + timedelta(days=1)) as bench:
        store.publish([judging.judge_orphans(bench, day, covered=True)])
    rows = core.published(store, ORPHANS, day)
    assert [(row["source"], row["line"]) for row in rows] == [
        ("a", 9),
        ("a", 10),
        ("b", 0),
        ("b", 1),
    ]


def test_look_back_goes_by_either_time(tmp_path: Path) -> None:
    """A receipt pushed days before it was captured is looked for around both of its times."""
    day = RECEIVED.date()
    store = core.fill_store(tmp_path / "s", [], [])
    with core.bench_for(store, core.AS_OF) as bench:
        bench.ledger.receipt_days[str(day)] = [str(day), str(day + timedelta(days=5))]
        days = judging.look_back(bench, day)
    assert (days[0], days[-1]) == (day - timedelta(days=8), day + timedelta(days=6))
