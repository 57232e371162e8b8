"""The same verdicts and tables in plain pandas, from parquet to parquet.

What an analyst would write in an afternoon and leave at that: `read_parquet` as it comes, money as
Python's Decimal, and the same few calls for every message, however many receipts it has. Columns
and group-bys, no loops over rows, nothing tuned. (One thing was measured: `isin` on texts takes
pandas 3 s a million, which no analyst would keep; a merge stands in its place.)
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd
import program
import pyarrow as pa
import pyarrow.parquet as pq
from program import CURRENCY, GRACE_MS, TOO_FAST_MS, VALIDITY_MS, Task

from reconcile import vocabulary as words
from reconcile.tables import BY_NAME

GRACE = pd.Timedelta(milliseconds=GRACE_MS)
DELIVERED = ("delivered", "read")
NOT_DELIVERED = ("failed", "rejected", "undeliverable", "deleted")

GRID = [
    ["pending in_flight", *["pending record_open"] * 3],
    ["missing carrier_silent", "unknown status_unknown", *["suspect record_never_final"] * 2],
    ["missing unattributed", "unknown status_unknown", *["unknown record_stale"] * 2],
    ["pending in_flight", "unknown status_unknown", *["unknown record_unknown"] * 2],
    ["unknown record_unknown", "unknown status_unknown", *["unknown record_unknown"] * 2],
    ["pending in_flight", "unknown status_unknown", "confirmed", "suspect status_conflict"],
    ["missing lost_webhook", "unknown status_unknown", "confirmed", "suspect status_conflict"],
]
CELL_VERDICTS, CELL_REASONS = (
    np.array([[(*cell.split(), "")[n] for cell in row] for row in GRID], dtype=object)
    for n in (0, 1)
)
MISSING = ("lost_webhook", "carrier_silent", "platform_expired", "unattributed", "capture_outage")
CONTEXT = (
    "duplicate_receipt", "out_of_order", "late_capture", "sender_rewritten", "network_differs",
    "account_differs", "price_differs", "charged_not_delivered", "too_fast",
)  # fmt: skip

EVENT = [
    "message_id", "account_id", "product", "client_ref", "sender", "recipient", "network_code",
    "status", "error_code", "price", "pushed_at", "scts",
]  # fmt: skip
# The deciding receipt stands first: not forged, final, the latest; then what breaks ties.
ORDER = [
    "forged", "receipt_class", "happened_at", "status", "error_code", "network_code", "price",
    "scts", "pushed_at", "sender", "recipient", "client_ref", "account_id", "product",
]  # fmt: skip
DECIDING = [
    "message_id", "status", "error_code", "network_code", "price", "pushed_at", "captured_at",
    "account_id", "product", "receipt_class",
]  # fmt: skip
FLAGS = [
    "other_recipient", "other_country", "pushed_early", "bad_signature", "outcomes_differ",
    "out_of_order",
]  # fmt: skip

KEY = ["account_id", "country", "network_code", "currency"]
NAMES = {"country_name": ("country_name", "max"), "network_name": ("network_name", "max")}


def judge(task: Task) -> None:
    """Judges the day and writes the five tables."""
    as_of = pd.Timestamp(task.as_of)
    records = known_records(pd.read_parquet(task.records()), as_of)
    receipts = known_receipts(pd.read_parquet(task.receipts_in_reach()), as_of)
    paired = pair(records, receipts)
    verdicts = verdicts_of(paired, as_of)
    orphans = orphans_of(task, as_of)
    validity = records["validity_ms"].max()
    write("verdicts", verdicts, task)
    write("orphans", orphans, task)
    write("summary", summary_of(verdicts, orphans, task, as_of, validity), task)
    write("reasons", reasons_of(verdicts, task), task)
    write("error_codes", error_codes_of(verdicts, task), task)


def known_records(records: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Records received by as_of; an end that came later is not yet known."""
    records = records[records["received_at"] <= as_of]
    ended = ~(records["finalized_at"] > as_of)
    home_country = country_of(records["network_code"])
    return records.assign(
        status=records["status"].where(ended),
        latency_ms=records["latency_ms"].where(ended),
        finalized_at=records["finalized_at"].where(ended),
        home_country=home_country.fillna(records["country"].map(words.home_countries())),
    )


