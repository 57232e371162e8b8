"""`--fail-on`: what its rules mean, held against rows of `summary` that were written by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from reconcile import fail_on
from reconcile.errors import UsageError
from reconcile.tables import SUMMARY


def row(code: str = "26201", **given: Any) -> dict[str, Any]:
    """A row of `summary` in which all is nought but what is given."""
    texts = {"country": "DE", "network_code": code, "account_id": "a1", "currency": "EUR",
             "network_verdict": "normal"}  # fmt: skip
    zeros: dict[str, Any] = dict.fromkeys(fail_on.COUNTS, 0)
    zeros |= dict.fromkeys(fail_on.MONEY, Decimal(0))
    return zeros | texts | given


ROWS = [
    row(messages=100, confirmed=90, missing=8, missing_capture_outage=4, pending=2),
    row("26202", messages=10, confirmed=5, missing=5, network_verdict="suspect",
        spend_unconfirmed=Decimal("0.50")),
    row("20801", country="FR", messages=50, confirmed=50, currency="USD",
        spend_unconfirmed=Decimal("7")),
]  # fmt: skip

HOLD = [
    ("missing_rate > 5%", ["missing_rate is 5.84 % (9 of 154)"]),
    ("missing_rate >= 6%", []),
    ("missing_rate > 0.05 for network 26201", []),
    ("missing_rate >= 50% for network 26202", ["network 26202: missing_rate is 50.00 % (5 of 10)"]),
    ("missing_rate > 1% for any network with at least 11 messages",
     ["network 26201: missing_rate is 4.26 % (4 of 94)"]),
    ("missing_rate > 1% for any country", ["country DE: missing_rate is 8.65 % (9 of 104)"]),
    ("missing_rate > 1% for network 99999", []),
    ("missing > 12", ["missing is 13"]),
    ("missing > 13", []),
    ("messages<200", ["messages is 160"]),
    ("messages < 200 for account a2", []),
    ("spend_unconfirmed > 0.4", ["spend_unconfirmed is 0.50 EUR", "spend_unconfirmed is 7.00 USD"]),
    ("spend_unconfirmed > 1", ["spend_unconfirmed is 7.00 USD"]),
    ("suspect_networks > 0", ["suspect_networks is 1 (26202)"]),
    ("suspect_networks > 0 for country FR", []),
    ("unknown_rate > 0%", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), HOLD, ids=[text for text, _ in HOLD])
def test_rule_holds(text: str, wanted: list[str]) -> None:
    """A rule adds rows up as `summary` defines its measure, and says what it saw."""
    assert fail_on.exceeded([fail_on.parse(text)], ROWS) == [f"{text}: {w}" for w in wanted]


def test_nothing_judged() -> None:
    """Without a row nothing is exceeded, not even `messages < 1`."""
    assert fail_on.exceeded([fail_on.parse("messages < 1")], []) == []


MISTAKES = [
    ("missing_rate", "is no rule"),
    ("missing_rate = 2%", "is no rule"),
    ("missing_rate > 2% for campaign x", "is no rule"),
    ("missing_rate > -1%", "is no rule"),
    ("mising_rate > 2%", "mising_rate is none of missing_rate"),
    ("missing > 2%", "only rates are measured in %"),
    ("missing_rate > 2", "write 2%"),
    ("missing_rate > 200%", "a rate is at most 1"),
    ("suspect_networks > 1 for account a", "over all accounts"),
]


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_bad_rule(text: str, words: str) -> None:
    """What cannot be meant is one line that names the rule."""
    with pytest.raises(UsageError, match="fail_on") as told:
        fail_on.parse(text)
    assert words in str(told.value)
    assert "\n" not in str(told.value)


def test_measures_are_columns() -> None:
    """Every measure but one is a column of `summary`, and every count of it is a measure."""
    counts = {c.name for c in SUMMARY.columns if str(c.type) == "int64"}
    assert set(fail_on.MEASURES) - {fail_on.SUSPECT_NETWORKS} <= set(SUMMARY.names)
    assert {name for name in counts if not name.startswith("latency")} == set(fail_on.COUNTS)
