"""Networks as a whole: which ones' receipts cannot be believed, and how sure that is.

One receipt never shows that it is made up; a network's many do. What a day shows is held against
what the network, its country and all networks were like before, and what chance would do to that.
Rules are of two tiers: one of B, or two of C from different families, make a network `suspect`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from reconcile.judge import statistics as stats
from reconcile.judge.features import LATE_BIN, PEAK_MS, SLOW_BIN, SLOW_MS, edges_ms
from reconcile.judge.statistics import Flags, Floats, Whole

STATUS, LATENCY = "status", "latency"
ABOVE, BELOW = "above", "below"
SPANS = {"1d": 1, "2d": 2, "7d": 7}
WHOLE = "*"
# Below that nothing is said of a network, nor of its delivery times.
LEAST_MESSAGES, LEAST_TIMED = 30, 50
# A baseline's days end so many before the day that is judged: all closed when it is judged first.
BASELINE_DAYS, BASELINE_ENDS = 28, 6
# Expected events without which none at all means nothing: chance would do it once in a hundred.
LEAST_EXPECTED = 4.6
NARROW, PEAK = 0.25, 0.30
CONTRADICTED, LEAST_CONTRADICTED = 0.01, 5
FAKED = 0.10
# A route that got so much faster, by each of these quantiles of delivery time, is another route.
FASTER, QUANTILES = 0.8, (0.1, 0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Told:
    """What a rule's test found, one place a network: counts, share, baseline, and how sure.

    `usual` is what n would be if the span were like the baseline's days. `fair_k` is k, but for
    deliveries that are faster as a whole: see `_slower_than_before`.
    """

    n: Whole
    k: Whole
    base: Floats
    base_n: Whole
    p: Floats
    precision: Floats
    usual: Floats
    fair_k: Whole
    q: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def share(self) -> Floats:
        return np.divide(self.k, self.n, out=np.zeros(len(self.n)), where=self.n > 0)

    @property
    def fair_share(self) -> Floats:
        return np.divide(self.fair_k, self.n, out=np.zeros(len(self.n)), where=self.n > 0)


@dataclass(frozen=True)
class NetworkRule:
    """One rule.

    Attributes:
        name: the reason that it gives.
        tier: B or C.
        family: what it looks at: status or latency.
        sentence: what it says, to an operator.
        n, k: of how many messages how many are counted (columns of `networks`).
        side: on which side of its baseline the share is odd.
        floor: the least effect, and what else must hold besides the test.
    """

    name: str
    tier: str
    family: str
    sentence: str
    n: str
    k: str
    side: str = BELOW
    floor: Callable[[Told], Flags] = lambda t: t.n > 0


def _rises(t: Told) -> Flags:
    return (t.share >= t.base + 0.05) & (t.share >= 2 * t.base) & (t.k >= 10)


def _expected(t: Told) -> Flags:
    return (t.n * t.base >= LEAST_EXPECTED) & (t.p < 0.01)


NETWORK_RULES = (
    NetworkRule("missing_rise", "B", STATUS, "Many more receipts are missing than before.",
                "told", "told_missing", ABOVE, _rises),
    NetworkRule("unknown_rise", "B", STATUS, "Many more messages end as unknown than before.",
                "told", "told_unknown", ABOVE, _rises),
    NetworkRule("no_tail", "B", LATENCY, "Hardly any delivery takes more than 60 s, where before some did.",
                "timed", "slow", BELOW,
                lambda t: (t.n >= LEAST_TIMED) & (t.p < 0.01) & (t.base >= 0.03) & (t.fair_share <= 0.85 * t.base)),
    NetworkRule("no_trouble", "B", LATENCY, "All is delivered within 60 s, where before some of it was late or failed.",
                "seen", "troubled", BELOW, lambda t: _expected(t) & (t.share <= 0.25 * t.base)),
    NetworkRule("narrow_latency", "B", LATENCY, "Deliveries take almost the same time, where others of its country differ; C where none is to compare.",
                "timed", "peak", ABOVE),
    NetworkRule("too_fast_share", "B", LATENCY, "More than 5 % is delivered sooner than a handset can answer, and more than before.",
                "delivered", "too_fast", ABOVE, lambda t: (t.share > 0.05) & (t.share > t.base)),
    NetworkRule("too_perfect", "C", STATUS, "Fewer messages fail than before; B where deliveries are odd as well.",
                "ended_soon", "failed_soon", BELOW, lambda t: _expected(t) & (t.share <= 0.85 * t.base)),
    NetworkRule("conversion_gap", "B", STATUS, "As much is delivered as before, and a fifth fewer people do what it asks for.",
                "delivered", "converted", BELOW, lambda t: (t.n >= 0.8 * t.usual) & (t.share <= 0.8 * t.base)),
)  # fmt: skip
# Not a rule: where messages contradict themselves more than before, for `concentration`.
SUSPECT_RISE = NetworkRule("suspect_rise", "", STATUS, "More messages contradict themselves than before.",
                           "told", "told_suspect", ABOVE, _rises)  # fmt: skip
NETWORK_VERDICTS = {
    "no_receipts_expected": "It sends no receipts, and none are to be expected.",
    "insufficient_data": "Fewer than 30 messages: nothing can be told.",
    "contradictory": "Records and receipts contradict each other in more than 1 % of its messages.",
    "suspect": "Its receipts are not to be believed as they stand: see the reasons.",
    "carrier_ack_only": "Its receipts come from the carrier, not from handsets, and always did.",
    "watch": "One thing is odd, which by itself means little.",
    "normal": "Nothing is odd.",
}
ALARMS = ("suspect", "contradictory")
COUNTED = tuple(dict.fromkeys(
    name for rule in (*NETWORK_RULES, SUSPECT_RISE) for name in (rule.n, rule.k)
))  # fmt: skip


@dataclass(frozen=True)
class Past:
    """What is known of networks from before: days × networks.

    Attributes:
        counts: by column; 0 where a day or a network is not there.
        flagged: days on which a network was odd, which are no baseline.
        narrow: whether its delivery times were narrow.
        quantiles: `QUANTILES` of delivery time in ms, by days and networks; 0 where there is none.
        group: as in `Present`.
    """

    counts: Mapping[str, Whole]
    flagged: Flags
    narrow: Flags
    quantiles: Floats
    group: Whole
    _known: dict[str, stats.Baseline] = field(default_factory=dict)

    @cached_property
    def usual_times(self) -> list[Floats]:
        """For each of `QUANTILES` the mean (of logarithms) over the days; nan where there is none."""
        found = []
        for times in self.quantiles:
            seen = times > 0
            logs = np.log(times, out=np.zeros(times.shape), where=seen)
            weight = np.where(seen, self.counts["timed"], 0)
            total = weight.sum(0)
            mean = (logs * weight).sum(0) / np.maximum(total, 1)
            found.append(np.where(total > 0, np.exp(mean), np.nan))
        return found

    def baseline(self, rule: NetworkRule) -> stats.Baseline:
        """What a rule's share was; every span is held against the same."""
        if rule.name not in self._known:
            n, k = (self.counts[name] * ~self.flagged for name in (rule.n, rule.k))
            self._known[rule.name] = stats.baseline(n, k, self.group)
        return self._known[rule.name]


