"""Networks as a whole: the statistics, each rule on both sides of its threshold, the verdicts."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import betabinom
from simulated_networks import COPIED, FAMILIES, World, fakers

from reconcile.judge import networks as core
from reconcile.judge import statistics as stats
from reconcile.judge.features import BINS, SLOW_BIN, edges_ms
from reconcile.judge.history import COLUMNS, History

# One network of its own country, three peers in another; 34 days before, and the day itself.
DAYS, NETWORKS = 35, 8
GROUP = np.array([0, 0, 0, 0, 1, 1, 1, 1])


def history(**of_last_day: Any) -> History:
    """Eight like networks of 1,000 messages a day; the first is as told on the last day."""
    shape = (DAYS, NETWORKS)
    usual = {
        "messages": 1000, "told": 1000, "seen": 1000, "timed": 930, "slow": 65, "peak": 40,
        "delivered": 950, "ended_soon": 980, "failed_soon": 50, "troubled": 120,
        "told_missing": 20, "told_unknown": 10, "told_suspect": 2, "contradicted": 2, "too_fast": 5,
    }  # fmt: skip
    random = np.random.default_rng(4)
    counts = {name: np.zeros(shape, np.int64) for name in COLUMNS}
    for name, value in usual.items():
        fixed = name in ("messages", "told", "seen", "timed", "delivered", "ended_soon")
        counts[name] = np.full(shape, value) if fixed else random.poisson(value, shape)
    times = np.zeros((*shape, BINS), np.int64)
    times[:, :, SLOW_BIN - 50 : SLOW_BIN - 20] = 29
    times[:, :, SLOW_BIN + 10] = 65
    narrow = np.zeros(shape, bool)
    if "times" in of_last_day:
        times[-1, 0] = of_last_day.pop("times")
    for name, value in of_last_day.items():
        counts[name][-1, 0] = value
    taken = np.array([[core.quantile(day, q) for day in times] for q in core.QUANTILES])
    flagged = np.zeros(shape, bool)
    return History(counts, times, narrow, taken, flagged, GROUP, [""] * NETWORKS)


def judged(what: History, days: int = 1) -> tuple[str, list[str]]:
    """The verdict on the first network, and its reasons."""
    found = core.judge(what.present(DAYS - 1, days), what.past(DAYS - 1))
    return found.verdict[0], found.reasons[0]


def in_bin(number: int, n: int = 930) -> np.ndarray:
    times = np.zeros(BINS, np.int64)
    times[number] = n
    return times


@pytest.mark.parametrize(("last", "verdict", "reasons"), [
    ({}, "normal", []),
    ({"told_missing": 65}, "normal", []),
    ({"told_missing": 90}, "suspect", ["missing_rise"]),
    ({"told_unknown": 80}, "suspect", ["unknown_rise"]),
    ({"slow": 58}, "normal", []),
    ({"slow": 5}, "suspect", ["no_tail"]),
    ({"slow": 5, "troubled": 4}, "suspect", ["no_tail", "no_trouble"]),
    ({"failed_soon": 1}, "watch", ["too_perfect"]),
    ({"failed_soon": 1, "slow": 1}, "suspect", ["no_tail", "too_perfect"]),
    ({"too_fast": 47}, "normal", []),
    ({"too_fast": 120}, "suspect", ["too_fast_share"]),
    ({"peak": 270}, "normal", []),
    ({"peak": 300}, "suspect", ["narrow_latency"]),
    ({"times": in_bin(40)}, "suspect", ["narrow_latency"]),
    ({"contradicted": 10}, "normal", []),
    ({"contradicted": 11}, "contradictory", []),
    ({"seen": 29, "peak": 300}, "insufficient_data", ["narrow_latency"]),
    ({"not_expected": 1000}, "no_receipts_expected", []),
])  # fmt: skip
def test_rules(last: dict[str, Any], verdict: str, reasons: list[str]) -> None:
    """Each rule on both sides of what it takes."""
    assert judged(history(**last)) == (verdict, reasons)


def test_every_rule_is_shown() -> None:
    """A rule without a line above, or below, fails."""
    shown = {
        reason for mark in test_rules.pytestmark for case in mark.args[1] for reason in case[2]
    }  # type: ignore[attr-defined]
    assert shown == {rule.name for rule in core.NETWORK_RULES} - {"conversion_gap"}


@pytest.mark.parametrize(("converted", "delivered", "holds"), [
    (160, 950, True), (260, 950, False), (100, 600, False),
])  # fmt: skip
def test_conversions(converted: int, delivered: int, holds: bool) -> None:
    """A fifth fewer conversions count only where as much is delivered as before."""
    what = history(converted=converted, delivered=delivered)
    what.counts["converted"][:-1] = 300
    assert ("conversion_gap" in judged(what)[1]) is holds


def test_a_faster_route_is_no_faker() -> None:
    """Where everything takes half as long, what is slow is slow by half as much."""
    what = history(slow=20)
    what.histogram[-1, 0] = np.roll(what.histogram[-1, 0], -8)
    what.histogram[-1, 0, SLOW_BIN + 2 - 8] = 60
    assert judged(what) == ("normal", [])
    what.histogram[-1, 0] = np.roll(what.histogram[-1, 0], 8)
    assert judged(what) == ("suspect", ["no_tail"])


def test_alone_in_its_country() -> None:
    """Narrow times of a network without peers are watched; of one whose peers are narrow too."""
    what = history(peak=300)
    alone = replace(what, group=np.array([0, 1, 1, 1, 2, 2, 2, 2]))
    assert judged(alone) == ("watch", ["narrow_latency"])
    what.counts["peak"][-1, :4] = 300
    assert judged(what) == ("watch", ["narrow_latency"])


def test_always_from_the_carrier() -> None:
    """A network that was narrow and without a tail as long as it is known is no news."""
    what = history()
    for name in ("peak",):
        what.counts[name][:, 0] = 600
    what.counts["slow"][:, 0] = 0
    what.narrow[:, 0] = True
    alone = replace(what, group=np.array([0, 1, 1, 1, 2, 2, 2, 2]))
    assert judged(alone)[0] == "carrier_ack_only"


@pytest.mark.parametrize(("word", "verdict"), [
    ("none", "no_receipts_expected"), ("untrusted", "suspect"), ("carrier", "carrier_ack_only"),
    ("handset", "normal"),
])  # fmt: skip
def test_capability(word: str, verdict: str) -> None:
    what = history()
    known = replace(what, capability=[word, *[""] * (NETWORKS - 1)])
    assert judged(known)[0] == verdict


def test_a_day_that_was_odd_is_no_baseline() -> None:
    """Alarms before do not make a rise look usual."""
    what = history(told_missing=150)
    what.counts["told_missing"][:-1, 0] = 150
    assert judged(what)[0] == "normal"
    what.flagged[:, 0] = True
    assert judged(what) == ("suspect", ["missing_rise"])


def test_without_history_nothing_is_compared() -> None:
    what = history(slow=0, failed_soon=0, troubled=0, told_missing=500)
    empty = {name: values.copy() for name, values in what.counts.items()}
    for values in empty.values():
        values[:-1] = 0
    new = replace(what, counts=empty)
    found = core.judge(new.present(DAYS - 1, 1), new.past(DAYS - 1))
    assert found.verdict[0] == "normal"
    assert np.isnan(core.power(found.told)).all()


def test_days_do_not_depend_on_each_other_beyond_the_baseline() -> None:
    """What comes after the baseline's last day is no part of it."""
    what = history(slow=5)
    what.counts["slow"][-6:-1] = 400
    assert judged(what)[0] == "suspect"


