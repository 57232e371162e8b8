"""Networks as invented arrays: honest ones of several families, and fakers among them.

Delivery times are drawn into the bins that the job keeps, from distributions that are lognormal in
the body and have a tail of handsets that were off; failures vary from day to day more than chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from reconcile.judge.features import BINS, PEAK_MS, edges_ms
from reconcile.judge.history import COLUMNS, History
from reconcile.judge.networks import QUANTILES, is_narrow, quantile, slow

Floats = npt.NDArray[np.float64]
Random = np.random.Generator
EDGES = np.array(edges_ms())
WEEK = np.array([1.0, 1.05, 1.05, 1.0, 1.1, 0.7, 0.55])
CONSTANT, UNIFORM, COPIED, BULK = "constant delay", "uniform delay", "copied body", "bulk only"


@dataclass(frozen=True)
class Family:
    """How the honest networks of a world go.

    Attributes:
        volume: messages a day, drawn log-uniformly between these.
        tail: share of messages whose handset was off.
        tail_spread: of the lognormal time until it was on again.
        failing: mean share of failures; `steady`: precision of its beta from day to day.
        wander: how far a network's median moves from day to day.
        routes: how many networks change their route (times twice or half) in the middle.
    """

    name: str
    volume: tuple[float, float] = (60, 5000)
    tail: tuple[float, float] = (0.03, 0.10)
    tail_spread: float = 1.5
    failing: tuple[float, float] = (0.02, 0.10)
    steady: float = 400.0
    weekly: bool = True
    wander: float = 0.1
    routes: float = 0.0


FAMILIES = (
    Family("lognormal body, heavy tail"),
    Family("heavier tail, restless medians", tail=(0.05, 0.15), tail_spread=2.2, wander=0.3),
    Family("over-dispersed failures", steady=60.0),
    Family("small networks", volume=(30, 200)),
    Family("large networks", volume=(5000, 60_000), steady=1000.0),
    Family("route changes", routes=0.2, wander=0.2),
)


@dataclass(frozen=True)
class Fake:
    """How a faker makes receipts up: how, and for what part of its messages, from which day on."""

    kind: str
    share: float
    since: int


@dataclass
class World:
    """Networks over days, before anything is drawn."""

    family: Family
    random: Random
    networks: int = 300
    days: int = 48
    countries: int = 60
    volume: Floats = field(init=False)
    median: Floats = field(init=False)
    spread: Floats = field(init=False)
    tail: Floats = field(init=False)
    failing: Floats = field(init=False)
    group: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        r, f, many = self.random, self.family, self.networks
        self.group = np.sort(r.integers(0, self.countries, many))
        self.group = np.unique(self.group, return_inverse=True)[1].astype(np.int64)
        of_country = r.normal(0, 0.5, self.countries)[self.group]
        self.volume = np.exp(r.uniform(*np.log(f.volume), many))
        self.median = 3500 * np.exp(of_country + r.normal(0, 0.4, many))
        self.spread = r.uniform(0.55, 1.1, many)
        self.tail = r.uniform(*f.tail, many)
        self.failing = np.clip(np.mean(f.failing) * np.exp(0.3 * of_country), *f.failing)
        self.failing = np.clip(self.failing * np.exp(r.normal(0, 0.4, many)), 0.004, 0.3)

    def history(self, fakes: dict[int, Fake]) -> History:
        """Draws what all days showed; `fakes`: the networks that make receipts up."""
        r, f, shape = self.random, self.family, (self.days, self.networks)
        n = self.volume * np.exp(r.normal(0, 0.15, shape))
        if f.weekly:
            n = n * WEEK[np.arange(self.days) % 7][:, None]
        n = r.poisson(n)
        median = self.median * np.exp(r.normal(0, f.wander, shape))
        changed = r.random(self.networks) < f.routes
        middle = r.integers(self.days // 2, self.days - 1, self.networks)
        factor = np.where(r.random(self.networks) < 0.5, 2.0, 0.5)
        after = np.arange(self.days)[:, None] >= middle
        median = median * np.where(changed & after, factor, 1.0)
        failing = r.beta(self.failing * f.steady, (1 - self.failing) * f.steady, shape)
        made_up = np.zeros(shape)
        for at, fake in fakes.items():
            made_up[fake.since :, at] = fake.share
        fakes_n = r.binomial(n, made_up)
        failed = r.binomial(n - fakes_n, failing)
        times = self._times(n - fakes_n - failed, median)
        peak = r.binomial(
            n - fakes_n - failed, np.minimum(PEAK_MS * 0.45 / (median * self.spread), 1)
        )
        for at, fake in fakes.items():
            for day in range(fake.since, self.days):
                some = _fakes(r, fake.kind, int(fakes_n[day, at]), median[day, at], self.spread[at])
                times[day, at] += np.bincount(_bins(some), minlength=BINS)
                peak[day, at] += np.bincount((some // PEAK_MS).astype(int)).max(initial=0)
        return _history(self, n, failed, times, peak)

    def _times(self, n: npt.NDArray[np.int64], median: Floats) -> npt.NDArray[np.int64]:
        edges = np.log(np.maximum(EDGES, 1e-3))
        found = np.zeros((*n.shape, BINS), np.int64)
        for day in range(self.days):
            body = ndtr((edges - np.log(median[day])[:, None]) / self.spread[:, None])
            waits = ndtr((edges - np.log(300_000)) / self.family.tail_spread)
            reached = (1 - self.tail)[:, None] * body + self.tail[:, None] * waits
            parts = np.diff(reached, axis=1)
            parts[:, -1] += 1 - parts.sum(1)
            parts = np.maximum(parts, 0)
            found[day] = self.random.multinomial(n[day], parts / parts.sum(1)[:, None])
        return found


def _fakes(r: Random, kind: str, n: int, median: float, spread: float) -> Floats:
    if kind == CONSTANT:
        return np.maximum(r.normal(2000, 20, n), 1)
    if kind == UNIFORM:
        return r.uniform(1000, 6000, n)
    return np.minimum(np.asarray(median * np.exp(spread * r.standard_normal(n))), 55_000)


def _bins(times: Floats) -> npt.NDArray[np.int64]:
    return np.clip(np.searchsorted(EDGES, times, side="right") - 1, 0, BINS - 1)


def _history(
    world: World, n: npt.NDArray[np.int64], failed: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64], peak: npt.NDArray[np.int64],
) -> History:  # fmt: skip
    from reconcile.judge.features import SLOW_BIN

    timed, late = slow(times)
    counts = {name: np.zeros(n.shape, np.int64) for name in COLUMNS}
    counts |= {
        "messages": n, "told": n, "seen": n, "timed": timed, "slow": late, "peak": peak,
        "delivered": times.sum(2), "ended_soon": timed + failed, "failed_soon": failed,
        "troubled": n - times[..., :SLOW_BIN].sum(2),
        "told_missing": world.random.binomial(n, 0.02),
        "told_unknown": world.random.binomial(n, 0.01),
    }  # fmt: skip
    narrow = np.array([is_narrow(*day) for day in zip(times, peak, strict=True)])
    taken = [[quantile(day, share) for day in times] for share in QUANTILES]
    none = [""] * world.networks
    return History(
        counts,
        times,
        narrow,
        np.nan_to_num(np.array(taken)),
        np.zeros(n.shape, bool),
        world.group,
        none,
    )


def fakers(
    random: Random, networks: int, many: int, kinds: Iterable[str], share: float, since: int
) -> dict[int, Fake]:
    """Some networks that make receipts up, all kinds in turn."""
    chosen = random.choice(networks, many, replace=False)
    named = list(kinds)
    one = Fake("", share, since)
    return {int(at): replace(one, kind=named[n % len(named)]) for n, at in enumerate(chosen)}
