"""Summaries: what is counted, in whose row, and how sure a rate is."""

from __future__ import annotations

import functools
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import ibis
import judge_support as core
import pytest

from reconcile import summarise
from reconcile.judge.rules import CONTEXT_NAMES
from reconcile.store import Store
from reconcile.tables import ERROR_CODES, ORPHANS, REASONS, SUMMARY, VERDICTS, Table

DAY = date(2026, 10, 15)


@functools.cache
def _expression(table: Table) -> ibis.Table:
    """The summary table, over the tables `verdicts_in`, `lone_in` and `day_in`."""
    names = ("verdicts_in", "lone_in", "day_in", "networks_in")
    verdicts, lone, day, networks = map(core.connection().table, names)
    if table is SUMMARY:
        return summarise.summary(verdicts, lone, day, networks, core.AS_OF, "USD")
    if table is REASONS:
        return summarise.reasons(verdicts, day, CONTEXT_NAMES)
    return summarise.error_codes(verdicts, day)


@functools.cache
def _view(table: Table) -> str:
    """The same, compiled once."""
    core.connection().create_view(f"{table.name}_of_verdicts", _expression(table))
    return f"{table.name}_of_verdicts"


def put(verdicts: list[core.Row], lone: list[core.Row]) -> None:
    """Gives the expressions something to read."""
    core.put("verdicts_in", VERDICTS, verdicts)
    core.put("lone_in", ORPHANS, lone)
    day = f"SELECT DATE '{DAY}' AS date, false AS is_closed"
    core.connection().con.execute(f"CREATE OR REPLACE TABLE day_in AS {day}")
    networks = "SELECT 'GB' AS country, '23410' AS network_code, 'watch' AS network_verdict"
    core.connection().con.execute(f"CREATE OR REPLACE TABLE networks_in AS {networks}")


def summed(
    table: Table, verdicts: list[core.Row], lone: list[core.Row] | None = None
) -> list[core.Row]:
    """The rows of a summary table, in the order that it gives them."""
    put(verdicts, lone or [])
    query = f"SELECT * FROM {_view(table)}"
    return core.connection().con.execute(query).to_arrow_table().to_pylist()


def summary_of(*verdicts: core.Row, lone: list[core.Row] | None = None) -> core.Row:
    """The one row of the summary."""
    (row,) = summed(SUMMARY, list(verdicts), lone)
    return row


def some(n: int, verdict: str, *reasons: str, **fields: Any) -> list[core.Row]:
    """Several messages of one verdict."""
    return [
        core.verdict(f"{verdict}{n}", verdict=verdict, reasons=list(reasons), **fields)
        for n in range(n)
    ]


# --- rates -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [
        (0, 10, 0.0, 0.2775328),
        (5, 10, 0.2365931, 0.7634069),
        (10, 10, 0.7224672, 1.0),
        (1, 1000, 0.0001765, 0.0056426),
        (15, 100, 0.0930599, 0.2328356),
        (81, 263, 0.2552885, 0.3662096),
    ],
)
def test_wilson_interval(k: int, n: int, low: float, high: float) -> None:
    """The ends agree with known values; 81 of 263 is the example of Newcombe (1998)."""
    table = ibis.memtable([(k, n)], schema={"k": "int64", "n": "int64"})
    told = table.select(**summarise.rates("x", table.k, table.n))
    (row,) = core.connection().to_pyarrow(told).to_pylist()
    assert row["x_rate"] == k / n
    assert row["x_rate_low"] == pytest.approx(low, abs=5e-8)
    assert row["x_rate_high"] == pytest.approx(high, abs=5e-8)


