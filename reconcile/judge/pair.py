"""Pairs records with receipts: every record once, beside what its receipts say together.

All receipts of a message are reduced to one row: the deciding receipt, how many came, and what any
of them shows. Most messages have a single receipt, for which there is nothing to reduce; only the
others are deduplicated and put in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import ibis
import ibis.expr.datatypes as dt
from ibis import _

from reconcile import vocabulary as words
from reconcile.moments import INSTANT, Moment, instant
from reconcile.tables import RECEIPTS, one_of, small_table

# A receipt may seem this much older than its message: clocks differ.
PUSHED_EARLY_MS = 60_000

# What makes two receipts the same event; a webhook pushed again differs in none of these.
EVENT = tuple(
    name for name in RECEIPTS.names if name not in ("captured_at", "source", "line", "signature")
)
# Seconds tie often: without a fixed order for ties two engines, or two runs, would disagree.
_TIE_BREAKERS = (
    "status", "error_code", "network_code", "price", "scts", "pushed_at",
    "sender", "recipient", "client_ref", "account_id", "product",
)  # fmt: skip
_DECIDING = (
    "status", "error_code", "network_code", "price", "pushed_at", "captured_at",
    "account_id", "product", "recipient",
)  # fmt: skip
# What receipts of a message show together.
_SPANS = ("least_recipient", "most_recipient", "least_country", "most_country", "first_pushed_at")
_FLAGS = ("outcomes_differ", "out_of_order", "ambiguous_account", "bad_signature")

NO = ibis.literal(value=False)


@ibis.udf.scalar.builtin(signature=((INSTANT,), dt.int64))
def epoch_ms(moment):  # type: ignore[no-untyped-def] # a declaration: the engine has the body
    """Milliseconds since 1970-01-01 UTC."""


@ibis.udf.scalar.builtin(name="hash", signature=((dt.string,), dt.int64))
def hash_of(text):  # type: ignore[no-untyped-def] # likewise: Ibis makes a signed one by way of text
    """A number of a text, whatever the engine makes of it."""


@ibis.udf.agg.builtin(signature=((dt.int64,), dt.int64))
def bit_or(bits):  # type: ignore[no-untyped-def] # likewise: Ibis has a word for it in few engines
    """Whatever bit any of the numbers has."""


def instant_ms(as_of: Moment) -> ibis.Value:
    """A moment in milliseconds since 1970, as an expression."""
    if isinstance(as_of, datetime):
        return ibis.literal(int(as_of.timestamp() * 1000))
    return epoch_ms(as_of)


@dataclass(frozen=True)
class Scope:
    """What pairing must be told beside the rows.

    Attributes:
        as_of: nothing that was known only later counts.
        several_owners: whether the records come from more than one account or product: only then
            can two of them share a message id.
    """

    as_of: Moment
    several_owners: bool

    @property
    def moment(self) -> ibis.Value:
        """as_of as an expression."""
        return instant(self.as_of)

    @property
    def key(self) -> list[str]:
        """What tells one record from another."""
        return ["message_id", "account_id", "product"] if self.several_owners else ["message_id"]


def pair(records: ibis.Table, receipts: ibis.Table, scope: Scope) -> ibis.Table:
    """Every record as it was known at as_of, beside its receipts.

    Args:
        records: rows of `records`.
        receipts: rows of `receipts` among which those of these records are.
        scope: as_of, and whether ids can be shared.

    Returns:
        The columns of `records` and its `home_country`; `receipts` and `duplicates` (0 without
        any); the deciding receipt's columns as `receipt_*` and its `receipt_class`; and, never
        null, what the receipts show: `other_recipient`, `other_country`, `pushed_early`,
        `bad_signature`, `outcomes_differ`, `out_of_order`, `ambiguous_account`; `same_country`
        says that of the deciding receipt.
    """
    busy, among = _busy(records, receipts, scope), [(hash_of(_.message_id), "busy")]
    own = records.filter(_.received_at <= scope.moment)
    single = _single(own, receipts.anti_join(busy, among), scope)
    several = _several(own, receipts.semi_join(busy, among), scope)
    theirs = [f"of_{name}" for name in scope.key]
    paired = records_known(records, scope).left_join(
        single.union(several), list(zip(scope.key, theirs, strict=True))
    )
    early = epoch_ms(_.first_pushed_at) < epoch_ms(_.received_at) - PUSHED_EARLY_MS
    return paired.mutate(
        receipts=_.receipts.fill_null(0),
        duplicates=_.duplicates.fill_null(0),
        receipt_class=_class(_.receipt_status),
        other_recipient=_other(_.least_recipient, _.most_recipient, _.recipient),
        other_country=_other(_.least_country, _.most_country, _.home_country),
        same_country=(_.receipt_country == _.home_country).fill_null(NO),
        pushed_early=early.fill_null(NO),
        **{flag: _[flag].fill_null(NO) for flag in _FLAGS},
    ).drop(*theirs, "receipt_recipient", "receipt_country", *_SPANS)


def records_known(records: ibis.Table, scope: Scope) -> ibis.Table:
    """Records received by as_of, with their home country; an end that came later is not known."""
    ended = _.finalized_at.isnull() | (_.finalized_at <= scope.moment)
    return (
        records.filter(_.received_at <= scope.moment)
        .mutate(
            status=ibis.ifelse(ended, _.status, ibis.null(str)),
            latency_ms=ibis.ifelse(ended, _.latency_ms, ibis.null("int64")),
            finalized_at=ibis.ifelse(ended, _.finalized_at, ibis.null(INSTANT)),
            _prefix=_.network_code.left(3),
        )
        .left_join(by_mcc(), [("_prefix", "_mcc")])
        .left_join(_homes(), [("country", "_code")])
        .mutate(home_country=ibis.coalesce(_._mcc_country, _._home))
        .drop("_prefix", "_mcc", "_mcc_country", "_code", "_home")
    )


def receipts_known(receipts: ibis.Table, scope: Scope) -> ibis.Table:
    """Receipts captured by as_of (pushed by then, if no capture time is known); undated always."""
    heard_at = ibis.coalesce(_.captured_at, _.pushed_at)
    return receipts.filter(heard_at.isnull() | (heard_at <= scope.moment))


def _busy(records: ibis.Table, receipts: ibis.Table, scope: Scope) -> ibis.Table:
    """Hashes (`busy`) of ids with more than one receipt, or that records share: the few that need
    to be reduced. An id that has its hash from one of them is reduced as well, to what it is.

    Read from narrow columns of their own: what a query names twice, the engine keeps in memory.
    """
    heard = receipts_known(receipts.select("message_id", "captured_at", "pushed_at"), scope)
    found = [heard, records] if scope.several_owners else [heard]
    often = [
        table.select(busy=hash_of(_.message_id)).group_by("busy").having(_.count() > 1).agg()
        for table in found
    ]
    return often[0] if len(often) == 1 else often[0].union(often[1], distinct=True)


def _single(records: ibis.Table, receipts: ibis.Table, scope: Scope) -> ibis.Table:
    """Receipts that are alone with their id: each decides, and shows what it shows.

    Returns:
        Columns as `_several` has them.
    """
    heard = _with_country(_attached(records, receipts_known(receipts, scope), scope))
    shown: dict[str, ibis.Value] = {
        "least_recipient": _.recipient, "least_country": _.country,
        # The least is all there is; the engine has to hold every text that it is given.
        "most_recipient": ibis.null(str), "most_country": ibis.null(str),
        "first_pushed_at": _.pushed_at, "bad_signature": _is_bad(),
    }  # fmt: skip
    return heard.select(
        **_named(scope),
        receipts=ibis.literal(1, "int32"),
        duplicates=ibis.literal(0, "int32"),
        **{name: shown.get(name, NO) for name in (*_SPANS, *_FLAGS)},
    )


def _several(records: ibis.Table, receipts: ibis.Table, scope: Scope) -> ibis.Table:
    """Busy messages: repeats counted, the last definite receipt decides, all show what they show.

    Returns:
        One row a message: the key of its record as `of_*`, what the deciding receipt says as
        `receipt_*`; `receipts` and `duplicates`; what all show together, `_SPANS` and `_FLAGS`.
    """
    heard = _attached(records, receipts_known(receipts, scope), scope)
    owned = _owned(heard, records) if scope.several_owners else heard.mutate(ambiguous_account=NO)
    ids = [f"record_{name}" for name in scope.key]
    not_final_at = ibis.ifelse(_.receipt_class == 0, _.happened_at, ibis.null(INSTANT))
    final_at = ibis.ifelse(_.receipt_class > 0, _.happened_at, ibis.null(INSTANT))
    together = (
        _events(owned, ids)
        .group_by(ids)
        .agg(
            # So the engine can write aside what it holds; the row with the greatest rank it cannot.
            **{f"deciding_{n}": _[n].max(where=_.rank == 0) for n in (*_DECIDING, "country")},
            receipts=_.copies.sum().cast("int32"),
            events=_.count().cast("int32"),
            outcomes=bit_or(_outcome_bit(_.status)),
            out_of_order=(not_final_at.max() > final_at.min()).fill_null(NO),
            bad_signature=_.bad_signature.any(),
            ambiguous_account=_.ambiguous_account.any(),
            first_pushed_at=_.pushed_at.min(),
            **{f"least_{name}": _[name].min() for name in ("recipient", "country")},
            **{f"most_{name}": _[name].max() for name in ("recipient", "country")},
        )
    )
    shown = {"outcomes_differ": (_.outcomes & (_.outcomes - 1)) != 0}
    return together.select(
        **_named(scope, "deciding_"),
        receipts=_.receipts,
        duplicates=(_.receipts - _.events).cast("int32"),
        **{name: shown.get(name, _[name]) for name in (*_SPANS, *_FLAGS)},
    )


def _events(owned: ibis.Table, ids: list[str]) -> ibis.Table:
    """Receipts without their repetitions: `copies` of each, and its `rank` with its message (0:
    it decides)."""
    timeless = ibis.ifelse(_.captured_at.isnull(), 1, 0).max() == 1
    events = owned.group_by([*ids, *(name for name in EVENT if name != "message_id")]).agg(
        copies=_.count(),
        captured_at=_.captured_at.min(),
        # A receipt without a time stays one, whatever the time of its repetition.
        heard_at=ibis.ifelse(timeless, ibis.null(INSTANT), _.captured_at.min()),
        # A repetition changes no verdict, so not even one that somebody else has sent.
        bad_signature=_is_bad().all(),
        ambiguous_account=_.ambiguous_account.any(),
    )
    latest_first = ibis.window(
        group_by=ids,
        order_by=[
            ibis.asc(_.bad_signature),
            ibis.desc(_.receipt_class),
            ibis.desc(_.happened_at, nulls_first=False),
            *(ibis.desc(_[name], nulls_first=False) for name in _TIE_BREAKERS),
        ],
    )
    return (
        _with_country(events)
        .mutate(receipt_class=_class(_.status), happened_at=ibis.coalesce(_.pushed_at, _.heard_at))
        .mutate(rank=ibis.row_number().over(latest_first))
    )


def _named(scope: Scope, said: str = "") -> dict[str, ibis.Value]:
    """The key of a record, and what the deciding receipt says, by the names that `pair` reads."""
    key = {f"of_{name}": _[f"record_{name}"] for name in scope.key}
    return key | {f"receipt_{name}": _[f"{said}{name}"] for name in (*_DECIDING, "country")}


def _is_bad() -> ibis.Value:
    return (_.signature == "invalid").fill_null(NO)


def _attached(records: ibis.Table, heard: ibis.Table, scope: Scope) -> ibis.Table:
    """Each receipt with the key of its record as `record_*`; of several records, with each's."""
    if not scope.several_owners:
        return heard.mutate(record_message_id=_.message_id)
    key = records.select(**{f"record_{name}": _[name] for name in scope.key})
    return heard.join(key, [("message_id", "record_message_id")])


