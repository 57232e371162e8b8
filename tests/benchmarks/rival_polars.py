"""The same verdicts and tables as a polars program: lazy frames, run by its streaming engine.

What one writes who knows polars: scans that read what is needed, receipts reduced to a row a
message (most have one, which needs no reducing), one join, expressions in one pass, a sink. What a
message shows is a number, bit by bit, and the lists of reasons are made once for each number.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from pathlib import Path

import polars as pl
import program
from polars import col, lit, when
from program import CURRENCY, GRACE_MS, TOO_FAST_MS, VALIDITY_MS, Task

from reconcile import vocabulary as words
from reconcile.tables import BY_NAME

DELIVERED = ["delivered", "read"]
NOT_DELIVERED = ["failed", "rejected", "undeliverable", "deleted"]
DEFINITE, NOWHERE = list(words.DEFINITE), list(words.NOT_DELIVERED_ANYWHERE)
STATUSES, CODES = list(words.STATUSES), list(words.ERROR_CODES)
MONEY = pl.Decimal(18, 8)

GRID = [
    ["pending in_flight", *["pending record_open"] * 3],
    ["missing carrier_silent", "unknown status_unknown", *["suspect record_never_final"] * 2],
    ["missing unattributed", "unknown status_unknown", *["unknown record_stale"] * 2],
    ["pending in_flight", "unknown status_unknown", *["unknown record_unknown"] * 2],
    ["unknown record_unknown", "unknown status_unknown", *["unknown record_unknown"] * 2],
    ["pending in_flight", "unknown status_unknown", "confirmed", "suspect status_conflict"],
    ["missing lost_webhook", "unknown status_unknown", "confirmed", "suspect status_conflict"],
]
CELLS = [cell.split() for row in GRID for cell in row]
MISSING = ("lost_webhook", "carrier_silent", "platform_expired", "unattributed", "capture_outage")

EVENT = [
    "message_id", "account_id", "product", "client_ref", "sender", "recipient", "network_code",
    "status", "error_code", "price", "pushed_at", "scts",
]  # fmt: skip
# The deciding receipt stands first: not forged, final, the latest; then what breaks ties.
ORDER = [
    "forged", "class", "happened_at", "status", "error_code", "network_code", "price", "scts",
    "pushed_at", "sender", "recipient", "client_ref", "account_id", "product",
]  # fmt: skip
DECIDING = [
    "status", "error_code", "network_code", "price", "pushed_at", "captured_at", "account_id",
    "product", "class", "network_country",
]  # fmt: skip
REDUCED = [
    "message_id", *DECIDING, "receipts", "duplicates", "least_recipient", "most_recipient",
    "least_country", "most_country", "first_pushed_at", "bad_signature", "outcomes_differ",
    "out_of_order",
]  # fmt: skip

KEY = ["account_id", "country", "network_code", "currency"]
NAMES = (col("country_name").max(), col("network_name").max())


def judge(task: Task) -> None:
    """Judges the day and writes the five tables."""
    heard = known_receipts(task.receipts_in_reach(), task)
    records = known_records(task)
    placed = judged(records.join(reduced(heard), on="message_id", how="left"), task)
    write("verdicts", concluded(placed), task)
    write("orphans", orphans_of(task), task)
    verdicts, orphans = (scanned([task.target(name)]) for name in ("verdicts", "orphans"))
    write("summary", summary_of(verdicts, orphans, task), task)
    write("reasons", reasons_of(verdicts, task), task)
    write("error_codes", error_codes_of(verdicts, task), task)


def known_records(task: Task) -> pl.LazyFrame:
    """Records received by as_of; an end that came later is not yet known."""
    ended = col("finalized_at").is_null() | (col("finalized_at") <= task.as_of)
    homes = pl.LazyFrame(list(words.home_countries().items()), ["country", "home"], orient="row")
    return (
        scanned(task.records())
        .filter(col("received_at") <= task.as_of)
        .with_columns(when(ended).then(col("status", "latency_ms", "finalized_at")))
        .pipe(with_country, "mcc_country")
        .join(homes, on="country", how="left")
        .with_columns(home_country=pl.coalesce("mcc_country", "home"))
    )


def known_receipts(files: list[Path], task: Task) -> pl.LazyFrame:
    """Receipts captured by as_of, pushed by then where that is not known; undated ones always."""
    heard_at = pl.coalesce("captured_at", "pushed_at")
    return scanned(files).filter(heard_at.is_null() | (heard_at <= task.as_of))


def reduced(heard: pl.LazyFrame) -> pl.LazyFrame:
    """A row a message: its deciding receipt, and what all its receipts show."""
    counted = heard.select("message_id").group_by("message_id").len()
    repeated = counted.filter(col("len") > 1).select("message_id")
    lone = (
        heard.join(repeated, on="message_id", how="anti")
        .pipe(with_country, "network_country")
        .with_columns(
            class_of(col("status")).alias("class"),
            receipts=lit(1, pl.Int32),
            duplicates=lit(0, pl.Int32),
            least_recipient="recipient",
            most_recipient="recipient",
            least_country="network_country",
            most_country="network_country",
            first_pushed_at="pushed_at",
            bad_signature=col("signature") == "invalid",
            outcomes_differ=lit(False),
            out_of_order=lit(False),
        )
        .select(REDUCED)
    )
    return pl.concat([lone, several(heard.join(repeated, on="message_id", how="semi"))])


def several(heard: pl.LazyFrame) -> pl.LazyFrame:
    """Messages with several receipts: repeats are one event, the last definite one decides."""
    invalid = col("signature") == "invalid"
    events = (
        heard.group_by(EVENT)
        .agg(
            copies=pl.len().cast(pl.Int32),
            captured_at=col("captured_at").min(),
            forged=invalid.all(),
            bad_signature=invalid.any(),
        )
        .pipe(with_country, "network_country")
        .with_columns(
            class_of(col("status")).alias("class"),
            outcome=end_of(col("status")),
            happened_at=pl.coalesce("pushed_at", "captured_at"),
        )
    )
    opened = col("happened_at").filter(col("class") == 0).max()
    closed = col("happened_at").filter(col("class") > 0).min()
    falling = [False] + [True] * (len(ORDER) - 1)
    ordered = events.sort(ORDER, descending=falling, nulls_last=True).with_row_index("place")
    return (
        ordered.group_by("message_id")
        .agg(
            col("place").min(),
            receipts=col("copies").sum().cast(pl.Int32),
            duplicates=(col("copies") - 1).sum().cast(pl.Int32),
            least_recipient=col("recipient").min(),
            most_recipient=col("recipient").max(),
            least_country=col("network_country").min(),
            most_country=col("network_country").max(),
            first_pushed_at=col("pushed_at").min(),
            bad_signature=col("bad_signature").any(),
            outcomes_differ=col("outcome").drop_nulls().n_unique() > 1,
            out_of_order=(opened > closed).fill_null(False),
        )
        .join(ordered.select("place", *DECIDING), on="place")
        .select(REDUCED)
    )


def judged(paired: pl.LazyFrame, task: Task) -> pl.LazyFrame:
    """Every record with its cell of the grid, and what holds of it as a number."""
    stated = paired.with_columns(
        col("receipts", "duplicates", "class").fill_null(0),
        validity=col("validity_ms").fill_null(VALIDITY_MS),
        ended_after_ms=since_received("finalized_at"),
        record_end=end_of(col("status")),
        receipt_end=end_of(col("status_right")),
    )
    held = pl.sum_horizontal(
        holds.fill_null(False).cast(pl.Int32) * 2**n for n, holds in enumerate(HOLDS.values())
    )
    return stated.with_columns(cell=cell_of(task), held=held)


def cell_of(task: Task) -> pl.Expr:
    """The cell of the grid, row by row: the record's row, the deciding receipt's column."""
    since = pl.coalesce("finalized_at", "received_at")
    past_grace = since <= lit(task.as_of) - pl.duration(milliseconds=GRACE_MS)
    mature_at = col("received_at") + pl.duration(milliseconds="validity")
    row = (
        when(col("record_end").is_not_null()).then(when(past_grace).then(6).otherwise(5))
        .when(col("status") == words.UNKNOWN).then(when(past_grace).then(4).otherwise(3))
        .when(mature_at + pl.duration(milliseconds=GRACE_MS) > task.as_of).then(0)
        .when(col("fetched_at") >= mature_at).then(1)
        .otherwise(2)
    )  # fmt: skip
    both_nowhere = col("status").is_in(NOWHERE) & col("status_right").is_in(NOWHERE)
    same = (col("record_end") == col("receipt_end")) | (
        (col("product") != col("product_right")) & both_nowhere
    )
    column = when(col("class") < 2).then(col("class")).when(same).then(2).otherwise(3)
    return row * 4 + column


def concluded(placed: pl.LazyFrame) -> pl.LazyFrame:
    """Every record with its verdict and reasons, in the columns of `verdicts` and their order."""
    bit = {name: (col("held") & 2**n) != 0 for n, name in enumerate(HOLDS)}
    contradicted = (col("held") & 63) != 0
    deleted = ~contradicted & bit["record_deleted"]
    gave_up = ~contradicted & ~deleted & bit["platform_expired"]
    sound = ~contradicted & ~deleted & ~gave_up
    said = col("cell").replace_strict(range(len(CELLS)), [cell[0] for cell in CELLS])
    kept = sound & said.is_in(["confirmed", "missing", "pending"])
    untold = sound & bit["error_unknown"] & (said == "confirmed")
    strange = kept & (bit["unmapped_status"] | bit["unmapped_error"])
    verdict = (
        when(contradicted).then(lit("suspect"))
        .when(deleted).then(lit("not_expected"))
        .when(gave_up).then(lit("missing"))
        .when(untold | strange).then(lit("unknown"))
        .otherwise(said)
    )  # fmt: skip
    names = {"status": "record_status", "error_code": "record_error_code", "price": "record_price"}
    theirs = {f"{name}_right": f"receipt_{name}"
              for name in ("status", "error_code", "network_code", "price")}  # fmt: skip
    return (
        placed.with_columns(
            verdict=verdict,
            reasons=(col("held") * len(CELLS) + col("cell")).map_batches(
                reasons_by_number, return_dtype=pl.List(pl.String), is_elementwise=True
            ),
            currency=col("currency").fill_null(CURRENCY),
        )
        .rename(names | theirs)
        .select(BY_NAME["verdicts"].names)
        .sort("message_id")
    )


def reasons_by_number(numbers: pl.Series) -> pl.Series:
    """The lists of reasons; few numbers are different, and each is spelt out once."""
    few = numbers.unique()
    lists = pl.Series("reasons", [spelt(n) for n in few], pl.List(pl.String))
    table = pl.DataFrame({"number": few, "reasons": lists})
    return pl.DataFrame({"number": numbers}).join(
        table, on="number", how="left", maintain_order="left"
    )["reasons"]


def spelt(number: int) -> list[str]:
    """The reasons of a cell and what holds: the verdict's own, then context."""
    held, cell = divmod(number, len(CELLS))
    verdict, *reason = CELLS[cell]
    holds = [name for n, name in enumerate(HOLDS) if held & 2**n]
    context = [name for name in holds if name in CONTEXT]
    contradictions = [name for name in holds if name in CONTRADICTIONS]
    if contradictions:
        return contradictions + context
    if ends := [name for name in ("record_deleted", "platform_expired") if name in holds]:
        return ends[:1] + context
    refined = [
        name for name, among in (
            ("error_unknown", ("confirmed",)),
            ("unmapped_status", ("confirmed", "missing", "pending")),
            ("unmapped_error", ("confirmed", "missing", "pending")),
        ) if name in holds and verdict in among
    ]  # fmt: skip
    return (refined or reason) + context


