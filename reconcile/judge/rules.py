"""The rules: one verdict a message. What each says, and when, stands here and nowhere else.

First the contradictions, then the grid, then the refinements, then context, which makes no verdict.
A refinement replaces the grid's answer; of several, the first that holds wins.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import ibis
import pyarrow as pa
from ibis import _

from reconcile import vocabulary as words
from reconcile.capabilities import ALL_NETWORKS, Capability
from reconcile.judge.pair import NO, epoch_ms, instant_ms
from reconcile.moments import Moment
from reconcile.tables import one_of, small_table

Holds = Callable[[Any, "Limits"], ibis.Value]


CENT = ibis.literal("0.01").cast("decimal(18, 8)")
LEAST = ibis.literal("0.0001").cast("decimal(18, 8)")
HOUR_MS = 3_600_000
DEADLINE_MS = 15 * 60_000


@dataclass(frozen=True)
class Limits:
    """The settings that rules read, and the moment that they judge at."""

    as_of: Moment
    validity: timedelta
    grace: timedelta
    too_fast: timedelta
    capabilities: tuple[Capability, ...] = ()


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: the reason that it gives.
        verdict: the verdict that it makes; None for context.
        sentence: what it says, to an operator.
        holds: the expression, over a pair and the columns that `_states` adds to it.
        replaces: the grid's verdicts that a refinement may replace; all where it names none.
    """

    name: str
    verdict: str | None
    sentence: str
    holds: Holds
    replaces: tuple[str, ...] = ()


CONTRADICTIONS = (
    Rule("recipient_mismatch", "suspect", "A receipt names another handset than the record.",
         lambda p, _l: p.other_recipient),
    Rule("time_travel", "suspect", "It ended more than 1 s, or a receipt was pushed more than 60 s, before it was received; or its latency is negative.",
         lambda p, _l: (p.ended_after_ms < -1000).fill_null(NO) | p.pushed_early | (p.latency_ms < 0).fill_null(NO)),
    Rule("foreign_network", "suspect", "A receipt comes from a network of another country than the record's.",
         lambda p, _l: p.other_country),
    Rule("bad_signature", "suspect", "A receipt's signature is wrong: somebody else may have sent it.",
         lambda p, _l: p.bad_signature),
    Rule("status_error_contradiction", "suspect", "The deciding receipt says delivered with an error code, or failed or rejected with code 0.",
         lambda p, _l: (p.claims_delivered & ~p.error_is_none) | (p.claims_failure & p.error_is_zero)),
    Rule("conflicting_finals", "suspect", "Two receipts tell different ends.",
         lambda p, _l: p.outcomes_differ),
)  # fmt: skip

# Rows: the record. Columns: the deciding receipt. A cell: verdict and reason.
GRID = (
    # record                  none, or not final       unknown                   same outcome              other outcome
    ("open, immature",        "pending in_flight",     "pending record_open",    "pending record_open",    "pending record_open"),
    ("open, mature, fresh",   "missing carrier_silent", "unknown status_unknown", "suspect record_never_final", "suspect record_never_final"),
    ("open, mature, stale",   "missing unattributed",  "unknown status_unknown", "unknown record_stale",   "unknown record_stale"),
    ("unknown, in grace",     "pending in_flight",     "unknown status_unknown", "unknown record_unknown", "unknown record_unknown"),
    ("unknown, past grace",   "unknown record_unknown", "unknown status_unknown", "unknown record_unknown", "unknown record_unknown"),
    ("definite, in grace",    "pending in_flight",     "unknown status_unknown", "confirmed",              "suspect status_conflict"),
    ("definite, past grace",  "missing lost_webhook",  "unknown status_unknown", "confirmed",              "suspect status_conflict"),
)  # fmt: skip

