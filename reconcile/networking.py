"""Judges a day's networks: features from its verdicts, history from the store, rows for `networks`.

History is read from `networks` itself, whose rows of one day hold all that can be added up: no
day's verdicts are read twice.
"""

# ruff: noqa: S608 - SQL is put together from names of our own; texts of others are quoted

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from reconcile.capabilities import ALL_NETWORKS, Capability
from reconcile.days import DAY, days_between
from reconcile.judge import features
from reconcile.judge import networks as core
from reconcile.judge.evidence import sentence
from reconcile.judge.features import BINS
from reconcile.judge.history import COLUMNS, History
from reconcile.judge.networks import ALARMS, SPANS, WHOLE, Judged
from reconcile.judge.outages import BIN_MS
from reconcile.judge.samples import MEANS
from reconcile.judge.statistics import Whole, interval
from reconcile.store import Store
from reconcile.tables import NETWORKS
from reconcile.vocabulary import RULES_VERSION
from reconcile.vocabulary import VERDICTS as SIX_VERDICTS

if TYPE_CHECKING:
    import ibis
    from ibis.backends.duckdb import Backend

KEY = ["country", "network_code"]
MONEY = ("spend", "spend_unconfirmed", "spend_delivered")
# Whole numbers that can be added up, as they stand in `networks`.
ADDED = (
    "messages", *SIX_VERDICTS, "masked", "told", "told_missing", "told_unknown", "told_suspect",
    "contradicted", "seen", "troubled", "delivered", "failed", "expired", "ended_soon",
    "failed_soon", "timed", "slow", "peak", "too_fast", "converted",
)  # fmt: skip
LATENCIES = tuple(f"latency_p{round(share * 100)}_ms" for share in core.QUANTILES)
REACH = core.BASELINE_ENDS + core.BASELINE_DAYS
# Worst first; what only few messages can say stands last.
WORST = ("contradictory", "suspect", "no_receipts_expected", "carrier_ack_only", "watch", "normal",
         "insufficient_data")  # fmt: skip


@dataclass(frozen=True)
class Window:
    """Some days of networks as they are judged together; the last day is the one at `at`."""

    days: list[date]
    frame: pd.DataFrame
    networks: pd.DataFrame
    history: History
    countries: pd.DataFrame
    of_countries: History

    @property
    def at(self) -> int:
        return len(self.days) - 1


def features_of(table: Callable[[str], ibis.Table]) -> dict[str, Callable[[], ibis.Table]]:
    """How the features of a day are made of the views that judging lays."""

    def of(make: Callable[..., ibis.Table], *more: str) -> Callable[[], ibis.Table]:
        return lambda: make(*map(table, ("verdicts_of_day", "outages", *more)))

    return {
        "counts": of(features.counts, "converted_ids"),
        "histogram": of(features.histogram),
        "peaks": of(features.peaks),
    }


def of_day(con: Backend, day: date, features: dict[str, pa.Table]) -> pd.DataFrame:
    """The features of a day's networks: one row a network.

    Args:
        con: where judging has laid the day's summaries of error codes, and its outages.
        day: the day.
        features: the rows of `features_of`.
    """
    counted, binned, peaks = (
        features[name].to_pandas() for name in ("counts", "histogram", "peaks")
    )
    if counted.empty:
        return pd.DataFrame(columns=[*NETWORKS.names])
    whole = _in_one_currency(counted)
    at = {key: n for n, key in enumerate(zip(whole.country, whole.network_code, strict=True))}
    times = np.zeros((len(whole), BINS), np.int64)
    rows = [at[key] for key in zip(binned.country, binned.network_code, strict=True)]
    times[rows, binned.bin.to_numpy(np.int64)] = binned.n
    whole["timed"], whole["slow"] = core.slow(times)
    whole = whole.merge(peaks, on=KEY, how="left")
    whole["peak"] = whole.peak.fillna(0).astype("int64")
    whole["troubled"] = whole.seen - whole.delivered_quickly
    whole["latency_histogram"] = pd.Series(list(times), index=whole.index)
    for name, values in _quantiles(times).items():
        whole[name] = values
    whole["is_narrow"] = core.is_narrow(times, whole.peak.to_numpy())
    whole["date"] = day
    whole["outages"] = [outages_of_day(con)] * len(whole)
    return _with_error_codes(con, whole)