def class_of(status: pl.Expr) -> pl.Expr:
    """2 for a definite status, 1 for unknown, 0 for one that is not final."""
    definite = status.is_in(DEFINITE).cast(pl.Int32) * 2
    return definite + (status == words.UNKNOWN).cast(pl.Int32)


def end_of(status: pl.Expr) -> pl.Expr:
    """A definite status, `read` as delivered; null for all others."""
    return when(status == "read").then(lit("delivered")).when(status.is_in(DEFINITE)).then(status)


def since_received(name: str) -> pl.Expr:
    """How long after the message was received something happened, in whole milliseconds."""
    return (col(name) - col("received_at")).dt.total_milliseconds()


def with_country(rows: pl.LazyFrame, name: str) -> pl.LazyFrame:
    """The country whose mobile country code a network's code begins with."""
    mcc = pl.LazyFrame(words.mcc_table(), ["mcc", name], orient="row")
    return rows.join(mcc, left_on=col("network_code").str.head(3), right_on="mcc", how="left")


def scanned(files: list[Path]) -> pl.LazyFrame:
    """Parquet files, of which a query reads the columns that it needs."""
    return pl.scan_parquet(files, hive_partitioning=False)


def write(name: str, rows: pl.LazyFrame, task: Task) -> None:
    """Writes a table."""
    rows.sink_parquet(task.target(name), compression="zstd", engine="streaming")