GRID_SENTENCES = {
    "in_flight": "It is on its way, or its receipt may still come.",
    "record_open": "A receipt came, but Vonage's record is not final yet.",
    "carrier_silent": "Vonage never learned the end, and no receipt came: the carrier never said.",
    "record_never_final": "A receipt tells an end that Vonage's record never learned.",
    "unattributed": "No receipt came, and the record was not asked again: nobody can say who lost it.",
    "record_stale": "A receipt tells the end, but the record was not asked again since.",
    "status_unknown": "The receipt itself says unknown.",
    "record_unknown": "Vonage's record ended as unknown.",
    "lost_webhook": "Vonage knew the end and we did not hear it: the webhook was lost.",
    "status_conflict": "Record and receipt tell different ends.",
}

REFINEMENTS = (
    Rule("no_receipt_expected", "not_expected", "The capability table says that this network sends no receipts, and none came.",
         lambda p, _l: (p.capability == "none").fill_null(NO) & (p.receipt_class == 0)),
    Rule("record_deleted", "not_expected", "The record was deleted from the queue: no receipt was to come.",
         lambda p, _l: (p.status == "deleted").fill_null(NO) & (p.receipt_class == 0)),
    Rule("platform_expired", "missing", "Vonage expired it at its own deadline: the carrier never said.",
         lambda p, _l: p.expired & p.at_deadline),
    Rule("error_unknown", "unknown", "It failed, and the code (1, 99 or none) does not say why.",
         lambda p, _l: p.claims_failure & p.error_untelling, ("confirmed",)),
    Rule("unmapped_status", "unknown", "A status that nobody has documented.",
         lambda p, _l: p.status_unheard_of, ("confirmed", "missing", "pending")),
    Rule("unmapped_error", "unknown", "An error code that nobody has documented.",
         lambda p, _l: p.error_unheard_of, ("confirmed", "missing", "pending")),
)  # fmt: skip

# Found in a whole day's verdicts (`outages.py`): it replaces `lost_webhook`.
OUTAGE = Rule(
    "capture_outage", "missing", "Our own capture was down: in these five minutes hardly any receipt came, on three networks or more.",
    lambda _p, _l: NO,
)  # fmt: skip

CONTEXT = (
    Rule("duplicate_receipt", None, "The same receipt came more than once.",
         lambda p, _l: p.duplicates > 0),
    Rule("out_of_order", None, "A receipt that is not final came after one that is.",
         lambda p, _l: p.out_of_order),
    Rule("late_capture", None, "The deciding receipt was captured more than 72 h after the message was received.",
         lambda p, _l: epoch_ms(p.receipt_captured_at) - p.received_ms > 72 * HOUR_MS),
    Rule("sender_rewritten", None, "Vonage sent it under another sender than the one asked for.",
         lambda p, _l: p.sender_used != p.sender),
    Rule("network_differs", None, "Record and receipt name two networks of one country: the number was ported.",
         lambda p, _l: (p.network_code != p.receipt_network_code) & (p.network_code != words.UNKNOWN) & p.same_country),
    Rule("account_differs", None, "The receipt names another account than the record.",
         lambda p, _l: p.account_id != p.receipt_account_id),
    Rule("ambiguous_account", None, "Several accounts have this id and the receipt names none of them.",
         lambda p, _l: p.ambiguous_account),
    Rule("price_differs", None, "Prices differ by more than 1 % and more than 0.0001.",
         lambda p, _l: ((p.price - p.receipt_price).abs() > p.price.abs() * CENT) & ((p.price - p.receipt_price).abs() > LEAST)),
    Rule("charged_not_delivered", None, "It cost something and was not delivered.",
         lambda p, _l: (p.price > 0) & (p.end != "delivered")),
    Rule("too_fast", None, "It was delivered sooner than a handset can answer.",
         lambda p, lim: (p.status.isin(("delivered", "read"))) & (p.latency_ms < _ms(lim.too_fast))),
    Rule("untrusted_network", None, "The capability table says that this network's receipts are not to be believed.",
         lambda p, _l: p.capability == "untrusted"),
    Rule("unsent_by_us", None, "The send log covers its hour and does not know it: another system may have sent it.",
         lambda p, _l: p.unsent_by_us),
)  # fmt: skip

RULES = (*CONTRADICTIONS, *REFINEMENTS, *CONTEXT)
_BIT = {rule.name: 1 << n for n, rule in enumerate(RULES)}

