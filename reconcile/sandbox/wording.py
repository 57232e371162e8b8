"""Invented numbers in the words of the outside: records as the API has them, receipts as pushed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from reconcile.sandbox.captures import STYLES, WITHOUT_CAPTURE_TIME, Lines
from reconcile.sandbox.faults import FAULTS, STATUSES
from reconcile.sandbox.letters import (
    Moments,
    Numbers,
    Text,
    digits,
    join,
    message_ids,
    pick,
    take,
    uuids,
)
from reconcile.sandbox.places import NETWORKS, SENDERS
from reconcile.sandbox.traffic import ERROR_CODES, NEVER, Messages, Random, Receipts

Missing = npt.NDArray[np.bool_]
_TIME = pa.timestamp("us", "UTC")
_MONEY = pa.decimal128(18, 8)
_REJECTED = STATUSES.index("rejected")
_FREE = len(NETWORKS)
_PRICES = [*(network.price for network in NETWORKS), Decimal("0.00000000")]
# The hand-off's result, which is no err-code of a receipt: mostly fine, whatever comes of it.
_HANDOFFS = (("0", "Delivered"), ("10", "Too many binds"))


@dataclass(frozen=True)
class Account:
    """An invented account and its secret."""

    api_key: str
    api_secret: str


TRUTH = pa.schema([(name, pa.string()) for name in ("message_id", "verdict", "reason", "fault")])
ORPHANS = pa.schema([("message_id", pa.string())])


def truth(messages: Messages, seed: int) -> pa.Table:
    """The verdict and reason that are due: from the fault's label, not from the rules."""
    verdicts = [*(fault.verdict for fault in FAULTS), "confirmed"]
    reasons = [*(fault.reason for fault in FAULTS), None]
    names = [*(fault.name for fault in FAULTS), None]
    columns = [take(pa.array(words, pa.string()), messages.fault)
               for words in (verdicts, reasons, names)]  # fmt: skip
    return pa.Table.from_arrays([message_ids(messages.number, seed), *columns], schema=TRUTH)


def orphans(messages: Messages, seed: int) -> pa.Table:
    """The ids of messages of which no record will be seen."""
    return pa.Table.from_arrays([message_ids(messages.number, seed)], schema=ORPHANS)


def records(random: Random, messages: Messages, seed: int, account: Account) -> pa.Table:
    """One row a message, with its end and what its record says before that."""
    n, network = len(messages.number), messages.network
    never = messages.status == NEVER
    finalized_ms = messages.received_ms + messages.latency_ms
    before = random.choice(3, n, p=(0.2, 0.1, 0.7))
    handoff = (random.random(n) < 0.002).astype(np.int64)
    rewritten = [each.sender for each in NETWORKS]
    by_pool = [sender if sender.isdigit() else "" for sender in rewritten]
    by_rule = ["" if sender.isdigit() else sender for sender in rewritten]
    columns = {
        "account_id": _constant(account.api_key, n),
        "product": _constant("SMS", n),
        "id": uuids(messages.number, seed),
        "message_id": message_ids(messages.number, seed),
        "client_ref": _client_refs(messages),
        "account_ref": _constant("", n),
        "direction": _constant("outbound", n),
        "from": _words(SENDERS, messages.sender),
        "to": _recipients(network, messages.handset),
        "changed_from": _words(by_pool, network),
        "forced_from": _words(by_rule, network),
        "country": _words((each.country.code for each in NETWORKS), network),
        "country_name": _words((each.country.name for each in NETWORKS), network),
        "network": _words((each.code for each in NETWORKS), network),
        "network_name": _words((each.name for each in NETWORKS), network),
        "date_received": _seconds(messages.received_ms),
        "date_finalized": _seconds(finalized_ms, never),
        "status_before": _words(("accepted", "buffered", "submitted"), before),
        "status": _words(STATUSES, messages.status, never),
        "latency": pa.array(messages.latency_ms, mask=never),
        "error_code": _words((code for code, _ in _HANDOFFS), handoff),
        "error_code_description": _words((text for _, text in _HANDOFFS), handoff),
        "currency": _constant("", n),
        "total_price": take(
            pa.array(_PRICES, _MONEY), _price(network, messages.status == _REJECTED)
        ),
        "concatenated": pa.array(random.random(n) < 0.08),
        "validity_period": pa.array(messages.validity_ms),
    }
    return pa.table(columns)