CLAIMED, CODE = col("status_right"), col("error_code_right")
FAILED = CLAIMED.is_in(["failed", "rejected"])
ELAPSED = pl.coalesce("latency_ms", "ended_after_ms", since_received("pushed_at"))
APART = (col("price") - col("price_right")).abs()
CONTRADICTIONS = {
    "recipient_mismatch": (col("least_recipient") != col("recipient"))
    | (col("most_recipient") != col("recipient")),
    "time_travel": (col("ended_after_ms") < -1000).fill_null(False)
    | (since_received("first_pushed_at") < -60_000).fill_null(False)
    | (col("latency_ms") < 0),
    "foreign_network": (col("least_country") != col("home_country"))
    | (col("most_country") != col("home_country")),
    "bad_signature": col("bad_signature"),
    "status_error_contradiction": (CLAIMED.is_in(DELIVERED) & (CODE != "0"))
    | (FAILED & (CODE == "0")),
    "conflicting_finals": col("outcomes_differ"),
}
REFINEMENTS = {
    "record_deleted": (col("status") == "deleted") & (col("class") == 0),
    "platform_expired": ((col("status") == "expired").fill_null(False) | (CLAIMED == "expired"))
    & ((ELAPSED - col("validity")).abs() <= pl.min_horizontal(900_000, col("validity") * 0.1)),
    "error_unknown": FAILED & (CODE.is_null() | CODE.is_in(list(words.UNTELLING_ERROR_CODES))),
    "unmapped_status": (~col("status").is_in(STATUSES)).fill_null(False) | ~CLAIMED.is_in(STATUSES),
    "unmapped_error": ~CODE.is_in(CODES)
    & ~(
        (col("product_right") == "MESSAGES")
        & (CODE.cast(pl.Int64, strict=False) >= words.MESSAGES_ERROR_CODES_FROM).fill_null(False)
    ),
}
CONTEXT = {
    "duplicate_receipt": col("duplicates") > 0,
    "out_of_order": col("out_of_order"),
    "late_capture": since_received("captured_at") > 259_200_000,
    "sender_rewritten": col("sender_used") != col("sender"),
    "network_differs": (col("network_code") != col("network_code_right"))
    & (col("network_code") != words.UNKNOWN)
    & (col("network_country") == col("home_country")),
    "account_differs": col("account_id") != col("account_id_right"),
    "price_differs": (col("price").abs() < APART * 100) & (APART * 10_000 > 1),
    "charged_not_delivered": (col("price") > 0)
    & (pl.coalesce("record_end", "receipt_end") != "delivered"),
    "too_fast": col("status").is_in(DELIVERED) & (col("latency_ms") < TOO_FAST_MS),
}
HOLDS = CONTRADICTIONS | REFINEMENTS | CONTEXT