@dataclass(frozen=True)
class Present:
    """A span as it is judged: one place a network.

    Attributes:
        days: how many days the span has.
        counts: by column, over the span.
        evenness: the sum of squares of the days' parts of the span's messages.
        histogram: networks × bins.
        group: the number of the country (of the world, where networks are countries).
        capability: what the capability table says; "" where nothing.
    """

    days: int
    counts: Mapping[str, Whole]
    evenness: Floats
    histogram: Whole
    group: Whole
    capability: list[str]


@dataclass(frozen=True)
class Examined:
    """What the tests found, whatever is then concluded of it.

    Attributes:
        told: by the rules' names.
        large: whether the effect is large enough for the rule.
        narrow: whether delivery times are narrow.
        is_alone: whether they are so, and those of others in its country are not.
    """

    told: Mapping[str, Told]
    large: Mapping[str, Flags]
    narrow: Flags
    is_alone: Flags


@dataclass(frozen=True)
class Judged:
    """One place a network: its verdict, the rules that held, and what each test found."""

    verdict: list[str]
    reasons: list[list[str]]
    told: Mapping[str, Told]
    holds: Mapping[str, Flags]
    narrow: Flags


def judge(present: Present, past: Past, q: float = 0.05) -> Judged:
    """Judges the networks of one span, all of one grain: networks, or whole countries.

    Args:
        present, past: the span, and what it is held against.
        q: the share of false discoveries that a rule may make, by Benjamini and Hochberg.
    """
    return conclude(present, past, examine(present, past), q)


def examine(present: Present, past: Past) -> Examined:
    """What the tests find, whatever is then concluded of it."""
    rules = (*NETWORK_RULES, SUSPECT_RISE)
    narrow = is_narrow(present.histogram, present.counts["peak"])
    told = {rule.name: _test(rule, present, past) for rule in rules}
    large = {rule.name: rule.floor(told[rule.name]) for rule in rules}
    return Examined(told, large, narrow, narrow & _differs_from_peers(narrow, present))


