"""What a network's verdict rests on, in one sentence of plain words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reconcile.judge.networks import PEAK

# Of whom a baseline speaks, if not of the network itself.
OWN_ENOUGH = 50
# For each rule: what is counted of what. `{k}` and `{n}` are numbers.
COUNTED = {
    "missing_rise": "{k} of {n} messages lack their receipt",
    "unknown_rise": "{k} of {n} messages end as unknown",
    "no_tail": "{k} of {n} deliveries took more than 60 s",
    "no_trouble": "{k} of {n} messages were not delivered within 60 s",
    "too_fast_share": "{k} of {n} deliveries came sooner than a handset can answer",
    "too_perfect": "{k} of {n} messages failed",
    "conversion_gap": "{k} of {n} delivered messages converted",
}
PLAIN = {
    "no_receipts_expected": "no receipts are to be expected of its {messages} messages",
    "insufficient_data": "{messages} messages: too few to tell",
    "contradictory": "{contradicted} of {told} messages contradict themselves",
    "carrier_ack_only": "the capability table says that its receipts come from the carrier",
    "suspect": "the capability table says that its receipts are not to be believed",
}


def sentence(verdict: str, row: Mapping[str, Any], test: Mapping[str, Any] | None) -> str:
    """One sentence.

    Args:
        verdict: the network's.
        row: its columns of `networks`, as far as they are known before the sentence.
        test: what its leading rule found; None where none held.
    """
    numbers = {name: f"{value:,}" for name, value in row.items() if isinstance(value, int)}
    if test is None or verdict in ("no_receipts_expected", "insufficient_data", "contradictory"):
        if verdict in PLAIN:
            return PLAIN[verdict].format_map(numbers)
        return f"nothing is odd in {numbers['seen']} messages; {_power(row['power_10'])}"
    if test["rule"] == "narrow_latency":
        return f"{_narrow(row, test)}; {_before(row, test)}"
    counted = COUNTED[test["rule"]].format(k=f"{test['k']:,}", n=f"{test['n']:,}")
    return f"{counted}; {_before(row, test)}"


def _narrow(row: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    if test["n"] and test["k"] >= PEAK * test["n"]:
        return f"{test['k']:,} of {test['n']:,} receipts claim delivery within the same 100 ms"
    low, high = row["latency_p25_ms"] / 1000, row["latency_p75_ms"] / 1000
    within = f"half of {test['n']:,} deliveries took between {low:.3g} and {high:.3g} s"
    return f"{within}, and {test['k']:,} the same 100 ms"


def _before(row: Mapping[str, Any], test: Mapping[str, Any]) -> str:
    if test["baseline"] is None:
        return "nothing is known from before"
    what = "country" if row["network_code"] == "*" else "network"
    own = test["baseline_n"] >= OWN_ENOUGH
    whose = f"this {what}'s own 28 days before" if own else "others like it, 28 days before"
    tail = "" if test["p"] is None else f" (p {test['p']:.2g}, q {test['q']:.2g})"
    return f"{whose}: {_percent(test['baseline'])}{tail}"


def _power(power: float | None) -> str:
    if power is None:
        return "too little is known from before to see receipts that are made up"
    return f"were a tenth made up, it would be found with a probability of {_percent(power)}"


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