def known_receipts(receipts: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Receipts captured by as_of, pushed by then where that is not known; undated ones always."""
    heard_at = receipts["captured_at"].fillna(receipts["pushed_at"])
    return receipts[heard_at.isna() | (heard_at <= as_of)]


def pair(records: pd.DataFrame, receipts: pd.DataFrame) -> pd.DataFrame:
    """Every record beside its deciding receipt (`*_receipt`) and what all its receipts show."""
    invalid = receipts["signature"] == "invalid"
    # Repeats are one event.
    events = (
        receipts.assign(forged=invalid, bad_signature=invalid)
        .groupby(EVENT, dropna=False, sort=False, as_index=False)
        .agg(
            copies=("line", "size"),
            captured_at=("captured_at", "min"),
            forged=("forged", "all"),
            bad_signature=("bad_signature", "any"),
        )
    )
    owner = records[["message_id", "recipient", "home_country", "received_at"]]
    events = events.merge(owner, on="message_id", suffixes=("", "_record"))
    happened_at = events["pushed_at"].fillna(events["captured_at"])
    definite = events["status"].isin(words.DEFINITE)
    final = definite | (events["status"] == words.UNKNOWN)
    events = events.assign(
        happened_at=happened_at,
        open_at=happened_at.where(~final),
        final_at=happened_at.where(final),
        receipt_class=np.select([definite, final], [2, 1], 0),
        outcome=end_of(events["status"]),
        again=events["copies"] - 1,
        other_recipient=differ(events["recipient"], events["recipient_record"]),
        other_country=differ(country_of(events["network_code"]), events["home_country"]),
        pushed_early=events["pushed_at"] < events["received_at"] - pd.Timedelta("60s"),
    )
    deciding = events.sort_values(
        ORDER, ascending=[True] + [False] * (len(ORDER) - 1), na_position="last"
    ).drop_duplicates("message_id")
    together = events.groupby("message_id", sort=False, as_index=False).agg(
        receipts=("copies", "sum"),
        duplicates=("again", "sum"),
        outcomes=("outcome", "nunique"),
        last_open_at=("open_at", "max"),
        first_final_at=("final_at", "min"),
        other_recipient=("other_recipient", "any"),
        other_country=("other_country", "any"),
        pushed_early=("pushed_early", "any"),
        bad_signature=("bad_signature", "any"),
    )
    together["outcomes_differ"] = together["outcomes"] > 1
    together["out_of_order"] = together["last_open_at"] > together["first_final_at"]
    paired = records.merge(
        deciding[DECIDING], on="message_id", how="left", suffixes=("", "_receipt")
    ).merge(together, on="message_id", how="left")
    counts = ["receipts", "duplicates", "receipt_class"]
    paired[counts] = paired[counts].fillna(0).astype("int32")
    paired[FLAGS] = paired[FLAGS].fillna(False).astype(bool)
    return paired


def verdicts_of(paired: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Every record with its verdict and reasons, in the columns of `verdicts`."""
    row, column = cell_of(paired, as_of)
    cell_verdict = pd.Series(CELL_VERDICTS[row, column], index=paired.index)
    cell_reason = pd.Series(CELL_REASONS[row, column], index=paired.index)

    contradictions = contradictions_of(paired)
    contradicted = pd.DataFrame(contradictions).any(axis=1)
    holds = refinements_of(paired)
    deleted = holds["record_deleted"] & ~contradicted
    gave_up = holds["platform_expired"] & ~contradicted & ~deleted
    sound = ~contradicted & ~deleted & ~gave_up
    kept = sound & cell_verdict.isin(("confirmed", "missing", "pending"))
    refinements = {
        "record_deleted": deleted,
        "platform_expired": gave_up,
        "error_unknown": holds["error_unknown"] & sound & (cell_verdict == "confirmed"),
        "unmapped_status": holds["unmapped_status"] & kept,
        "unmapped_error": holds["unmapped_error"] & kept,
    }
    refined = pd.DataFrame(refinements).any(axis=1)
    verdict = np.select(
        [contradicted, deleted, gave_up, refined],
        ["suspect", "not_expected", "missing", "unknown"],
        cell_verdict,
    )

    reasons = pd.Series("", index=paired.index)
    for name, flag in (contradictions | refinements).items():
        reasons[flag] += f" {name}"
    reasons += (" " + cell_reason).where(~contradicted & ~refined, "")
    for name, flag in context_of(paired).items():
        reasons[flag] += f" {name}"

    names = {
        "status": "record_status",
        "error_code": "record_error_code",
        "price": "record_price",
        "status_receipt": "receipt_status",
        "error_code_receipt": "receipt_error_code",
        "network_code_receipt": "receipt_network_code",
        "price_receipt": "receipt_price",
    }
    return (
        paired.rename(columns=names)
        .assign(
            currency=paired["currency"].fillna(CURRENCY),
            verdict=verdict,
            reasons=reasons.str.split(),
        )[BY_NAME["verdicts"].names]
        .sort_values("message_id", ignore_index=True)
    )


def cell_of(paired: pd.DataFrame, as_of: pd.Timestamp) -> tuple[np.ndarray, np.ndarray]:
    """The cell of the grid: the record's row, the deciding receipt's column."""
    in_grace = paired["finalized_at"].fillna(paired["received_at"]) + GRACE > as_of
    mature_at = paired["received_at"] + pd.to_timedelta(validity_of(paired), unit="ms")
    definite = paired["status"].isin(words.DEFINITE)
    unknown = paired["status"] == words.UNKNOWN
    row = np.select(
        [
            definite & ~in_grace, definite, unknown & ~in_grace, unknown,
            mature_at + GRACE > as_of, paired["fetched_at"] >= mature_at,
        ],
        [6, 5, 4, 3, 0, 1],
        2,
    )  # fmt: skip
    same = (end_of(paired["status"]) == end_of(paired["status_receipt"])) | (
        (paired["product"] != paired["product_receipt"])
        & paired["status"].isin(words.NOT_DELIVERED_ANYWHERE)
        & paired["status_receipt"].isin(words.NOT_DELIVERED_ANYWHERE)
    )
    column = np.select(
        [paired["receipt_class"] == 0, paired["receipt_class"] == 1, same], [0, 1, 2], 3
    )
    return row, column


def contradictions_of(paired: pd.DataFrame) -> dict[str, pd.Series]:
    """Where the contradictions hold."""
    claimed, error = paired["status_receipt"], paired["error_code_receipt"]
    return {
        "recipient_mismatch": paired["other_recipient"],
        "time_travel": (paired["finalized_at"] - paired["received_at"] < pd.Timedelta("-1s"))
        | paired["pushed_early"]
        | (paired["latency_ms"] < 0),
        "foreign_network": paired["other_country"],
        "bad_signature": paired["bad_signature"],
        "status_error_contradiction": (claimed.isin(DELIVERED) & error.notna() & (error != "0"))
        | (claimed.isin(("failed", "rejected")) & (error == "0")),
        "conflicting_finals": paired["outcomes_differ"],
    }


def refinements_of(paired: pd.DataFrame) -> dict[str, pd.Series]:
    """Where the refinements hold, whatever the grid says."""
    status, claimed = paired["status"], paired["status_receipt"]
    error, validity = paired["error_code_receipt"], validity_of(paired)
    elapsed = (
        paired["latency_ms"]
        .fillna((paired["finalized_at"] - paired["received_at"]) / pd.Timedelta("1ms"))
        .fillna((paired["pushed_at"] - paired["received_at"]) / pd.Timedelta("1ms"))
    )
    of_messages = pd.to_numeric(error, errors="coerce") >= words.MESSAGES_ERROR_CODES_FROM
    return {
        "record_deleted": (status == "deleted") & (paired["receipt_class"] == 0),
        "platform_expired": ((status == "expired") | (claimed == "expired"))
        & ((elapsed - validity).abs() <= np.minimum(validity * 0.1, 900_000)),
        "error_unknown": claimed.isin(("failed", "rejected"))
        & (error.isna() | error.isin(words.UNTELLING_ERROR_CODES)),
        "unmapped_status": (status.notna() & ~status.isin(words.STATUSES))
        | (claimed.notna() & ~claimed.isin(words.STATUSES)),
        "unmapped_error": error.notna()
        & ~error.isin(list(words.ERROR_CODES))
        & ~((paired["product_receipt"] == "MESSAGES") & of_messages),
    }


def context_of(paired: pd.DataFrame) -> dict[str, pd.Series]:
    """Where each piece of context holds."""
    apart = (paired["price"] - paired["price_receipt"]).abs().fillna(Decimal(0))
    price = paired["price"].fillna(Decimal(0))
    end = end_of(paired["status"]).fillna(end_of(paired["status_receipt"]))
    same_country = country_of(paired["network_code_receipt"]) == paired["home_country"]
    return {
        "duplicate_receipt": paired["duplicates"] > 0,
        "out_of_order": paired["out_of_order"],
        "late_capture": paired["captured_at"] - paired["received_at"] > pd.Timedelta("72h"),
        "sender_rewritten": differ(paired["sender_used"], paired["sender"]),
        "network_differs": differ(paired["network_code"], paired["network_code_receipt"])
        & (paired["network_code"] != words.UNKNOWN)
        & same_country,
        "account_differs": differ(paired["account_id"], paired["account_id_receipt"]),
        "price_differs": (apart > price.abs() * Decimal("0.01")) & (apart > Decimal("0.0001")),
        "charged_not_delivered": (price > 0) & end.notna() & (end != "delivered"),
        "too_fast": paired["status"].isin(DELIVERED) & (paired["latency_ms"] < TOO_FAST_MS),
    }


def orphans_of(task: Task, as_of: pd.Timestamp) -> pd.DataFrame:
    """The day's receipts that join no record."""
    heard = known_receipts(pd.read_parquet(task.receipts()), as_of)
    records = pd.read_parquet(
        task.records_in_reach(), columns=["message_id", "recipient", "received_at"]
    )
    records = records[records["received_at"] <= as_of]
    beside = heard.merge(records[["message_id"]], on="message_id", how="left", indicator=True)
    lone = beside[beside["_merge"] == "left_only"].drop(columns="_merge")
    bare = lone.assign(bare=lone["message_id"].str.lstrip("0"))
    near = records[records["recipient"].isin(lone["recipient"].dropna())]
    near = near.assign(bare=near["message_id"].str.lstrip("0"))
    alike = bare.merge(near, on=["bare", "recipient"])
    happened_at = alike["pushed_at"].fillna(alike["captured_at"])
    alike = alike[(happened_at - alike["received_at"]).abs() <= pd.Timedelta("72h")]
    found = alike[["source", "line"]].drop_duplicates()
    lone = lone.merge(found, on=["source", "line"], how="left", indicator=True)
    foreign = lone["account_id"].notna() & (lone["account_id"] != task.account)
    kind = np.select(
        [foreign, lone["_merge"] == "both"], ["foreign_account", "near_match"], "unknown_message"
    )
    country = country_of(lone["network_code"]).fillna(words.UNKNOWN)
    return lone.assign(kind=kind, country=country).sort_values(["source", "line"])


def summary_of(
    verdicts: pd.DataFrame, orphans: pd.DataFrame, task: Task, as_of: pd.Timestamp, validity: float
) -> pd.DataFrame:
    """One row an account × country × network code × currency."""
    record, receipt = verdicts["record_status"], verdicts["receipt_status"]
    end = record.where(record.isin(words.DEFINITE)).fillna(
        receipt.where(receipt.isin(words.DEFINITE))
    )
    delivered = end.isin(DELIVERED)
    missing = verdicts["verdict"] == "missing"
    first = verdicts["reasons"].str[0]
    unsettled = verdicts["verdict"].isin(("missing", "unknown", "suspect"))
    counted = verdicts[[*KEY, "country_name", "network_name", "receipts", "duplicates"]].assign(
        messages=1,
        **{name: verdicts["verdict"] == name for name in words.VERDICTS},
        **{f"missing_{reason}": missing & (first == reason) for reason in MISSING},
        delivered=delivered,
        failed=end.isin(NOT_DELIVERED),
        expired=end == "expired",
        latency=verdicts["latency_ms"].where(delivered),
        spend=verdicts["record_price"],
        spend_unconfirmed=verdicts["record_price"].where(unsettled, Decimal(0)),
    )
    sums = [
        "messages", *words.VERDICTS, *(f"missing_{reason}" for reason in MISSING), "delivered",
        "failed", "expired", "receipts", "duplicates", "spend", "spend_unconfirmed",
    ]  # fmt: skip
    grouped = counted.groupby(KEY)
    summary = grouped.agg(**NAMES, **{name: (name, "sum") for name in sums})
    latencies = grouped["latency"].quantile([0.5, 0.95, 0.99]).unstack()
    rounded = np.trunc(latencies + np.copysign(0.5, latencies))  # halves away from zero
    for share, name in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99")):
        summary[f"latency_{name}_ms"] = rounded[share]
    lone = (
        orphans.fillna({"account_id": words.UNKNOWN, "network_code": words.UNKNOWN})
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
    counts = [*sums, "uncovered", "foreign_orphans", "n"]
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
    day_ends = pd.Timestamp(task.day, tz="UTC") + pd.Timedelta("1D")
    longest = pd.Timedelta(milliseconds=max(validity, VALIDITY_MS)) + GRACE
    closed = not summary["pending"].sum() and as_of >= day_ends + longest
    return (
        summary.rename(columns={"duplicates": "duplicate_receipts"})
        .reset_index()
        .assign(date=task.day, network_verdict=None, is_closed=closed, as_of=as_of,
                rules_version=words.RULES_VERSION)
        .sort_values(KEY)
    )  # fmt: skip


def wilson(k: pd.Series, n: pd.Series) -> dict[str, pd.Series]:
    """A rate with its Wilson 95 % interval; missing where there is nothing to divide."""
    z = 1.959963984540054
    size = n.astype("float64").where(n > 0)
    rate = k / size
    spread = z * np.sqrt(rate * (1 - rate) / size + z**2 / (4 * size**2))
    centre, scale = rate + z**2 / (2 * size), 1 + z**2 / size
    return {
        "": rate,
        "_low": ((centre - spread) / scale).where(k > 0, size * 0),
        "_high": ((centre + spread) / scale).where(k < n, size * 0 + 1),
    }


def reasons_of(verdicts: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row more for each verdict and reason."""
    key = [*KEY, "verdict", "reason"]
    each = (
        verdicts[[*KEY, "country_name", "network_name", "verdict", "reasons", "record_price"]]
        .rename(columns={"reasons": "reason"})
        .explode("reason")
        .fillna({"reason": "none"})
    )
    each["first"] = ~each.index.duplicated()
    return (
        each.groupby(key, as_index=False)
        .agg(**NAMES, messages=("first", "size"), messages_first=("first", "sum"),
             spend=("record_price", "sum"))
        .assign(date=task.day, is_context=lambda rows: rows["reason"].isin(CONTEXT))
        .sort_values(key)
    )  # fmt: skip


def error_codes_of(verdicts: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row a status and err-code of the deciding receipts."""
    key = [*KEY, "receipt_status", "receipt_error_code"]
    meanings = {code: entry.meaning for code, entry in words.ERROR_CODES.items()}
    return (
        verdicts[verdicts["receipt_status"].notna()]
        .fillna({"receipt_error_code": words.UNKNOWN})
        .groupby(key, as_index=False)
        .agg(**NAMES, messages=("message_id", "size"), spend=("record_price", "sum"))
        .assign(date=task.day, meaning=lambda rows: rows["receipt_error_code"].map(meanings))
        .sort_values(key)
    )


def write(name: str, rows: pd.DataFrame, task: Task) -> None:
    """Writes a table in its contract's columns and types."""
    schema = BY_NAME[name].schema
    table = pa.Table.from_pandas(rows[schema.names], schema, preserve_index=False)
    pq.write_table(table.replace_schema_metadata(), task.target(name), compression="zstd")


def country_of(network_code: pd.Series) -> pd.Series:
    """The country whose mobile country code a network's code begins with."""
    return network_code.str[:3].map(dict(words.mcc_table()))


def end_of(status: pd.Series) -> pd.Series:
    """A definite status, `read` as delivered; missing for all others."""
    return status.where(status.isin(words.DEFINITE)).replace("read", "delivered")


def validity_of(paired: pd.DataFrame) -> pd.Series:
    """How long each message was to be tried, in milliseconds."""
    return paired["validity_ms"].fillna(VALIDITY_MS)


def differ(left: pd.Series, right: pd.Series) -> pd.Series:
    """Whether two values are here and are not equal."""
    return left.notna() & right.notna() & (left != right)


if __name__ == "__main__":
    program.run(judge)
