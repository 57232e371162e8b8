"""A store of small tables only, invented and fast to make: what the report reads of a real one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from reconcile.days import iso
from reconcile.judge.features import BINS, edges_ms
from reconcile.judge.statistics import interval
from reconcile.store import Ledger, Store
from reconcile.tables import (
    CAMPAIGNS,
    CHANGES,
    CONCENTRATIONS,
    ERROR_CODES,
    NETWORKS,
    REASONS,
    SUMMARY,
    Table,
    file_metadata,
)
from reconcile.vocabulary import ERROR_CODES as CODES
from reconcile.vocabulary import VERDICTS, countries, mcc_countries

START = date(2026, 1, 1)
ACCOUNT = "a0000001"
NAMES = ("Alfa Mobile", "Bravotel", "Carillon", "Delta Cell", "Echo Wireless", "Foxtrot", "Gamma")
LARGE = ("310", "234", "404", "262", "208", "724", "214", "334", "510", "222", "515", "621", "655")
LOSS = {"lost_webhook": 0.62, "carrier_silent": 0.24, "platform_expired": 0.09,
        "unattributed": 0.04, "capture_outage": 0.01}  # fmt: skip
MISTAKES = ("2", "6", "8", "9", "12", "99", "1", "3")


@dataclass(frozen=True)
class Month:
    """How large, and what is odd in it.

    Attributes:
        days, networks, messages: how many; messages are those of a day.
        holes: days that are not published, by their number from 0.
        half: days of which the download is not whole.
        fakers: how many networks make up receipts in the last third of the days.
        names: names of networks in place of the invented ones, by their number.
    """

    days: int = 28
    networks: int = 40
    messages: int = 1_000_000
    holes: tuple[int, ...] = ()
    half: tuple[int, ...] = ()
    fakers: int = 2
    seed: int = 7
    names: Mapping[int, str] | None = None


def invent(root: Path, month: Month) -> Store:
    """Writes the store; the same month makes the same store."""
    store = Store.open(root, create=True)
    places = _places(month)
    rng = np.random.default_rng(month.seed)
    ledger = Ledger()
    for number in range(month.days):
        day = START + timedelta(days=number)
        if number in month.holes:
            continue
        as_of = datetime.combine(day + timedelta(days=1), time(2, 30), UTC)
        rows = _day(month, places, rng, number)
        for table, columns in rows.items():
            put(store, table, day, {"date": [day] * len(columns["country"]), **columns}, as_of)
        _campaigns(store, day, rng, rows[SUMMARY], as_of)
        _rises(store, day, places, number == month.days - 3, as_of)
        _note(ledger, month, number, day, as_of)
    store.save(ledger)
    last = START + timedelta(days=month.days - 1)
    _changes(store, last, places)
    return store


def put(store: Store, table: Table, part: Any, columns: Mapping[str, Any], as_of: datetime) -> None:
    """Writes one partition; what is not given is empty, null or 0."""
    size = len(next(iter(columns.values())))
    arrays = [_array(c, columns.get(c.name), size) for c in table.columns]
    schema = table.schema.with_metadata(file_metadata(table, as_of))
    path = store.path(table, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), path)


def _array(column: Any, values: Any, size: int) -> Any:
    if isinstance(values, pa.Array):
        return values
    if values is None:
        empty: Any = "" if pa.types.is_string(column.type) else [] if pa.types.is_list(
            column.type) else datetime(2026, 1, 1, tzinfo=UTC) if pa.types.is_timestamp(
            column.type) else False if pa.types.is_boolean(column.type) else 0  # fmt: skip
        values = [None if column.nullable else empty] * size
    if pa.types.is_decimal(column.type):
        values = [None if v is None else Decimal(str(v)).quantize(Decimal("1e-8")) for v in values]
    return pa.array(list(values), column.type)


def _places(month: Month) -> dict[str, list[Any]]:
    every = [(mcc, own[0]) for mcc, own in sorted(mcc_countries().items()) if own]
    large = [pair for wanted in LARGE for pair in every if pair[0] == wanted]
    mccs = large + [pair for pair in every if pair not in large]
    found: dict[str, list[Any]] = {n: [] for n in
                                   ("country", "country_name", "network_code", "network_name",
                                    "currency")}  # fmt: skip
    several = max(month.networks // 3, 1)
    for number in range(month.networks):
        mcc, country = mccs[number % several % len(mccs)]
        name = f"{NAMES[number % len(NAMES)]} {country}"
        found["country"].append(country)
        found["country_name"].append(countries()[country].name)
        found["network_code"].append(f"{mcc}{90 + number // several}")
        found["network_name"].append((month.names or {}).get(number, name))
        found["currency"].append("USD" if country in ("US", "CA", "PR") else "EUR")
    return found


def _day(month: Month, places: Any, rng: Any, number: int) -> dict[Table, dict[str, Any]]:
    size = month.networks
    weight = 1 / np.arange(1, size + 1) ** 0.8
    week = 1 - 0.25 * ((START + timedelta(days=number)).weekday() >= 5)
    messages = rng.poisson(month.messages * week * weight / weight.sum())
    age = month.days - 1 - number
    late = 0.05 * 0.4**age if age < 4 else 0.0
    own = np.random.default_rng(month.seed + 1).lognormal(0, 0.8, size)
    lossy = 0.012 * own * (1 + 4 * (number == month.days - 6) * (np.arange(size) % 3 != 1))
    shares = np.stack([
        np.full(size, late), lossy * rng.lognormal(0, 0.15, size), 0.006 * own[::-1],
        0.002 * (1 + 12 * (np.arange(size) % 17 == 8)), np.full(size, 0.003),
    ])  # fmt: skip
    pending, missing, unknown, suspect, none = (
        rng.binomial(messages, np.minimum(s, 0.9)) for s in shares
    )
    confirmed = messages - pending - missing - unknown - suspect - none
    price = 0.004 + 0.05 * ((np.arange(size) * 37) % 29) / 29
    spread = rng.multinomial(missing, list(LOSS.values()))
    counts = {
        "messages": messages, "confirmed": confirmed, "pending": pending, "missing": missing,
        "unknown": unknown, "suspect": suspect, "not_expected": none,
        **{f"missing_{name}": spread[:, at] for at, name in enumerate(LOSS)},
        "delivered": confirmed, "receipts": messages - missing,
        "duplicate_receipts": messages // 200,
    }  # fmt: skip
    money = {"spend": _money(messages * price),
             "spend_unconfirmed": _money((missing + unknown + suspect) * price)}  # fmt: skip
    summary = {**places, "account_id": [ACCOUNT] * size, **counts, **money}
    return {
        SUMMARY: {**summary, "is_closed": [age > 3] * size, "rules_version": ["2"] * size},
        REASONS: _reasons(places, spread, counts),
        ERROR_CODES: _error_codes(places, counts, rng),
        NETWORKS: _networks(month, places, counts, rng, number),
    }


def _money(amounts: Any) -> list[str]:
    return [f"{amount:.6f}" for amount in amounts]


def _repeated(places: Any, times: int) -> dict[str, list[Any]]:
    return {n: v * times for n, v in places.items()} | {
        "account_id": [ACCOUNT] * (len(places["country"]) * times)
    }


def _reasons(places: Any, spread: Any, counts: Any) -> dict[str, Any]:
    half = counts["suspect"] // 2
    rows = [
        *(("missing", name, spread[:, at], False) for at, name in enumerate(LOSS)),
        ("unknown", "record_unknown", counts["unknown"], False),
        ("suspect", "status_conflict", half, False),
        ("suspect", "conflicting_finals", counts["suspect"] - half, False),
        ("confirmed", "duplicate_receipt", counts["duplicate_receipts"], True),
    ]
    size = len(places["country"])
    messages = np.concatenate([k for _, _, k, _ in rows])
    return {
        **_repeated(places, len(rows)),
        "verdict": [v for v, _, _, _ in rows for _ in range(size)],
        "reason": [r for _, r, _, _ in rows for _ in range(size)],
        "is_context": [c for _, _, _, c in rows for _ in range(size)],
        "messages": messages,
        "messages_first": np.concatenate([np.zeros_like(k) if c else k for _, _, k, c in rows]),
    }


def _error_codes(places: Any, counts: Any, rng: Any) -> dict[str, Any]:
    size = len(places["country"])
    errors = [rng.binomial(counts["confirmed"], 0.02 / (at + 1)) for at in range(len(MISTAKES))]
    fine = counts["confirmed"] - sum(errors)
    codes = ("0", *MISTAKES)
    return {
        **_repeated(places, len(codes)),
        "receipt_status": ["delivered"] * size + ["failed"] * (size * len(MISTAKES)),
        "receipt_error_code": [c for c in codes for _ in range(size)],
        "meaning": [CODES[c].meaning for c in codes for _ in range(size)],
        "messages": np.concatenate([fine, *errors]),
    }  # fmt: skip


def _networks(month: Month, places: Any, counts: Any, rng: Any, number: int) -> dict[str, Any]:
    size, spans = month.networks, ("1d", "7d")
    faked = np.zeros(size, bool)
    if number >= month.days * 2 // 3:
        faked[2 : 2 + month.fakers] = True
    watched = (np.arange(size) == 6) & (number % 3 == 0)
    histograms = _histograms(counts["delivered"], faked, rng)
    n = np.maximum(counts["delivered"], 1)
    k = np.where(faked, n // 400, n // 11)
    low, high = interval(k, n)
    verdicts = np.where(faked, "suspect", np.where(watched, "watch", "normal")).tolist()
    evidence = [
        f"{a:,} of {b:,} deliveries took more than 60 s; this network's own 28 days before: 9.2 %"
        for a, b in zip(k, n, strict=True)
    ]
    empty = pa.array([[]] * size, pa.list_(pa.int64()))
    return {
        **{name: values * 2 for name, values in places.items()},
        "span": [span for span in spans for _ in range(size)],
        "network_verdict": verdicts * 2,
        "is_alert": (faked & (number > month.days * 2 // 3)).tolist() * 2,
        "reasons": [["no_tail", "no_trouble"] if v == "suspect" else ["too_perfect"]
                    if v == "watch" else [] for v in verdicts] * 2,
        "evidence": evidence * 2,
        "n": np.tile(n, 2), "k": np.tile(k, 2), "rate": np.tile(k / n, 2),
        "rate_low": np.tile(low, 2), "rate_high": np.tile(high, 2),
        "baseline": [0.092] * (2 * size), "baseline_n": np.tile(n * 20, 2),
        "spend_at_stake": [f"{each * 0.012:.4f}" for each in n] * 2,
        **{name: np.tile(counts[name], 2) for name in ("messages", *VERDICTS, "delivered")},
        "latency_histogram": pa.concat_arrays([histograms, empty]),
        "rules_version": ["2"] * (2 * size),
    }  # fmt: skip


def _histograms(delivered: Any, faked: Any, rng: Any) -> Any:
    """Honest delivery times are lognormal with a tail; made up ones lie in a narrow spike."""
    edges = np.maximum(edges_ms(), 1.0)
    middles = np.log(np.sqrt(edges[1:] * edges[:-1]))

    def bell(at: float, wide: float) -> Any:
        height = np.exp(-0.5 * ((middles - np.log(at)) / wide) ** 2)
        return height / height.sum()

    honest = 0.88 * bell(6_000, 0.7) + 0.12 * bell(150_000, 1.4)
    fake = 0.4 * honest + 0.6 * bell(3_100, 0.07)
    drawn = [rng.multinomial(k, fake if f else honest)
             for k, f in zip(delivered, faked, strict=True)]  # fmt: skip
    flat = np.concatenate(drawn)
    offsets = np.arange(len(drawn) + 1, dtype=np.int32) * BINS
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.int64()))


def _campaigns(store: Store, day: date, rng: Any, summary: Any, as_of: datetime) -> None:
    whole = int(summary["messages"].sum())
    names = ("spring-sale", "one-time-codes", "shipping", "unknown")
    messages = [whole // 2, whole // 3, whole // 8, whole - whole // 2 - whole // 3 - whole // 8]
    missing = [int(rng.binomial(m, 0.02)) for m in messages]
    put(store, CAMPAIGNS, day, {
        "date": [day] * 4, "campaign": names, "account_id": [ACCOUNT] * 4, "currency": ["EUR"] * 4,
        "messages": messages, "missing": missing,
        "confirmed": [m - k for m, k in zip(messages, missing, strict=True)],
    }, as_of)  # fmt: skip


def _rises(store: Store, day: date, places: Any, is_one: bool, as_of: datetime) -> None:
    code, name = places["network_code"][3 % len(places["network_code"])], "ACME"
    often = "412 of 1,204 messages, 7.2 times as often as in all"
    sentence = f"network {code} and sender {name}: {often}"
    rows = {"date": [day], "verdict": ["missing"], "rank": [1], "dimension": ["network × sender"],
            "value": [f"{code} × {name}"], "sentence": [sentence]}  # fmt: skip
    put(store, CONCENTRATIONS, day, rows if is_one else {n: [] for n in rows}, as_of)


def _note(ledger: Ledger, month: Month, number: int, day: date, as_of: datetime) -> None:
    start = datetime.combine(day, time(), UTC)
    end = start + timedelta(hours=17 if number in month.half else 24)
    ledger.downloads.append({
        "account_id": ACCOUNT, "product": "SMS", "start": iso(start), "end": iso(end),
        "via": "async", "records": month.messages, "billed": month.messages,
    })  # fmt: skip
    closed = month.days - 1 - number > 3
    ledger.judged[str(day)] = {"as_of": iso(as_of), "closed": closed}


def _changes(store: Store, last: date, places: Any) -> None:
    as_of = datetime.combine(last + timedelta(days=1), time(2, 30), UTC)
    kinds = (
        ("pending", "confirmed", "receipt_came", 900),
        ("pending", "missing", "time_passed", 140),
        ("missing", "confirmed", "receipt_came", 31),
        ("unknown", "confirmed", "record_changed", 12),
    )
    rows = [(before, after, why, n) for before, after, why, times in kinds for n in range(times)]
    put(store, CHANGES, f"{as_of:%Y%m%dT%H%M%SZ}", {
        "date": [last - timedelta(days=n % 3) for *_, n in rows],
        "account_id": [ACCOUNT] * len(rows), "product": ["SMS"] * len(rows),
        "message_id": [f"{n:016X}" for n in range(len(rows))],
        "country": [places["country"][0]] * len(rows),
        "network_code": [places["network_code"][0]] * len(rows),
        "from_verdict": [r[0] for r in rows], "to_verdict": [r[1] for r in rows],
        "why": [r[2] for r in rows],
    }, as_of)  # fmt: skip
