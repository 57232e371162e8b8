"""A chunk of invented traffic in numbers: its messages, and the receipts pushed for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np

from reconcile.sandbox.faults import FAULTS, HONEST, HOUR, MINUTE, STATUSES, Said, Script, Span
from reconcile.sandbox.letters import Numbers
from reconcile.sandbox.places import FAKE_LOOKING, HOURS, NETWORKS, SENDERS

NEVER = -1
HANDSETS = 1_000_000  # of each country
VALIDITY_MS = 259_200_000
LONGEST_VALIDITY_MS = 604_800_000  # the longest ttl that Vonage takes
_VALIDITIES_MS = np.array([VALIDITY_MS, 4 * HOUR * 1000, 24 * HOUR * 1000, LONGEST_VALIDITY_MS])
_VALIDITY_ODDS = (0.925, 0.04, 0.02, 0.015)
_LONGEST_DELIVERY_MS = 36 * HOUR * 1000
# The platform gives up some minutes around its deadline.
_DEADLINE: Span = (-4 * MINUTE, 10 * MINUTE)
_LATEST_CAPTURE_MS = 7 * 24 * HOUR * 1000

ERROR_CODES = (*(str(code) for code in (*range(17), *range(50, 55), 77, 99)), "")
_NO_ERROR = ERROR_CODES.index("0")
# How honest messages end that are not delivered.
_FAILURES = [STATUSES.index(status) for status in ("failed", "rejected", "expired")]
_FAILURE_ODDS = (0.72, 0.13, 0.15)
_DELIVERED, _EXPIRED = STATUSES.index("delivered"), STATUSES.index("expired")

Random = np.random.Generator


def _scripts() -> Iterator[tuple[int, tuple[Script, ...]]]:
    """The scripts of each fault, and of honest traffic behind them, with where they start."""
    start = 0
    for scripts in (*(fault.scripts for fault in FAULTS), HONEST):
        yield start, scripts
        start += len(scripts)


SCRIPTS = [script for _, scripts in _scripts() for script in scripts]
_FIRST = np.array([start for start, _ in _scripts()])
_MANY = np.array([len(scripts) for _, scripts in _scripts()])
_WEIGHTS = np.array([network.weight for network in NETWORKS])
_PEERS = [
    [m for m, peer in enumerate(NETWORKS)
     if peer.country == network.country and m not in (n, FAKE_LOOKING)]
    for n, network in enumerate(NETWORKS)
]  # fmt: skip
_ABROAD = [
    [m for m, peer in enumerate(NETWORKS)
     if peer.country != network.country and peer.code[:3].isdigit() and m != FAKE_LOOKING]
    for network in NETWORKS
]  # fmt: skip


@dataclass(frozen=True)
class Messages:
    """Messages, one a place in each array. Times are milliseconds since 1970 UTC.

    `fault` and `network` index FAULTS and NETWORKS (behind the last fault: honest), `status` is
    an index of STATUSES or NEVER, `end` what the carrier says in the end and `error` its err-code.
    """

    number: Numbers
    fault: Numbers
    script: Numbers
    network: Numbers
    handset: Numbers
    sender: Numbers
    received_ms: Numbers
    validity_ms: Numbers
    latency_ms: Numbers
    status: Numbers
    end: Numbers
    error: Numbers


@dataclass(frozen=True)
class Receipts:
    """Receipts, one a place in each array; `message` is the place of their message in a chunk."""

    message: Numbers
    status: Numbers
    error: Numbers
    network: Numbers
    handset: Numbers
    pushed_ms: Numbers
    captured_ms: Numbers


def invent(random: Random, number: Numbers, fault: Numbers, received_ms: Numbers) -> Messages:
    """What becomes of messages whose fault and time are settled."""
    n = len(number)
    script = _FIRST[fault] + random.integers(0, _MANY[fault])
    network = random.choice(len(NETWORKS), n, p=_WEIGHTS / _WEIGHTS.sum())
    ends_at_once = np.array([s.end == "instant" for s in SCRIPTS])[script]
    network[ends_at_once] = FAKE_LOOKING
    validity_ms = random.choice(_VALIDITIES_MS, n, p=_VALIDITY_ODDS)
    end = _ends(random, network, script)
    never = np.array([s.record is None for s in SCRIPTS])[script]
    return Messages(
        number=number,
        fault=fault,
        script=script,
        network=network,
        handset=(HANDSETS * random.random(n) ** 3).astype(np.int64),
        sender=random.integers(0, len(SENDERS), n),
        received_ms=received_ms,
        validity_ms=validity_ms,
        latency_ms=_latencies_ms(random, network, script, end, validity_ms),
        status=np.where(never, NEVER, end),
        end=end,
        error=_errors(random, network, end),
    )


def times_in_day(random: Random, n: int, part: Span) -> Numbers:
    """`n` moments in ms since midnight, in order, over a part (of 0 to 1) of a day's traffic."""
    reached = np.concatenate([[0], np.cumsum(HOURS)]) / sum(HOURS)
    share = np.sort(random.uniform(*part, n))
    hours = np.interp(share, reached, np.arange(len(HOURS) + 1))
    return np.minimum((hours * HOUR * 1000).astype(np.int64), 24 * HOUR * 1000 - 1)