def test_tails() -> None:
    """Rare tails are exact; the others are near."""
    random = np.random.default_rng(1)
    n = random.integers(30, 3000, 1000)
    mean, precision = random.uniform(0.001, 0.3, 1000), 10 ** random.uniform(0.5, 4, 1000)
    k = np.minimum((n * mean * random.uniform(0, 2, 1000)).astype(np.int64), n)
    a, b = mean * precision, (1 - mean) * precision
    for ours, exact in (
        (stats.lower_tail(k, n, mean, precision), betabinom.cdf(k, n, a, b)),
        (stats.upper_tail(k, n, mean, precision), betabinom.sf(k - 1, n, a, b)),
    ):
        rare = (exact < 0.005) & (exact > 1e-6)  # SciPy itself loses digits below
        assert ours[rare] == pytest.approx(exact[rare], rel=1e-4)
        assert np.abs(ours - exact).max() < 0.1
        assert (ours[exact < 0.005] < 0.02).all()


def test_tails_of_large_networks() -> None:
    """A hundred thousand terms are summed as exactly as few: each block goes on with the last."""
    n, mean, precision = np.full(8, 4_000_000), np.full(8, 0.1), np.full(8, 2000.0)
    apart = np.sqrt(0.1 * 0.9 / 2001) * np.linspace(2.8, 4.2, 8)
    k = (n * (mean - apart)).astype(np.int64)
    assert k.min() > 4 * stats.MOST_TERMS
    exact = betabinom.cdf(k, n, mean * precision, (1 - mean) * precision)
    assert exact.max() < 0.005
    found = stats.lower_tail(k, n, mean, precision)
    assert found == pytest.approx(exact, rel=1e-4)
    alone = [stats.lower_tail(k[[i]], n[[i]], mean[[i]], precision[[i]])[0] for i in range(8)]
    assert found == pytest.approx(alone, rel=1e-7)


