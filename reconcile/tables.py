"""The contract of every table: names, types, nullability, and a sentence a column.

`conform()` is the only gate: nothing is written that did not pass it, and nothing is read that
does not keep it. Times are UTC instants (`timestamp[us, UTC]`, whole milliseconds), money is
`decimal(18,8)`, ids and codes are strings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from reconcile import __version__
from reconcile.days import iso
from reconcile.errors import ContractError
from reconcile.vocabulary import RULES_VERSION
from reconcile.vocabulary import VERDICTS as SIX_VERDICTS

if TYPE_CHECKING:
    import ibis

TEXT = pa.string()
TIME = pa.timestamp("us", tz="UTC")
DATE = pa.date32()
COUNT = pa.int64()
MS = pa.int64()
MONEY = pa.decimal128(18, 8)
SHARE = pa.float64()
FLAG = pa.bool_()

METADATA_KEY = "reconcile"
PERCENTILES = (50, 95, 99)


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type, whether it may be null, and what it says."""

    name: str
    type: pa.DataType
    sentence: str
    nullable: bool = True


@dataclass(frozen=True)
class Table:
    """One table: what a row is, its key, and its columns in order.

    Attributes:
        written: whether any command writes it yet.
        private: whether its files are for their owner only.
        partition: what its partitions are named after: a `day`, or an `as_of`.
    """

    name: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    written: bool = True
    private: bool = False
    partition: str = "day"

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, without metadata."""
        return pa.schema([pa.field(c.name, c.type, nullable=True) for c in self.columns])

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [c.name for c in self.columns]

    @property
    def required(self) -> list[str]:
        """Names of the columns that may not be null."""
        return [c.name for c in self.columns if not c.nullable]


def _required(name: str, kind: pa.DataType, sentence: str) -> Column:
    return Column(name, kind, sentence, nullable=False)


_MESSAGE_ID = _required(
    "message_id", TEXT, "Vonage's id of the message (one a part): hex upper-case, UUID lower-case."
)
_PRODUCT = _required("product", TEXT, "The API it was sent through: SMS or MESSAGES.")
_ACCOUNT_ID = _required("account_id", TEXT, "API key of the account that sent the message.")
_CLIENT_REF = Column("client_ref", TEXT, "The reference that was given when sending.")
_SENDER = Column("sender", TEXT, "Sender ID as sent (a record's `from`, a receipt's `to`).")
_RECIPIENT = Column(
    "recipient", TEXT, "The handset's number, as 16 hex digits of a keyed SHA-256 by default."
)
_DATE = _required("date", DATE, "The UTC day on which Vonage received the messages.")
_COUNTRY = _required("country", TEXT, "ISO 3166-1 alpha-2 of the network's country, or `unknown`.")
_COUNTRY_NAME = Column("country_name", TEXT, "The country's name.")
_NETWORK_CODE = _required("network_code", TEXT, "MCC and MNC of the network, or `unknown`.")
_NETWORK_NAME = Column("network_name", TEXT, "The network's name as Vonage gives it.")
_CURRENCY = _required("currency", TEXT, "Currency of the money in the row, or `unknown`.")
_RECEIVED_AT = _required("received_at", TIME, "When Vonage received the request to send.")
_SOURCE = _required("source", TEXT, "The capture that holds the line.")
_LINE = _required("line", COUNT, "Number of the line in its source, from 1.")

_RECEIPT_COLUMNS = (
    _MESSAGE_ID,
    Column("account_id", TEXT, "API key that the receipt names."),
    _required("product", TEXT, "SMS for a DLR, MESSAGES for a Messages API status webhook."),
    _CLIENT_REF,
    _SENDER,
    _RECIPIENT,
    Column("network_code", TEXT, "MCC and MNC of the network that the receipt names."),
    _required("status", TEXT, "Status that the receipt claims, lower-case; kept if unheard of."),
    Column("error_code", TEXT, "The receipt's err-code; 0 is none."),
    Column("price", MONEY, "The receipt's price."),
    Column("pushed_at", TIME, "When Vonage began to push the receipt (message-timestamp)."),
    Column("scts", TEXT, "The carrier's own time, YYMMDDHHMM in no certain time zone: a hint."),
    Column("captured_at", TIME, "When the webhook captured it, where the capture says so."),
    _SOURCE,
    _LINE,
    _required("signature", TEXT, "valid, invalid, unsigned or unverifiable."),
)

RECORDS = Table(
    "records",
    "a message as Vonage last reported it",
    ("account_id", "product", "message_id"),
    (
        _MESSAGE_ID,
        Column("record_id", TEXT, "The Reports API's own id of the record."),
        _PRODUCT,
        _ACCOUNT_ID,
        _CLIENT_REF,
        _SENDER,
        Column("sender_used", TEXT, "The sender that Vonage put in its place, if it did."),
        _RECIPIENT,
        _COUNTRY,
        _COUNTRY_NAME,
        _NETWORK_CODE,
        _NETWORK_NAME,
        _RECEIVED_AT,
        Column("finalized_at", TIME, "When the message reached its final state; null before."),
        Column("latency_ms", MS, "Milliseconds from received to final, as Vonage reports them."),
        Column("status", TEXT, "Status as last reported, lower-case; kept if unheard of."),
        Column("error_code", TEXT, "Result of Vonage's hand-off to its supplier: no DLR code."),
        Column("price", MONEY, "What the message cost."),
        Column("currency", TEXT, "Currency of the price, where the record says so."),
        Column("concatenated", FLAG, "Whether it is one part of a longer message."),
        Column("validity_ms", MS, "How long it was to be tried, where the record says so."),
        _required("fetched_at", TIME, "The as_of of the run that fetched this state."),
        Column("asked_at", TIME, "When it was last asked for by its id; null if it never was."),
    ),
)

RECEIPTS = Table("receipts", "one captured receipt line", ("source", "line"), _RECEIPT_COLUMNS)

REJECTS = Table(
    "rejects",
    "a captured line, or a fetched record, that could not be read as one",
    ("source", "line"),
    (
        _SOURCE,
        _LINE,
        _required(
            "kind",
            TEXT,
            "`unreadable`, `not_a_receipt:…` or `not_an_answer:…` (what it is instead), "
            "`malformed_record`, `other_channel`.",
        ),
        _required(
            "reason", TEXT, "What was wrong with it, and how to mend it where that is known."
        ),
    ),
)

REJECTED_LINES = Table(
    "rejected_lines",
    "the bytes of a captured line in `rejects`; only the owner can read its files",
    ("source", "line"),
    (
        _SOURCE,
        _LINE,
        _required("raw", pa.binary(), "The line as it was captured, its first 64 KiB."),
    ),
    private=True,
)

VERDICTS = Table(
    "verdicts",
    "a message with its verdict",
    ("account_id", "product", "message_id"),
    (
        _MESSAGE_ID,
        _PRODUCT,
        _ACCOUNT_ID,
        _CLIENT_REF,
        _SENDER,
        _RECIPIENT,
        _COUNTRY,
        _COUNTRY_NAME,
        _NETWORK_CODE,
        _NETWORK_NAME,
        _RECEIVED_AT,
        Column("finalized_at", TIME, "When it reached its final state, as known at as_of."),
        Column("latency_ms", MS, "Milliseconds from received to final, as known at as_of."),
        Column("record_status", TEXT, "The record's status; null if it was not yet so at as_of."),
        Column("record_error_code", TEXT, "Result of Vonage's hand-off: shown, never judged."),
        Column("receipt_status", TEXT, "Status of the deciding receipt; null without any."),
        Column("receipt_error_code", TEXT, "err-code of the deciding receipt."),
        Column("receipt_network_code", TEXT, "Network that the deciding receipt names."),
        Column("record_price", MONEY, "What the record says the message cost."),
        Column("receipt_price", MONEY, "What the deciding receipt says it cost."),
        _CURRENCY,
        Column("pushed_at", TIME, "When Vonage pushed the deciding receipt."),
        Column("captured_at", TIME, "When the deciding receipt was captured first."),
        _required("receipts", pa.int32(), "How many receipts came, duplicates included."),
        _required("duplicates", pa.int32(), "How many of them repeat an earlier one."),
        _required(
            "verdict", TEXT, "confirmed, pending, missing, unknown, suspect or not_expected."
        ),
        _required("reasons", pa.list_(TEXT), "The verdict's reasons, then context."),
    ),
)

ORPHANS = Table(
    "orphans",
    "a receipt that joins no record",
    ("source", "line"),
    (
        _required("kind", TEXT, "unknown_message, uncovered, foreign_account or near_match."),
        _required("country", TEXT, "Country of the network code's MCC, or `unknown`."),
        *_RECEIPT_COLUMNS,
    ),
)

_GROUP = (_DATE, _ACCOUNT_ID, _COUNTRY, _COUNTRY_NAME, _NETWORK_CODE, _NETWORK_NAME, _CURRENCY)
_GROUP_KEY = ("date", "account_id", "country", "network_code", "currency")
GROUP = _GROUP_KEY
# Columns of `summary` that `campaigns` has as well.
CAMPAIGN_COUNTS = (
    "messages", "confirmed", "pending", "missing", "unknown", "suspect", "not_expected",
    "missing_lost_webhook", "missing_carrier_silent", "missing_platform_expired",
    "missing_unattributed", "missing_capture_outage", "delivered", "failed", "expired", "receipts",
    "duplicate_receipts", "missing_rate", "missing_rate_low", "missing_rate_high", "unknown_rate",
    "unknown_rate_low", "unknown_rate_high", "suspect_rate", "suspect_rate_low",
    "suspect_rate_high", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "spend",
    "spend_unconfirmed",
)  # fmt: skip


def _count(name: str, sentence: str) -> Column:
    return _required(name, COUNT, sentence)


def _rates(what: str) -> tuple[Column, ...]:
    base = "messages − pending − not_expected"
    if what == "missing":
        base += " (capture outage left out)"
    return (
        Column(f"{what}_rate", SHARE, f"{what} / ({base}); null where that is 0."),
        Column(f"{what}_rate_low", SHARE, f"Lower end of {what}_rate's Wilson 95 % interval."),
        Column(f"{what}_rate_high", SHARE, f"Upper end of {what}_rate's Wilson 95 % interval."),
    )


SUMMARY = Table(
    "summary",
    "account × country × network code × currency of a day",
    _GROUP_KEY,
    (
        *_GROUP,
        _count("messages", "Messages of the day: the sum of the six verdicts."),
        _count("confirmed", "Record and receipt agree."),
        _count("pending", "Too early to tell."),
        _count("missing", "A receipt should be here and is not."),
        _count("unknown", "What we have does not tell what became of it."),
        _count("suspect", "Record and receipts contradict each other."),
        _count("not_expected", "No receipt was to be expected."),
        _count("missing_lost_webhook", "Missing: Vonage knew the end, we did not hear it."),
        _count("missing_carrier_silent", "Missing: the carrier never said."),
        _count("missing_platform_expired", "Missing: Vonage expired it at its own deadline."),
        _count("missing_unattributed", "Missing: the record was not asked again, nobody can say."),
        _count("missing_capture_outage", "Missing: our own capture was down."),
        _count("delivered", "Messages whose end is delivered (record's word, else receipt's)."),
        _count("failed", "Messages whose end is failed, rejected, undeliverable or deleted."),
        _count("expired", "Messages whose end is expired."),
        _count("orphans", "Receipts of the day that join no record."),
        _count("uncovered", "Unjoined receipts whose record may lie in days not downloaded."),
        _count(
            "foreign_orphans",
            "Of the orphans, those whose api-key is none of our accounts.",
        ),
        _count("receipts", "Receipts of these messages, plus orphans and uncovered."),
        _count("duplicate_receipts", "How many of them repeat an earlier one."),
        *_rates("missing"),
        *_rates("unknown"),
        *_rates("suspect"),
        *(
            Column(
                f"latency_p{p}_ms", MS, f"{p} % of the delivered messages took less (interpolated)."
            )
            for p in PERCENTILES
        ),
        _required("spend", MONEY, "What the messages cost, by their records."),
        _required("spend_unconfirmed", MONEY, "Cost of missing, unknown and suspect ones."),
        Column(
            "network_verdict", TEXT, "What is thought of the network as a whole; null: not yet."
        ),
        _required("is_closed", FLAG, "Whether the day was judged when all of it was mature."),
        _required("as_of", TIME, "The moment up to which receipts and records were known."),
        _required("rules_version", TEXT, "Version of the rules that judged."),
    ),
)

CAMPAIGNS = Table(
    "campaigns",
    "account × campaign × currency of a day; written where the setting `campaign` names them",
    ("date", "account_id", "campaign", "currency"),
    (
        _DATE,
        _ACCOUNT_ID,
        _required(
            "campaign", TEXT, "What the setting `campaign` takes out of client_ref, or `unknown`."
        ),
        _CURRENCY,
        *(c for c in SUMMARY.columns if c.name in CAMPAIGN_COUNTS),
    ),
)

CHANGES = Table(
    "changes",
    "a message whose verdict, or what made it, is another one than when its day was judged before",
    ("date", "account_id", "product", "message_id"),
    (
        _DATE,
        _ACCOUNT_ID,
        _PRODUCT,
        _MESSAGE_ID,
        _COUNTRY,
        _NETWORK_CODE,
        Column("from_verdict", TEXT, "Its verdict before; null if its record was not there."),
        _required("from_reasons", pa.list_(TEXT), "What made that verdict."),
        _required("to_verdict", TEXT, "Its verdict as of this file's as_of."),
        _required("to_reasons", pa.list_(TEXT), "What made it."),
        _required(
            "why",
            TEXT,
            "One of record_appeared, as_of_earlier, receipt_came, record_changed, rules_changed, "
            "time_passed.",
        ),
    ),
    partition="as_of",
)

REASONS = Table(
    "reasons",
    "account × country × network code × currency × verdict × reason of a day",
    (*_GROUP_KEY, "verdict", "reason"),
    (
        *_GROUP,
        _required("verdict", TEXT, "The messages' verdict."),
        _required("reason", TEXT, "The reason, or `none` where a message has none."),
        _required("is_context", FLAG, "Whether it is context only, which makes no verdict."),
        _count("messages", "Messages that have this reason; a message may have several."),
        _count("messages_first", "Messages whose first reason it is: adds up to the verdict."),
        _required("spend", MONEY, "What the messages with this reason cost."),
    ),
)

ERROR_CODES = Table(
    "error_codes",
    "account × country × network code × currency × status × err-code of deciding receipts of a day",
    (*_GROUP_KEY, "receipt_status", "receipt_error_code"),
    (
        *_GROUP,
        _required("receipt_status", TEXT, "Status of the deciding receipt."),
        _required("receipt_error_code", TEXT, "Its err-code, or `unknown` where it has none."),
        Column("meaning", TEXT, "What the guide says the code means; null if unheard of."),
        _count("messages", "Messages whose deciding receipt says so."),
        _required("spend", MONEY, "What they cost."),
    ),
)

_SENT_COLUMNS = (
    Column("account_id", TEXT, "API key that the log names, if it does."),
    _RECIPIENT,
    Column("network_code", TEXT, "MCC and MNC that the API expected (its `network`)."),
    Column("price", MONEY, "What the API said that it would cost."),
    _CLIENT_REF,
    Column("sent_at", TIME, "When it was sent, by the log's own time; null if it has none."),
    _required("source", TEXT, "The send log that holds the line: `send_log:` and its path."),
    _LINE,
    _required("part", pa.int32(), "Number of the message within its line, from 1."),
)

SENT = Table(
    "sent",
    "a message that a line of the send log names",
    ("source", "line", "part"),
    (
        Column("message_id", TEXT, "Vonage's id of it; null only where it was refused."),
        _required("status", TEXT, "The API's answer: 0 is accepted, all others are refused."),
        *_SENT_COLUMNS,
    ),
)

UNRECORDED = Table(
    "unrecorded",
    "a message that the API accepted, and of which Reports has no record",
    ("message_id",),
    (
        _MESSAGE_ID,
        _required("kind", TEXT, "`unrecorded`, `uncovered` or `foreign_account`."),
        *_SENT_COLUMNS,
    ),
)

NETWORK_TEST = pa.struct(
    [
        ("rule", TEXT), ("holds", FLAG), ("n", COUNT), ("k", COUNT), ("rate", SHARE),
        ("rate_low", SHARE), ("rate_high", SHARE), ("baseline", SHARE), ("baseline_n", COUNT),
        ("effect", SHARE), ("p", SHARE), ("q", SHARE),
    ]
)  # fmt: skip

NETWORKS = Table(
    "networks",
    "country × network code (`*`: the whole country) × span judged as a whole",
    ("date", "span", "country", "network_code"),
    (
        _DATE,
        _required("span", TEXT, "1d, 2d or 7d, ending with the date."),
        _COUNTRY,
        _COUNTRY_NAME,
        _NETWORK_CODE,
        _NETWORK_NAME,
        _required("network_verdict", TEXT, "What is thought of it: see `reconcile rules`."),
        _required("is_alert", FLAG, "Suspect or contradictory on two of the last three days."),
        _required("reasons", pa.list_(TEXT), "The rules that held, the leading one first."),
        _required("evidence", TEXT, "The leading rule's numbers, in one sentence."),
        Column("n", COUNT, "Of how many messages the leading rule counts some."),
        Column("k", COUNT, "How many it counts."),
        Column("rate", SHARE, "Which part: k / n."),
        Column("rate_low", SHARE, "Lower end of the rate's Wilson 95 % interval."),
        Column("rate_high", SHARE, "Upper end of it."),
        Column("baseline", SHARE, "What the rate was before: 28 days that end 6 days earlier, "
               "shrunk to the country's and to all networks'."),
        Column("baseline_n", COUNT, "Messages of this network in its baseline."),
        Column("effect", SHARE, "How many times its baseline: rate / baseline."),
        Column("p", SHARE, "How likely chance (beta-binomial) makes it as odd as that."),
        Column("q", SHARE, "The same after Benjamini and Hochberg, among the day's networks."),
        Column("power_10", SHARE, "How likely it would be found, were 10 % made up; null: untold."),
        _required("samples", pa.list_(TEXT), "Up to five message ids that the leading rule means."),
        _required("spend_at_stake", MONEY, "Cost of the messages that the leading rule means."),
        _CURRENCY,
        _required("spend", MONEY, "What its messages cost, of those paid in this currency."),
        _required("spend_unconfirmed", MONEY, "Of these: missing, unknown and suspect ones."),
        _required("spend_delivered", MONEY, "Of these: those whose end is delivered."),
        Column("unit_price", MONEY, "Mean price of the messages paid in this currency."),
        _count("messages", "Messages of the span: the sum of the six verdicts."),
        *(_count(name, f"Of these: {name.replace('_', ' ')}.") for name in SIX_VERDICTS),
        _count("masked", "Messages that ended while our own capture was down: in no count below."),
        _count("told", "Messages without pending and not expected ones."),
        _count("told_missing", "Of told: missing."),
        _count("told_unknown", "Of told: unknown."),
        _count("told_suspect", "Of told: suspect."),
        _count("contradicted", "Of told: those whose record and receipts contradict each other."),
        _count("seen", "Messages without those of which no receipt is expected."),
        _count("troubled", "Of seen: not delivered within 60 s."),
        _count("delivered", "Messages whose end is delivered."),
        _count("failed", "Messages whose end is failed, rejected or undeliverable."),
        _count("expired", "Messages whose end is expired."),
        _count("ended_soon", "Delivered or failed within 32 minutes."),
        _count("failed_soon", "Of these: failed."),
        _count("timed", "Delivered within 32 minutes."),
        _count("slow", "Of these: in more than 60 s."),
        _count("peak", "Of these: in the fullest 100 ms of the network's day."),
        _count("too_fast", "Delivered sooner than the setting too_fast."),
        _count("converted", "Delivered and converted, by the file of conversions."),
        _required("is_narrow", FLAG, "Whether delivery times hardly differ."),
        *(
            Column(f"latency_p{p}_ms", MS, f"Of the delivered {p} % took less, by the histogram.")
            for p in (10, 25, 50, 75)
        ),
        _required("error_codes", pa.list_(TEXT), "Err-codes of the deciding receipts."),
        _required("error_code_counts", pa.list_(COUNT), "How many messages have each of them."),
        _required("latency_histogram", pa.list_(COUNT), "Delivered messages in 192 bins of time: "
                  "eight an octave from 59 ms on, bin 80 begins at 60 s."),
        _required("outages", pa.list_(TEXT), "When our own capture was down in the span (UTC)."),
        _required("tests", pa.list_(NETWORK_TEST), "What each rule found."),
        _required("rules_version", TEXT, "Version of the rules that judged."),
    ),
)  # fmt: skip

CONCENTRATIONS = Table(
    "concentrations",
    "where a rise of missing, unknown or suspect messages is over-represented",
    ("date", "verdict", "rank"),
    (
        _DATE,
        _required("verdict", TEXT, "What rose: missing, unknown or suspect."),
        _count("rank", "The most telling is 1."),
        _required("dimension", TEXT, "What is looked at: country, network, sender, "
                  "campaign, error code, hour, account, or network × sender."),
        _required("value", TEXT, "Which one of it."),
        _count("messages", "Messages of the day there."),
        _count("affected", "Of these: of that verdict."),
        _required("support", SHARE, "Part of all affected messages of the day that is here."),
        _required("lift", SHARE, "How many times more often than in all messages."),
        _required("sentence", TEXT, "The numbers, in words."),
    ),
)  # fmt: skip

TABLES: tuple[Table, ...] = (
    RECORDS,
    RECEIPTS,
    REJECTS,
    REJECTED_LINES,
    VERDICTS,
    ORPHANS,
    SUMMARY,
    CAMPAIGNS,
    REASONS,
    ERROR_CODES,
    CHANGES,
    SENT,
    UNRECORDED,
    NETWORKS,
    CONCENTRATIONS,
)
BY_NAME = {table.name: table for table in TABLES}


def conform(expr: ibis.Table, table: Table) -> ibis.Table:
    """The only gate: an expression with exactly the table's columns, in order and type.

    Integers may change width (the engine refuses one that does not fit), and null columns take
    their type; any other difference breaks the contract.
    Nulls in required columns are counted when the file is written (`store.write`).

    Raises:
        ContractError: a column is missing, is too many, or is of another type.
    """
    import ibis

    wanted = ibis.Schema.from_pyarrow(table.schema)
    found = expr.schema()
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    if missing or extra:
        raise ContractError(
            f"table {table.name}: "
            + "; ".join(
                f"{word} {', '.join(names)}"
                for word, names in (("lacks", missing), ("does not know", extra))
                if names
            )
        )
    columns = []
    for name, kind in wanted.items():
        if not _fits(found[name], kind):
            raise ContractError(f"table {table.name}: {name} is {found[name]}, not {kind}")
        column = expr[name]
        columns.append((column if found[name] == kind else column.cast(kind)).name(name))
    return expr.select(columns)


def _fits(found: ibis.DataType, wanted: ibis.DataType) -> bool:
    if found.copy(nullable=True) == wanted or found.is_null():
        return True
    if found.is_timestamp() and wanted.is_timestamp():
        return bool(found.timezone == wanted.timezone)
    if found.is_decimal() and wanted.is_decimal():
        return bool(found.scale == wanted.scale)  # a sum is wider, never finer
    if found.is_decimal() and wanted.is_integer():
        return bool(found.scale == 0)  # the engine's widest integers
    return bool(found.is_integer() and wanted.is_integer())


def file_metadata(table: Table, as_of: datetime) -> dict[str, str]:
    """What each parquet file says of itself, as one JSON text; nothing in it is random."""
    about = {
        "table": table.name,
        "row": table.row,
        "key": list(table.key),
        "as_of": iso(as_of),
        "rules_version": RULES_VERSION,
        "package_version": __version__,
        "columns": {c.name: c.sentence for c in table.columns},
    }
    return {METADATA_KEY: json.dumps(about, ensure_ascii=False)}


def small_table(mapping: Mapping[str, str], key: str, value: str) -> ibis.Table:
    """A mapping of facts as a table of two columns, to join with."""
    import ibis

    return ibis.memtable(pa.table({key: list(mapping), value: list(mapping.values())}))


def one_of(value: ibis.Value, known: Iterable[str]) -> ibis.Value:
    """Whether a text is one of a few: by comparisons, since engines make a join of a long IN."""
    import ibis

    return ibis.or_(*(value == word for word in known))
