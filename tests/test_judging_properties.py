"""What holds of all messages, on random ones that crowd around every threshold of the rules."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import judge_support as core
import pytest
import reference_judge
from hypothesis import given, settings
from hypothesis import strategies as st
from random_traffic import Traffic

from reconcile import judging
from reconcile.days import end_of
from reconcile.judge.rules import GRID_SENTENCES, RULES
from reconcile.store import UNDATED
from reconcile.summarise import MISSING_REASONS
from reconcile.tables import ERROR_CODES, ORPHANS, REASONS, RECEIPTS, SUMMARY, Table
from reconcile.tables import VERDICTS as VERDICTS_TABLE
from reconcile.vocabulary import VERDICTS

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=3, deadline=None, derandomize=True, database=None)

DAY = date(2026, 10, 12)
MIDNIGHT = datetime(2026, 10, 12, tzinfo=UTC)


def told(rows: list[core.Row]) -> dict[tuple[str, str, str], tuple[str, list[str]]]:
    return {core.key_of(row): (row["verdict"], row["reasons"]) for row in rows}


def describe(traffic: Traffic, key: tuple[str, str, str]) -> str:
    """Everything that is known of a message, without what is blank."""
    rows = [
        {name: str(value) for name, value in row.items() if value is not None}
        for row in (*traffic.records, *traffic.receipts)
        if row["message_id"] == key[0]
    ]
    return "\n".join(map(str, [key, *rows]))


@few
@given(seed=seeds)
def test_reference_agrees(seed: int) -> None:
    """The core and a slow obvious judge give each message the same verdict and reasons."""
    traffic = Traffic(seed, 400)
    wanted = reference_judge.judge_all(traffic.records, traffic.receipts, core.AS_OF)
    found = told(core.judged(traffic.records, traffic.receipts, several_owners=True))
    assert found.keys() == wanted.keys()
    for key, said in found.items():
        assert said == wanted[key], describe(traffic, key)


@few
@given(seed=seeds)
def test_reference_agrees_where_ids_are_not_shared(seed: int) -> None:
    """The same, by the shorter way that is taken where there is one account and product."""
    traffic = Traffic(seed, 400, shared=False)
    wanted = reference_judge.judge_all(traffic.records, traffic.receipts, core.AS_OF)
    found = told(core.judged(traffic.records, traffic.receipts))
    assert found.keys() == wanted.keys()
    for key, said in found.items():
        assert said == wanted[key], describe(traffic, key)


def test_traffic_reaches_every_rule() -> None:
    """The random messages are worth their name: every reason and verdict is among them."""
    seen = set()
    for seed in range(4):
        traffic = Traffic(seed, 1000)
        for row in core.judged(traffic.records, traffic.receipts, several_owners=True):
            seen |= {row["verdict"], *row["reasons"]}
    # test_capabilities.py, test_send_log.py
    elsewhere = {"no_receipt_expected", "untrusted_network", "unsent_by_us"}
    assert seen == {*VERDICTS, *GRID_SENTENCES, *(rule.name for rule in RULES)} - elsewhere


@few
@given(seed=seeds)
def test_every_record_has_one_verdict(seed: int) -> None:
    """Each record received by as_of comes back once, with one of the six verdicts."""
    traffic = Traffic(seed, 300)
    rows = core.judged(traffic.records, traffic.receipts, several_owners=True)
    known = [r for r in traffic.records if r["received_at"] <= core.AS_OF]
    assert [core.key_of(row) for row in rows] == sorted(map(core.key_of, known))
    assert {row["verdict"] for row in rows} <= set(VERDICTS)


@few
@given(seed=seeds)
def test_order_does_not_matter(seed: int) -> None:
    """Neither the order of rows, nor which capture a receipt lies in, changes a judged message."""
    traffic = Traffic(seed, 300)
    before = core.judged(traffic.records, traffic.receipts, several_owners=True)
    shuffler = random.Random(seed)
    shuffler.shuffle(traffic.records)
    receipts = elsewhere(traffic.receipts, shuffler)
    assert core.judged(traffic.records, receipts, several_owners=True) == before


def elsewhere(receipts: list[core.Row], shuffler: random.Random) -> list[core.Row]:
    """The same receipts in another order, in captures of other names."""
    mixed = shuffler.sample(receipts, len(receipts))
    return [
        row | {"source": shuffler.choice("xyz"), "line": line} for line, row in enumerate(mixed, 1)
    ]


@few
@given(seed=seeds)
def test_duplicates_change_no_verdict(seed: int) -> None:
    """A receipt that comes again changes no verdict, and no reason but `duplicate_receipt`."""
    traffic = Traffic(seed, 300)
    before = told(core.judged(traffic.records, traffic.receipts, several_owners=True))
    again = [
        row
        | {"source": "again"}
        | ({"captured_at": row["captured_at"] + timedelta(seconds=5)} if row["captured_at"] else {})
        for row in traffic.receipts
    ]
    after = told(core.judged(traffic.records, traffic.receipts + again, several_owners=True))
    assert after.keys() == before.keys()
    for key, (verdict, reasons) in after.items():
        bare = [reason for reason in reasons if reason != "duplicate_receipt"]
        was = [reason for reason in before[key][1] if reason != "duplicate_receipt"]
        assert (verdict, bare) == (before[key][0], was), describe(traffic, key)


@pytest.mark.slow
@few
@given(seed=seeds)
def test_confirmed_is_never_pending_again(seed: int) -> None:
    """What was confirmed is not pending at any later as_of."""
    traffic = Traffic(seed, 300)
    confirmed: set[tuple[str, str, str]] = set()
    for later in (0, 1, 6):
        as_of = core.AS_OF + timedelta(days=later)
        found = told(core.judged(traffic.records, traffic.receipts, as_of, several_owners=True))
        assert not {key for key in confirmed if found[key][0] == "pending"}
        confirmed |= {key for key, (verdict, _) in found.items() if verdict == "confirmed"}
    assert confirmed


# --- through a store ------------------------------------------------------------------------

AS_OFS = {
    "the next day": end_of(DAY) + timedelta(hours=2),
    "four days later": end_of(DAY) + timedelta(days=4),
    "all over": end_of(DAY) + timedelta(days=8),
}


@dataclass
class JudgedDay:
    """A day of random traffic, some of whose receipts join nothing, judged and published."""

    bench: judging.Bench
    traffic: Traffic
    judged: judging.Judged

    def rows(self, table: Table, day: date | str = DAY) -> list[core.Row]:
        return core.published(self.bench.store, table, day)


@pytest.fixture(scope="module", params=AS_OFS)
def day(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[JudgedDay]:
    as_of = AS_OFS[request.param]
    traffic = Traffic(as_of.day, 400, day=MIDNIGHT)
    for row in random.Random(as_of.day).sample(traffic.receipts, 20):
        row["message_id"] = f"X{row['message_id']}"
    root = tmp_path_factory.mktemp("store") / "store"
    store = core.fill_store(root, traffic.records, traffic.receipts)
    with core.bench_for(store, as_of, "a1", "a2", "a3") as bench:
        yield JudgedDay(bench, traffic, judging.judge_day(bench, DAY, covered=True))


def test_day_is_judged_as_its_messages_are(day: JudgedDay) -> None:
    """What is published of a day is what the reference judge says of its messages."""
    traffic, as_of = day.traffic, day.bench.as_of
    wanted = reference_judge.judge_all(traffic.records, traffic.receipts, as_of)
    assert told(day.rows(VERDICTS_TABLE)) == wanted


def test_verdicts_are_sorted(day: JudgedDay) -> None:
    """`verdicts` is in the order of message_id, so that one message is found quickly."""
    keys = [core.key_of(row) for row in day.rows(VERDICTS_TABLE)]
    assert keys == sorted(keys)


def test_messages_are_the_sum_of_their_verdicts(day: JudgedDay) -> None:
    """In each row of the summary, and over the whole day; missing is the sum of its reasons."""
    summary = day.rows(SUMMARY)
    for row in summary:
        assert row["messages"] == sum(row[verdict] for verdict in VERDICTS)
        reasons = [f"missing_{reason}" for reason in MISSING_REASONS]
        assert row["missing"] == sum(row[name] for name in reasons)
    assert sum(row["messages"] for row in summary) == len(day.rows(VERDICTS_TABLE))


def test_first_reasons_are_the_sum_of_the_day(day: JudgedDay) -> None:
    """Each message has one first reason; those with a receipt have one status and err-code."""
    rows = day.rows(VERDICTS_TABLE)
    assert sum(row["messages_first"] for row in day.rows(REASONS)) == len(rows)
    heard = [row for row in rows if row["receipts"]]
    assert sum(row["messages"] for row in day.rows(ERROR_CODES)) == len(heard)


def test_each_receipt_is_somewhere_once(day: JudgedDay) -> None:
    """Receipts known at as_of are attached to a message, or orphans of their day."""
    store = day.bench.store
    parts = [None if p == UNDATED else date.fromisoformat(p) for p in store.days(RECEIPTS)]
    store.publish([judging.judge_orphans(day.bench, part, covered=True) for part in parts])
    lone = sum(len(day.rows(ORPHANS, part or UNDATED)) for part in parts)
    known = [r for r in day.traffic.receipts if reference_judge.is_known(r, day.bench.as_of)]
    assert lone
    assert lone + sum(row["receipts"] for row in day.rows(VERDICTS_TABLE)) == len(known)


def test_closed_day_has_nothing_in_flight(day: JudgedDay) -> None:
    """A day long over is closed, no other is; a closed day has no pending message."""
    pending = [row for row in day.rows(VERDICTS_TABLE) if row["verdict"] == "pending"]
    assert day.judged.closed == (day.bench.as_of == AS_OFS["all over"])
    assert bool(pending) != day.judged.closed


def test_closed_is_said_everywhere(day: JudgedDay) -> None:
    """The ledger and the summary say alike whether a day is closed."""
    assert day.bench.store.ledger().judged[str(DAY)]["closed"] == day.judged.closed
    assert {row["is_closed"] for row in day.rows(SUMMARY)} == {day.judged.closed}


@pytest.mark.slow
def test_second_run_gives_the_same_files(tmp_path: Path) -> None:
    """The same rows in another order and other captures: summaries byte for byte, verdicts too."""
    traffic, files = Traffic(7, 200, day=MIDNIGHT), []
    shuffler = random.Random(7)
    for n in range(2):
        store = core.fill_store(tmp_path / str(n), traffic.records, traffic.receipts)
        with core.bench_for(store, AS_OFS["four days later"], "a1", "a2", "a3") as bench:
            judging.judge_day(bench, DAY, covered=True)
        files.append({
            table.name: store.path(table, DAY).read_bytes()
            for table in (SUMMARY, REASONS, ERROR_CODES)
        } | {"verdicts": core.published(store, VERDICTS_TABLE, DAY)})  # fmt: skip
        shuffler.shuffle(traffic.records)
        traffic.receipts = elsewhere(traffic.receipts, shuffler)
    assert files[0] == files[1]
