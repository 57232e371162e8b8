"""The same verdicts and tables in tuned pandas, from parquet to parquet.

What somebody who knows pandas well would make of it, for this one day and one account. Money is
kept in Arrow's decimals (Python's would be objects), short repeated texts are categories where that
helps, and only messages with several receipts are sorted and grouped.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import program
import pyarrow as pa
import pyarrow.parquet as pq
from program import CURRENCY, GRACE_MS, TOO_FAST_MS, VALIDITY_MS, Task

from reconcile import vocabulary as words
from reconcile.tables import BY_NAME

HOUR_MS = 3_600_000
MONEY = pd.ArrowDtype(pa.decimal128(18, 8))
DTYPES = {pa.decimal128(18, 8): MONEY, pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}

GRID = np.array(
    [
        ["pending in_flight", *["pending record_open"] * 3],
        ["missing carrier_silent", "unknown status_unknown", *["suspect record_never_final"] * 2],
        ["missing unattributed", "unknown status_unknown", *["unknown record_stale"] * 2],
        ["pending in_flight", "unknown status_unknown", *["unknown record_unknown"] * 2],
        ["unknown record_unknown", "unknown status_unknown", *["unknown record_unknown"] * 2],
        ["pending in_flight", "unknown status_unknown", "confirmed", "suspect status_conflict"],
        ["missing lost_webhook", "unknown status_unknown", "confirmed", "suspect status_conflict"],
    ]
)
CELL_VERDICTS = np.array([cell.split()[0] for cell in GRID.flat], dtype=object)
CELL_REASONS = [(*cell.split(), None)[1] for cell in GRID.flat]
PLAIN = 64  # more than there are cells; the last number stands for "no cell's reason counts"
CONTRADICTIONS = (
    "recipient_mismatch", "time_travel", "foreign_network", "bad_signature",
    "status_error_contradiction", "conflicting_finals",
)  # fmt: skip
REFINEMENTS = {
    "record_deleted": "not_expected",
    "platform_expired": "missing",
    "error_unknown": "unknown",
    "unmapped_status": "unknown",
    "unmapped_error": "unknown",
}
CONTEXT = (
    "duplicate_receipt", "out_of_order", "late_capture", "sender_rewritten", "network_differs",
    "account_differs", "price_differs", "charged_not_delivered", "too_fast",
)  # fmt: skip

EVENT = [
    "message_id", "account_id", "product", "client_ref", "sender", "recipient", "network_code",
    "status", "error_code", "price", "pushed_at", "scts",
]  # fmt: skip
TIES = [
    "status", "error_code", "network_code", "price", "scts", "pushed_at", "sender", "recipient",
    "client_ref", "account_id", "product",
]  # fmt: skip
DECIDING = [
    "message_id", "status", "error_code", "network_code", "price", "pushed_at", "captured_at",
    "account_id", "product", "receipt_class", "receipts", "duplicates", "other_recipient",
    "other_country", "pushed_early", "bad_signature", "outcomes_differ", "out_of_order",
]  # fmt: skip
FLAGS = ["other_recipient", "other_country", "pushed_early", "bad_signature"]

KEY = ["account_id", "country", "network_code", "currency"]
NAMES = {"country_name": ("country_name", "max"), "network_name": ("network_name", "max")}


def judge(task: Task) -> None:
    """Judges the day and writes the five tables."""
    as_of = pd.Timestamp(task.as_of)
    records = known_records(read("records", task.records()), as_of)
    validity = records["validity_ms"].max()
    receipts = known_receipts(read("receipts", task.receipts_in_reach()), as_of)
    reduced = reduce_receipts(receipts, records)
    del receipts
    verdicts = verdicts_of(records, reduced, as_of)
    del records, reduced
    verdicts = verdicts.sort_values("message_id", ignore_index=True)
    write("verdicts", verdicts, task)
    orphans = orphans_of(task, as_of)
    write("orphans", orphans, task)
    write("summary", summary_of(verdicts, orphans, task, as_of, validity), task)
    write("reasons", reasons_of(verdicts, task), task)
    write("error_codes", error_codes_of(verdicts, task), task)


def read(table: str, files: list[Path], columns: list[str] | None = None) -> pd.DataFrame:
    """The rows of these files."""
    found = pa.concat_tables(
        [pq.read_table(file, columns=columns, partitioning=None) for file in files]
    )
    found = found.select(columns or BY_NAME[table].names)
    return found.to_pandas(types_mapper=DTYPES.get, split_blocks=True, self_destruct=True)


def known_records(records: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Records received by as_of; an end that came later is not yet known."""
    records = records[records["received_at"] <= as_of]
    later = records["finalized_at"] > as_of
    if later.any():
        records = records.copy()
        records.loc[later, ["status", "latency_ms", "finalized_at"]] = None
    home = records["country"].map(words.home_countries())
    return records.assign(home_country=country_of(records["network_code"]).fillna(home))