CONTEXT_NAMES = tuple(rule.name for rule in CONTEXT)


def judge(pairs: ibis.Table, limits: Limits) -> ibis.Table:
    """Gives every pair its verdict and its reasons.

    Args:
        pairs: what `pair.pair` yields.
        limits: the moment and the settings.

    Returns:
        The pairs with `end` (the outcome to speak of, or null), `verdict` and `reasons`.
    """
    stated = _states(pairs, limits)
    bits = [ibis.ifelse(rule.holds(_, limits), _BIT[rule.name], 0) for rule in RULES]
    # The join with the grid stands after all costly expressions and before all uses of them:
    # engines merge neighbouring projections, and would compute each one again at every use.
    placed = (
        stated.mutate(held=functools.reduce(operator.add, bits))
        .left_join(_grid(), [("cell", "grid_cell")])
        .drop("grid_cell")
    )
    contradicted = _any(CONTRADICTIONS)
    refined = [_refines(rule) for rule in REFINEMENTS]
    reasons = [
        *(_reason(_holds(rule), rule) for rule in CONTRADICTIONS),
        *(
            _reason(~contradicted & holds, rule)
            for holds, rule in zip(refined, REFINEMENTS, strict=True)
        ),
        ibis.ifelse(contradicted | ibis.or_(*refined), ibis.null(str), _.cell_reason),
        *(_reason(_holds(rule), rule) for rule in CONTEXT),
    ]
    return placed.mutate(
        verdict=ibis.cases(
            (_.held == 0, _.cell_verdict),
            (contradicted, "suspect"),
            *((holds, rule.verdict) for holds, rule in zip(refined, REFINEMENTS, strict=True)),
            else_=_.cell_verdict,
        ),
        reasons=ibis.ifelse(
            (_.held == 0) & _.cell_reason.isnull(),
            ibis.literal([], type="array<string>"),
            ibis.array(reasons).filter(lambda reason: reason.notnull()),
        ),
    )


def _states(pairs: ibis.Table, limits: Limits) -> ibis.Table:
    """Adds what the rules speak of: the cell of the grid, times in ms, what the receipt claims."""
    as_of, grace = instant_ms(limits.as_of), _ms(limits.grace)
    if "unsent_by_us" not in pairs.columns:
        pairs = pairs.mutate(unsent_by_us=NO)  # no send log, so of none can it be said
    timed = _with_capability(pairs, limits.capabilities).mutate(
        received_ms=epoch_ms(_.received_at),
        validity=ibis.coalesce(_.validity_ms, _ms(limits.validity)),
        ended_after_ms=epoch_ms(_.finalized_at) - epoch_ms(_.received_at),
        claims_delivered=_.receipt_status.isin(("delivered", "read")).fill_null(NO),
        claims_failure=_.receipt_status.isin(("failed", "rejected")).fill_null(NO),
        error_is_zero=(_.receipt_error_code == "0").fill_null(NO),
        error_is_none=(_.receipt_error_code == "0").fill_null(ibis.literal(value=True)),
        error_untelling=_.receipt_error_code.isin(words.UNTELLING_ERROR_CODES).fill_null(
            ibis.literal(value=True)
        ),
        error_unheard_of=_error_unheard_of(),
        status_unheard_of=(
            (~one_of(_.status, words.STATUSES)).fill_null(NO)
            | (~one_of(_.receipt_status, words.STATUSES)).fill_null(NO)
        ),
        expired=((_.status == "expired").fill_null(NO) | (_.receipt_status == "expired").fill_null(NO)),
        record_end=_end(_.status),
        receipt_end=_end(_.receipt_status),
    )  # fmt: skip
    grace_over = ibis.coalesce(epoch_ms(_.finalized_at), _.received_ms) + grace <= as_of
    elapsed = ibis.coalesce(
        _.latency_ms, _.ended_after_ms, epoch_ms(_.receipt_pushed_at) - _.received_ms
    )
    row = ibis.cases(
        (_.record_end.notnull(), ibis.ifelse(grace_over, 6, 5)),
        ((_.status == words.UNKNOWN).fill_null(NO), ibis.ifelse(grace_over, 4, 3)),
        (_.received_ms + _.validity + grace > as_of, 0),
        (epoch_ms(_.fetched_at) >= _.received_ms + _.validity, 1),
        else_=2,
    )
    column = ibis.cases(
        (_.receipt_class < 2, _.receipt_class),
        (_same_outcome(), 2),
        else_=3,
    )
    return timed.mutate(
        cell=(row * 4 + column).cast("int8"),
        elapsed_ms=elapsed,
        at_deadline=(
            (elapsed - _.validity).abs() <= ibis.least(DEADLINE_MS, _.validity * 0.1)
        ).fill_null(NO),
        end=ibis.coalesce(_.record_end, _.receipt_end),
    )


