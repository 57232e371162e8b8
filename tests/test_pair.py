"""Pairing: which receipt decides, which count, and whose they are."""

from __future__ import annotations

from datetime import timedelta
from itertools import permutations
from typing import Any

import judge_support as core
import pytest

RECEIVED = core.AS_OF - timedelta(days=5)


def at(seconds: float) -> Any:
    """A moment, counted from when the message was received."""
    return RECEIVED + timedelta(seconds=seconds)


def heard(status: str, seconds: float | None, **fields: Any) -> core.Row:
    """A receipt of message M, pushed so many seconds after it was received."""
    return core.receipt(
        "M", status=status, pushed_at=None if seconds is None else at(seconds), **fields
    )


def paired(*receipts: core.Row, **fields: Any) -> core.Row:
    """Message M, judged beside these receipts."""
    return core.judged_one([core.record("M", **fields)], receipts)


# --- the deciding receipt --------------------------------------------------------------------


def test_last_definite_decides() -> None:
    """The last definite receipt decides, though others came after it."""
    row = paired(
        heard("failed", 5), heard("delivered", 7), heard("unknown", 8), heard("accepted", 9)
    )
    assert row["receipt_status"] == "delivered"
    assert row["receipt_pushed_at"] == at(7)
    assert row["receipt_class"] == 2


def test_last_unknown_decides_next() -> None:
    """Without a definite one the last `unknown` decides."""
    row = paired(heard("unknown", 5, scts="1"), heard("unknown", 6, scts="2"), heard("buffered", 9))
    assert (row["receipt_status"], row["receipt_pushed_at"]) == ("unknown", at(6))
    assert row["receipt_class"] == 1


def test_last_decides_at_last() -> None:
    """Without any that is final the last one decides."""
    row = paired(heard("accepted", 1), heard("buffered", 3), heard("accepted", 2))
    assert (row["receipt_status"], row["receipt_class"]) == ("buffered", 0)


def test_captured_stands_in_for_pushed() -> None:
    """A receipt without a push time has its place in time by its capture."""
    row = paired(
        heard("failed", None, captured_at=at(9)), heard("delivered", 7, captured_at=at(99))
    )
    assert row["receipt_status"] == "failed"


def test_undated_comes_first() -> None:
    """A receipt without any time stands before all that have one."""
    row = paired(heard("delivered", None), heard("failed", -30))
    assert row["receipt_status"] == "failed"


def test_ties_do_not_hang_on_order() -> None:
    """Receipts of one second are put in order by their fields, whatever order they came in."""
    tied = [
        heard("failed", 7, error_code="1"),
        heard("failed", 7, error_code="8"),
        heard("delivered", 7, error_code="99"),
    ]
    for receipts in permutations(tied):
        numbered = [row | {"line": line} for line, row in enumerate(receipts, 1)]
        row = paired(*numbered)
        assert (row["receipt_status"], row["receipt_error_code"]) == ("failed", "8")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("error_code", (None, "1", "8")),
        ("network_code", (None, "26201", "26202")),
        ("price", (None, core.money("0.01"), core.money("0.02"))),
        ("account_id", (None, "a1", "a2")),
        ("product", ("MESSAGES", "SMS")),
    ],
)
def test_blank_comes_first_in_a_tie(field: str, values: tuple[Any, ...]) -> None:
    """Among tied receipts the largest value decides, and a blank one the least of all."""
    for receipts in permutations(heard("failed", 7, **{field: value}) for value in values):
        assert paired(*receipts)[f"receipt_{field}"] == values[-1]


def test_tie_is_broken_by_status_first() -> None:
    """The status outranks the error code, and the error code the network."""
    row = paired(
        heard("delivered", 7, error_code="9", network_code="9"),
        heard("failed", 7, error_code="1", network_code="8"),
        heard("failed", 7, error_code="2", network_code="1"),
    )
    assert (row["receipt_status"], row["receipt_error_code"]) == ("failed", "2")


def test_bad_signature_does_not_decide() -> None:
    """A receipt with a wrong signature decides only if there is no other, whatever it says."""
    forged = heard("failed", 9, signature="invalid")
    assert paired(forged, heard("accepted", 1))["receipt_status"] == "accepted"
    assert paired(forged)["receipt_status"] == "failed"
    assert paired(forged, heard("delivered", 8, signature="invalid"))["receipt_status"] == "failed"


def test_event_with_one_good_signature_decides() -> None:
    """An event whose repetition has a wrong signature may decide: a repetition changes nothing."""
    good, forged = heard("failed", 9, signature="valid"), heard("failed", 9, signature="invalid")
    row = paired(heard("accepted", 1), good, forged)
    assert (row["receipt_status"], row["bad_signature"]) == ("failed", False)


def test_bad_signature_is_seen_wherever_it_is() -> None:
    """It is noted, though another receipt decides."""
    row = paired(
        heard("accepted", 1, signature="invalid"), heard("delivered", 7, signature="valid")
    )
    assert row["bad_signature"]
    assert row["receipt_status"] == "delivered"


