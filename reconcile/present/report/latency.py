"""How long deliveries took: quantiles and shapes, from the histograms in `networks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from reconcile.judge.features import BINS, SLOW_BIN, edges_ms
from reconcile.present import numbers
from reconcile.present.report.gather import Gathered
from reconcile.present.report.heat import place

SHOWN, DRAWN = 15, 3


@dataclass(frozen=True)
class Latency:
    """Delivery times of a network, or of all of them; `bins` is how many in each bin."""

    name: str
    delivered: int
    p50_ms: float
    p95_ms: float
    slow: float
    bins: Sequence[int]

    @property
    def words(self) -> tuple[str, str, str]:
        return (numbers.seconds(self.p50_ms), numbers.seconds(self.p95_ms),
                numbers.percent(self.slow))  # fmt: skip


def latencies(found: Gathered) -> list[Latency]:
    """All networks together, then each, the one with most deliveries first; [] without any."""
    bins: dict[tuple[str, str], Any] = {}
    columns = (found.latencies[name] for name in ("country", "network_code", "bin", "n"))
    for country, code, number, n in zip(*columns, strict=True):
        bins.setdefault((country, code), np.zeros(BINS, np.int64))[int(number)] += int(n)
    if not bins:
        return []
    named = {(r["country"], r["network_code"]): place(r)
             for r in found.summary.drop_duplicates(["country", "network_code"], keep="last")
             .to_dict("records")}  # fmt: skip
    order = sorted(bins, key=lambda key: (-int(bins[key].sum()), key))
    each = [_latency(named.get(key, " ".join(key)), bins[key]) for key in order]
    return [_latency("All networks", sum(bins.values())), *each]


def _latency(name: str, bins: Any) -> Latency:
    total = int(bins.sum())
    return Latency(name, total, quantile(bins, 0.5), quantile(bins, 0.95),
                   float(bins[SLOW_BIN:].sum() / total), bins.tolist())  # fmt: skip


def quantile(bins: Any, part: float) -> float:
    """The time in ms that this part of the deliveries took at most, interpolated in its bin."""
    edges, until = edges_ms(), np.cumsum(bins)
    wanted = part * until[-1]
    at = int(np.searchsorted(until, wanted))
    before = until[at - 1] if at else 0
    return float(edges[at] + (edges[at + 1] - edges[at]) * (wanted - before) / bins[at])


def drawn(found: Sequence[Latency], odd: Mapping[str, str]) -> list[tuple[str, Latency]]:
    """Which shapes are shown: all together, then odd networks, the rest by size."""
    rest = sorted(found[1:], key=lambda each: (list(odd).index(each.name) if each.name in odd
                                               else len(odd), -each.delivered))  # fmt: skip
    chosen = [*found[:1], *rest[:DRAWN]]
    return [(f"{each.name}: {odd[each.name]}" if each.name in odd else each.name, each)
            for each in chosen]  # fmt: skip