def _quantiles(times: Whole) -> dict[str, list[int | None]]:
    """Quantiles of delivery time in ms, as they stand in `networks`; null without deliveries."""
    return {
        name: [None if v != v else round(v) for v in core.quantile(times, share).tolist()]
        for name, share in zip(LATENCIES, core.QUANTILES, strict=True)
    }


def outages_of_day(con: Backend) -> list[str]:
    """When our own capture was down, such as `2026-01-05 14:05–16:10`, neighbours as one."""
    bins = [row[0] for row in con.con.execute("SELECT bin FROM outages ORDER BY bin").fetchall()]
    spans: list[list[int]] = []
    for each in bins:
        if spans and spans[-1][1] == each:
            spans[-1][1] = each + 1
        else:
            spans.append([each, each + 1])
    ends = [[datetime.fromtimestamp(n * BIN_MS / 1000, UTC) for n in span] for span in spans]
    return [f"{start:%Y-%m-%d %H:%M}–{end:%H:%M}" for start, end in ends]


def _in_one_currency(counted: pd.DataFrame) -> pd.DataFrame:
    """One row a network: its counts, and the money of the currency that most messages have."""
    first = counted.sort_values(["messages", "currency"], ascending=[False, True], kind="stable")
    first = first.drop_duplicates(KEY)[[*KEY, "currency", "messages", *MONEY]]
    first = first.rename(columns={"messages": "paid"})
    counts = [n for n in counted.columns if n not in (*KEY, "currency", "country_name",
                                                      "network_name", *MONEY)]  # fmt: skip
    how = {**dict.fromkeys(counts, "sum"), "country_name": "first", "network_name": "first"}
    return counted.groupby(KEY, as_index=False, sort=True).agg(how).merge(first, on=KEY)


def _with_error_codes(con: Backend, whole: pd.DataFrame) -> pd.DataFrame:
    told = (
        con.con.execute("""
        SELECT country, network_code, list(code ORDER BY code) AS error_codes,
            list(n ORDER BY code) AS error_code_counts
        FROM (SELECT country, network_code, receipt_error_code AS code, sum(messages)::BIGINT AS n
              FROM error_codes_of_day GROUP BY ALL) GROUP BY ALL
    """)
        .fetch_arrow_table()
        .to_pandas()
    )
    found = whole.merge(told, on=KEY, how="left")
    for name in ("error_codes", "error_code_counts"):
        found[name] = [[] if v is None or v is np.nan else list(v) for v in found[name]]
    return found


def window(
    store: Store, con: Backend, day: date, today: pd.DataFrame | None, known: Sequence[Capability],
) -> Window:  # fmt: skip
    """The day, and the days that it is held against; those that are not there count nothing.

    Args:
        store, con: where history is.
        day: the day to be judged.
        today: its features; None: they are in the store.
        known: the capability table.
    """
    days = days_between(day - REACH * DAY, day + DAY)
    stored = [d for d in days if d != day or today is None]
    frame = read(con, store.query(NETWORKS, stored), day)
    if today is not None and len(today):
        frame = pd.concat([frame, today[[c for c in frame.columns if c in today.columns]]])
    return assemble(days, frame, known)


def read(con: Backend, rows: str, day: date) -> pd.DataFrame:
    """The rows of single networks and days, and the alarms that countries were."""
    recent = f"date > DATE '{day - max(SPANS.values()) * DAY}'"
    columns = ", ".join((
        "date", *KEY, "country_name", "network_name", "network_verdict", "currency", *MONEY,
        "is_narrow", *LATENCIES, "outages", *ADDED,
    ))  # fmt: skip
    recent_only = ", ".join(
        f"CASE WHEN {recent} THEN {name} END AS {name}"
        for name in ("latency_histogram", "error_codes", "error_code_counts")
    )
    query = f"SELECT {columns}, {recent_only} FROM ({rows}) WHERE span = '1d'"
    frame: pd.DataFrame = con.con.execute(query).fetch_arrow_table().to_pandas(date_as_object=True)
    return frame