# --- duplicates ------------------------------------------------------------------------------


def test_repeats_are_counted() -> None:
    """Equal but for capture, source, line and signature: one event, however often it came."""
    row = paired(
        heard("delivered", 7, captured_at=at(8)),
        heard("delivered", 7, captured_at=at(60), source="other"),
        heard("delivered", 7, captured_at=None),
        heard("delivered", 7, captured_at=at(70), signature="valid"),
    )
    assert (row["receipts"], row["duplicates"]) == (4, 3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("status", "read"), ("error_code", "0"), ("network_code", "26201"), ("scts", "2610151200"),
        ("price", core.money("0.05")), ("sender", "ACME"), ("recipient", "A"),
        ("client_ref", "r"), ("account_id", "a1"), ("product", "MESSAGES"), ("pushed_at", at(8)),
    ],
)  # fmt: skip
def test_other_receipts_are_no_repeats(field: str, value: Any) -> None:
    """Two receipts that differ in one other field are two events."""
    row = paired(heard("delivered", 7), heard("delivered", 7) | {field: value})
    assert (row["receipts"], row["duplicates"]) == (2, 0)


def test_repeats_of_several_events() -> None:
    """Repeats of different events add up."""
    row = paired(*[heard("accepted", 1)] * 3, *[heard("delivered", 7)] * 2)
    assert (row["receipts"], row["duplicates"]) == (5, 3)


def test_repeats_without_push_time() -> None:
    """Without a push time two captures of one event are still one; the first tells when it was."""
    row = paired(
        heard("delivered", None, captured_at=at(8)), heard("delivered", None, captured_at=at(90))
    )
    assert (row["receipts"], row["duplicates"]) == (2, 1)
    assert row["receipt_captured_at"] == at(8)


def test_repeat_does_not_become_the_last() -> None:
    """An event captured again later does not overtake another that came in between."""
    row = paired(
        heard("failed", None, captured_at=at(8)),
        heard("delivered", None, captured_at=at(9)),
        heard("failed", None, captured_at=at(90)),
    )
    assert row["receipt_status"] == "delivered"


def test_repeat_is_not_out_of_order() -> None:
    """`accepted` captured again after `delivered` is late, not out of order."""
    row = paired(
        heard("accepted", None, captured_at=at(1)),
        heard("delivered", 7),
        heard("accepted", None, captured_at=at(90)),
    )
    assert not row["out_of_order"]


def test_no_receipt_is_zero() -> None:
    """A message without receipts has 0 of them, no status, and shows nothing."""
    row = paired()
    assert (row["receipts"], row["duplicates"], row["receipt_class"]) == (0, 0, 0)
    assert row["receipt_status"] is None
    assert row["outcomes_differ"] is False


# --- as_of -----------------------------------------------------------------------------------


def test_capture_time_decides_what_is_known() -> None:
    """Captured later than as_of is not known, though it was pushed before; and the reverse."""
    late = core.AS_OF + timedelta(milliseconds=1)
    assert paired(heard("delivered", 7, captured_at=late))["receipts"] == 0
    assert paired(heard("delivered", 7, captured_at=core.AS_OF))["receipts"] == 1
    pushed = (late - RECEIVED).total_seconds()
    assert paired(heard("delivered", pushed, captured_at=core.AS_OF))["receipts"] == 1


def test_push_time_decides_without_capture_time() -> None:
    """Without a capture time the push time says when it was known."""
    pushed = (core.AS_OF - RECEIVED).total_seconds()
    assert paired(heard("delivered", pushed))["receipts"] == 1
    assert paired(heard("delivered", pushed + 0.001))["receipts"] == 0


def test_undated_always_counts() -> None:
    """A receipt without any time is always known."""
    assert paired(heard("delivered", None))["receipts"] == 1


def test_later_copy_is_not_counted() -> None:
    """A copy that was captured after as_of makes no duplicate."""
    row = paired(
        heard("delivered", 7), heard("delivered", 7, captured_at=core.AS_OF + timedelta(1))
    )
    assert (row["receipts"], row["duplicates"]) == (1, 0)


def test_end_after_as_of_is_open() -> None:
    """A record finalised after as_of has no status, end or latency yet."""
    later = core.AS_OF + timedelta(milliseconds=1)
    row = paired(finalized_at=later, latency_ms=5)
    assert (row["status"], row["finalized_at"], row["latency_ms"]) == (None, None, None)
    row = paired(finalized_at=core.AS_OF, latency_ms=5)
    assert (row["status"], row["finalized_at"], row["latency_ms"]) == ("delivered", core.AS_OF, 5)


def test_message_after_as_of_is_absent() -> None:
    """A record received after as_of is not judged; one received at as_of is."""
    later = core.record("L", received_at=core.AS_OF + timedelta(milliseconds=1))
    now = core.record("N", received_at=core.AS_OF)
    assert [row["message_id"] for row in core.judged([later, now], [])] == ["N"]