def test_wilson_interval_stays_within_0_and_1() -> None:
    """For no share do the ends leave [0, 1], and the share lies between them."""
    pairs = [(k, n) for n in (1, 2, 3, 7, 10**6) for k in (0, 1, n // 2, n - 1, n) if k <= n]
    table = ibis.memtable(pairs, schema={"k": "int64", "n": "int64"})
    told = table.select(**summarise.rates("x", table.k, table.n))
    for row in core.connection().to_pyarrow(told).to_pylist():
        assert 0 <= row["x_rate_low"] <= row["x_rate"] <= row["x_rate_high"] <= 1


def test_rate_is_null_where_nothing_is_told() -> None:
    """A row of pending and not expected messages alone has no rates, rather than 0."""
    row = summary_of(*some(3, "pending", "in_flight"), *some(2, "not_expected", "record_deleted"))
    for name in ("missing", "unknown", "suspect"):
        assert [row[f"{name}_rate{end}"] for end in ("", "_low", "_high")] == [None, None, None]


def test_rates_leave_out_pending_and_not_expected() -> None:
    """A rate is k / (messages − pending − not_expected)."""
    row = summary_of(
        *some(4, "confirmed"), *some(3, "missing", "lost_webhook"),
        *some(2, "unknown", "record_unknown"),
        *some(1, "suspect", "status_conflict"), *some(20, "pending", "in_flight"),
        *some(30, "not_expected", "record_deleted"),
    )  # fmt: skip
    assert row["messages"] == 60
    assert (row["missing_rate"], row["unknown_rate"], row["suspect_rate"]) == (0.3, 0.2, 0.1)


def test_capture_outage_is_left_out_of_missing_rate() -> None:
    """What our own outage lost is missing, but in neither part of the missing rate."""
    row = summary_of(
        *some(6, "confirmed"), *some(2, "missing", "lost_webhook"),
        *[core.verdict(f"o{n}", verdict="missing", reasons=["capture_outage"]) for n in range(4)],
    )  # fmt: skip
    assert (row["missing"], row["missing_capture_outage"], row["missing_rate"]) == (6, 4, 0.25)
    assert row["unknown_rate"] == 0


# --- whose row -------------------------------------------------------------------------------


def test_one_row_a_group() -> None:
    """Account, country, network and currency each make a row of their own, in order."""
    rows = summed(SUMMARY, [
        core.verdict("1"), core.verdict("2", network_code="26202"),
        core.verdict("3", currency="USD"), core.verdict("4", country="FR", network_code="20801"),
        core.verdict("5", account_id="a0"), core.verdict("6"),
    ])  # fmt: skip
    keys = [
        tuple(r[k] for k in ("account_id", "country", "network_code", "currency")) for r in rows
    ]
    assert keys == sorted(keys)
    assert [row["messages"] for row in rows] == [1, 2, 1, 1, 1]


def test_namibia_is_a_text() -> None:
    """Country `NA` is kept as the two letters that it is."""
    namibia = {"country": "NA", "country_name": "Namibia", "network_code": "64901"}
    row = summary_of(core.verdict("1", **namibia))
    assert (row["country"], row["country_name"]) == ("NA", "Namibia")
    (reason,) = summed(REASONS, [core.verdict("1", **namibia)])
    assert reason["country"] == "NA"


def test_orphans_stand_in_their_own_rows() -> None:
    """An orphan of a network without messages has a row without messages, money or rates."""
    rows = summed(
        SUMMARY, [core.verdict("1")], [core.orphan(account_id="a1", network_code="26203")]
    )
    lone = next(row for row in rows if row["network_code"] == "26203")
    assert (lone["messages"], lone["orphans"], lone["receipts"]) == (0, 1, 1)
    assert (lone["currency"], lone["spend"], lone["missing_rate"]) == ("USD", Decimal(0), None)
    assert lone["latency_p50_ms"] is None


def test_orphans_of_a_known_network_count_in_its_row() -> None:
    """With the same account, country, network and currency an orphan is in the messages' row."""
    row = summary_of(core.verdict("1", currency="USD"), lone=[core.orphan(account_id="a1")])
    assert (row["messages"], row["orphans"], row["receipts"]) == (1, 1, 2)


def test_orphan_without_account_or_network() -> None:
    """What an orphan does not say is `unknown` in its row."""
    lone = [core.orphan(account_id=None, network_code=None, country="unknown")]
    (row,) = summed(SUMMARY, [], lone)
    assert (row["account_id"], row["country"], row["network_code"]) == ("unknown",) * 3


def test_uncovered_is_counted_apart() -> None:
    """Receipts that may belong to days not downloaded are no orphans."""
    kinds = ("unknown_message", "near_match", "foreign_account", "uncovered", "uncovered")
    (row,) = summed(SUMMARY, [], [core.orphan(kind=kind) for kind in kinds])
    assert (row["orphans"], row["uncovered"], row["receipts"]) == (3, 2, 5)


# --- what is counted -------------------------------------------------------------------------


def test_receipts_and_duplicates_are_summed() -> None:
    """Receipts count each line, duplicates those that repeat."""
    row = summary_of(
        core.verdict("1", receipts=3, duplicates=2),
        core.verdict("2", receipts=0),
        core.verdict("3"),
    )
    assert (row["receipts"], row["duplicate_receipts"]) == (4, 2)


@pytest.mark.parametrize(
    "reason",
    ["lost_webhook", "carrier_silent", "platform_expired", "unattributed", "capture_outage"],
)
def test_missing_is_told_by_reason(reason: str) -> None:
    """Each reason of missing has its column, by the first reason; context does not matter."""
    row = summary_of(*some(2, "missing", reason, "charged_not_delivered"), core.verdict("c"))
    told = {name: row[f"missing_{name}"] for name in summarise.MISSING_REASONS}
    assert told == dict.fromkeys(summarise.MISSING_REASONS, 0) | {reason: 2}


def test_end_is_the_records_word_first() -> None:
    """Delivered, failed and expired go by the record's end, else by the receipt's."""
    row = summary_of(
        core.verdict("1", record_status="delivered", receipt_status="failed"),
        core.verdict("2", record_status="accepted", receipt_status="read"),
        core.verdict("3", record_status=None, receipt_status="expired"),
        core.verdict("4", record_status="unknown", receipt_status="rejected"),
        core.verdict("5", record_status="deleted"),
        core.verdict("6", record_status="undeliverable", receipt_status="delivered"),
        core.verdict("7", record_status="accepted", receipt_status="unknown"),
        core.verdict("8", record_status="teleported", receipt_status="buffered"),
    )
    assert (row["delivered"], row["failed"], row["expired"]) == (2, 3, 1)


def test_money_is_exact() -> None:
    """Ten thousand times 0.00000001 and a tenth thrice are what they are on paper."""
    small = [core.verdict(f"s{n}", record_price=core.money("0.00000001")) for n in range(10_000)]
    tenths = [core.verdict(f"t{n}", record_price=core.money("0.1")) for n in range(3)]
    assert summary_of(*small, *tenths, core.verdict("free"))["spend"] == Decimal("0.30010000")


def test_unconfirmed_money() -> None:
    """Cost of missing, unknown and suspect messages, and of no others."""
    price = {
        "confirmed": 1,
        "pending": 2,
        "missing": 4,
        "unknown": 8,
        "suspect": 16,
        "not_expected": 32,
    }
    row = summary_of(*(
        core.verdict(name, verdict=name, reasons=["x"], record_price=core.money(str(cost)))
        for name, cost in price.items()
    ))  # fmt: skip
    assert (row["spend"], row["spend_unconfirmed"]) == (Decimal(63), Decimal(28))


def test_latency_percentiles_are_interpolated() -> None:
    """Of delivered messages with a latency alone: 1 … 101 ms, the middle one is 51."""
    row = summary_of(
        *(core.verdict(f"d{n}", latency_ms=n) for n in range(1, 102)),
        core.verdict("none", latency_ms=None),
        core.verdict("failed", record_status="failed", latency_ms=10**9),
    )
    assert [row[f"latency_p{p}_ms"] for p in (50, 95, 99)] == [51, 96, 100]
    row = summary_of(core.verdict("1", latency_ms=100), core.verdict("2", latency_ms=200))
    assert [row[f"latency_p{p}_ms"] for p in (50, 95, 99)] == [150, 195, 199]


def test_no_latency_no_percentiles() -> None:
    """Without a delivered message that has one they are null."""
    row = summary_of(core.verdict("1", record_status="failed", latency_ms=5))
    assert [row[f"latency_p{p}_ms"] for p in (50, 95, 99)] == [None, None, None]


def test_as_of_and_rules_are_named() -> None:
    """Each row says as of when it is, by which rules, and that no network was judged."""
    row = summary_of(core.verdict("1"))
    assert (row["date"], row["as_of"], row["is_closed"]) == (DAY, core.AS_OF, False)
    assert row["rules_version"]
    assert row["network_verdict"] is None


# --- reasons ---------------------------------------------------------------------------------


def test_each_reason_has_a_row() -> None:
    """A message counts in the row of each of its reasons, and as first in that of the first."""
    rows = summed(REASONS, [
        core.verdict("1", verdict="suspect", reasons=["time_travel", "bad_signature"]),
        core.verdict("2", verdict="suspect", reasons=["bad_signature"]),
        core.verdict("3", reasons=["too_fast"]), core.verdict("4"),
    ])  # fmt: skip
    told = {
        (row["verdict"], row["reason"]): (row["messages"], row["messages_first"], row["is_context"])
        for row in rows
    }
    assert told == {
        ("suspect", "time_travel"): (1, 1, False),
        ("suspect", "bad_signature"): (2, 1, False),
        ("confirmed", "too_fast"): (1, 1, True),
        ("confirmed", "none"): (1, 1, False),
    }


def test_first_reasons_add_up_to_the_verdicts() -> None:
    """Over all reasons of a verdict, messages_first is the number of its messages."""
    rows = summed(REASONS, [
        *some(5, "confirmed"), *some(3, "confirmed", "too_fast", "price_differs", currency="USD"),
        *some(7, "missing", "lost_webhook", "charged_not_delivered"),
    ])  # fmt: skip
    firsts = {name: sum(r["messages_first"] for r in rows if r["verdict"] == name)
              for name in ("confirmed", "missing")}  # fmt: skip
    assert firsts == {"confirmed": 8, "missing": 7}


def test_reason_costs_what_its_messages_cost() -> None:
    """Spend of a reason is that of the messages that have it, exactly."""
    rows = summed(REASONS, some(3, "missing", "lost_webhook", record_price=core.money("0.1")))
    assert [row["spend"] for row in rows] == [Decimal("0.30000000")]


# --- error codes -----------------------------------------------------------------------------


def test_error_codes_leave_out_messages_without_receipt() -> None:
    """One row a status and code of deciding receipts; a message without one is in none."""
    rows = summed(ERROR_CODES, [
        core.verdict("1", receipt_status="failed", receipt_error_code="8"),
        core.verdict("2", receipt_status="failed", receipt_error_code="8"),
        core.verdict("3", receipt_status="failed", receipt_error_code="77"),
        core.verdict("4", receipt_status="delivered"),
        core.verdict("5", verdict="missing", reasons=["lost_webhook"], receipts=0),
    ])  # fmt: skip
    told = {
        (r["receipt_status"], r["receipt_error_code"]): (r["messages"], r["meaning"]) for r in rows
    }
    assert told == {
        ("failed", "8"): (2, "Network error"),
        ("failed", "77"): (1, None),
        ("delivered", "unknown"): (1, None),
    }


def test_nothing_gives_nothing() -> None:
    """A day without messages and orphans has no rows."""
    for table in (SUMMARY, REASONS, ERROR_CODES):
        assert summed(table, []) == []


# --- files -----------------------------------------------------------------------------------


def test_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    """Each summary is written byte for byte alike, whatever order its verdicts are read in."""
    verdicts = [
        core.verdict(
            f"{n}", network_code=f"2620{n % 5}", verdict=("missing", "confirmed")[n % 2],
            reasons=["lost_webhook"] if n % 2 == 0 else ["too_fast"] * (n % 3 == 0),
            receipt_status="delivered" if n % 2 else None, record_price=core.money("0.1"),
            latency_ms=n * n,
        )
        for n in range(300)
    ]  # fmt: skip
    con, written = core.connection(), []
    for order in (verdicts, verdicts[::-1]):
        put(order, [core.orphan()])
        store = Store.open(tmp_path / str(len(written)), create=True)
        written.append([
            store.write(con, _expression(table), table, DAY, core.AS_OF).path.read_bytes()
            for table in (SUMMARY, REASONS, ERROR_CODES)
        ])  # fmt: skip
    assert written[0] == written[1]
