"""Days and windows: half open, UTC, and read from text without guessing."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from reconcile import days
from reconcile.days import Window
from reconcile.errors import UsageError

DAY = date(2026, 10, 25)  # the clocks change in Europe: UTC does not care
MIDNIGHT = datetime(2026, 10, 25, tzinfo=UTC)


def test_day_is_24_hours() -> None:
    """A UTC day begins at 00:00 and ends with the next, on the day that clocks change too."""
    assert days.start_of(DAY) == MIDNIGHT
    assert days.end_of(DAY) == MIDNIGHT + timedelta(hours=24)
    assert days.day_window(DAY) == Window(MIDNIGHT, days.end_of(DAY))


def test_end_belongs_to_the_next_day() -> None:
    """The last millisecond is of the day, its end is not."""
    assert days.day_of(days.end_of(DAY) - timedelta(milliseconds=1)) == DAY
    assert days.day_of(days.end_of(DAY)) == DAY + days.DAY


def test_day_of_goes_by_utc() -> None:
    """A moment told in another zone falls in its UTC day."""
    east = timezone(timedelta(hours=9))
    assert days.day_of(datetime(2026, 10, 26, 8, 59, tzinfo=east)) == DAY
    assert days.day_of(datetime(2026, 10, 26, 9, 0, tzinfo=east)) == date(2026, 10, 26)


def test_days_between_leaves_out_the_end() -> None:
    """`--to` is excluded; a span of no days has none, and so has one that ends before it starts."""
    assert days.days_between(DAY, DAY + 2 * days.DAY) == [DAY, date(2026, 10, 26)]
    assert days.days_between(DAY, DAY) == []
    assert days.days_between(DAY, DAY - days.DAY) == []


def test_window_needs_a_zone() -> None:
    """A naive time is no end of a window."""
    with pytest.raises(UsageError, match="time zone"):
        Window(MIDNIGHT.replace(tzinfo=None), MIDNIGHT)
    with pytest.raises(UsageError, match="time zone"):
        Window(MIDNIGHT, MIDNIGHT.replace(tzinfo=None))


def test_window_does_not_run_backwards() -> None:
    """Its end is not before its start; an empty one may be."""
    assert Window(MIDNIGHT, MIDNIGHT).start == MIDNIGHT
    with pytest.raises(UsageError, match="before it starts"):
        Window(MIDNIGHT, MIDNIGHT - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (MIDNIGHT, "2026-10-25T00:00:00Z"),
        (MIDNIGHT + timedelta(milliseconds=7), "2026-10-25T00:00:00.007Z"),
        (datetime(2026, 10, 25, 2, tzinfo=timezone(timedelta(hours=2))), "2026-10-25T00:00:00Z"),
    ],
)
def test_iso(moment: datetime, text: str) -> None:
    """A moment is written in UTC with Z, and read back as itself."""
    assert days.iso(moment) == text
    assert days.parse_moment(text) == moment


@pytest.mark.parametrize(
    "text",
    ["2026-10-25", " 2026-10-25T00:00 ", "2026-10-25T00:00:00", "2026-10-25T02:00+02:00",
     "2026-10-25T00:00:00.000999Z"],
)  # fmt: skip
def test_parse_moment(text: str) -> None:
    """ISO 8601; without an offset UTC is meant; what is finer than a millisecond is cut."""
    assert days.parse_moment(text) == MIDNIGHT
    assert days.parse_moment(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", ["", "yesterday", "25.10.2026", "2026-13-01", "1792886400"])
def test_parse_moment_refuses(text: str) -> None:
    """What is no ISO 8601 time is a usage error that shows what one looks like."""
    with pytest.raises(UsageError, match="2026-01-31T02:00:00Z"):
        days.parse_moment(text)


def test_parse_day() -> None:
    """A day is read as it is written."""
    assert days.parse_day(" 2026-10-25 ") == DAY


@pytest.mark.parametrize("text", ["", "2026-10-32", "25.10.2026", "2026-10-25T00:00:00Z"])
def test_parse_day_refuses(text: str) -> None:
    """What is no day is a usage error that shows one."""
    with pytest.raises(UsageError, match="2026-01-31"):
        days.parse_day(text)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)), ("1h", timedelta(hours=1)), ("14d", timedelta(days=14)),
        ("1h30m", timedelta(minutes=90)), ("1h 30m", timedelta(minutes=90)),
        ("800ms", timedelta(milliseconds=800)), ("1.5h", timedelta(minutes=90)),
        ("0s", timedelta(0)), ("1m500ms", timedelta(seconds=60.5)),
    ],
)  # fmt: skip
def test_parse_duration(text: str, span: timedelta) -> None:
    """Numbers with ms, s, m, h or d, added up."""
    assert days.parse_duration(text) == span


@pytest.mark.parametrize("text", ["", "90", "h", "1w", "-1h", "1h and 5m", "1,5h", "1 h x"])
def test_parse_duration_refuses(text: str) -> None:
    """What is no duration is a usage error that shows some."""
    with pytest.raises(UsageError, match="1h30m"):
        days.parse_duration(text)


def test_day_matures_after_its_last_message() -> None:
    """A day is mature at its end + validity + grace: 96 h after its last message at most."""
    matures_at = days.matures_at(DAY, timedelta(hours=72), timedelta(hours=24))
    assert matures_at == days.end_of(DAY) + timedelta(hours=96)