def receipts_of(random: Random, messages: Messages) -> Receipts:
    """The receipts that the messages' scripts have pushed."""
    made = [_empty()]
    for index, script in enumerate(SCRIPTS):
        players = np.flatnonzero(messages.script == index)
        for said in script.receipts if len(players) else ():
            made.append(_say(random, messages, players, said, made[-1]))
    return gather(made)


def gather(parts: list[Receipts]) -> Receipts:
    """Several as one."""
    return Receipts(
        **{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Receipts)}
    )


def _empty() -> Receipts:
    return Receipts(**{f.name: np.zeros(0, np.int64) for f in fields(Receipts)})


def _say(
    random: Random, messages: Messages, players: Numbers, said: Said, before: Receipts
) -> Receipts:
    received = messages.received_ms[players]
    if said.again:
        late = before.pushed_ms + _span_ms(random, said.captured, len(players))
        return Receipts(**{**vars(before), "captured_ms": late})
    latency = messages.latency_ms[players]
    since = {"end": latency, "handoff": latency * 3 // 10, "request": latency * 0}[said.since]
    pushed = received + since + _span_ms(random, said.pushed, len(players))
    pushed -= pushed % 1000  # Vonage gives whole seconds
    captured = pushed + _span_ms(random, said.captured, len(players))
    latest = np.maximum(received + _LATEST_CAPTURE_MS, pushed + 1000)
    handset = messages.handset[players]
    return Receipts(
        message=players,
        status=_said(STATUSES, said.status or None, messages.end[players]),
        error=_said(ERROR_CODES, said.error, messages.error[players]),
        network=_networks(random, messages.network[players], said.network),
        handset=(handset + 1) % HANDSETS if said.other_recipient else handset,
        pushed_ms=pushed,
        captured_ms=np.minimum(captured, latest),
    )


def _said(words: tuple[str, ...], word: str | None, otherwise: Numbers) -> Numbers:
    return otherwise if word is None else np.full_like(otherwise, words.index(word))


def _networks(random: Random, own: Numbers, which: str) -> Numbers:
    if which == "own":
        return own
    others = _PEERS if which == "ported" else _ABROAD
    chosen = random.integers(0, np.array([len(peers) for peers in others])[own])
    widest = max(len(peers) for peers in others)
    table = np.array([peers + [0] * (widest - len(peers)) for peers in others])
    picked: Numbers = table[own, chosen]
    return picked


def _ends(random: Random, network: Numbers, script: Numbers) -> Numbers:
    """What the carrier says in the end: as scripted, else as it goes on the network."""
    failing = np.array([n.failing for n in NETWORKS])[network]
    fails = random.random(len(network)) < failing
    failure = random.choice(_FAILURES, len(network), p=_FAILURE_ODDS)
    honest = np.where(fails, failure, _DELIVERED)
    free = np.array([s.record == "" for s in SCRIPTS])[script]
    scripted = np.array([STATUSES.index(s.record or "delivered") for s in SCRIPTS])[script]
    return np.where(free, honest, scripted)


def _errors(random: Random, network: Numbers, end: Numbers) -> Numbers:
    """The err-codes that go with the ends."""
    codes = [[ERROR_CODES.index(code) for code in n.errors or ("2",)] for n in NETWORKS]
    widest = max(map(len, codes))
    table = np.array([(own * widest)[:widest] for own in codes])
    drawn = table[network, random.integers(0, widest, len(network))]
    return np.where(np.isin(end, _FAILURES[:2]), drawn, _NO_ERROR)


def _latencies_ms(
    random: Random, network: Numbers, script: Numbers, end: Numbers, validity_ms: Numbers
) -> Numbers:
    n = len(network)
    median = np.array([each.median_s for each in NETWORKS])[network]
    spread = np.array([each.spread for each in NETWORKS])[network]
    usual = 1000 * median * np.exp(spread * random.standard_normal(n))
    # Some handsets are off for a while: without them no network has the tail that real ones have.
    waiting = 1000 * random.lognormal(np.log(300), 1.5, n)
    carrier = usual + np.where(random.random(n) < 0.07, waiting, 0) + 900
    carrier = np.minimum(carrier, np.minimum(validity_ms / 2, _LONGEST_DELIVERY_MS))
    # A carrier that gives up does so far from the platform's own deadline.
    given_up = np.minimum(validity_ms, VALIDITY_MS) * random.uniform(0.3, 0.66, n)
    deadline = validity_ms + _span_ms(random, _DEADLINE, n)
    before = -_span_ms(random, (5, 120), n)
    kinds = [np.array([s.end == kind for s in SCRIPTS])[script]
             for kind in ("deadline", "instant", "before")]  # fmt: skip
    ended = [*kinds, end == _EXPIRED]
    return np.select(ended, [deadline, usual, before, given_up], carrier).astype(np.int64)


def _span_ms(random: Random, span: Span, n: int) -> Numbers:
    return (1000 * random.uniform(*span, n)).astype(np.int64)
