"""The report in a few sentences, for who reads no further."""

from __future__ import annotations

from collections.abc import Sequence

from reconcile.present import numbers
from reconcile.present.rates import confirmed, rate, totals
from reconcile.present.report.causes import losers
from reconcile.present.report.coverage import spans
from reconcile.present.report.gather import COUNTS, Gathered
from reconcile.present.report.places import OddNetwork

BELIEVED_NO_MORE = ("suspect", "contradictory")
NAMED = 3


def in_short(found: Gathered, odd: Sequence[OddNetwork]) -> list[str]:
    """Two to five sentences: what is confirmed, who loses receipts, whom not to believe, holes."""
    sums = totals(found.summary, COUNTS)
    there = sum(state.is_published for state in found.states)
    if not sums["messages"]:
        told = [f"No message was sent on {numbers.plural(there, 'published day')}."]
    else:
        told = [
            f"Of {numbers.plural(sums['messages'], 'message')} on {numbers.plural(there, 'day')}, "
            f"{numbers.percent(confirmed(sums).value)} of those that can be told are confirmed, "
            f"and {numbers.percent(rate('missing', sums).value)} lack their receipt."
        ]
    if lost := losers(found):
        who, k, share = lost[0]
        told.append(f"Most often {who}: {numbers.plural(k, 'receipt')}, {share} of the missing.")
    if sentence := _not_believed(found, odd):
        told.append(sentence)
    holes = [state.day for state in found.states if not state.is_published]
    if holes:
        told.append(f"Of {spans(holes)} nothing is here: a hole, not a zero.")
    if sums["pending"]:
        told.append(f"{numbers.plural(sums['pending'], 'message')} may still get a receipt.")
    return told


def _not_believed(found: Gathered, odd: Sequence[OddNetwork]) -> str:
    if found.odd is None:
        return "Networks as a whole were not judged on these days."
    bad = [each.name for each in odd if each.verdict in BELIEVED_NO_MORE]
    if not bad:
        return "No network's receipts stand out as made up."
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    return f"Not to be believed as they stand: receipts of {', '.join(bad[:NAMED])}{more}."