def conclude(present: Present, past: Past, found: Examined, q: float) -> Judged:
    """What follows from the tests, with as many false discoveries as `q` allows."""
    holds, suspect = held(found, q)
    reasons: list[list[str]] = [[] for _ in found.narrow]
    for rule in NETWORK_RULES:
        for at in np.flatnonzero(holds[rule.name]):
            reasons[at].append(rule.name)
    verdicts = _verdicts(present, past, holds, suspect, found.narrow)
    return Judged(verdicts, reasons, found.told, holds, found.narrow)


def held(found: Examined, q: float) -> tuple[dict[str, Flags], Flags]:
    """Which rules hold, and whether they make a network suspect: one of B, or two C's families."""
    told, narrow = found.told, found.narrow
    holds = {
        rule.name: (told[rule.name].q <= q) & found.large[rule.name]
        for rule in (*NETWORK_RULES, SUSPECT_RISE)
    }
    holds["narrow_latency"] = narrow
    strong = {rule.name: holds[rule.name] & (rule.tier == "B") for rule in NETWORK_RULES}
    strong["narrow_latency"] = found.is_alone
    odd_times = narrow | holds["no_tail"] | holds["no_trouble"]
    strong["too_perfect"] = holds["too_perfect"] & odd_times
    families = [
        np.any([holds[rule.name] for rule in NETWORK_RULES if rule.family == name], axis=0)
        for name in (STATUS, LATENCY)
    ]
    return holds, np.any(list(strong.values()), axis=0) | np.all(families, axis=0)


def _test(rule: NetworkRule, present: Present, past: Past) -> Told:
    n, k = present.counts[rule.n], present.counts[rule.k]
    before = past.baseline(rule)
    precision = before.precision(present.evenness)
    tail = stats.lower_tail if rule.side == BELOW else stats.upper_tail
    fair_k = _slower_than_before(present, past) if rule.name == "no_tail" else k
    of_family = _can_be_told(rule, n, before)
    p = np.where(of_family, tail(fair_k, n, before.mean, precision), np.nan)
    if rule.name == "narrow_latency":
        p = np.full(len(n), np.nan)
    usual = present.days * before.messages / np.maximum(before.days, 1)
    found = Told(n, k, before.mean, before.messages, p, precision, usual, fair_k)
    return Told(**{**vars(found), "q": stats.benjamini_hochberg(p)})


def _slower_than_before(present: Present, past: Past) -> Whole:
    """How many took more than 60 s, or where all got faster than what is 60 s by that measure.

    A route that is twice as fast as before has fewer slow deliveries, and is no less honest.
    """
    ratio = np.zeros(len(present.histogram))
    for before, now in zip(past.usual_times, quantiles(present.histogram, QUANTILES), strict=True):
        # Receipts that are made up move some quantiles, a faster route moves all of them.
        known = ~np.isnan(before) & (np.nan_to_num(now) > 0)
        moved = np.divide(now, before, out=np.ones(len(now)), where=known)
        ratio = np.maximum(ratio, np.minimum(moved, 1))
    late = present.counts["slow"]
    scaled = np.maximum(_slower(present.histogram, ratio * SLOW_MS), late)
    return np.where(ratio < FASTER, scaled, late)


def _slower(histogram: Whole, than_ms: Floats) -> Whole:
    """How many took more than so many ms, and not more than half an hour."""
    edges = np.array(edges_ms())
    at = np.searchsorted(edges, than_ms, side="right") - 1
    rows = np.arange(len(histogram))
    reached = np.cumsum(histogram[:, :LATE_BIN], axis=1)
    part = (edges[at + 1] - than_ms) / (edges[at + 1] - edges[at])
    inside = histogram[rows, at] * part
    found: Whole = np.round(reached[:, -1] - reached[rows, at] + inside).astype(np.int64)
    return found


def _can_be_told(rule: NetworkRule, n: Whole, before: stats.Baseline) -> Flags:
    """Which networks a rule can find at all: the others would only water its family down."""
    least = LEAST_TIMED if rule.name == "no_tail" else LEAST_MESSAGES
    enough: Flags = (n >= least) & bool(before.days.sum() > 0)
    if rule.side == BELOW:
        enough &= n * before.mean >= LEAST_EXPECTED
    if rule.name == "no_tail":
        enough &= before.mean >= 0.03
    return enough


