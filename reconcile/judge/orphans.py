"""Receipts that join no record, and what each of them is. Pure, as the rest of the core."""

from __future__ import annotations

import ibis
from ibis import _

from reconcile import vocabulary as words
from reconcile.judge.pair import NO, Scope, by_mcc, epoch_ms, receipts_known
from reconcile.tables import ORPHANS

KINDS = {
    "foreign_account": "Its api-key is none of our accounts.",
    "near_match": "A record of the same recipient within 72 h differs in leading zeros only.",
    "uncovered": "Days in which its record may lie were not downloaded: we cannot know.",
    "unknown_message": "No record has its id, though all days it can belong to are here.",
}
NEAR_MS = 72 * 3_600_000


def unjoined(receipts: ibis.Table, records: ibis.Table, scope: Scope) -> ibis.Table:
    """The receipts, as known at as_of, whose message id no record has.

    Their ids first, in columns of their own: of a large day the engine has to write aside what it
    joins.
    """
    ids = records.filter(_.received_at <= scope.moment).select(record_message_id="message_id")
    heard = receipts_known(receipts.select("message_id", "captured_at", "pushed_at"), scope)
    lone = heard.anti_join(ids, [("message_id", "record_message_id")]).select(lone="message_id")
    return receipts_known(receipts, scope).semi_join(lone, [("message_id", "lone")])


def orphans(
    unjoined: ibis.Table, records: ibis.Table, day: ibis.Table, accounts: frozenset[str],
    scope: Scope,
) -> ibis.Table:  # fmt: skip
    """Rows of `orphans`: receipts that join nothing, with their kind and country.

    Args:
        unjoined: what the function of that name yields.
        records: the records of all days that they can belong to.
        day: one row: `is_covered`, whether all those days were downloaded.
        accounts: the accounts that are ours; none known, none foreign.
        scope: as_of.
    """
    asked = unjoined.filter(_.recipient.notnull()).select(_asked="recipient").distinct()
    near = (
        records.filter(_.received_at <= scope.moment)
        .semi_join(asked, [("recipient", "_asked")])
        .select(_bare=_bare(_.message_id), _recipient="recipient", _received="received_at")
    )
    apart = epoch_ms(ibis.coalesce(_.pushed_at, _.captured_at)) - epoch_ms(_._received)
    # An inner join: engines compare all with all where a semi join asks for more than equality.
    resembling = (
        unjoined.mutate(bare=_bare(_.message_id))
        .join(near, [("bare", "_bare"), ("recipient", "_recipient")])
        .filter(apart.abs() <= NEAR_MS)
        .select(_source="source", _line="line")
    )
    foreign = _.account_id.notin(tuple(accounts)) if accounts else NO
    placed = (
        unjoined.left_join(resembling.distinct(), [("source", "_source"), ("line", "_line")])
        .mutate(_prefix=_.network_code.left(3))
        .left_join(by_mcc(), [("_prefix", "_mcc")])
        .cross_join(day.select("is_covered"))
    )
    return placed.mutate(
        kind=ibis.cases(
            (foreign.fill_null(NO), "foreign_account"),
            (_._source.notnull(), "near_match"),
            (_.is_covered, "unknown_message"),
            else_="uncovered",
        ),
        country=_._mcc_country.fill_null(words.UNKNOWN),
    ).select(ORPHANS.names)


def _bare(message_id: ibis.Deferred) -> ibis.Value:
    return message_id.re_replace("^0+", "")