def _owned(attached: ibis.Table, records: ibis.Table) -> ibis.Table:
    """Where records share an id: the receipt goes to its api-key's, else to the smallest account's.

    Between products of one account SMS comes first: the Messages API may report the same text.
    """
    shared = (
        records.group_by(_shared="message_id")
        .having(_.count() > 1)
        .agg(_owners=_.account_id.collect(distinct=True), _least=_.account_id.min())
    )
    named = _._owners.contains(_.account_id).fill_null(NO)
    mine = ibis.ifelse(named, _.account_id, _._least)
    placed = (
        attached.left_join(shared, [("record_message_id", "_shared")])
        .filter(_._shared.isnull() | (_.record_account_id == mine))
        .mutate(ambiguous_account=_._shared.notnull() & ~named)
        .drop("_shared", "_owners", "_least")
    )
    one = ibis.window(
        group_by=["source", "line", "record_account_id"],
        order_by=ibis.desc(_.record_product == "SMS"),
    )
    return placed.mutate(_n=ibis.row_number().over(one)).filter(_._n == 0).drop("_n")


def _with_country(receipts: ibis.Table) -> ibis.Table:
    """Adds the `country` of a receipt's network."""
    return (
        receipts.mutate(_prefix=_.network_code.left(3))
        .left_join(by_mcc(), [("_prefix", "_mcc")])
        .rename(country="_mcc_country")
        .drop("_prefix", "_mcc")
    )


def _other(least: ibis.Value, most: ibis.Value, own: ibis.Value) -> ibis.Value:
    """Whether any of the values from least to most is known and is not the record's own."""
    return ((least != own) | (most != own)).fill_null(NO)


def _class(status: ibis.Deferred) -> ibis.Value:
    """2 for a definite status, 1 for `unknown`, 0 for one that is not final, and for none."""
    return ibis.cases((one_of(status, words.DEFINITE), 2), (status == words.UNKNOWN, 1), else_=0)


def _outcome_bit(status: ibis.Deferred) -> ibis.Value:
    """A definite status as a bit, the same where the outcome is; 0 where there is none."""
    bits = {name: 1 << n for n, name in enumerate(words.DEFINITE)}
    bits["read"] = bits["delivered"]
    return ibis.cases(*((status == name, bit) for name, bit in bits.items()), else_=0)


def by_mcc() -> ibis.Table:
    """Mobile country code (`_mcc`) → country (`_mcc_country`)."""
    return small_table(dict(words.mcc_table()), "_mcc", "_mcc_country")


def _homes() -> ibis.Table:
    return small_table(words.home_countries(), "_code", "_home")
