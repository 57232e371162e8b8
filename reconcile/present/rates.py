"""Sums of the summary → rates with their intervals, by the definitions of the table `summary`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reconcile.present.numbers import between, percent
from reconcile.wilson import wilson

if TYPE_CHECKING:
    import pandas as pd

MEASURES = ("missing", "unknown", "suspect")


@dataclass(frozen=True)
class Rate:
    """k of n; `value`, `low` and `high` (Wilson 95 %) are None where n is 0."""

    k: int
    n: int

    @property
    def value(self) -> float | None:
        return self.k / self.n if self.n else None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval's two ends."""
        if not self.n:
            return None
        low, high = wilson(self.k / self.n, self.n, math.sqrt)
        return low if self.k else 0.0, high if self.k < self.n else 1.0

    @property
    def words(self) -> str:
        """As 4.0 % (2.1–7.5)."""
        ends = self.ends
        return percent(self.value) + (f" ({between(*ends)})" if ends else "")


def rate(measure: str, sums: Mapping[Any, Any]) -> Rate:
    """The rate of `missing`, `unknown` or `suspect` in sums of `summary`'s counts.

    Messages that an outage of our own capture swallowed are in no rate of missing ones.
    """
    outage = int(sums["missing_capture_outage"]) if measure == "missing" else 0
    return Rate(int(sums[measure]) - outage, told_of(sums) - outage)


def confirmed(sums: Mapping[Any, Any]) -> Rate:
    """Which part of the messages that can be told is confirmed."""
    return Rate(int(sums["confirmed"]), told_of(sums))


def told_of(sums: Mapping[Any, Any]) -> int:
    """How many messages can be told of: a receipt of theirs was due."""
    return int(sums["messages"]) - int(sums["pending"]) - int(sums["not_expected"])


def unconfirmed(sums: Mapping[Any, Any]) -> int:
    """Missing, unknown and suspect messages together."""
    return sum(int(sums[measure]) for measure in MEASURES)


def totals(frame: pd.DataFrame, names: tuple[str, ...]) -> dict[str, int]:
    """The sum of each of these columns; 0 where there is no row."""
    return {name: int(frame[name].sum()) for name in names}