def assemble(days: list[date], frame: pd.DataFrame, known: Sequence[Capability]) -> Window:
    """Rows of single days as whole arrays; those of whole countries only say what was an alarm."""
    own = frame[frame.network_code != WHOLE]
    names = own.sort_values("date", kind="stable").drop_duplicates(KEY, keep="last")
    networks = names[[*KEY, "country_name", "network_name"]].sort_values(KEY).reset_index(drop=True)
    group, countries = pd.factorize(networks.country, sort=True)
    shape = len(days), len(networks)
    on = {d: n for n, d in enumerate(days)}
    place = pd.Series(networks.index, index=pd.MultiIndex.from_frame(networks[KEY]))
    rows = own.date.map(on).to_numpy(np.int64)
    columns = place.reindex(pd.MultiIndex.from_frame(own[KEY])).to_numpy(np.int64)
    counts = {}
    for name in dict.fromkeys((*COLUMNS, *ADDED)):
        counts[name] = np.zeros(shape, np.int64)
        counts[name][rows, columns] = own[name].to_numpy(np.int64)
    histogram = np.zeros((*shape, BINS), np.int64)
    has = own.latency_histogram.notna().to_numpy()
    if has.any():
        histogram[rows[has], columns[has]] = np.stack(own.latency_histogram[has].to_list())
    narrow, flagged = np.zeros(shape, bool), np.zeros(shape, bool)
    quantiles = np.zeros((len(LATENCIES), *shape))
    for n, name in enumerate(LATENCIES):
        quantiles[n, rows, columns] = own[name].fillna(0).to_numpy(float)
    narrow[rows, columns] = own.is_narrow.to_numpy(bool)
    flagged[rows, columns] = own.network_verdict.isin(ALARMS)
    words = {(c.country, c.network_code): c.receipts for c in known}
    said = [
        words.get((c, n), words.get((c, ALL_NETWORKS), ""))
        for c, n in zip(networks.country, networks.network_code, strict=True)
    ]
    history = History(counts, histogram, narrow, quantiles, flagged, group.astype(np.int64), said)
    whole = pd.DataFrame({"country": countries, "network_code": WHOLE})
    latest = networks.drop_duplicates("country", keep="last").set_index("country").country_name
    whole["country_name"], whole["network_name"] = latest.reindex(countries).to_numpy(), None
    alarms = frame[(frame.network_code == WHOLE) & frame.network_verdict.isin(ALARMS)]
    odd = np.zeros((len(days), len(whole)), bool)
    known_ones = alarms[alarms.country.isin(countries)]
    odd[
        known_ones.date.map(on).to_numpy(np.int64),
        pd.Index(countries).get_indexer(pd.Index(known_ones.country)),
    ] = True
    of_country = [words.get((c, ALL_NETWORKS), "") for c in countries]
    return Window(days, own.assign(_row=rows, _column=columns), networks, history, whole,
                  history.countries(odd, of_country))  # fmt: skip


def judge(
    seen: Window, alarms: dict[tuple[str, str, str], int], currency: str, q: float
) -> pd.DataFrame:
    """The rows of `networks` of the window's last day, without samples.

    Args:
        seen: the days.
        alarms: (span, country, network code) → on how many of the two judged days before it was
            suspect or contradictory.
        currency: of money where a row has none.
        q: the share of false discoveries that a rule may make.
    """
    parts = []
    for history, names in ((seen.history, seen.networks), (seen.of_countries, seen.countries)):
        for span, days in SPANS.items():
            present, past = history.present(seen.at, days), history.past(seen.at)
            found = core.judge(present, past, q)
            parts.append(_rows(seen, span, days, names, history, found, alarms, currency))
    rows = pd.concat([p for p in parts if len(p)]) if any(map(len, parts)) else parts[0]
    return rows.sort_values(["span", *KEY], kind="stable").reset_index(drop=True)


def _rows(
    seen: Window, span: str, days: int, names: pd.DataFrame, history: History, found: Judged,
    alarms: dict[tuple[str, str, str], int], currency: str,
) -> pd.DataFrame:  # fmt: skip
    at = seen.at
    here = np.flatnonzero(history.present(at, days).counts["messages"] > 0)
    histogram = history.present(at, days).histogram
    powers, times = core.power(found.told), _quantiles(histogram)
    added = _added(seen, days, history, names)
    tests = {name: _as_lists(told, found, name) for name, told in found.told.items()}
    countries, codes = names.country.tolist(), names.network_code.tolist()
    rows = []
    for n in here.tolist():
        key = (countries[n], codes[n])
        verdict, reasons = found.verdict[n], found.reasons[n]
        row = added[n]
        power = None if np.isnan(powers[n]) else float(powers[n])
        row |= {
            "date": seen.days[at], "span": span, "country": key[0], "network_code": key[1],
            "country_name": names.country_name[n], "network_name": names.network_name[n],
            "network_verdict": verdict, "reasons": reasons, "power_10": power,
            "is_alert": verdict in ALARMS and alarms.get((span, *key), 0) > 0,
            **{name: values[n] for name, values in times.items()},
            "latency_histogram": histogram[n], "is_narrow": bool(found.narrow[n]),
            "rules_version": RULES_VERSION,
        }  # fmt: skip
        every = {name: test[n] for name, test in tests.items()}
        leading = every.get(reasons[0]) if reasons else None
        row["evidence"] = sentence(verdict, row, leading)
        row["tests"] = [t for t in every.values() if t["n"]]
        row |= {c: leading[c] if leading else None for c in _TESTED}
        row["currency"] = row["currency"] or currency
        row["spend_at_stake"] = _at_stake(row, reasons)
        row["unit_price"] = _each(row)
        row["samples"] = []
        rows.append(row)
    return pd.DataFrame(rows, columns=NETWORKS.names, dtype=object)


