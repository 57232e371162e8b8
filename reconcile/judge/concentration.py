"""Where a rise of missing, unknown or suspect messages is over-represented. It never says why."""

from __future__ import annotations

import re
from typing import Any

import ibis
import numpy as np
from ibis import _

from reconcile import vocabulary as words
from reconcile.judge.pair import epoch_ms

LEAST_SUPPORT, LEAST_LIFT, LEAST_MESSAGES = 0.05, 1.5, 10
SHOWN = 3
RISING = ("missing", "unknown", "suspect")
HOUR_MS = 3_600_000


def slices(verdicts: ibis.Table, campaign: str | None) -> ibis.Table:
    """One row a `dimension` and `value` of a day: its messages, and those of each doubtful verdict.

    Args:
        verdicts: the day's `verdicts`.
        campaign: a regular expression whose group `campaign` is in `client_ref`.
    """
    hour = (epoch_ms(_.received_at) // HOUR_MS % 24).cast("string")
    sender = _.sender.fill_null(words.UNKNOWN)
    dimensions: dict[str, Any] = {
        "country": _.country,
        "network": _.country + " " + _.network_code,
        "sender": sender,
        "error code": _.receipt_error_code,
        "hour": hour.lpad(2, "0") + ":00",
        "account": _.account_id,
        "network × sender": _.country + " " + _.network_code + " × " + sender,
    }
    if campaign:
        group = re.compile(campaign).groupindex["campaign"]
        named = _.client_ref.re_extract(campaign, group).nullif("").fill_null(words.UNKNOWN)
        dimensions["campaign"] = named
    each = [
        verdicts.group_by(value=value).agg(
            messages=_.count(),
            **{name: _.count(where=_.verdict == name) for name in RISING},
        ).mutate(dimension=ibis.literal(name))
        for name, value in dimensions.items()
    ]  # fmt: skip
    return ibis.union(*each).filter(_.value.notnull())  # many receipts have no error code


def concentrations(sliced: Any, verdict: str) -> list[dict[str, Any]]:
    """The slices that carry most of a rise, the most telling first: at most three.

    Args:
        sliced: a pandas frame of `slices`.
        verdict: what rose.
    """
    # A dimension of one value says nothing, and neither does a pair that is its network alone.
    told = sliced[sliced.groupby("dimension")["value"].transform("size") > 1]
    whole = sliced[sliced.dimension == "country"]
    total, messages = int(whole[verdict].sum()), int(whole.messages.sum())
    if not total:
        return []
    told = told.assign(support=told[verdict] / total)
    told = told.assign(lift=told.support / (told.messages / messages))
    told = told[
        (told.support >= LEAST_SUPPORT)
        & (told.lift >= LEAST_LIFT)
        & (told[verdict] >= LEAST_MESSAGES)
    ]
    # How much of the likelihood ratio it makes: many messages, much more often than others.
    weight = told[verdict] * np.log(told.lift)
    order = told.assign(weight=weight).sort_values(
        ["weight", "dimension", "value"], ascending=[False, True, True], kind="stable"
    )
    return [
        {
            "verdict": verdict, "rank": rank, "dimension": row.dimension, "value": row.value,
            "messages": int(row.messages), "affected": int(getattr(row, verdict)),
            "support": float(row.support), "lift": float(row.lift),
            "sentence": f"{row.dimension} {row.value} is over-represented: "
            f"{row.support * 100:.3g} % of all {verdict} messages are there, "
            f"{row.lift:.3g} times its part of the traffic",
        }
        for rank, row in enumerate(order.head(SHOWN).itertuples(), 1)
    ]  # fmt: skip
