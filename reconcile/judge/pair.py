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
from reconcile.tables import RECEIPTS, small_table

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
    "account_id", "product", "recipient", "signature",
)  # fmt: skip
_SHOWN_BY_ANY = ("other_recipient", "other_country", "pushed_early", "bad_signature")
_SHOWN_TOGETHER = ("outcomes_differ", "out_of_order", "ambiguous_account")
# What receipts of a message show is gathered in one number: a window each would cost as much.
_BIT = {flag: 1 << n for n, flag in enumerate((*_SHOWN_BY_ANY, "ambiguous_account"))}
_FIRST_OUTCOME = 1 << len(_BIT)
_OUTCOMES = ((1 << len(words.DEFINITE)) - 1) * _FIRST_OUTCOME

NO = ibis.literal(value=False)


@ibis.udf.scalar.builtin(signature=((INSTANT,), dt.int64))
def epoch_ms(moment):  # type: ignore[no-untyped-def] # a declaration: the engine has the body
    """Milliseconds since 1970-01-01 UTC."""


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
    busy = _busy(records, receipts, scope)
    single = _single(receipts_known(receipts.anti_join(busy, "message_id"), scope))
    several = _several(records.semi_join(busy, "message_id"),
                       receipts.semi_join(busy, "message_id"), scope)  # fmt: skip
    theirs = [f"several_of_{name}" for name in scope.key]
    paired = (
        records_known(records, scope)
        .left_join(single, [("message_id", "single_message_id")])
        .left_join(several, list(zip(scope.key, theirs, strict=True)))
        .mutate(**{f"receipt_{n}": ibis.coalesce(_[f"several_{n}"], _[f"single_{n}"])
                   for n in _DECIDING})
    )  # fmt: skip
    shown = _shown(paired, "receipt_", _.home_country, _.recipient, _.received_at)
    once = ibis.ifelse(_.single_message_id.notnull(), 1, 0).cast("int32")
    helpers = [n for n in paired.columns if n.startswith(("single_", "several_"))]
    return shown.mutate(
        receipts=ibis.coalesce(_.several_receipts, once),
        duplicates=ibis.coalesce(_.several_duplicates, 0).cast("int32"),
        receipt_class=_class(_.receipt_status),
        **{flag: ibis.coalesce(_[f"several_{flag}"], _[flag], NO) for flag in _SHOWN_BY_ANY},
        **{flag: ibis.coalesce(_[f"several_{flag}"], NO) for flag in _SHOWN_TOGETHER},
    ).drop(*helpers, "receipt_recipient", "receipt_signature")


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
    """Ids with more than one receipt, or that records share: the few that need to be reduced.

    Read from narrow columns of their own: what a query names twice, the engine keeps in memory.
    """
    heard = receipts_known(receipts.select("message_id", "captured_at", "pushed_at"), scope)
    often = heard.group_by("message_id").having(_.count() > 1).agg(n=_.count())
    if not scope.several_owners:
        return often.select("message_id")
    shared = records.group_by("message_id").having(_.count() > 1).agg(n=_.count())
    return often.select("message_id").union(shared.select("message_id"), distinct=True)


def _single(heard: ibis.Table) -> ibis.Table:
    """Receipts that are alone with their id: each decides."""
    return heard.select(**{f"single_{name}": _[name] for name in ("message_id", *_DECIDING)})


def _several(records: ibis.Table, receipts: ibis.Table, scope: Scope) -> ibis.Table:
    """Busy messages: repeats counted, the last definite receipt decides, all show what they show.

    Returns:
        One row a message, all columns as `several_*`, the key of its record as `several_of_*`.
    """
    attached = _attach(records_known(records, scope), receipts_known(receipts, scope), scope)
    ids = [f"record_{name}" for name in scope.key]
    timeless = ibis.ifelse(_.captured_at.isnull(), 1, 0).max() == 1
    events = attached.group_by([*ids, *EVENT]).agg(
        copies=_.count(),
        captured_at=_.captured_at.min(),
        # A receipt without a time stays one, whatever the time of its repetition.
        heard_at=ibis.ifelse(timeless, ibis.null(INSTANT), _.captured_at.min()),
        signature=_.signature.max(),
        # A repetition changes no verdict, so not even one that somebody else has sent.
        bad_signature=_.bad_signature.all(),
        shown=bit_or(_.shown),
    )
    message = ibis.window(group_by=ids)
    latest_first = ibis.window(
        group_by=ids,
        order_by=[
            ibis.asc(_.bad_signature),
            ibis.desc(_.receipt_class),
            ibis.desc(_.happened_at, nulls_first=False),
            *(ibis.desc(_[name], nulls_first=False) for name in _TIE_BREAKERS),
        ],
    )
    not_final_at = ibis.ifelse(_.receipt_class == 0, _.happened_at, ibis.null(INSTANT))
    final_at = ibis.ifelse(_.receipt_class > 0, _.happened_at, ibis.null(INSTANT))
    after = not_final_at.max().over(message) > final_at.min().over(message)
    bad = ibis.ifelse(_.bad_signature, _BIT["bad_signature"], 0)
    ranked = events.mutate(
        receipt_class=_class(_.status),
        happened_at=ibis.coalesce(_.pushed_at, _.heard_at),
        shown=_.shown | bad | _outcome_bit(_.status),
    ).mutate(
        rank=ibis.row_number().over(latest_first),
        receipts=_.copies.sum().over(message).cast("int32"),
        events=_.count().over(message).cast("int32"),
        shown=bit_or(_.shown).over(message),
        out_of_order=after.fill_null(NO),
    )
    outcomes = _.shown & _OUTCOMES
    told = {
        "duplicates": _.receipts - _.events,
        "outcomes_differ": (outcomes & (outcomes - 1)) != 0,
        **{flag: (_.shown & bit) != 0 for flag, bit in _BIT.items()},
        **{name: _[name] for name in ("receipts", "out_of_order", *_DECIDING)},
    }
    keys = {f"several_of_{name}": _[f"record_{name}"] for name in scope.key}
    rest = {f"several_{name}": value for name, value in told.items()}
    return ranked.filter(_.rank == 0).select(**keys, **rest)


