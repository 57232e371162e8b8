"""Outages of our own capture: five minutes in which hardly any receipt came, whatever the network.

A carrier that falls silent is one network; a webhook that is down is all of them. Found in the
verdicts of a day, since it takes many messages to see one.
"""

from __future__ import annotations

from datetime import timedelta

import ibis
from ibis import _

from reconcile import vocabulary as words
from reconcile.judge.pair import NO, epoch_ms, instant_ms
from reconcile.judge.rules import OUTAGE
from reconcile.moments import Moment
from reconcile.tables import one_of

REPLACES = "lost_webhook"
BIN_MS = 5 * 60_000
# Of so many messages whose receipt is due in a bin, such a share lacks it, on so many networks.
LEAST_MESSAGES, LEAST_SHARE, LEAST_NETWORKS = 20, 0.8, 3


def outages(verdicts: ibis.Table, as_of: Moment, grace: timedelta) -> ibis.Table:
    """The bins (`bin`: whole 5 minutes since 1970) of a day's verdicts in which we did not hear.

    A message counts in the bin in which it ended (was received, where that is not known), once its
    grace is over.
    """
    until = instant_ms(as_of) - round(grace.total_seconds() * 1000)
    due = verdicts.filter(one_of(_.record_status, words.FINAL), _ended_ms() <= until)
    lacks = (~one_of(_.receipt_status, words.FINAL)).fill_null(ibis.literal(value=True))
    bins = due.group_by(bin=ended_in()).agg(
        messages=_.count(),
        lacking=_.count(where=lacks),
        networks=_.network_code.nunique(where=lacks),
    )
    return bins.filter(
        _.messages >= LEAST_MESSAGES,
        _.lacking >= _.messages * LEAST_SHARE,
        _.networks >= LEAST_NETWORKS,
    ).select("bin")


def masked(verdicts: ibis.Table, outages: ibis.Table) -> ibis.Table:
    """Verdicts in which a webhook that was lost in an outage says so."""
    silent = outages.select(_outage="bin")
    placed = verdicts.mutate(_bin=ended_in()).left_join(silent, [("_bin", "_outage")])
    first = (placed.verdict == "missing") & (placed.reasons[0] == REPLACES)
    ours = (first & placed["_outage"].notnull()).fill_null(NO)
    instead = ibis.array([ibis.literal(OUTAGE.name)]).concat(placed.reasons[1:])
    return placed.mutate(reasons=ibis.ifelse(ours, instead, placed.reasons)).drop("_bin", "_outage")


def _ended_ms() -> ibis.Value:
    return epoch_ms(ibis.coalesce(_.finalized_at, _.received_at))


def ended_in() -> ibis.Value:
    """The bin in which a message ended; was received, where its end is not known."""
    return _ended_ms() // BIN_MS