def orphans_of(task: Task) -> pl.LazyFrame:
    """The day's receipts that join no record."""
    records = scanned(task.records_in_reach()).filter(col("received_at") <= task.as_of)
    lone = known_receipts(task.receipts(), task).join(
        records.select("message_id"), on="message_id", how="anti"
    )
    bare = col("message_id").str.strip_chars_start("0").alias("bare")
    happened_at = pl.coalesce("pushed_at", "captured_at")
    near = (
        lone.select("source", "line", bare, "recipient", happened_at=happened_at)
        .join(records.select(bare, "recipient", "received_at"), on=["bare", "recipient"])
        .filter((col("happened_at") - col("received_at")).abs() <= pl.duration(hours=72))
        .select("source", "line", near=lit(True))
        .unique()
    )
    kind = (
        when(col("account_id") != task.account).then(lit("foreign_account"))
        .when("near").then(lit("near_match"))
        .otherwise(lit("unknown_message"))
    )  # fmt: skip
    return (
        lone.join(near, on=["source", "line"], how="left")
        .pipe(with_country, "country")
        .with_columns(kind=kind, country=col("country").fill_null(words.UNKNOWN))
        .select(BY_NAME["orphans"].names)
        .sort("source", "line")
    )


def summary_of(verdicts: pl.LazyFrame, orphans: pl.LazyFrame, task: Task) -> pl.LazyFrame:
    """One row an account × country × network code × currency."""
    record, receipt = col("record_status"), col("receipt_status")
    end = when(record.is_in(DEFINITE)).then(record).when(receipt.is_in(DEFINITE)).then(receipt)
    missing, first = col("verdict") == "missing", col("reasons").list.first()
    unsettled = col("verdict").is_in(["missing", "unknown", "suspect"])
    latency = col("latency_ms").filter(col("end").is_in(DELIVERED))
    counted = (
        verdicts.with_columns(end=end)
        .group_by(KEY)
        .agg(
            *NAMES,
            pl.len().alias("messages"),
            *((col("verdict") == name).sum().alias(name) for name in words.VERDICTS),
            *((missing & (first == name)).sum().alias(f"missing_{name}") for name in MISSING),
            delivered=col("end").is_in(DELIVERED).sum(),
            failed=col("end").is_in(NOT_DELIVERED).sum(),
            expired=(col("end") == "expired").sum(),
            receipts=col("receipts").cast(pl.Int64).sum(),
            duplicate_receipts=col("duplicates").cast(pl.Int64).sum(),
            spend=col("record_price").sum(),
            spend_unconfirmed=col("record_price").filter(unsettled).sum(),
            **{f"latency_p{p}_ms": latency.quantile(p / 100, "linear") for p in (50, 95, 99)},
        )
    )
    uncovered = col("kind") == "uncovered"
    lone = (
        orphans.with_columns(
            col("account_id", "network_code").fill_null(words.UNKNOWN), currency=lit(CURRENCY)
        )
        .group_by(KEY)
        .agg(
            orphans=(~uncovered).sum(),
            uncovered=uncovered.sum(),
            foreign_orphans=(col("kind") == "foreign_account").sum(),
            receipts_of_none=pl.len(),
        )
    )
    counts = [
        "messages", *words.VERDICTS, *(f"missing_{name}" for name in MISSING), "delivered",
        "failed", "expired", "orphans", "uncovered", "foreign_orphans", "receipts",
        "duplicate_receipts", "receipts_of_none",
    ]  # fmt: skip
    money = ["spend", "spend_unconfirmed"]
    validity = scanned(task.records()).select(col("validity_ms").max().fill_null(0))
    longest = max(VALIDITY_MS, validity.collect(engine="streaming").item())
    day_ends = datetime.combine(task.day, time(), UTC) + timedelta(days=1)
    mature = task.as_of >= day_ends + timedelta(milliseconds=longest + GRACE_MS)
    closed = (col("pending").sum() == 0) & mature
    told = col("messages") - col("pending") - col("not_expected")
    outage = col("missing_capture_outage")
    times = [f"latency_p{p}_ms" for p in (50, 95, 99)]
    return (
        counted.join(lone, on=KEY, how="full", coalesce=True)
        .with_columns(col(counts).fill_null(0).cast(pl.Int64), col(money).fill_null(0).cast(MONEY))
        .with_columns(
            col("receipts") + col("receipts_of_none"),
            col(times).round(mode="half_away_from_zero").cast(pl.Int64),
            *wilson("missing", col("missing") - outage, told - outage),
            *wilson("unknown", col("unknown"), told),
            *wilson("suspect", col("suspect"), told),
            date=lit(task.day),
            network_verdict=lit(None, pl.String),
            is_closed=closed,
            as_of=lit(task.as_of, pl.Datetime("us", "UTC")),
            rules_version=lit(words.RULES_VERSION),
        )
        .select(BY_NAME["summary"].names)
        .sort(KEY)
    )


