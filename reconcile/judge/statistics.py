"""The statistics behind the networks' rules, over whole arrays. Knows nothing of messages.

A day's share of failures varies more than chance would have it: weekdays, handsets that are off,
campaigns to other people. So counts are held against a beta-binomial distribution, never against a
binomial one, whose alarms would be false by the dozen every day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv, betaln, gammaln

from reconcile.wilson import wilson

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Days and networks that the prior of an over-dispersion counts for.
PRIOR_DAYS = 20.0
# No traffic is less over-dispersed than that, however smooth a few weeks looked.
LEAST_RHO, MOST_RHO = 1e-4, 0.5
# How far the networks of a country differ, as the precision of a beta distribution.
LEAST_SPREAD, MOST_SPREAD = 2.0, 2000.0
LEAST_SHARE = 1e-5
# Terms of a sum: how little may be left out; how many of each are made at first, of all at most.
TERMS_END, TERMS_AT_ONCE, MOST_TERMS = 1e-8, 64, 1 << 16
# More likely than that, nobody asks how likely exactly.
OFTEN = 0.02


@dataclass(frozen=True)
class Baseline:
    """What a share has been: for each network a beta distribution over days.

    Attributes:
        mean: the network's share, shrunk to its group's, and that to all networks'.
        rho: over-dispersion from day to day (0: binomial).
        doubt: what is not known of the mean itself, in the same unit as rho.
        messages: how many messages of its own it is made of.
        days: on how many days.
    """

    mean: Floats
    rho: Floats
    doubt: Floats
    messages: Whole
    days: Whole

    def precision(self, evenness: Floats) -> Floats:
        """Of the beta distribution that a span's share is drawn from.

        Args:
            evenness: of each network the sum of the squares of its days' parts of the span: 1 for
                one day, 1/7 for seven equal ones.
        """
        rho = 1 - (1 - self.rho * evenness) * (1 - self.doubt)
        return 1 / np.clip(rho, LEAST_RHO / 10, MOST_RHO) - 1


def baseline(n: Whole, k: Whole, group: Whole) -> Baseline:
    """A baseline for each network from its days.

    Means are shrunk by what the data say of how far networks of a group, and groups, differ;
    over-dispersion is found by moments, each network's own weighed with that of all.

    Args:
        n, k: days × networks: messages, and those that are counted; 0 where a day is left out.
        group: of each network, the number of its group.
    """
    days, messages, hits = (n > 0).sum(0), n.sum(0), k.sum(0)
    groups = int(group.max(initial=-1)) + 1
    overall = _share(hits.sum(), messages.sum())
    of_group = _sums(group, hits, groups), _sums(group, messages, groups)
    rough = _share(hits + 20 * _share(*of_group, overall)[group], messages + 20)
    rho = _rho(n, k, rough, days)
    worth = messages**2 / np.maximum((n * (1 + (n - 1) * rho)).sum(0), 1)
    own = _share(hits, messages, overall)
    country = _shrunk(*of_group, _sums(group, worth, groups), np.full(groups, overall))
    spread = _spread(own, country.mean[group], worth)
    mean = (worth * own + spread * country.mean[group]) / (worth + spread)
    apart = 1 / (worth + spread + 1)
    # A network with no past of its own rests on its group, whose mean is in doubt too.
    leans = (spread / (worth + spread)) ** 2 * country.doubt[group]
    return Baseline(_within(mean), rho, np.minimum(apart + leans, MOST_RHO), messages, days)


@dataclass(frozen=True)
class _Level:
    mean: Floats
    doubt: Floats


def _shrunk(hits: Floats, messages: Floats, worth: Floats, above: Floats) -> _Level:
    own = _share(hits, messages, above)
    spread = _spread(own, above, worth)
    mean = (worth * own + spread * above) / (worth + spread)
    return _Level(_within(mean), 1 / (worth + spread + 1))


def _rho(n: Whole, k: Whole, mean: Floats, days: Whole) -> Floats:
    """Over-dispersion by moments: days' shares differ by more than a binomial would let them."""
    seen = n > 0
    total = np.maximum(n.sum(0), 1)
    share = np.divide(k, n, out=np.zeros(n.shape), where=seen)
    scatter = (n * (share - k.sum(0) / total) ** 2).sum(0) / (mean * (1 - mean))
    excess = scatter - np.maximum(days - 1, 0)
    slope = (np.where(seen, n - 1, 0) * (1 - n / total)).sum(0)
    told = (days > 1) & (slope > 0)
    own = np.divide(excess, slope, out=np.zeros(len(slope)), where=told)
    weight = np.where(told, days - 1, 0) * np.minimum(
        slope, np.median(slope[told]) if told.any() else 1
    )
    common = float((own * weight).sum() / weight.sum()) if weight.sum() else 0.01
    common = float(np.clip(common, LEAST_RHO, MOST_RHO))
    degrees = np.where(told, days - 1, 0)
    mixed = (degrees * np.clip(own, 0, MOST_RHO) + PRIOR_DAYS * common) / (degrees + PRIOR_DAYS)
    found: Floats = np.clip(mixed, LEAST_RHO, MOST_RHO)
    return found


