"""Some messages of each odd network, to look at: of those that its leading rule means."""

from __future__ import annotations

from typing import Any

import ibis
from ibis import _

from reconcile.judge.networks import WHOLE

SAMPLES = 5
# Which of a network's messages a rule means; "" stands for all rules that are not named.
MEANS: dict[str, Any] = {
    "missing_rise": _.verdict == "missing",
    "unknown_rise": _.verdict == "unknown",
    "too_fast_share": _.reasons.contains("too_fast"),
    "contradictory": _.verdict == "suspect",
    "": _.record_status.isin(("delivered", "read")),
}


def samples(verdicts: ibis.Table, odd: ibis.Table) -> ibis.Table:
    """A few message ids of each odd network: the first by their digest, which is as good as chance.

    Args:
        verdicts: the day's `verdicts`.
        odd: `country`, `network_code` (`*`: the whole country) and `rule`, a key of `MEANS`.

    Returns:
        `country`, `network_code`, `rule` and `message_id`, at most five of each.
    """
    named = odd.select(odd_country="country", odd_code="network_code", rule="rule")
    read = ("message_id", "country", "network_code", "verdict", "record_status", "reasons")
    meant = ibis.or_(*((_.rule == rule) & holds for rule, holds in MEANS.items()))
    mine = (_.odd_code == _.network_code) | (_.odd_code == WHOLE)
    of_each = ibis.window(
        group_by=["odd_country", "odd_code", "rule"], order_by=_.message_id.hexdigest("md5")
    )
    return (
        verdicts.select(*read)
        .join(named, [("country", "odd_country")])
        .filter(mine, meant)
        .mutate(number=ibis.row_number().over(of_each))
        .filter(_.number < SAMPLES)
        .select(country="odd_country", network_code="odd_code", rule="rule",
                message_id="message_id")
    )  # fmt: skip