def wilson(name: str, k: pl.Expr, n: pl.Expr) -> list[pl.Expr]:
    """A rate with its Wilson 95 % interval; null where there is nothing to divide."""
    z = 1.959963984540054
    size = when(n > 0).then(n).cast(pl.Float64)
    rate = k / size
    spread = z * (rate * (1 - rate) / size + z**2 / (4 * size**2)).sqrt()
    centre, scale = rate + z**2 / (2 * size), 1 + z**2 / size
    return [
        rate.alias(f"{name}_rate"),
        when(k > 0).then((centre - spread) / scale).otherwise(size * 0).alias(f"{name}_rate_low"),
        when(k < n).then((centre + spread) / scale).otherwise(size * 0 + 1)
        .alias(f"{name}_rate_high"),
    ]  # fmt: skip


def reasons_of(verdicts: pl.LazyFrame, task: Task) -> pl.LazyFrame:
    """One row more for each verdict and reason."""
    key = [*KEY, "verdict", "reason"]
    return (
        verdicts.group_by(*KEY, "verdict", "reasons")
        .agg(*NAMES, messages=pl.len().cast(pl.Int64), spend=col("record_price").sum())
        .with_columns(
            reason=when(col("reasons").list.len() == 0).then(lit(["none"])).otherwise("reasons"),
            first=col("reasons").list.first().fill_null("none"),
        )
        .explode("reason")
        .group_by(key)
        .agg(
            *NAMES,
            col("messages").sum(),
            col("spend").sum().cast(MONEY),
            messages_first=col("messages").filter(col("reason") == col("first")).sum(),
        )
        .with_columns(date=lit(task.day), is_context=col("reason").is_in(list(CONTEXT)))
        .select(BY_NAME["reasons"].names)
        .sort(key)
    )


def error_codes_of(verdicts: pl.LazyFrame, task: Task) -> pl.LazyFrame:
    """One row a status and err-code of the deciding receipts."""
    key = [*KEY, "receipt_status", "receipt_error_code"]
    meanings = {code: entry.meaning for code, entry in words.ERROR_CODES.items()}
    return (
        verdicts.filter(col("receipt_status").is_not_null())
        .with_columns(col("receipt_error_code").fill_null(words.UNKNOWN))
        .group_by(key)
        .agg(*NAMES, messages=pl.len().cast(pl.Int64), spend=col("record_price").sum().cast(MONEY))
        .with_columns(
            date=lit(task.day),
            meaning=col("receipt_error_code").replace_strict(meanings, default=None),
        )
        .select(BY_NAME["error_codes"].names)
        .sort(key)
    )


if __name__ == "__main__":
    program.run(judge)
