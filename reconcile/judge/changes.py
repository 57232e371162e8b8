"""How verdicts changed between two judgings of a day, and why. Pure, as the rest of the core."""

from __future__ import annotations

import ibis
from ibis import _

from reconcile.judge.rules import CONTEXT_NAMES
from reconcile.tables import CHANGES

WHY = {
    "record_appeared": "The record was not there before.",
    "as_of_earlier": "It was judged as of an earlier moment than before.",
    "receipt_came": "Another receipt of it is here.",
    "record_changed": "Vonage's record tells another state.",
    "rules_changed": "The rules have another version than then.",
    "time_passed": "Nothing came but time (or other settings).",
}
KEY = ("message_id", "account_id", "product")
# What tells whether the record changed.
_OF_RECORD = ("record_status", "finalized_at", "record_error_code", "record_price", "latency_ms")
_BEFORE = (*KEY, "verdict", "reasons", "receipts", *_OF_RECORD)


def changes(
    before: ibis.Table, after: ibis.Table, day: ibis.Table, earlier: ibis.Table
) -> ibis.Table:
    """Rows of `changes`: messages whose verdict, or what made it, is another one than before.

    Args:
        before: rows of `verdicts` as they were published.
        after: rows of `verdicts` as they are now.
        day: one row: `date`; `is_back`, whether as_of moved back; `is_other`, whether the rules
            have another version.
        earlier: rows of `changes` that this as_of has made already: where a message changes again,
            it changed from what it was before them.
    """
    old = before.select(**{f"old_{name}": _[name] for name in _BEFORE})
    was = earlier.select(
        **{f"was_{name}": _[name] for name in (*KEY, "from_verdict", "from_reasons", "why")}
    )
    both = after.left_join(old, [(name, f"old_{name}") for name in KEY]).left_join(
        was, [(name, f"was_{name}") for name in KEY]
    )
    seen = both.was_message_id.notnull()
    # Few differ at all: only they are looked at closely.
    suspects = both.filter(
        seen
        | both.old_message_id.isnull()
        | (both.old_verdict != both.verdict)
        | (both.old_reasons.length() != both.reasons.length())
        | ~both.old_reasons[0].identical_to(both.reasons[0])
    )
    seen = suspects.was_message_id.notnull()
    told = suspects.mutate(
        from_verdict=ibis.ifelse(seen, suspects.was_from_verdict, suspects.old_verdict),
        from_reasons=ibis.ifelse(
            seen, suspects.was_from_reasons, _making(suspects.old_reasons)
        ).fill_null(ibis.literal([], type="array<string>")),
        to_reasons=_making(suspects.reasons),
        to_verdict=suspects.verdict,
    ).cross_join(day)
    record = [~_[f"old_{name}"].identical_to(_[name]) for name in _OF_RECORD]
    why = ibis.cases(
        (_.was_why.notnull(), _.was_why),
        (_.old_message_id.isnull(), "record_appeared"),
        (_.is_back, "as_of_earlier"),
        (_.receipts != _.old_receipts, "receipt_came"),
        (ibis.or_(*record), "record_changed"),
        (_.is_other, "rules_changed"),
        else_="time_passed",
    )
    same = _.from_verdict.identical_to(_.to_verdict) & _.from_reasons.identical_to(_.to_reasons)
    return told.filter(~same).mutate(why=why).select(CHANGES.names)


def _making(reasons: ibis.Value) -> ibis.Value:
    """The reasons that made a verdict, without context."""
    return reasons.filter(lambda reason: reason.notin(CONTEXT_NAMES))