_TESTED = ("n", "k", "rate", "rate_low", "rate_high", "baseline", "baseline_n", "effect", "p", "q")


def _as_lists(told: core.Told, found: Judged, rule: str) -> list[dict[str, Any]]:
    """What a rule's test found of each network."""
    low, high = interval(told.k, told.n)
    known = told.base_n.sum() > 0
    effect = np.divide(told.share, told.base, out=np.full(len(told.n), np.nan), where=told.base > 0)
    arrays = {
        "n": told.n, "k": told.k, "rate": np.where(told.n > 0, told.share, np.nan),
        "rate_low": low, "rate_high": high,
        "baseline": told.base if known else np.full(len(told.n), np.nan),
        "baseline_n": told.base_n, "effect": effect if known else np.full(len(told.n), np.nan),
        "p": told.p, "q": told.q,
    }  # fmt: skip
    columns = [
        [None if isinstance(v, float) and v != v else v for v in values.tolist()]
        for values in arrays.values()
    ]
    return [
        {"rule": rule, "holds": holds, **dict(zip(arrays, values, strict=True))}
        for holds, *values in zip(found.holds[rule].tolist(), *columns, strict=True)
    ]


def _added(seen: Window, days: int, history: History, names: pd.DataFrame) -> list[dict[str, Any]]:
    """What is added up over a span's days, and for countries over their networks: one a place."""
    counts = history.present(seen.at, days).counts
    columns = [counts[name].tolist() for name in ADDED]
    found = [dict(zip(ADDED, values, strict=True)) for values in zip(*columns, strict=True)]
    rows = seen.frame[seen.frame._row > seen.at - days]
    whole = len(names) > 0 and bool((names.network_code == WHOLE).all())
    places = {key: n for n, key in enumerate(zip(names.country, names.network_code, strict=True))}
    codes = [WHOLE] * len(rows) if whole else rows.network_code.tolist()
    at = [places[key] for key in zip(rows.country.tolist(), codes, strict=True)]
    silent = [list(each) for each in rows.drop_duplicates("date").sort_values("date").outages]
    outages = [text for each in silent for text in each]
    for row, paid, told in zip(found, _paid(rows, at, len(found)), _codes(rows, at, len(found)),
                               strict=True):  # fmt: skip
        row |= paid | {"outages": outages, "error_codes": sorted(told),
                       "error_code_counts": [told[code] for code in sorted(told)]}  # fmt: skip
    return found


def _paid(rows: pd.DataFrame, at: list[int], many: int) -> list[dict[str, Any]]:
    """Money of the currency in which most of the messages are paid; others are never added.

    Args:
        rows: networks by days.
        at: the place that each row counts for, of so many.
    """
    sums: list[dict[str, list[Any]]] = [{} for _ in range(many)]
    given = [rows[name].tolist() for name in ("currency", "messages", *MONEY)]
    for place, currency, *amounts in zip(at, *given, strict=True):
        known = sums[place].setdefault(currency, [0] * len(amounts))
        sums[place][currency] = [a + b for a, b in zip(known, amounts, strict=True)]
    found = []
    for of_place in sums:
        most = min(of_place, key=lambda name: (-of_place[name][0], name), default=None)
        paid, *money = of_place[most] if most is not None else [0, *([Decimal(0)] * len(MONEY))]
        found.append({"currency": most, "paid": paid, **dict(zip(MONEY, money, strict=True))})
    return found


