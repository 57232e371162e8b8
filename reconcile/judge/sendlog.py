"""The send log against the records: what is in one of them only. Pure, as the rest of the core."""

from __future__ import annotations

import ibis
from ibis import _

from reconcile.judge.pair import NO, Scope, epoch_ms
from reconcile.tables import UNRECORDED
from reconcile.vocabulary import SENT_ACCEPTED

KINDS = {
    "foreign_account": "The log names an account that is none of ours.",
    "uncovered": "Days in which its record may lie were not downloaded: we cannot know.",
    "unrecorded": "The API accepted it, and no record of the days around it has its id.",
}
# Clocks differ: a log is taken to speak of so long before its first and behind its last message.
MARGIN_MS = 3_600_000
# What Vonage calls the product of messages that the SMS API sent.
SMS = "SMS"


def unrecorded(
    sent: ibis.Table, records: ibis.Table, day: ibis.Table, accounts: frozenset[str], scope: Scope
) -> ibis.Table:
    """Rows of `unrecorded`: messages that the API accepted and that no record has, each once.

    Args:
        sent: rows of `sent` of a day, or without any.
        records: the records of that day, of the day before and of the day after it.
        day: one row: `is_covered`, whether all records of these days were downloaded.
        accounts: the accounts that are ours; none known, none foreign.
        scope: as_of.
    """
    ids = records.filter(_.received_at <= scope.moment).select(_known="message_id")
    alone = (
        _by_then(sent, scope)
        .filter(_.status == SENT_ACCEPTED)
        .anti_join(ids, [("message_id", "_known")])
    )
    # A log may name a message twice: its first line speaks for it.
    nth = ibis.row_number().over(
        ibis.window(group_by="message_id", order_by=["source", "line", "part"])
    )
    foreign = _.account_id.notin(tuple(accounts)) if accounts else NO
    return (
        alone.mutate(_nth=nth)
        .filter(_._nth == 0)
        .cross_join(day.select("is_covered"))
        .mutate(
            kind=ibis.cases(
                (foreign.fill_null(NO), "foreign_account"),
                (_.is_covered, "unrecorded"),
                else_="uncovered",
            )
        )
        .select(UNRECORDED.names)
    )


def with_unsent(
    pairs: ibis.Table, sent: ibis.Table, around: ibis.Table, scope: Scope
) -> ibis.Table:
    """Pairs with `unsent_by_us`: a send log covers the record's hour, and does not have its id.

    A log covers an account's hours of a day on which it has messages of that account, or messages
    without an account, from its first of them to its last, an hour more at either end. Only
    messages of the SMS API are asked about.

    Args:
        pairs: one day's pairs, as `pair.pair` yields them.
        sent: rows of `sent` of that day.
        around: rows of `sent` of that day, of its neighbours, and those without a time.
        scope: as_of.
    """
    known, of_day = _by_then(around, scope), _by_then(sent, scope)
    ids = known.filter(_.message_id.notnull()).select(_logged="message_id").distinct()
    here = of_day.select(_here=_.account_id.fill_null("")).distinct()
    spans = (
        known.filter(_.sent_at.notnull())
        .group_by(_logs=_.account_id.fill_null(""))
        .agg(_first=epoch_ms(_.sent_at.min()), _last=epoch_ms(_.sent_at.max()))
        .semi_join(here, [("_logs", "_here")])
    )
    anyone = spans.filter(_._logs == "").agg(_any_first=_._first.min(), _any_last=_._last.max())
    received = epoch_ms(_.received_at)
    covered = [
        ((received >= first - MARGIN_MS) & (received <= last + MARGIN_MS)).fill_null(NO)
        for first, last in ((_._first, _._last), (_._any_first, _._any_last))
    ]
    return (
        pairs.left_join(ids, [("message_id", "_logged")])
        .left_join(spans, [("account_id", "_logs")])
        .cross_join(anyone)
        .mutate(unsent_by_us=_._logged.isnull() & (_.product == SMS) & ibis.or_(*covered))
        .drop("_logged", "_logs", "_first", "_last", "_any_first", "_any_last")
    )


def _by_then(sent: ibis.Table, scope: Scope) -> ibis.Table:
    """What was sent by as_of; what has no time always was."""
    return sent.filter(_.sent_at.isnull() | (_.sent_at <= scope.moment))
