"""Rules of `--fail-on`: read from text, held against the summary of the days that a run judged.

    MEASURE OP NUMBER[%] [for SCOPE] [with at least N messages]

    missing_rate > 2%
    missing_rate > 5% for any network with at least 100 messages
    spend_unconfirmed >= 250 for country DE
    suspect_networks > 0

MEASURE is a rate, a count or a sum of money of `summary`, or `suspect_networks`; OP is one of
`>`, `>=`, `<`, `<=`. SCOPE is `network CODE`, `country CODE`, `account ID`, `any network` or
`any country`; without it everything is one. Pure: nothing here reads disk, network or clock.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from reconcile import vocabulary as words
from reconcile.errors import UsageError

Row = Mapping[str, Any]

RATES = ("missing_rate", "unknown_rate", "suspect_rate")
COUNTS = (
    "messages", *words.VERDICTS, "missing_lost_webhook", "missing_carrier_silent",
    "missing_platform_expired", "missing_unattributed", "missing_capture_outage", "delivered",
    "failed", "expired", "orphans", "uncovered", "foreign_orphans", "receipts",
    "duplicate_receipts",
)  # fmt: skip
MONEY = ("spend", "spend_unconfirmed")
SUSPECT_NETWORKS = "suspect_networks"
MEASURES = (*RATES, *COUNTS, *MONEY, SUSPECT_NETWORKS)

OPERATORS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
COLUMNS = {"network": "network_code", "country": "country", "account": "account_id"}
EXAMPLE = "'missing_rate > 2% for network 26201 with at least 100 messages'"

_RULE = re.compile(
    r"(?P<measure>[a-z_]+)\s*(?P<op>>=|<=|>|<)\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<percent>%?)"
    r"(?:\s+for\s+(?:(?P<any>any\s+)(?P<each>network|country)"
    r"|(?P<kind>network|country|account)\s+(?P<which>[\w.-]+)))?"
    r"(?:\s+with\s+at\s+least\s+(?P<least>\d+)\s+messages?)?"
)


@dataclass(frozen=True)
class Rule:
    """One rule of `--fail-on`.

    Attributes:
        text: as it was written.
        measure, op, limit: what is exceeded; a rate's limit is a share from 0 to 1.
        kind: network, country or account: what it is about; "": everything.
        which: the one that it is about; "": each of them.
        least: where fewer messages have a verdict that counts, nothing is exceeded.
    """

    text: str
    measure: str
    op: str
    limit: Decimal
    kind: str = ""
    which: str = ""
    least: int = 0


def parse(text: str) -> Rule:
    """Reads a rule.

    Raises:
        UsageError: it is none; one line says what is wrong with it.
    """
    found = _RULE.fullmatch(" ".join(text.split()))
    if not found:
        raise UsageError(f"fail_on: {text!r} is no rule, as {EXAMPLE} is")
    measure, is_share = found["measure"], bool(found["percent"])
    if measure not in MEASURES:
        raise UsageError(f"fail_on: {text!r}: {measure} is none of {', '.join(MEASURES)}")
    if is_share and measure not in RATES:
        raise UsageError(f"fail_on: {text!r}: only rates are measured in %")
    limit = Decimal(found["number"]) / (100 if is_share else 1)
    if measure in RATES and limit > 1:
        raise UsageError(f"fail_on: {text!r}: a rate is at most 1: write {found['number']}%")
    kind = found["each"] or found["kind"] or ""
    if measure == SUSPECT_NETWORKS and kind == "account":
        raise UsageError(f"fail_on: {text!r}: networks are judged over all accounts together")
    return Rule(text, measure, found["op"], limit, kind, found["which"] or "",
                int(found["least"] or 0))  # fmt: skip


def exceeded(rules: Iterable[Rule], rows: Iterable[Row]) -> list[str]:
    """A sentence for each rule and network (country, account) that exceeds it, in order.

    Args:
        rules: as `parse` reads them.
        rows: rows of `summary` of the days that were judged; they are added up. Sums of money are
            held against a rule currency by currency.
    """
    told = list(rows)
    return [sentence for rule in rules for sentence in _exceeding(rule, told)]


def rate(rows: Iterable[Row], measure: str) -> tuple[int, int]:
    """k and n of a rate over rows of `summary`: n leaves out pending and not expected ones.

    An outage of our own capture is left out of `missing_rate`, as in `summary`.
    """
    k = n = 0
    for row in rows:
        outage = row["missing_capture_outage"] if measure == "missing_rate" else 0
        k += row[measure.removesuffix("_rate")] - outage
        n += row["messages"] - row["pending"] - row["not_expected"] - outage
    return k, n


def _exceeding(rule: Rule, rows: list[Row]) -> Iterator[str]:
    for name, group in _groups(rule, rows):
        for value, told, messages in _measured(rule, group):
            if messages >= rule.least and OPERATORS[rule.op](value, rule.limit):
                yield f"{rule.text}: {name}{told}"


def _groups(rule: Rule, rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """What a rule looks at: everything, the one that it names, or each by itself."""
    if not rule.kind:
        return [("", rows)] if rows else []
    column = COLUMNS[rule.kind]
    found: dict[str, list[Row]] = {}
    for row in rows:
        if not rule.which or row[column] == rule.which:
            found.setdefault(row[column], []).append(row)
    return [(f"{rule.kind} {name}: ", found[name]) for name in sorted(found)]


def _measured(rule: Rule, rows: list[Row]) -> Iterator[tuple[Decimal, str, int]]:
    """What is held against the limit, in numbers and words, and of how many messages it is."""
    messages = sum(row["messages"] for row in rows)
    if rule.measure in RATES:
        k, n = rate(rows, rule.measure)
        if n:
            yield Decimal(k) / n, f"{rule.measure} is {100 * k / n:.2f} % ({k:,} of {n:,})", n
    elif rule.measure in MONEY:
        for currency in sorted({row["currency"] for row in rows}):
            own = [row for row in rows if row["currency"] == currency]
            total = sum((Decimal(row[rule.measure]) for row in own), Decimal(0))
            count = sum(row["messages"] for row in own)
            yield total, f"{rule.measure} is {total:.2f} {currency}", count
    elif rule.measure == SUSPECT_NETWORKS:
        odd = sorted({(row["country"], row["network_code"]) for row in rows
                      if row["network_verdict"] == "suspect"})  # fmt: skip
        names = f" ({', '.join(code for _, code in odd)})" if odd else ""
        yield Decimal(len(odd)), f"suspect_networks is {len(odd)}{names}", messages
    else:
        count = sum(row[rule.measure] for row in rows)
        yield Decimal(count), f"{rule.measure} is {count:,}", messages
