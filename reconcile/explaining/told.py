"""What there is to say of single messages."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from reconcile.errors import ReconcileError

Row = dict[str, Any]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Given:
    """Which messages: their ids, or the newest of a handset's number or of a client_ref."""

    ids: tuple[str, ...] = ()
    number: str | None = field(default=None, repr=False)
    client_ref: str | None = None
    limit: int = 20


@dataclass(frozen=True)
class Heard:
    """A receipt on a message's time line.

    Attributes:
        row: its columns in `receipts`.
        at: when it was pushed, else captured.
        after_ms: how long after the message was received.
        repeats: source and line of the receipt that it repeats.
        decides: whether the verdict goes by it.
        ignored: why it does not count; empty if it does.
    """

    row: Row
    at: datetime | None
    after_ms: int | None
    repeats: tuple[str, int] | None = None
    decides: bool = False
    ignored: str = ""


@dataclass(frozen=True)
class Held:
    """A rule that held, or the cell of the grid.

    Attributes:
        name: the reason that it gives; empty for a cell that gives none.
        kind: contradiction, grid, refinement or context.
        verdict: the verdict that it makes; None for context.
        sentence: what it says.
        counts: whether the verdict comes from it, or, for context, is told with it.
        values: what it looked at.
        receipts: what it looked at in each receipt, with its source and line.
    """

    name: str
    kind: str
    verdict: str | None
    sentence: str
    counts: bool
    values: Row = field(default_factory=dict)
    receipts: list[Row] = field(default_factory=list)


@dataclass(frozen=True)
class Change:
    """Something that would change the verdict, and what it would be."""

    what: str
    verdict: str
    reasons: list[str]


@dataclass(frozen=True)
class Published:
    """What the tables say of a message, and as of when."""

    as_of: datetime
    verdict: str
    reasons: list[str]


@dataclass(frozen=True)
class Explained:
    """A message with a record.

    Attributes:
        record: its row of `records`, as it is now.
        currency: of its price: the record's, else that of the settings.
        as_of: the moment that it was judged at.
        judged: it as the core judged it; None where it was received after as_of.
        cell: row and column of the grid.
        rules: the rules that held.
        changes: what would change the verdict.
        published: what the tables say; None while its day was not judged.
    """

    record: Row
    currency: str | None
    as_of: datetime
    receipts: list[Heard]
    judged: Row | None
    cell: tuple[str, str] | None
    rules: list[Held]
    changes: list[Change]
    published: Published | None

    @property
    def message_id(self) -> str:
        return str(self.record["message_id"])


@dataclass(frozen=True)
class Alone:
    """Receipts without a record.

    Attributes:
        kind: as `orphans` has it; None while no run has judged them.
        sentence: what that means.
        resembles: ids of the records that they resemble (`near_match`).
    """

    message_id: str
    kind: str | None
    sentence: str
    receipts: list[Heard]
    resembles: list[str]


@dataclass(frozen=True)
class OnlySent:
    """A message that the send log names, and nothing else.

    Attributes:
        unrecorded: its kind in `unrecorded`; None where the API refused it or no run has asked.
        sentence: what that means.
        lines: its rows of `sent`, in order of source and line.
    """

    message_id: str
    unrecorded: str | None
    sentence: str
    lines: list[Row]


@dataclass(frozen=True)
class Explanation:
    """What there is to say of all messages that were asked for.

    Attributes:
        told: in the order in which they were asked for.
        unknown: ids of which the store has nothing.
        are_more: whether a recipient or client_ref has more than the limit.
    """

    told: list[Explained | Alone | OnlySent]
    unknown: list[str]
    are_more: bool = False


@dataclass(frozen=True)
class Refreshed:
    """What came of asking Vonage by id.

    Attributes:
        ids: the messages that were asked for.
        reopened: judged days that are open again, since their records tell something new.
        billed: how many records came.
        failure: why not all were told; None if all were.
    """

    ids: list[str]
    reopened: list[str]
    billed: int
    failure: ReconcileError | None


def not_here(message_id: str, *, asked: bool) -> str:
    """That an id is unknown, as one line; `asked`: whether Vonage was asked for it."""
    more = "and Vonage told of none" if asked else "--refresh asks Vonage for it"
    return f"message {message_id}: no record, receipt or line of a send log has it; {more}"
