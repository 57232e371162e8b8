"""A day's verdicts → what the networks' rules look at: counts, delivery times in bins, money.

Computed as columns on the engine; what leaves it is one row a network and currency, and one a
network and bin. All of it can be added up: days make a span, networks a country.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

import ibis
from ibis import _

from reconcile import vocabulary as words
from reconcile.judge.outages import ended_in
from reconcile.judge.pair import NO, epoch_ms
from reconcile.judge.rules import CONTRADICTIONS
from reconcile.tables import one_of

# Bins of delivery time: eight an octave, so that 60 s is an edge. In units of 60 s / 8192 (7 ms)
# all edges are whole numbers; what is shorter than eight units is in the first bin.
UNITS, UNITS_MS = 8192, 60_000
IN_OCTAVE, FIRST_OCTAVE = 8, 3
BINS = 192  # up to 8 days; what takes longer is in the last
SLOW_BIN, LATE_BIN = 80, 120  # the first bins at 60 s, and at 32 min
# A rule must find the same whenever a day is judged: it sees what ended in half an hour, since the
# last message of a day has had at least that (`settle`) when it is judged first.
SLOW_MS, SOON_MS = 60_000, 32 * 60_000
PEAK_MS = 100
DELIVERED, FAILED = ("delivered", "read"), ("failed", "rejected", "undeliverable")
UNCONFIRMED = ("missing", "unknown", "suspect")
NETWORK = ("country", "network_code")


def counts(verdicts: ibis.Table, outages: ibis.Table, converted: ibis.Table) -> ibis.Table:
    """One row a country, network code and currency of a day: its counts and its money.

    Args:
        verdicts: the day's `verdicts`.
        outages: the bins in which our own capture was down (`outages.outages`). A message that
            ended in one counts in `messages`, its verdict and `masked`, and in nothing else.
        converted: the message ids (`converted_id`) of which the user says that they converted.
    """
    told = _.seen & _.verdict.notin(("pending", "not_expected"))
    soon = _.seen & (_.took_ms < SOON_MS).fill_null(NO)
    contradicts = _says(*(rule.name for rule in CONTRADICTIONS))
    quick = (_.took_ms < SLOW_MS).fill_null(NO)
    money = {
        "spend": None,
        "spend_unconfirmed": _.verdict.isin(UNCONFIRMED),
        "spend_delivered": _.is_delivered,
    }
    return (
        _looked_at(verdicts, outages)
        .left_join(converted, [("message_id", "converted_id")])
        .group_by([*NETWORK, "currency"])
        .agg(
            country_name=_.country_name.max(),
            network_name=_.network_name.max(),
            messages=_.count(),
            **{name: _.count(where=_.verdict == name) for name in words.VERDICTS},
            masked=_.count(where=_.is_masked),
            told=_.count(where=told),
            told_missing=_.count(where=told & (_.verdict == "missing")),
            told_unknown=_.count(where=told & (_.verdict == "unknown")),
            told_suspect=_.count(where=told & (_.verdict == "suspect")),
            contradicted=_.count(where=told & contradicts),
            seen=_.count(where=_.seen),
            delivered=_.count(where=_.is_delivered),
            failed=_.count(where=_.is_failed),
            expired=_.count(where=_.seen & (_.end == "expired")),
            ended_soon=_.count(where=soon & (_.is_delivered | _.is_failed)),
            failed_soon=_.count(where=soon & _.is_failed),
            delivered_quickly=_.count(where=_.is_delivered & quick),
            too_fast=_.count(where=_.is_delivered & _says("too_fast")),
            converted=_.count(where=_.is_delivered & _.converted_id.notnull()),
            **{
                name: _.record_price.sum(where=where).fill_null(0).cast("decimal(38, 8)")
                for name, where in money.items()
            },
        )
        .order_by([*NETWORK, "currency"])
    )


def histogram(verdicts: ibis.Table, outages: ibis.Table) -> ibis.Table:
    """One row a country, network code and `bin` of delivery time: `n` delivered messages."""
    units = _.took_ms * UNITS // UNITS_MS
    # Half a unit more is no power of two: no engine's logarithm can fall on the wrong side.
    octave = (ibis.greatest(_.units, 2**FIRST_OCTAVE) + 0.5).log2().floor().cast("int64")
    width = (2.0 ** (_.octave - FIRST_OCTAVE)).cast("int64")
    place = ibis.greatest(_.units, 2**FIRST_OCTAVE) // width - IN_OCTAVE
    number = (_.octave - FIRST_OCTAVE) * IN_OCTAVE + place
    return (
        _timed(verdicts, outages)
        .mutate(units=units)
        .mutate(octave=octave)
        .mutate(bin=ibis.least(number, BINS - 1).cast("int64"))
        .group_by([*NETWORK, "bin"])
        .agg(n=_.count())
        .order_by([*NETWORK, "bin"])
    )


def peaks(verdicts: ibis.Table, outages: ibis.Table) -> ibis.Table:
    """One row a country and network code: how many messages its fullest 100 ms delivered."""
    return (
        _timed(verdicts, outages)
        .filter(_.took_ms < SOON_MS)
        .group_by([*NETWORK, (_.took_ms // PEAK_MS).name("hundreds")])
        .agg(n=_.count())
        .group_by(list(NETWORK))
        .agg(peak=_.n.max())
        .order_by(list(NETWORK))
    )


def edges_ms() -> list[float]:
    """The lower edge of each bin in ms, the first at 0, and the upper edge of the last."""
    units = [
        2 ** (n // IN_OCTAVE) * (IN_OCTAVE + n % IN_OCTAVE) for n in range(BINS + 1)
    ]  # fmt: skip
    return [0.0, *(unit * UNITS_MS / UNITS for unit in units[1:])]


def _timed(verdicts: ibis.Table, outages: ibis.Table) -> ibis.Table:
    return _looked_at(verdicts, outages).filter(_.is_delivered, _.took_ms >= 0)


def _looked_at(verdicts: ibis.Table, outages: ibis.Table) -> ibis.Table:
    """Verdicts with what the features are made of."""
    silent = outages.select(_outage="bin")
    took = ibis.coalesce(_.latency_ms, epoch_ms(_.finalized_at) - epoch_ms(_.received_at))
    end = ibis.coalesce(_definite(_.record_status), _definite(_.receipt_status))
    placed = verdicts.mutate(_bin=ended_in(), took_ms=took, end=end)
    return (
        placed.left_join(silent, [("_bin", "_outage")])
        .mutate(is_masked=_._outage.notnull())
        .mutate(seen=~_.is_masked & (_.verdict != "not_expected"))
        .mutate(
            is_delivered=_.seen & _.end.isin(DELIVERED).fill_null(NO),
            is_failed=_.seen & _.end.isin(FAILED).fill_null(NO),
        )
    )


def _says(*reasons: str) -> ibis.Value:
    """Whether a message has one of these reasons; most have none at all, and are not searched."""
    found = reduce(or_, (_.reasons.contains(reason) for reason in reasons))
    return ibis.ifelse(_.reasons.length() == 0, NO, found)


def _definite(status: ibis.Value) -> ibis.Value:
    return ibis.ifelse(one_of(status, words.DEFINITE), status, ibis.null(str))