def test_benjamini_hochberg() -> None:
    """The example of Benjamini and Hochberg's paper (1995): four of fifteen are found."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262,
         0.5719, 0.6528, 0.7590, 1.0]  # fmt: skip
    q = stats.benjamini_hochberg(np.array([*p, np.nan]))
    assert (q[:-1] <= 0.05).sum() == 4
    assert np.isnan(q[-1])


def test_baseline_finds_what_was_put_in() -> None:
    random = np.random.default_rng(2)
    share = random.beta(2, 38, 300)
    daily = random.beta(share * 150, (1 - share) * 150, (28, 300))
    n = random.poisson(1500, (28, 300))
    found = stats.baseline(n, random.binomial(n, daily), random.integers(0, 40, 300))
    assert np.median(found.rho) == pytest.approx(1 / 151, rel=0.2)
    assert np.abs(found.mean - share).mean() < 0.004


def test_bins() -> None:
    """An edge at 60 s, eight bins an octave, and each edge above the one before."""
    edges = edges_ms()
    assert len(edges) == BINS + 1
    assert edges[SLOW_BIN] == 60_000
    assert edges[SLOW_BIN + 8] == 120_000
    assert all(low < high for low, high in itertools.pairwise(edges))


def test_quantiles() -> None:
    """Interpolated within a bin, so never further off than its width."""
    times = np.random.default_rng(3).lognormal(8, 0.8, 5000)
    binned = np.bincount(np.searchsorted(edges_ms(), times, side="right") - 1, minlength=BINS)
    for share in (0.25, 0.5, 0.75):
        (found,) = core.quantile(binned[None, :], share)
        assert found == pytest.approx(np.quantile(times, share), rel=0.02)


def test_simulated_honest_and_fakers() -> None:
    """A small run of what `tests.benchmarks.networks` measures."""
    world = World(FAMILIES[0], np.random.default_rng(7), networks=120)
    made_up = fakers(np.random.default_rng(8), 120, 4, [COPIED], 1.0, 40)
    what = world.history(made_up)
    found: set[int] = set()
    for at in (40, 41):
        for days in core.SPANS.values():
            verdicts = core.judge(what.present(at, days), what.past(at)).verdict
            found |= {n for n, verdict in enumerate(verdicts) if verdict == "suspect"}
    assert set(made_up) <= found
    assert len(found - set(made_up)) <= 1
