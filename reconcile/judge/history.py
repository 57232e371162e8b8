"""What networks were like, day by day, as whole arrays: days × networks, days without a gap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reconcile.judge.networks import (
    BASELINE_DAYS,
    BASELINE_ENDS,
    COUNTED,
    Past,
    Present,
    is_narrow,
)
from reconcile.judge.statistics import Flags, Floats, Whole

# Columns that are read and are no test's n or k.
ALSO = ("messages", "masked", "not_expected", "contradicted")
COLUMNS = tuple(dict.fromkeys((*COUNTED, *ALSO)))


@dataclass(frozen=True)
class History:
    """Networks over days; where one was not there, everything is 0.

    Attributes:
        counts: by column of `networks`: days × networks.
        histogram: days × networks × bins; of days that no span reaches it may be 0.
        narrow: whether its delivery times were narrow.
        quantiles: `networks.QUANTILES` of delivery time in ms; 0 where there is none.
        flagged: whether it was an alarm, which makes the day no baseline.
        group: of each network the number of its country.
        capability: of each network what the capability table says; "" where nothing.
    """

    counts: Mapping[str, Whole]
    histogram: Whole
    narrow: Flags
    quantiles: Floats
    flagged: Flags
    group: Whole
    capability: list[str]

    def past(self, at: int) -> Past:
        """The days that the day `at` is held against."""
        window = slice(
            max(at - BASELINE_ENDS - BASELINE_DAYS + 1, 0), max(at - BASELINE_ENDS + 1, 0)
        )
        counts = {name: self.counts[name][window] for name in COLUMNS}
        return Past(
            counts, self.flagged[window], self.narrow[window], self.quantiles[:, window], self.group
        )

    def present(self, at: int, days: int) -> Present:
        """The span of so many days that ends with the day `at`."""
        window = slice(max(at - days + 1, 0), at + 1)
        counts = {name: values[window].sum(0) for name, values in self.counts.items()}
        parts = self.counts["messages"][window] / np.maximum(counts["messages"], 1)
        return Present(
            days, counts, np.where(counts["messages"] > 0, (parts**2).sum(0), 1.0),
            self.histogram[window].sum(0), self.group, self.capability,
        )  # fmt: skip

    def countries(self, flagged: Flags, capability: list[str]) -> History:
        """The same, a whole country in each place; all are of one group: the world.

        Args:
            flagged: days × countries.
            capability: of each country.
        """
        many = int(self.group.max(initial=-1)) + 1
        order = np.argsort(self.group, kind="stable")
        starts = np.searchsorted(self.group[order], np.arange(many))
        in_order = bool((np.diff(self.group) >= 0).all())

        def added(values: Any) -> Any:
            found = np.zeros((len(values), many, *values.shape[2:]), values.dtype)
            for day in np.flatnonzero(values.any(axis=tuple(range(1, values.ndim)))):
                of_day = values[day] if in_order else values[day][order]
                found[day] = np.add.reduceat(of_day, starts, axis=0)
            return found

        counts = {name: added(values) for name, values in self.counts.items()}
        histogram = added(self.histogram)
        narrow = np.array([is_narrow(*day) for day in zip(histogram, counts["peak"], strict=True)])
        # The histograms of older days are not at hand: a country's are the means of its networks'.
        weighed = np.array([added(times * self.counts["timed"]) for times in self.quantiles])
        nothing = np.zeros(weighed.shape)
        quantiles = np.divide(weighed, counts["timed"], out=nothing, where=weighed > 0)
        group = np.zeros(many, np.int64)
        return History(counts, histogram, narrow, quantiles, flagged, group, capability)