def _spread(own: Floats, above: Floats, worth: Floats) -> float:
    """How tightly shares lie around those of the level above: a beta's precision, by moments."""
    told = worth >= 1
    if told.sum() < 3:
        return 20.0
    around = ((own - above) ** 2 / (above * (1 - above)))[told]
    weight = worth[told] / (worth[told] + 50)
    between = float(((around - 1 / worth[told]) * weight).sum() / weight.sum())
    return float(np.clip(1 / max(between, 1e-9) - 1, LEAST_SPREAD, MOST_SPREAD))


def lower_tail(k: Whole, n: Whole, mean: Floats, precision: Floats) -> Floats:
    """P(K ≤ k) of a beta-binomial distribution: exact where it is rare, see `_tail`."""
    return _tail(k, n, mean * precision, (1 - mean) * precision)


def upper_tail(k: Whole, n: Whole, mean: Floats, precision: Floats) -> Floats:
    """P(K ≥ k): the lower tail of what is not counted."""
    return _tail(n - k, n, (1 - mean) * precision, mean * precision)


def _tail(k: Whole, n: Whole, a: Floats, b: Floats) -> Floats:
    """Near enough where chance does it often, exact where it hardly ever does."""
    k, n, a, b = (np.ravel(x) for x in np.broadcast_arrays(k, n, a, b))
    p = _smooth_tail(k, n, a, b)
    rare = np.flatnonzero((p < OFTEN) & (k >= 0))
    p[rare] = np.minimum(_sum_down(k[rare], n[rare], a[rare], b[rare]), 1.0)
    return p


def _smooth_tail(k: Whole, n: Whole, a: Floats, b: Floats) -> Floats:
    """As though shares were continuous: a beta distribution with the same mean and variance."""
    mean, rho = a / (a + b), 1 / (a + b + 1)
    size = np.maximum(n, 1)
    precision = size / (1 + (size - 1) * rho) - 1
    precision = np.maximum(precision, 1e-3)
    upto = np.clip((k + 0.5) / size, 0, 1)
    below = betainc(mean * precision, (1 - mean) * precision, upto)
    found: Floats = np.where(k < 0, 0.0, below)
    return found


def _sum_down(k: Whole, n: Whole, a: Floats, b: Floats) -> Floats:
    """The terms from k downwards, some at once, until what is left of them is nothing."""
    at = np.maximum(k, 0).astype(float)
    size = n.astype(float)
    log = gammaln(size + 1) - gammaln(at + 1) - gammaln(size - at + 1)
    term: Floats = np.exp(log + betaln(at + a, size - at + b) - betaln(a, b))
    total = term.copy()
    going = np.flatnonzero(at > 0)
    at_once = TERMS_AT_ONCE
    while len(going):
        steps = np.arange(at_once)
        here, full = at[going, None] - steps, size[going, None]
        ends, here = here <= 0, np.maximum(here, 1)
        above, below = b[going, None], a[going, None]
        ratio = here * (full - here + above) / ((full - here + 1) * (here - 1 + below))
        ratio[ends] = 0
        terms = term[going, None] * np.cumprod(ratio, axis=1)
        total[going] += terms.sum(1)
        term[going] = terms[:, -1]
        at[going] -= at_once
        # What is left is less than a geometric row; where terms still grow, none may be left out.
        rest = term[going] * at[going]
        still = (rest > TERMS_END * total[going]) | (ratio[:, -1] >= 1)
        going = going[(at[going] > 0) & still]
        # The few that go far, each by ever more terms at once.
        at_once = max(at_once, min(2 * at_once, MOST_TERMS // max(len(going), 1)))
    return total


def power(n: Whole, mean: Floats, precision: Floats, level: float, part: float) -> Floats:
    """How likely a lower tail of at most `level` is found where only a part of the mean is left."""
    size = np.maximum(n, 1)
    evenly = np.maximum(size / (1 + (size - 1) / (precision + 1)) - 1, 1e-3)
    upto = betaincinv(mean * evenly, (1 - mean) * evenly, level) * size - 0.5
    k = np.floor(upto).astype(np.int64)
    left = part * mean
    found: Floats = np.where(
        k >= 0, _smooth_tail(k, n, left * precision, (1 - left) * precision), 0
    )
    return found


def benjamini_hochberg(p: Floats) -> Floats:
    """q of each p (Benjamini and Hochberg 1995); nan stays nan, and is of no family."""
    q = np.full(p.shape, np.nan)
    given = np.flatnonzero(~np.isnan(p))
    if not len(given):
        return q
    order = given[np.argsort(p[given], kind="stable")]
    ranks = np.arange(1, len(order) + 1)
    steps = p[order] * len(order) / ranks
    q[order] = np.minimum(np.minimum.accumulate(steps[::-1])[::-1], 1.0)
    return q


def interval(k: Any, n: Any) -> tuple[Floats, Floats]:
    """The ends of the Wilson 95 % interval of k of n; nan where n is 0."""
    k, n = np.asarray(k, float), np.asarray(n, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        low, high = wilson(k / n, n, np.sqrt)
        return np.where(k > 0, low, n * 0 / n), np.where(k < n, high, n / n)


def _share(k: Any, n: Any, otherwise: Any = 0.5) -> Any:
    n = np.asarray(n, float)
    share = np.divide(k, n, out=np.broadcast_to(otherwise, n.shape).astype(float), where=n > 0)
    return _within(share)


def _within(share: Any) -> Any:
    return np.clip(share, LEAST_SHARE, 1 - LEAST_SHARE)


def _sums(group: Whole, values: Any, groups: int) -> Floats:
    return np.bincount(group, weights=values, minlength=groups).astype(float)