def _verdicts(
    present: Present, past: Past, holds: Mapping[str, Flags], suspect: Flags, narrow: Flags
) -> list[str]:
    count = present.counts
    contradicted = count["contradicted"]
    told = np.maximum(count["told"], 1)
    capability = np.array(present.capability, dtype=object)
    expected = count["messages"] - count["masked"] - count["not_expected"]
    answers: list[tuple[str, Any]] = [
        ("no_receipts_expected", (capability == "none") | ((expected == 0) & (count["not_expected"] > 0))),
        ("insufficient_data", count["seen"] < LEAST_MESSAGES),
        ("contradictory", (contradicted >= LEAST_CONTRADICTED) & (contradicted > CONTRADICTED * told)),
        ("suspect", suspect | (capability == "untrusted")),
        ("carrier_ack_only", (narrow & _always_narrow(present, past)) | (capability == "carrier")),
        ("watch", np.any([holds[rule.name] for rule in NETWORK_RULES], axis=0)),
    ]  # fmt: skip
    return list(np.select([held for _, held in answers], [name for name, _ in answers], "normal"))


def is_narrow(histogram: Whole, peak: Whole) -> Flags:
    """Whether delivery times hardly differ: half of them lie close, or 100 ms hold a third."""
    soon = histogram[:, :LATE_BIN].sum(1)
    low, middle, high = quantiles(histogram, (0.25, 0.5, 0.75))
    with np.errstate(invalid="ignore", divide="ignore"):
        close = (high - low) / middle < NARROW
        # Where all takes less than a second, 100 ms are not little.
        heaped = (middle >= 10 * PEAK_MS) & (peak >= PEAK * soon)
    found: Flags = (soon >= LEAST_TIMED) & (close | heaped)
    return found


def quantile(histogram: Whole, share: float) -> Floats:
    """A quantile of delivery times in ms, interpolated within its bin; nan without messages."""
    [found] = quantiles(histogram, (share,))
    return found


def quantiles(histogram: Whole, shares: Sequence[float]) -> list[Floats]:
    """Quantiles of delivery times in ms: for each share one place a network."""
    edges = np.array(edges_ms())
    rows = np.arange(len(histogram))
    reached = np.cumsum(histogram, axis=1)
    total = reached[:, -1]
    found = []
    for share in shares:
        wanted = share * total
        at = np.argmax(reached >= wanted[:, None], axis=1)
        inside = histogram[rows, at]
        before = reached[rows, at] - inside
        part = np.divide(wanted - before, inside, out=np.full(len(total), 0.5), where=inside > 0)
        times = edges[at] + part * (edges[at + 1] - edges[at])
        found.append(np.where(total > 0, times, np.nan))
    return found


def slow(histogram: Whole) -> tuple[Whole, Whole]:
    """Of how many that were delivered in half an hour how many took more than 60 s."""
    return histogram[..., :LATE_BIN].sum(-1), histogram[..., SLOW_BIN:LATE_BIN].sum(-1)


def _differs_from_peers(narrow: Flags, present: Present) -> Flags:
    """Whether others of the group have delivery times too, and at least half of them are wide."""
    timed = present.histogram[:, :LATE_BIN].sum(1) >= LEAST_TIMED
    groups = int(present.group.max(initial=-1)) + 1

    def others(flags: Flags) -> Whole:
        return np.bincount(present.group[flags], minlength=groups)[present.group] - flags

    wide = others(timed & ~narrow)
    return (wide > 0) & (2 * wide >= others(timed))


def _always_narrow(present: Present, past: Past) -> Flags:
    """Whether a network was narrow, and without a tail, as long as it is known."""
    timed, late = past.counts["timed"], past.counts["slow"]
    days = timed >= LEAST_TIMED
    share = past.narrow.sum(0, where=days) / np.maximum(days.sum(0), 1)
    total = timed.sum(0) + present.counts["timed"]
    high = stats.interval(late.sum(0) + present.counts["slow"], np.maximum(total, 1))[1]
    always: Flags = (days.sum(0) >= 7) & (share >= 0.9) & (high < 0.03)
    return always


def power(told: Mapping[str, Told]) -> Floats:
    """How likely the best of the rules would find it, were a tenth made up; nan if untold."""
    best = np.full(len(next(iter(told.values())).n), np.nan)
    for name in ("no_tail", "too_perfect", "no_trouble"):
        t = told[name]
        able = ~np.isnan(t.p)
        found = stats.power(t.n[able], t.base[able], t.precision[able], 0.01, 1 - FAKED)
        best[able] = np.fmax(best[able], found)
    return best