def _codes(rows: pd.DataFrame, at: list[int], many: int) -> list[dict[str, int]]:
    """How many receipts have which err-code; the arguments are those of `_paid`."""
    found: list[dict[str, int]] = [{} for _ in range(many)]
    told = rows.error_codes.tolist(), rows.error_code_counts.tolist()
    for place, codes, counts in zip(at, *told, strict=True):
        for code, n in zip(codes, counts, strict=True):
            found[place][code] = found[place].get(code, 0) + int(n)
    return found


def _at_stake(row: dict[str, Any], reasons: list[str]) -> Decimal:
    rises = {"missing_rise", "unknown_rise"}
    if row["network_verdict"] not in (*ALARMS, "watch"):
        return Decimal(0)
    doubtful = row["network_verdict"] == "contradictory" or (reasons and set(reasons) <= rises)
    return Decimal(row["spend_unconfirmed" if doubtful else "spend_delivered"])


def _each(row: dict[str, Any]) -> Decimal | None:
    paid = row.pop("paid")
    return (row["spend"] / paid).quantize(Decimal("1e-8")) if paid else None


def alarms_before(store: Store, con: Backend, day: date) -> dict[tuple[str, str, str], int]:
    """On how many of the two judged days before, within a week, each network was an alarm."""
    past = [d for d in days_between(day - 7 * DAY, day) if store.has(NETWORKS, d)][-2:]
    named = ", ".join(f"'{verdict}'" for verdict in ALARMS)
    rows = con.con.execute(f"""
        SELECT span, country, network_code, count(*) FROM ({store.query(NETWORKS, past)})
        WHERE network_verdict IN ({named}) GROUP BY ALL
    """).fetchall()
    return {(span, country, code): n for span, country, code, n in rows}


def odd_ones(rows: pd.DataFrame) -> pa.Table:
    """Alarms and watched ones, once each, and the rule that leads: see `judge.samples`."""
    odd = _odd(rows)
    wanted = odd[KEY].assign(rule=_leading(odd)).drop_duplicates()
    text = [(name, pa.string()) for name in (*KEY, "rule")]
    return pa.Table.from_pandas(wanted, pa.schema(text), preserve_index=False)


def with_samples(rows: pd.DataFrame, found: pa.Table) -> pd.DataFrame:
    """Adds to alarms and watched ones the ids of some messages that the leading rule means.

    Args:
        rows: of `judge`.
        found: the rows of `judge.samples` for `odd_ones`.
    """
    odd = _odd(rows)
    ids: dict[tuple[str, ...], list[str]] = {}
    for *key, message_id in zip(*(found[name].to_pylist() for name in found.column_names),
                                strict=True):  # fmt: skip
        ids.setdefault(tuple(key), []).append(message_id)
    samples = rows.samples.copy()
    for at, rule in zip(odd.index, _leading(odd), strict=True):
        samples[at] = sorted(ids.get((odd.country[at], odd.network_code[at], rule), []))
    return rows.assign(samples=samples)


def _odd(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows.network_verdict.isin((*ALARMS, "watch"))]


def _leading(odd: pd.DataFrame) -> list[str]:
    return [
        "contradictory" if v == "contradictory" else (r[0] if r and r[0] in MEANS else "")
        for v, r in zip(odd.network_verdict, odd.reasons, strict=True)
    ]


def risen(rows: pd.DataFrame) -> list[str]:
    """Which of missing, unknown and suspect rose on the day, on a network or in a country."""
    held = {t["rule"] for tests in rows.tests[rows.span == "1d"] for t in tests if t["holds"]}
    return [name for name in ("missing", "unknown", "suspect") if f"{name}_rise" in held]


def worst(rows: pd.DataFrame) -> pa.Table:
    """Of each network what `summary` says: the worst that one of its spans says."""
    own = rows[rows.network_code != WHOLE]
    rank = own.network_verdict.map({name: n for n, name in enumerate(WORST)})
    first = own.assign(_rank=rank).sort_values([*KEY, "_rank"], kind="stable").drop_duplicates(KEY)
    text = [(name, pa.string()) for name in (*KEY, "network_verdict")]
    return pa.Table.from_pandas(first, pa.schema(text), preserve_index=False)


def as_table(rows: pd.DataFrame) -> pa.Table:
    """The rows in the contract's types."""
    plain = [
        {name: None if isinstance(v, float) and v != v else v for name, v in row.items()}
        for row in rows.to_dict("records")
    ]
    return pa.Table.from_pylist(plain, schema=NETWORKS.schema)
