"""Random messages that crowd around every threshold of the rules, for tests to judge."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import judge_support as core

STATUSES = (
    "delivered", "delivered", "delivered", "read", "failed", "failed", "rejected", "expired",
    "undeliverable", "deleted", "unknown", "accepted", "buffered", "submitted", "teleported",
)  # fmt: skip
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# Where something changes, in ms after received; a hair to either side of it is a case of its own.
ENDS = (0, 0, -1000, 799, 800, 6000, 60_000, HOUR_MS, 72 * HOUR_MS, 72 * HOUR_MS + 900_000,
        72 * HOUR_MS - 900_000, 10 * HOUR_MS, 10 * HOUR_MS + 900_000, 66_000, 54_000,
        72 * HOUR_MS)  # fmt: skip
PUSHES = (*ENDS, -60_000, 72 * HOUR_MS, 5 * DAY_MS)
HAIRS = (-1, 0, 0, 0, 1)
NETWORKS = ("26201", "26201", "26202", "20801", "310260", "316010", "DE-FIXED", "99999",
            "unknown")  # fmt: skip
PRICES = (None, "0", "0.05", "0.05", "0.0505", "0.05050001", "0.005", "0.0051", "0.00510001")
CODES = (None, None, "0", "0", "0", "1", "6", "8", "99", "77", "999", "1000", "1300")


class Traffic:
    """Records and receipts of some messages, from a seed."""

    def __init__(
        self, seed: int, messages: int, *, day: datetime | None = None, shared: bool = True
    ) -> None:
        """Messages of one day (None: of all ages), some sharing their id with another account."""
        self._random = random.Random(seed)
        self._day = day
        self.records: list[core.Row] = []
        self.receipts: list[core.Row] = []
        for n in range(messages):
            self._add(f"M{n:05d}", shared=shared and self._random.random() < 0.25)

    def _add(self, message_id: str, *, shared: bool) -> None:
        owners = [("a1", "SMS")]
        if shared:
            others = [("a1", "MESSAGES"), ("a2", "SMS"), ("a2", "MESSAGES"), ("a3", "SMS")]
            owners += self._random.sample(others, self._random.randint(0, 2))
            del owners[: self._random.randint(0, len(owners) - 1)]
        received_at = self._received_at()
        told = self._random.choice(STATUSES)
        for account_id, product in owners:
            self.records.append(self._record(message_id, received_at, told, account_id, product))
        for _ in range(self._random.choice((0, 1, 1, 1, 2, 2, 3, 5))):
            heard = self._receipt(message_id, received_at, told)
            copies = self._random.choice((1, 1, 1, 1, 2, 3))
            self.receipts += [self._again(heard) for _ in range(copies - 1)] + [heard]

    def _received_at(self) -> datetime:
        pick = self._random
        if self._day:
            return self._day + timedelta(milliseconds=pick.choice((
                0, DAY_MS - 1, DAY_MS // 2, pick.randrange(DAY_MS))))  # fmt: skip
        ages = (HOUR_MS, 24 * HOUR_MS, 24 * HOUR_MS + 6000, 73 * HOUR_MS, 96 * HOUR_MS,
                34 * HOUR_MS, 5 * DAY_MS, 5 * DAY_MS, 5 * DAY_MS, 7 * DAY_MS)  # fmt: skip
        return core.AS_OF - timedelta(milliseconds=pick.choice(ages) + pick.choice(HAIRS))

    def _moment(self, received_at: datetime, places: tuple[int, ...]) -> datetime:
        pick = self._random
        return received_at + timedelta(milliseconds=pick.choice(places) + pick.choice(HAIRS))

    def _maybe(self, chance: float) -> bool:
        return self._random.random() < chance

    def _record(
        self, message_id: str, received_at: datetime, told: str, account_id: str, product: str
    ) -> core.Row:
        pick = self._random
        status = told if self._maybe(0.7) else pick.choice((*STATUSES, None))
        final = status not in ("accepted", "buffered", "submitted", "teleported", None)
        ended = self._moment(received_at, ENDS) if self._maybe(0.9 if final else 0.05) else None
        latency = pick.choice(ENDS) + pick.choice(HAIRS) if final and self._maybe(0.4) else None
        validity = pick.choice((None, None, None, 600_000, 60_000, 10 * HOUR_MS, 7 * DAY_MS))
        horizon = (72 * HOUR_MS, 72 * HOUR_MS, validity or HOUR_MS, 5 * DAY_MS, HOUR_MS)
        network = pick.choice(NETWORKS) if self._maybe(0.1) else "26201"
        price = pick.choice(PRICES)
        return core.record(
            message_id,
            account_id=account_id,
            product=product,
            received_at=received_at,
            status=status,
            finalized_at=ended,
            latency_ms=latency,
            validity_ms=validity,
            fetched_at=self._moment(received_at, horizon),
            recipient=pick.choice(("A", "A", "A", None)),
            network_code=network,
            country=pick.choice(("DE", "US", "NA", "unknown")) if self._maybe(0.2) else "DE",
            price=None if price is None else core.money(price),
            currency=pick.choice(("EUR", "EUR", None)),
            sender=pick.choice((None, "ACME")),
            sender_used=pick.choice((None, None, "ACME", "4915")),
            error_code=pick.choice((None, "0", "6")),
        )

    def _receipt(self, message_id: str, received_at: datetime, told: str) -> core.Row:
        pick = self._random
        pushed = self._moment(received_at, PUSHES) if self._maybe(0.9) else None
        # Seconds tie often, as they do in what Vonage sends.
        pushed = pushed.replace(microsecond=0) if pushed and self._maybe(0.5) else pushed
        seen = self._moment(received_at, PUSHES) if self._maybe(0.5) else None
        status = told if self._maybe(0.85) else pick.choice(STATUSES)
        fitting = "0" if status in ("delivered", "read", "accepted", "buffered") else "8"
        price = pick.choice(PRICES) if self._maybe(0.4) else None
        return core.receipt(
            message_id,
            status=status,
            product=pick.choice(("SMS", "SMS", "SMS", "MESSAGES")),
            error_code=fitting if self._maybe(0.75) else pick.choice(CODES),
            account_id=pick.choice((None, "a1", "a1", "a1", "a2", "a3", "a9")),
            recipient="B" if self._maybe(0.05) else pick.choice(("A", "A", None)),
            network_code=pick.choice(NETWORKS)
            if self._maybe(0.1)
            else pick.choice((None, "26201")),
            price=None if price is None else core.money(price),
            pushed_at=pushed,
            captured_at=seen,
            scts=pick.choice((None, None, "2610151200")),
            signature="invalid" if self._maybe(0.02) else pick.choice(("unsigned", "valid")),
        )

    def _again(self, heard: core.Row) -> core.Row:
        """The same receipt captured once more, perhaps at another time."""
        line = core.receipt("")["line"]
        return (
            heard
            | {"line": line}
            | (
                {
                    "captured_at": heard["captured_at"]
                    + timedelta(seconds=self._random.randint(0, 9))
                }
                if heard["captured_at"]
                else {}
            )
        )