# --- several owners of one id ------------------------------------------------------------------


def owners_of(receipt: core.Row, *owners: tuple[str, str]) -> list[tuple[str, str]]:
    """To which of the records with one id, by account and product, a receipt goes."""
    records = [core.record("M", account_id=account, product=product) for account, product in owners]
    rows = core.judged(records, [receipt], several_owners=True)
    assert len(rows) == len(owners)
    return [(row["account_id"], row["product"]) for row in rows if row["receipts"]]


def test_receipt_goes_to_its_account() -> None:
    """The record of the receipt's api-key gets it, and no other."""
    two = ("a1", "SMS"), ("a2", "SMS")
    assert owners_of(heard("delivered", 7, account_id="a2"), *two) == [("a2", "SMS")]


@pytest.mark.parametrize("named", [None, "a9"])
def test_nameless_receipt_goes_to_smallest_account(named: str | None) -> None:
    """A receipt that names none of the accounts goes to the smallest, and says so."""
    records = [core.record("M", account_id=account) for account in ("a3", "a1", "a2")]
    rows = core.judged(records, [heard("delivered", 7, account_id=named)], several_owners=True)
    assert [(row["account_id"], row["receipts"]) for row in rows] == [
        ("a1", 1),
        ("a2", 0),
        ("a3", 0),
    ]
    assert [row["ambiguous_account"] for row in rows] == [True, False, False]


def test_sms_comes_before_messages() -> None:
    """Where one account has the id in both products, the receipt goes to SMS."""
    two = ("a1", "MESSAGES"), ("a1", "SMS")
    for product in ("SMS", "MESSAGES"):
        receipt = heard("delivered", 7, account_id="a1", product=product)
        assert owners_of(receipt, *two) == [("a1", "SMS")]


def test_account_comes_before_product() -> None:
    """A receipt goes to its own account's record, though another has an SMS."""
    two = ("a1", "SMS"), ("a2", "MESSAGES")
    assert owners_of(heard("delivered", 7, account_id="a2"), *two) == [("a2", "MESSAGES")]


def test_id_of_one_owner_is_not_ambiguous() -> None:
    """Where one record has the id, a receipt of any account is its own."""
    records = [core.record("M"), core.record("N", account_id="a2")]
    rows = core.judged(records, [heard("delivered", 7)], several_owners=True)
    assert [(row["receipts"], row["ambiguous_account"]) for row in rows] == [(1, False), (0, False)]


def test_receipts_are_split_between_owners() -> None:
    """Each account's receipts are reduced apart from the other's."""
    records = [core.record("M"), core.record("M", account_id="a2", status="failed")]
    receipts = [
        heard("delivered", 7, account_id="a1"),
        heard("delivered", 7, account_id="a1"),
        heard("failed", 9, account_id="a2", error_code="8"),
    ]
    rows = core.judged(records, receipts, several_owners=True)
    assert [(row["receipts"], row["duplicates"]) for row in rows] == [(2, 1), (1, 0)]
    assert [row["verdict"] for row in rows] == ["confirmed", "confirmed"]


def test_owner_after_as_of_is_none() -> None:
    """A record that was received after as_of does not share its id yet."""
    later = core.AS_OF + timedelta(seconds=1)
    records = [core.record("M", account_id="a2"), core.record("M", received_at=later)]
    (row,) = core.judged(records, [heard("delivered", 7)], several_owners=True)
    assert (row["account_id"], row["receipts"], row["ambiguous_account"]) == ("a2", 1, False)


def test_long_message_is_not_grouped() -> None:
    """Parts of a long message share a client_ref, and each has its own verdict."""
    records = [core.record(f"M{n}", client_ref="r", concatenated=True) for n in range(3)]
    rows = core.judged(records, [core.receipt("M1", client_ref="r", pushed_at=at(7))])
    assert [row["verdict"] for row in rows] == ["missing", "confirmed", "missing"]


def test_dated_copy_of_an_undated_receipt() -> None:
    """A repetition that says when it was captured does not move a receipt without a time."""
    moment = core.AS_OF - timedelta(days=5)
    first = core.receipt("M", status="failed", error_code="1")
    other = core.receipt("M", status="failed", error_code="8", captured_at=moment)
    again = core.receipt(
        "M", status="failed", error_code="1", captured_at=moment + timedelta(hours=1)
    )
    records = [core.record("M", status="failed")]
    before = core.judged_one(records, [first, other])
    after = core.judged_one(records, [first, other, again])
    assert after["verdict"] == before["verdict"]
    assert after["receipt_error_code"] == before["receipt_error_code"] == "8"


def test_forged_copy_of_a_good_receipt() -> None:
    """A repetition with a wrong signature, which anybody could post, changes no verdict."""
    good = core.receipt("M", signature="valid", line=1)
    forged = core.receipt("M", signature="invalid", line=2)
    records = [core.record("M")]
    assert core.judged_one(records, [good, forged])["verdict"] == "confirmed"
    assert core.judged_one(records, [forged])["verdict"] == "suspect"
