"""Networks one by one: those that cannot be believed, those confirmed least; money by country."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from reconcile.present import numbers
from reconcile.present.odd import ODD
from reconcile.present.rates import MEASURES, Rate, rate, unconfirmed
from reconcile.present.report.gather import Gathered
from reconcile.present.report.heat import place

if TYPE_CHECKING:
    import pandas as pd

SUMMED = ("messages", "confirmed", "pending", "not_expected", *MEASURES, "missing_capture_outage")
CARDS, WORST, COUNTRIES = 12, 20, 15


@dataclass(frozen=True)
class Interval:
    """An interval as it is drawn, in parts of a hundred of its scale's width."""

    low: float
    high: float
    at: float
    baseline: float | None


@dataclass(frozen=True)
class OddNetwork:
    """A network that is odd: what is thought of it, why, how sure, and what is at stake."""

    name: str
    verdict: str
    is_alert: bool
    when: str
    evidence: str
    reasons: list[str]
    words: str
    before: str
    interval: Interval | None
    at_stake: str


@dataclass(frozen=True)
class Network:
    """A network's sums over the days."""

    name: str
    sums: Mapping[Any, int]
    missing: Rate
    interval: Interval | None
    at_stake: str
    at_stake_sort: str


@dataclass(frozen=True)
class Stake:
    """What a country cost, and how much of it is not confirmed; `width` in parts of a hundred."""

    country: str
    spend: str
    open: str
    share: str
    width: float
    sorts: tuple[str, str, str]


def odd_networks(found: Gathered) -> list[OddNetwork]:
    """Of each odd network the newest day's worst row, the worst network first."""
    if found.odd is None:
        return []
    rows = found.odd.to_dict("records")
    newest: dict[tuple[str, str], dict[Any, Any]] = {}
    odd_days: dict[tuple[str, str], set[Any]] = {}
    for row in sorted(rows, key=lambda r: (-r["date"].toordinal(), *_badness(r), r["span"])):
        key = (row["country"], row["network_code"])
        newest.setdefault(key, row)
        odd_days.setdefault(key, set()).add(row["date"])
    order = sorted(newest, key=lambda key: (*_badness(newest[key]),
                                            -newest[key]["date"].toordinal(), key))  # fmt: skip
    return [_odd(newest[key], len(odd_days[key]), found) for key in order]


def _badness(row: Mapping[Any, Any]) -> tuple[int, bool]:
    return ODD.index(row["network_verdict"]), not row["is_alert"]


def _odd(row: Mapping[Any, Any], days: int, found: Gathered) -> OddNetwork:
    there = row["rate"] is not None and row["rate"] == row["rate"]
    before = row["baseline"] if row["baseline"] == row["baseline"] else None
    rest = "" if row["date"] == found.odd_until else ", not since"
    when = f"odd on {numbers.plural(days, 'day')}, last on {numbers.day(row['date'])}{rest}"
    interval = None
    if there:
        widest = min(max(row["rate_high"], before or 0) * 1.1, 1) or 1
        interval = drawn(row["rate"], row["rate_low"], row["rate_high"], before, widest)
    return OddNetwork(
        name=place(row),
        verdict=row["network_verdict"],
        is_alert=bool(row["is_alert"]),
        when=when,
        evidence=row["evidence"][:1].upper() + row["evidence"][1:],
        reasons=[str(reason) for reason in row["reasons"]],
        words=f"{numbers.percent(row['rate'])} "
              f"({numbers.between(row['rate_low'], row['rate_high'])})" if there else "",
        before=numbers.percent(before) if before is not None else "",
        interval=interval,
        at_stake=numbers.money(row["spend_at_stake"], row["currency"])
        if row["spend_at_stake"] else "",
    )  # fmt: skip


def drawn(at: float, low: float, high: float, baseline: float | None, widest: float) -> Interval:
    """An interval on a scale that ends at `widest`."""

    def on(value: float) -> float:
        return round(min(value / widest, 1) * 100, 2)

    return Interval(on(low), on(high), on(at), None if baseline is None else on(baseline))


def least_confirmed(found: Gathered) -> tuple[list[Network], float]:
    """All networks with anything to explain, those with most first; and where the scale ends."""
    keys = ["country", "network_code"]
    grouped = found.summary.groupby(keys, sort=True)
    sums = grouped[list(SUMMED)].sum()
    named = found.summary.drop_duplicates(keys, keep="last").set_index(keys)
    stakes = _stakes(found.summary, keys)
    rows = [(key, row) for key, row in zip(sums.index, sums.to_dict("records"), strict=True)
            if unconfirmed(row)]  # fmt: skip
    rows.sort(key=lambda each: (-unconfirmed(each[1]), each[0]))
    told = [rate("missing", row) for _, row in rows]
    widest = min(max((r.ends[1] for r in told[:WORST] if r.ends), default=1), 1) or 1
    made = []
    for (key, row), missing in zip(rows, told, strict=True):
        name = place({**named.loc[key].to_dict(), "country": key[0], "network_code": key[1]})
        value, ends = missing.value, missing.ends
        interval = drawn(value, *ends, None, widest) if value is not None and ends else None
        money = stakes[key]
        words = " + ".join(numbers.money(amount, currency) for currency, amount in money)
        sort = str(money[0][1]) if money else "0"
        made.append(Network(name, row, missing, interval, words, sort))
    return made, widest


def _stakes(summary: pd.DataFrame, keys: list[str]) -> dict[Any, list[tuple[str, Decimal]]]:
    """What is not confirmed of each place, a currency at a time."""
    found: dict[Any, dict[str, Decimal]] = {}
    columns = zip(*(summary[k] for k in (*keys, "currency", "spend_unconfirmed")), strict=True)
    for *key, currency, amount in columns:
        amounts = found.setdefault(tuple(key), {})
        amounts[currency] = amounts.get(currency, Decimal(0)) + amount
    return {key: [(c, a) for c, a in sorted(amounts.items()) if a or len(amounts) == 1]
            for key, amounts in found.items()}  # fmt: skip


def stakes_by_country(found: Gathered) -> dict[str, list[Stake]]:
    """For each currency its countries, those with most money not confirmed first."""
    tables: dict[str, list[Stake]] = {}
    for currency, rows in found.summary.groupby("currency", sort=True):
        sums: dict[str, list[Decimal]] = {}
        names = {r["country"]: place(r, is_network=False) for r in rows.to_dict("records")}
        columns = (rows["country"], rows["spend"], rows["spend_unconfirmed"])
        for country, spend, open_ in zip(*columns, strict=True):
            had = sums.get(country, [Decimal(0), Decimal(0)])
            sums[country] = [had[0] + spend, had[1] + open_]
        order = sorted(sums, key=lambda c: (-sums[c][1], -sums[c][0], c))
        most = max((sums[c][1] for c in order), default=Decimal(0)) or Decimal(1)
        tables[str(currency)] = [
            _stake(names[c], sums[c], most, str(currency)) for c in order if sums[c][0]
        ]
    return {currency: rows for currency, rows in tables.items() if rows}


def _stake(name: str, sums: list[Decimal], most: Decimal, currency: str) -> Stake:
    spend, open_ = sums
    share = float(open_ / spend) if spend else 0.0
    return Stake(
        name, numbers.money(spend, currency), numbers.money(open_, currency),
        numbers.percent(share), round(float(open_ / most) * 100, 2),
        (str(spend), str(open_), str(share)),
    )  # fmt: skip