def _with_capability(pairs: ibis.Table, known: tuple[Capability, ...]) -> ibis.Table:
    """Adds `capability`: what the capability table says of the network, else of the country."""
    own = {f"{c.country} {c.network_code}": c.receipts for c in known}
    if not own:
        return pairs.mutate(capability=ibis.null(str))
    given = (small_table(own, key, value) for key, value in (("_on", "_by"), ("_in", "_whole")))
    network, country = _.country + " " + _.network_code, _.country + f" {ALL_NETWORKS}"
    return (
        pairs.mutate(_network=network, _country=country)
        .left_join(next(given), [("_network", "_on")])
        .left_join(next(given), [("_country", "_in")])
        .mutate(capability=ibis.coalesce(_._by, _._whole))
        .drop("_network", "_country", "_on", "_by", "_in", "_whole")
    )


def _grid() -> ibis.Table:
    cells = [(*cell.split(), "")[:2] for row in GRID for cell in row[1:]]
    numbers = pa.array(range(len(cells)), pa.int8())
    verdicts, reasons = (pa.array([cell[n] for cell in cells], pa.string()) for n in (0, 1))
    columns = {"grid_cell": numbers, "cell_verdict": verdicts, "cell_reason": reasons}
    # On their way into other engines nulls of a small table may become words.
    return ibis.memtable(pa.table(columns)).mutate(cell_reason=_.cell_reason.nullif(""))


def _same_outcome() -> ibis.Value:
    """Whether record and receipt tell one end; between products, not delivered is one end."""
    nowhere = words.NOT_DELIVERED_ANYWHERE
    return (_.record_end == _.receipt_end).fill_null(NO) | (
        (_.product != _.receipt_product) & _.status.isin(nowhere) & _.receipt_status.isin(nowhere)
    ).fill_null(NO)


def _end(status: ibis.Deferred) -> ibis.Value:
    """A definite status, `read` as delivered; null for all others."""
    return ibis.cases(
        (status.isin(("delivered", "read")), "delivered"),
        (one_of(status, words.DEFINITE), status),
        else_=ibis.null(str),
    )


def _error_unheard_of() -> ibis.Value:
    code = _.receipt_error_code
    of_messages = code.try_cast("int64") >= words.MESSAGES_ERROR_CODES_FROM
    return (
        ~one_of(code, words.ERROR_CODES)
        & ~((_.receipt_product == "MESSAGES") & of_messages.fill_null(NO))
    ).fill_null(NO)


def _any(rules: tuple[Rule, ...]) -> ibis.Value:
    return (_.held & sum(_BIT[rule.name] for rule in rules)) != 0 if rules else NO


def _holds(rule: Rule) -> ibis.Value:
    return (_.held & _BIT[rule.name]) != 0


def _refines(rule: Rule) -> ibis.Value:
    """Whether a refinement holds, may replace its cell, and stands behind none that does."""
    before = REFINEMENTS[: REFINEMENTS.index(rule)]
    others = tuple(r for r in before if r.verdict != rule.verdict)
    holds = _holds(rule) & ~_any(others)
    return holds & _.cell_verdict.isin(rule.replaces) if rule.replaces else holds


def _reason(holds: ibis.Value, rule: Rule) -> ibis.Value:
    return ibis.ifelse(holds, rule.name, ibis.null(str))


def _ms(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)