def with_late(random: Random, table: pa.Table, midnight_ms: int, share: float) -> pa.Table:
    """The same rows, a share of which shows only some hours after the midnight of its day."""
    shown_ms = midnight_ms + random.integers(3_600_000, 12 * 3_600_000, len(table))
    in_time = random.random(len(table)) >= share
    return table.append_column("visible_from", _seconds(shown_ms, in_time))


def lines(
    random: Random, messages: Messages, receipts: Receipts, seed: int, account: Account
) -> Lines:
    """The receipts of messages as the webhooks keep them."""
    of = receipts.message
    own = messages.network[of]
    style = random.choice(len(STYLES), len(own), p=[each.share for each in STYLES])
    # Without a capture time nobody could tell that a receipt was late.
    late = receipts.captured_ms - receipts.pushed_ms > _LATE_MS
    return Lines(
        {
            "msisdn": _recipients(own, receipts.handset),
            "to": pick(_SENDERS, _SENDERS_USED[own, messages.sender[of]]),
            "network-code": pick((each.code for each in NETWORKS), receipts.network),
            "messageId": take(message_ids(messages.number, seed), of),
            "price": pick(
                (f"{price:.8f}" for price in _PRICES), _price(own, receipts.status == _REJECTED)
            ),
            "status": pick(STATUSES, receipts.status),
            "scts": Moments(receipts.pushed_ms).minute(),
            "err-code": pick(ERROR_CODES, receipts.error),
            "api-key": pick([account.api_key], np.zeros_like(own)),
            "client-ref": take(_client_refs(messages), of),
        },
        receipts.pushed_ms,
        receipts.captured_ms,
        np.where(late & (style == WITHOUT_CAPTURE_TIME), 0, style),
    )


_LATE_MS = 3_600_000
# Senders as receipts show them: ours, then those put in their place.
_SENDERS = (*SENDERS, *sorted({network.sender for network in NETWORKS} - {""}))
_SENDERS_USED = np.array(
    [[_SENDERS.index(network.sender or own) for own in SENDERS] for network in NETWORKS]
)


def _price(network: Numbers, free: Numbers) -> Numbers:
    return np.where(free, _FREE, network)


def _recipients(network: Numbers, handset: Numbers) -> Text:
    return join(pick((f"{n.country.dial}000" for n in NETWORKS), network), digits(handset, 6))


def _client_refs(messages: Messages) -> Text:
    """Half of the senders give a reference."""
    refs = join("order-", digits(messages.number, 10))
    given: Any = pa.array(messages.sender % 2 == 0)
    return pc.if_else(given, refs, "")


def _constant(word: str, n: int) -> Any:
    return _words((word,), np.zeros(n, np.int64))


def _words(words: Iterable[str], which: Numbers, missing: Missing | None = None) -> Any:
    """Few words, many times: a dictionary is written without a look at each of them."""
    listed = list(words)
    # A dictionary with a word in it twice is not written the same way each time.
    once = list(dict.fromkeys(listed))
    place = np.array([once.index(word) for word in listed], np.int32)
    places: Any = pa.array(place[which], mask=missing)
    return pa.DictionaryArray.from_arrays(places, pa.array(once, pa.string()))


def _seconds(ms: Numbers, missing: Missing | None = None) -> Any:
    """Times in the whole seconds in which the API gives them."""
    return pa.array(ms // 1000 * 1_000_000, pa.int64(), mask=missing).cast(_TIME)