def _attach(known: ibis.Table, heard: ibis.Table, scope: Scope) -> ibis.Table:
    """Each receipt beside the record that it belongs to, and what it shows against it."""
    owner = known.select(
        **{f"record_{n}": _[n] for n in ("message_id", "account_id", "product", "recipient",
                                         "home_country", "received_at")}
    )  # fmt: skip
    joined = heard.join(owner, [("message_id", "record_message_id")])
    owned = _owned(joined, owner) if scope.several_owners else joined.mutate(ambiguous_account=NO)
    shown = _shown(owned, "", _.record_home_country, _.record_recipient, _.record_received_at)
    return shown.mutate(
        shown=sum(ibis.ifelse(_[flag], bit, 0) for flag, bit in _BIT.items()
                  if flag != "bad_signature")
    )  # fmt: skip


def _owned(joined: ibis.Table, owner: ibis.Table) -> ibis.Table:
    """Where records share an id: the receipt goes to its api-key's, else to the smallest account's.

    Between products of one account SMS comes first: the Messages API may report the same text.
    """
    shared = (
        owner.group_by(_shared="record_message_id")
        .having(_.count() > 1)
        .agg(_owners=_.record_account_id.collect(distinct=True), _least=_.record_account_id.min())
    )
    named = _._owners.contains(_.account_id).fill_null(NO)
    mine = ibis.ifelse(named, _.account_id, _._least)
    placed = (
        joined.left_join(shared, [("record_message_id", "_shared")])
        .filter(_._shared.isnull() | (_.record_account_id == mine))
        .mutate(ambiguous_account=_._shared.notnull() & ~named)
        .drop("_shared", "_owners", "_least")
    )
    one = ibis.window(
        group_by=["source", "line", "record_account_id"],
        order_by=ibis.desc(_.record_product == "SMS"),
    )
    return placed.mutate(_n=ibis.row_number().over(one)).filter(_._n == 0).drop("_n")


def _shown(
    rows: ibis.Table,
    of: str,
    home_country: ibis.Value,
    recipient: ibis.Value,
    received_at: ibis.Value,
) -> ibis.Table:
    """Adds what a receipt, whose columns begin with `of`, shows against its record."""
    early = epoch_ms(_[f"{of}pushed_at"]) < epoch_ms(received_at) - PUSHED_EARLY_MS
    return (
        rows.mutate(_prefix=_[f"{of}network_code"].left(3))
        .left_join(by_mcc(), [("_prefix", "_mcc")])
        .mutate(
            other_recipient=(_[f"{of}recipient"] != recipient).fill_null(NO),
            other_country=(_._mcc_country != home_country).fill_null(NO),
            same_country=(_._mcc_country == home_country).fill_null(NO),
            pushed_early=early.fill_null(NO),
            bad_signature=(_[f"{of}signature"] == "invalid").fill_null(NO),
        )
        .drop("_prefix", "_mcc", "_mcc_country")
    )


def _class(status: ibis.Deferred) -> ibis.Value:
    """2 for a definite status, 1 for `unknown`, 0 for one that is not final, and for none."""
    return ibis.cases((status.isin(words.DEFINITE), 2), (status == words.UNKNOWN, 1), else_=0)


def _outcome_bit(status: ibis.Deferred) -> ibis.Value:
    """A definite status as a bit, the same where the outcome is; 0 where there is none."""
    bits = {name: _FIRST_OUTCOME << n for n, name in enumerate(words.DEFINITE)}
    bits["read"] = bits["delivered"]
    return ibis.cases(*((status == name, bit) for name, bit in bits.items()), else_=0)


def by_mcc() -> ibis.Table:
    """Mobile country code (`_mcc`) → country (`_mcc_country`)."""
    return small_table(dict(words.mcc_table()), "_mcc", "_mcc_country")


def _homes() -> ibis.Table:
    return small_table(words.home_countries(), "_code", "_home")
