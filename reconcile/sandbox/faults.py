"""The faults of invented traffic, each labelled with the verdict that it must get.

Every message plays one script: what its record ends as, and which receipts are pushed for it. The
scripts of a fault are equally likely. The verdicts are those of the rules once everything is
mature; they stand here by hand, so that the judge is measured against a label and not itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SECOND, MINUTE, HOUR, DAY = 1, 60, 3600, 86400
Span = tuple[float, float]
"""Seconds, from and to; any time between is equally likely."""


@dataclass(frozen=True)
class Said:
    """A receipt: what it says and when.

    Attributes:
        status: its status; "" is what the carrier said in the end.
        error: its err-code; None is the one that goes with that end.
        since: what `pushed` counts from: the end, the hand-off to the carrier, or the request.
        pushed: seconds from there until Vonage pushes it.
        captured: seconds from the push until our webhook captures it.
        network: whose network it names: the record's, another of its country, or one abroad.
        other_recipient: whether it names another handset than the record.
        again: whether it is the receipt before it once more, only captured later.
    """

    status: str = ""
    error: str | None = None
    since: Literal["end", "handoff", "request"] = "end"
    pushed: Span = (0, 2)
    captured: Span = (0.05, 3)
    network: Literal["own", "ported", "foreign"] = "own"
    other_recipient: bool = False
    again: bool = False


@dataclass(frozen=True)
class Script:
    """What becomes of a message.

    Attributes:
        record: the final status of its record; "" as it goes on its network, None is never final.
        receipts: what is pushed for it, in this order.
        end: when it ends: as the carrier takes it, at the platform's own deadline (its validity),
            at once, or before it was asked for.
    """

    record: str | None
    receipts: tuple[Said, ...] = ()
    end: Literal["carrier", "deadline", "instant", "before"] = "carrier"


@dataclass(frozen=True)
class Fault:
    """A fault: its name, its share of all messages, one sentence, and the verdict that is due.

    `reason` is None where the message stays confirmed; an orphan has no verdict at all.
    """

    name: str
    share: float
    sentence: str
    verdict: str | None
    reason: str | None
    scripts: tuple[Script, ...]


END = Said()
ACCEPTED = Said("accepted", "0", "handoff", (0, 0))
BUFFERED = Said("buffered", "0", "handoff", (0, 0))
DELIVERED = Said("delivered", "0")

# What honest traffic plays; most carriers say nothing before the end.
HONEST = (
    *(Script("", (END,)),) * 8,
    Script("", (ACCEPTED, END)),
    Script("", (BUFFERED, END)),
)

# fmt: off
FAULTS = (
    Fault("lost_webhook", 0.012, "Vonage knows the end, its receipt never reached us.",
          "missing", "lost_webhook", (Script("delivered"), Script("failed"))),
    Fault("lost_final_webhook", 0.004, "Only the receipt before the end reached us.",
          "missing", "lost_webhook", (Script("delivered", (ACCEPTED,)),)),
    Fault("silent_carrier", 0.008, "The carrier never says what became of it.",
          "missing", "carrier_silent",
          (Script(None), Script(None, (ACCEPTED,)), Script(None, (BUFFERED,)))),
    Fault("platform_expired", 0.006, "The platform gives up at its deadline and calls it expired.",
          "missing", "platform_expired",
          (Script("expired", (Said("expired", "0"),), "deadline"),
           Script("expired", (ACCEPTED, Said("expired", "0")), "deadline"),
           Script("expired", (), "deadline"),
           Script(None, (Said("expired", "0"),), "deadline"))),
    Fault("status_unknown_receipt", 0.004, "The receipt itself says unknown.",
          "unknown", "status_unknown",
          tuple(Script(end, (Said("unknown", "1"),)) for end in ("delivered", "unknown", None))),
    Fault("record_unknown", 0.002, "The record ends as unknown, and no receipt comes.",
          "unknown", "record_unknown", (Script("unknown"), Script("unknown", (ACCEPTED,)))),
    Fault("record_unknown_receipt_delivered", 0.001, "The record says unknown, the receipt knows.",
          "unknown", "record_unknown", (Script("unknown", (DELIVERED,)),)),
    Fault("status_conflict", 0.0015, "Record and receipt name different ends.",
          "suspect", "status_conflict",
          (Script("delivered", (Said("failed", "5"),)), Script("failed", (DELIVERED,)))),
    Fault("never_final_record", 0.001, "A receipt says delivered, the record never becomes final.",
          "suspect", "record_never_final", (Script(None, (DELIVERED,)),)),
    Fault("conflicting_finals", 0.0008, "Two receipts name different ends.",
          "suspect", "conflicting_finals",
          (Script("delivered", (Said("failed", "5", "handoff", (0, 0)),
                                Said("delivered", "0", pushed=(2, 8)))),
           Script("failed", (Said("delivered", "0", "handoff", (0, 0)),
                             Said("failed", "5", pushed=(2, 8)))))),
    Fault("wrong_network", 0.001, "The receipt names a network of another country.",
          "suspect", "foreign_network", (Script("delivered", (Said(network="foreign"),)),)),
    Fault("wrong_recipient", 0.0008, "The receipt names another handset.",
          "suspect", "recipient_mismatch", (Script("delivered", (Said(other_recipient=True),)),)),
    Fault("time_travel", 0.0008, "The end, or its receipt, lies before the request.",
          "suspect", "time_travel",
          (Script("delivered", (Said(since="request", pushed=(-30 * MINUTE, -2 * MINUTE)),)),
           Script("delivered", (Said(since="request", pushed=(1, 5)),), "before"))),
    Fault("status_error_contradiction", 0.001, "Its receipt's status and err-code disagree.",
          "suspect", "status_error_contradiction",
          (Script("delivered", (Said("delivered", "6"),)),
           Script("failed", (Said("failed", "0"),)))),
    Fault("error_unknown", 0.003, "It failed, and the err-code does not say of what.",
          "unknown", "error_unknown",
          (*(Script("failed", (Said("failed", code),)) for code in ("1", "99", "")),
           Script("rejected", (Said("rejected", "99"),)))),
    Fault("unmapped_status", 0.001, "The only receipt has a status that nobody has heard of.",
          "unknown", "unmapped_status", (Script("delivered", (Said("throttled", "0"),)),)),
    Fault("unmapped_error", 0.001, "It failed with an err-code that nobody has heard of.",
          "unknown", "unmapped_error", (Script("failed", (Said("failed", "77"),)),)),
    Fault("record_deleted", 0.0015, "Vonage took the message out of its queue.",
          "not_expected", "record_deleted", (Script("deleted"), Script("deleted", (ACCEPTED,)))),

    # From here on: odd, and yet confirmed.
    Fault("duplicate", 0.01, "The same receipt is pushed twice or thrice.",
          "confirmed", None,
          (Script("", (END, Said(again=True, captured=(4, 10 * MINUTE)))),
           Script("", (END, *(Said(again=True, captured=(4, 10 * MINUTE)),) * 2)))),
    Fault("disorder", 0.005, "The receipt of the hand-off is pushed after that of the end.",
          "confirmed", None,
          (Script("delivered", (END, Said("accepted", "0", pushed=(5, 10 * MINUTE)))),)),
    Fault("late_receipt", 0.004, "The receipt is captured three to seven days after the request.",
          "confirmed", None,
          (Script("delivered", (Said(captured=(3 * DAY + HOUR, 6.5 * DAY)),)),)),
    Fault("ported_network", 0.01, "The number was ported: another network of the same country.",
          "confirmed", None, (Script("", (Said(network="ported"),)),)),
    Fault("fake_looking_network", 0.015, "One network says delivered to everything, and at once.",
          "confirmed", None, (Script("delivered", (DELIVERED,), "instant"),)),
    Fault("retried_webhook", 0.004, "A webhook is tried again hours later, with the same fields.",
          "confirmed", None,
          (Script("delivered", (END, Said(again=True, captured=(HOUR, 23 * HOUR)))),)),
    Fault("orphan", 0.003, "A receipt for a message of which no record exists.",
          None, None, (Script(None, (DELIVERED,)),)),
)
# fmt: on

BY_NAME = {fault.name: fault for fault in FAULTS}
ORPHAN = FAULTS[-1]
STATUSES = (
    "delivered", "failed", "rejected", "expired", "unknown", "deleted",
    "accepted", "buffered", "submitted", "throttled",
)  # fmt: skip


def counts(messages: int) -> dict[str, int]:
    """How many messages of each fault there are: its share; from 5000 messages on at least one."""
    least = 1 if messages >= 5000 else 0
    return {fault.name: max(least, round(messages * fault.share)) for fault in FAULTS}
