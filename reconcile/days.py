"""Half-open UTC days and windows: the only notion of time that the job knows.

A day is a `datetime.date` and means [00:00, 24:00) UTC. A window is half open too: its end is
excluded. Nothing in here reads the clock.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from reconcile.errors import UsageError

DAY = timedelta(days=1)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, order=True)
class Window:
    """A half-open span of UTC time, `start` included and `end` not."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        if self.start.utcoffset() is None or self.end.utcoffset() is None:
            raise UsageError("a window's ends need a time zone")
        if self.end < self.start:
            raise UsageError(
                f"the window ends ({iso(self.end)}) before it starts ({iso(self.start)})"
            )


def start_of(day: date) -> datetime:
    """00:00 UTC of a day."""
    return datetime.combine(day, time.min, UTC)


def end_of(day: date) -> datetime:
    """00:00 UTC of the next day, which belongs to the day no more."""
    return start_of(day) + DAY


def day_window(day: date) -> Window:
    """The whole of one UTC day."""
    return Window(start_of(day), end_of(day))


def day_of(moment: datetime) -> date:
    """The UTC day in which a moment falls."""
    return moment.astimezone(UTC).date()


def days_between(start: date, end: date) -> list[date]:
    """Each day from `start` to `end`, `end` excluded."""
    return [start + timedelta(days=n) for n in range((end - start).days)]


def iso(moment: datetime) -> str:
    """A moment as `2026-01-31T02:00:00Z` (with milliseconds where it has any)."""
    utc = moment.astimezone(UTC)
    unit = "milliseconds" if utc.microsecond else "seconds"
    return utc.replace(tzinfo=None).isoformat(timespec=unit) + "Z"


def basic_iso(moment: datetime) -> str:
    """A moment as a name of files, as `20260131T020000Z`; it sorts as time does."""
    return iso(moment).replace("-", "").replace(":", "")


def parse_moment(text: str) -> datetime:
    """Reads an ISO 8601 moment or day; without an offset it means UTC. Cut to milliseconds."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"{text!r} is no ISO 8601 time, as 2026-01-31T02:00:00Z is one") from None
    aware = moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def parse_day(text: str) -> date:
    """Reads a UTC day such as 2026-01-31."""
    try:
        return date.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(f"{text!r} is no day, as 2026-01-31 is one") from None


def parse_duration(text: str) -> timedelta:
    """Reads a duration such as `90s`, `1h`, `1h30m` or `14d`."""
    pieces = _DURATION.findall(text)
    if not pieces or "".join(n + u for n, u in pieces) != re.sub(r"\s", "", text):
        raise UsageError(f"{text!r} is no duration, as 90s, 1h30m or 14d are")
    return timedelta(seconds=sum(float(n) * _UNITS[u] for n, u in pieces))


def matures_at(day: date, longest_validity: timedelta, grace: timedelta) -> datetime:
    """When the last message of a day is mature: received + validity + grace."""
    return end_of(day) + longest_validity + grace