def known_receipts(receipts: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Receipts captured by as_of, pushed by then where that is not known; undated ones always."""
    heard_at = receipts["captured_at"].fillna(receipts["pushed_at"])
    return receipts[heard_at.isna() | (heard_at <= as_of)]


def reduce_receipts(receipts: pd.DataFrame, records: pd.DataFrame) -> pd.DataFrame:
    """One row a message: the deciding receipt, and what any of its receipts shows."""
    owner = records[["message_id", "recipient", "home_country", "received_at"]]
    heard = receipts.merge(owner, on="message_id", suffixes=("", "_record"))
    network_country = country_of(heard["network_code"])
    heard = heard.assign(
        receipt_class=np.select(
            [heard["status"].isin(words.DEFINITE), heard["status"] == words.UNKNOWN], [2, 1], 0
        ),
        outcome=end_of(heard["status"]),
        other_recipient=differ(heard["recipient"], heard["recipient_record"]),
        other_country=differ(network_country, heard["home_country"]),
        pushed_early=heard["pushed_at"] < heard["received_at"] - pd.Timedelta("60s"),
        bad_signature=heard["signature"] == "invalid",
    )
    repeated = heard["message_id"].duplicated(keep=False)
    single = heard[~repeated].assign(
        receipts=1, duplicates=0, outcomes_differ=False, out_of_order=False
    )
    several = reduce_several(heard[repeated])
    return pd.concat([single[DECIDING], several[DECIDING]], ignore_index=True)


def reduce_several(heard: pd.DataFrame) -> pd.DataFrame:
    """Messages with several receipts: repeats are one event, the last definite one decides."""
    heard = heard.assign(forged=heard["bad_signature"])
    events = heard.groupby(EVENT, dropna=False, sort=False, as_index=False).agg(
        copies=("line", "size"),
        captured_at=("captured_at", "min"),
        receipt_class=("receipt_class", "first"),
        outcome=("outcome", "first"),
        forged=("forged", "all"),
        **{flag: (flag, "any") for flag in FLAGS},
    )
    happened_at = events["pushed_at"].fillna(events["captured_at"])
    events = events.assign(
        happened_at=happened_at,
        open_at=happened_at.where(events["receipt_class"] == 0),
        final_at=happened_at.where(events["receipt_class"] > 0),
        again=events["copies"] - 1,
    )
    together = events.groupby("message_id", sort=False).agg(
        receipts=("copies", "sum"),
        duplicates=("again", "sum"),
        outcomes=("outcome", "nunique"),
        last_open_at=("open_at", "max"),
        first_final_at=("final_at", "min"),
        **{flag: (flag, "any") for flag in FLAGS},
    )
    together["outcomes_differ"] = together["outcomes"] > 1
    together["out_of_order"] = together["last_open_at"] > together["first_final_at"]
    order = ["receipt_class", "happened_at", *TIES]
    deciding = (
        events.drop(columns=FLAGS)
        .sort_values(
            ["forged", *order], ascending=[True] + [False] * len(order), na_position="last"
        )
        .drop_duplicates("message_id")
    )
    return deciding.merge(together, left_on="message_id", right_index=True)


def verdicts_of(records: pd.DataFrame, reduced: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Every record with its verdict and reasons, in the columns of `verdicts`."""
    paired = records.merge(reduced, on="message_id", how="left", suffixes=("", "_receipt"))
    for name in ("receipts", "duplicates", "receipt_class"):
        paired[name] = paired[name].fillna(0).astype("int32")
    for name in (*FLAGS, "outcomes_differ", "out_of_order"):
        paired[name] = paired[name].eq(True).fillna(False).astype(bool)
    facts = facts_of(paired, as_of)
    cell = cell_of(paired, facts, as_of)
    verdict, reasons = conclude(paired, facts, cell)
    named = {
        "record_status": paired["status"],
        "record_error_code": paired["error_code"],
        "receipt_status": paired["status_receipt"],
        "receipt_error_code": paired["error_code_receipt"],
        "receipt_network_code": paired["network_code_receipt"],
        "record_price": paired["price"],
        "receipt_price": paired["price_receipt"],
        "currency": paired["currency"].fillna(CURRENCY),
        "verdict": verdict,
        "reasons": reasons,
    }
    columns = BY_NAME["verdicts"].names
    return pd.DataFrame({name: named[name] if name in named else paired[name] for name in columns})


def facts_of(paired: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """What the rules speak of, in milliseconds, ends and claims."""
    received_ms = milliseconds(paired["received_at"])
    finalized_ms = milliseconds(paired["finalized_at"])
    return pd.DataFrame(
        {
            "received_ms": received_ms,
            "validity": paired["validity_ms"].fillna(VALIDITY_MS),
            "ended_after_ms": finalized_ms - received_ms,
            "in_grace": finalized_ms.fillna(received_ms) + GRACE_MS > as_of.timestamp() * 1000,
            "record_end": end_of(paired["status"]),
            "receipt_end": end_of(paired["status_receipt"]),
            "claims_failure": paired["status_receipt"].isin(("failed", "rejected")),
        }
    )


def cell_of(paired: pd.DataFrame, facts: pd.DataFrame, as_of: pd.Timestamp) -> np.ndarray:
    """The cell of the grid: the record's row, the deciding receipt's column."""
    matures_ms = facts["received_ms"] + facts["validity"]
    definite = facts["record_end"].notna()
    unknown = paired["status"] == words.UNKNOWN
    row = np.select(
        [
            definite & ~facts["in_grace"], definite, unknown & ~facts["in_grace"], unknown,
            matures_ms + GRACE_MS > as_of.timestamp() * 1000,
            milliseconds(paired["fetched_at"]) >= matures_ms,
        ],
        [6, 5, 4, 3, 0, 1],
        2,
    )  # fmt: skip
    nowhere = words.NOT_DELIVERED_ANYWHERE
    same = (facts["record_end"] == facts["receipt_end"]) | (
        (paired["product"] != paired["product_receipt"])
        & paired["status"].isin(nowhere)
        & paired["status_receipt"].isin(nowhere)
    )
    column = np.where(paired["receipt_class"] < 2, paired["receipt_class"], np.where(same, 2, 3))
    return row * 4 + column


def conclude(
    paired: pd.DataFrame, facts: pd.DataFrame, cell: np.ndarray
) -> tuple[np.ndarray, pd.Categorical]:
    """Verdict and reasons (as a category of text): contradictions, refinements, cell; context."""
    holds = {name: truth(flag) for name, flag in rules_of(paired, facts).items()}
    contradicted = np.logical_or.reduce([holds[name] for name in CONTRADICTIONS])
    cell_verdict = CELL_VERDICTS[cell]
    confirmed = cell_verdict == "confirmed"
    kept = confirmed | (cell_verdict == "missing") | (cell_verdict == "pending")
    refined = {}
    refined["record_deleted"] = holds["record_deleted"] & ~contradicted
    gave_up = holds["platform_expired"] & ~contradicted & ~refined["record_deleted"]
    refined["platform_expired"] = gave_up
    sound = ~contradicted & ~refined["record_deleted"] & ~gave_up
    refined["error_unknown"] = holds["error_unknown"] & sound & confirmed
    refined["unmapped_status"] = holds["unmapped_status"] & sound & kept
    refined["unmapped_error"] = holds["unmapped_error"] & sound & kept
    plain = sound & ~np.logical_or.reduce(list(refined.values()))
    verdict = np.select(
        [contradicted, *refined.values()], ["suspect", *REFINEMENTS.values()], cell_verdict
    )
    # Few combinations of reasons occur: each is a number first, and is spelled out once.
    holds |= refined
    names = (*CONTRADICTIONS, *REFINEMENTS, *CONTEXT)
    mask = sum(holds[name].astype(np.int64) << n for n, name in enumerate(names))
    combination, found = pd.factorize(mask * PLAIN + np.where(plain, cell, PLAIN - 1))
    spelled = pd.Series([spell(number, names) for number in found.tolist()])
    return verdict, spelled.astype("category").array.take(combination)


def spell(number: int, names: tuple[str, ...]) -> str:
    """The reasons of a combination, a space between two of them."""
    mask, cell = divmod(number, PLAIN)
    told = [name if mask >> n & 1 else None for n, name in enumerate(names)]
    told.insert(len(names) - len(CONTEXT), CELL_REASONS[cell] if cell < PLAIN - 1 else None)
    return " ".join(name for name in told if name)


def rules_of(paired: pd.DataFrame, facts: pd.DataFrame) -> dict[str, pd.Series]:
    """Whether each rule holds, missing where that cannot be said."""
    error, code = paired["error_code_receipt"], paired["error_code_receipt"].dropna().unique()
    telling = pd.Series(pd.to_numeric(code, errors="coerce"), index=code)
    of_messages = telling.index[telling >= words.MESSAGES_ERROR_CODES_FROM]
    delivered = ("delivered", "read")
    elapsed = (
        paired["latency_ms"]
        .fillna(facts["ended_after_ms"])
        .fillna(milliseconds(paired["pushed_at"]) - facts["received_ms"])
    )
    apart = (paired["price"] - paired["price_receipt"]).abs()
    margin = np.minimum(facts["validity"].astype("float64") * 0.1, 900_000)
    unheard = ~paired["status"].isin(words.STATUSES) & paired["status"].notna()
    claimed = paired["status_receipt"]
    return {
        "recipient_mismatch": paired["other_recipient"],
        "time_travel": truth(facts["ended_after_ms"] < -1000)
        | paired["pushed_early"]
        | truth(paired["latency_ms"] < 0),
        "foreign_network": paired["other_country"],
        "bad_signature": paired["bad_signature"],
        "status_error_contradiction": (claimed.isin(delivered) & error.notna() & (error != "0"))
        | (facts["claims_failure"] & (error == "0")),
        "conflicting_finals": paired["outcomes_differ"],
        "record_deleted": (paired["status"] == "deleted") & (paired["receipt_class"] == 0),
        "platform_expired": ((paired["status"] == "expired") | (claimed == "expired"))
        & truth((elapsed - facts["validity"]).abs() <= margin),
        "error_unknown": facts["claims_failure"]
        & (error.isna() | error.isin(words.UNTELLING_ERROR_CODES)),
        "unmapped_status": unheard | (claimed.notna() & ~claimed.isin(words.STATUSES)),
        "unmapped_error": error.notna()
        & ~error.isin(tuple(words.ERROR_CODES))
        & ~((paired["product_receipt"] == "MESSAGES") & error.isin(of_messages)),
        "duplicate_receipt": paired["duplicates"] > 0,
        "out_of_order": paired["out_of_order"],
        "late_capture": milliseconds(paired["captured_at"]) - facts["received_ms"] > 72 * HOUR_MS,
        "sender_rewritten": differ(paired["sender_used"], paired["sender"]),
        "network_differs": differ(paired["network_code"], paired["network_code_receipt"])
        & (paired["network_code"] != words.UNKNOWN)
        & (country_of(paired["network_code_receipt"]) == paired["home_country"]),
        "account_differs": differ(paired["account_id"], paired["account_id_receipt"]),
        "price_differs": (apart > paired["price"].abs() * Decimal("0.01"))
        & (apart > Decimal("0.0001")),
        "charged_not_delivered": (paired["price"] > 0)
        & differ(facts["record_end"].fillna(facts["receipt_end"]), "delivered"),
        "too_fast": paired["status"].isin(delivered) & truth(paired["latency_ms"] < TOO_FAST_MS),
    }


def orphans_of(task: Task, as_of: pd.Timestamp) -> pd.DataFrame:
    """The day's receipts that join no record."""
    heard = known_receipts(read("receipts", task.receipts()), as_of)
    columns = ["message_id", "recipient", "received_at"]
    records = read("records", task.records_in_reach(), columns)
    records = records[records["received_at"] <= as_of]
    beside = heard.merge(records[["message_id"]], on="message_id", how="left", indicator=True)
    lone = beside[beside["_merge"] == "left_only"].drop(columns="_merge")
    bare = lone.assign(bare=lone["message_id"].str.lstrip("0"))
    near = records[records["recipient"].isin(lone["recipient"].dropna())]
    near = near.assign(bare=near["message_id"].str.lstrip("0"))
    beside = bare.merge(near, on=["bare", "recipient"], suffixes=("", "_record"))
    happened_at = beside["pushed_at"].fillna(beside["captured_at"])
    beside = beside[(happened_at - beside["received_at"]).abs() <= pd.Timedelta("72h")]
    found = pd.MultiIndex.from_frame(beside[["source", "line"]])
    resembling = pd.MultiIndex.from_frame(lone[["source", "line"]]).isin(found)
    foreign = differ(lone["account_id"], task.account)
    kind = np.select([foreign, resembling], ["foreign_account", "near_match"], "unknown_message")
    country = country_of(lone["network_code"]).fillna(words.UNKNOWN)
    return lone.assign(kind=kind, country=country).sort_values(["source", "line"])


def summary_of(
    verdicts: pd.DataFrame, orphans: pd.DataFrame, task: Task, as_of: pd.Timestamp, validity: int
) -> pd.DataFrame:
    """One row an account × country × network code × currency."""
    end = end_of(verdicts["record_status"], read=False)
    end = end.fillna(end_of(verdicts["receipt_status"], read=False))
    kinds = ("confirmed", "pending", "missing", "unknown", "suspect", "not_expected")
    why = (
        "lost_webhook", "carrier_silent", "platform_expired", "unattributed", "capture_outage",
    )  # fmt: skip
    first = verdicts["reasons"].map(lambda told: told.partition(" ")[0])
    counted = verdicts[[*KEY, "country_name", "network_name", "receipts", "duplicates"]].assign(
        messages=1,
        **{name: verdicts["verdict"] == name for name in kinds},
        **{f"missing_{w}": (verdicts["verdict"] == "missing") & (first == w) for w in why},
        delivered=end.isin(("delivered", "read")),
        failed=end.isin(("failed", "rejected", "undeliverable", "deleted")),
        expired=end == "expired",
        latency=verdicts["latency_ms"].astype("float64").where(end.isin(("delivered", "read"))),
        spend=verdicts["record_price"],
        spend_unconfirmed=verdicts["record_price"].where(
            verdicts["verdict"].isin(("missing", "unknown", "suspect"))
        ),
    )
    sums = [
        "messages", *kinds, *(f"missing_{w}" for w in why), "delivered", "failed", "expired",
        "receipts", "duplicates",
    ]  # fmt: skip
    grouped = counted.groupby(KEY, sort=False)
    summary = grouped.agg(
        **NAMES,
        **{name: (name, "sum") for name in (*sums, "spend", "spend_unconfirmed")},
    ).rename(columns={"duplicates": "duplicate_receipts"})
    latencies = grouped["latency"].quantile([0.5, 0.95, 0.99]).unstack()
    lone = (
        orphans[["account_id", "country", "network_code", "kind"]]
        .fillna({"account_id": words.UNKNOWN, "network_code": words.UNKNOWN})
        .assign(
            currency=CURRENCY,
            n=1,
            uncovered=orphans["kind"] == "uncovered",
            foreign_orphans=orphans["kind"] == "foreign_account",
        )
        .groupby(KEY)
        .agg(**{name: (name, "sum") for name in ("uncovered", "foreign_orphans", "n")})
    )
    summary = summary.join(lone, how="outer")
    counts = [name for name in summary if name not in ("country_name", "network_name")]
    summary[counts] = summary[counts].fillna(0)
    summary["orphans"] = summary["n"] - summary["uncovered"]
    summary["receipts"] += summary["n"]
    told = summary["messages"] - summary["pending"] - summary["not_expected"]
    outage = summary["missing_capture_outage"]
    for name, k, n in (
        ("missing", summary["missing"] - outage, told - outage),
        ("unknown", summary["unknown"], told),
        ("suspect", summary["suspect"], told),
    ):
        for end_name, share in wilson(k, n).items():
            summary[f"{name}_rate{end_name}"] = share
    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
        value = np.floor(latencies[share].abs() + 0.5) * np.sign(latencies[share])
        summary[f"latency_{name}_ms"] = value.astype("Int64")
    ends = pd.Timestamp(task.day, tz="UTC") + pd.Timedelta("1D")
    longest = pd.Timedelta(milliseconds=int(max(validity, VALIDITY_MS)) + GRACE_MS)
    closed = not summary["pending"].sum() and as_of >= ends + longest
    return (
        summary.reset_index()
        .assign(date=task.day, network_verdict=None, is_closed=closed, as_of=as_of,
                rules_version=words.RULES_VERSION)
        .sort_values(KEY)
    )  # fmt: skip


def wilson(k: pd.Series, n: pd.Series) -> dict[str, pd.Series]:
    """A rate with its Wilson 95 % interval; missing where there is nothing to divide."""
    z = 1.959963984540054
    size = n.astype("float64").where(n > 0)
    rate = k.astype("float64") / size
    spread = z * np.sqrt(rate * (1 - rate) / size + z**2 / (4 * size**2))
    centre, scale = rate + z**2 / (2 * size), 1 + z**2 / size
    return {
        "": rate,
        "_low": ((centre - spread) / scale).where(k > 0, size * 0),
        "_high": ((centre + spread) / scale).where(k < n, size * 0 + 1),
    }


def reasons_of(verdicts: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row more for each verdict and reason."""
    once = verdicts.groupby(
        [*KEY, "verdict", "reasons"], as_index=False, sort=False, observed=True
    ).agg(**NAMES, messages=("record_price", "size"), spend=("record_price", "sum"))
    each = once.assign(
        reason=once["reasons"].astype("str").replace("", "none").str.split(" ")
    ).explode("reason")
    first = ~each.index.duplicated()
    each = each.assign(messages_first=each["messages"].where(first, 0))
    return (
        each.groupby([*KEY, "verdict", "reason"], as_index=False)
        .agg(**NAMES, messages=("messages", "sum"), messages_first=("messages_first", "sum"),
             spend=("spend", "sum"))
        .assign(date=task.day, is_context=lambda r: r["reason"].isin(CONTEXT))
        .sort_values([*KEY, "verdict", "reason"])
    )  # fmt: skip


def error_codes_of(verdicts: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row a status and err-code of the deciding receipts."""
    key = [*KEY, "receipt_status", "receipt_error_code"]
    heard = verdicts.loc[
        verdicts["receipt_status"].notna(),
        [*key, "country_name", "network_name", "record_price"],
    ]
    meanings = {code: entry.meaning for code, entry in words.ERROR_CODES.items()}
    return (
        heard.assign(receipt_error_code=heard["receipt_error_code"].fillna(words.UNKNOWN))
        .groupby(key, as_index=False)
        .agg(**NAMES, messages=("record_price", "size"), spend=("record_price", "sum"))
        .assign(date=task.day, meaning=lambda r: r["receipt_error_code"].map(meanings))
        .sort_values(key)
    )


def write(name: str, rows: pd.DataFrame, task: Task) -> None:
    """Writes a table in its contract's columns and types."""
    schema = BY_NAME[name].schema
    if "reasons" in schema.names:
        told = rows["reasons"].cat
        lists = pa.array([text.split() for text in told.categories], pa.list_(pa.string()))
        rows = rows.assign(reasons=pd.arrays.ArrowExtensionArray(lists.take(pa.array(told.codes))))
    table = pa.Table.from_pandas(rows[schema.names], schema, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), task.target(name), compression="zstd")


def country_of(network_code: pd.Series) -> pd.Series:
    """The country whose mobile country code a network's code begins with."""
    countries = dict(words.mcc_table())
    codes = network_code.dropna().unique()
    return network_code.map({code: countries.get(code[:3]) for code in codes})


def end_of(status: pd.Series, *, read: bool = True) -> pd.Series:
    """A definite status (`read` as delivered, if so wished); missing for all others."""
    ends = status.where(status.isin(words.DEFINITE))
    return ends.replace("read", "delivered") if read else ends


def differ(left: pd.Series, right: pd.Series | str) -> pd.Series:
    """Whether two values are here and are not equal."""
    here = left.notna() & (right.notna() if isinstance(right, pd.Series) else True)
    return here & (left != right)


def milliseconds(moment: pd.Series) -> pd.Series:
    """Milliseconds since 1970, missing where the moment is."""
    return moment.astype("int64").where(moment.notna()).astype("Int64") // 1000


def truth(flag: Iterable[bool] | pd.Series) -> np.ndarray:
    """A flag as plain booleans: what cannot be said does not hold."""
    return pd.Series(flag).fillna(False).to_numpy(dtype=bool)


if __name__ == "__main__":
    program.run(judge)
