"""Listings that came in part: what is kept of them, and that nothing is lost between the parts."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import count, pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reconcile.days import Window, day_window, iso
from reconcile.errors import ReportError
from reconcile.reports import raw
from reconcile.reports.partial import keep_what_came
from reconcile.reports.slices import Slice
from reconcile.reports.underway import UnderWay

DAY = date(2026, 1, 5)
WHOLE = day_window(DAY)
AS_OF = datetime(2026, 1, 6, 2, tzinfo=UTC)
NOON = WHOLE.start + timedelta(hours=12)
SECOND = timedelta(seconds=1)
PROPERTY = settings(max_examples=40, deadline=None,
                    suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip


def slice_of(folder: Path, window: Window = WHOLE, via: str = "sync") -> UnderWay:
    return UnderWay(folder, Slice("a1b2c3d4", window), AS_OF, via)


def came(folder: Path, times: list[str | None], window: Window = WHOLE) -> UnderWay:
    """A slice of which records of these times came, in this order."""
    slice_ = slice_of(folder, window)
    rows = [{"message_id": str(n), "date_received": time} for n, time in enumerate(times)]
    keep_what_came(slice_, raw.write_pages([rows], slice_.unfinished), "r", len(rows))
    return slice_


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-05T{text}+00:00")


def parts(slice_: UnderWay, folder: Path) -> list[tuple[Window, bool]]:
    """How a slice goes on: each window, and whether it is here."""
    return [(part.window, slice_of(folder, part.window).is_whole) for part in slice_.splits]


def day(*times: str) -> list[str | None]:
    return [f"2026-01-05T{time}Z" for time in times]


# What is kept


def test_newest_first(tmp_path: Path) -> None:
    """Newest first: all that is newer than the last second that came is here."""
    slice_ = came(tmp_path, day("20:00:00", "19:00:00", "19:00:00", "18:00:00"))
    edge = at("18:00:01")
    assert parts(slice_, tmp_path) == [(Window(WHOLE.start, edge), False),
                                       (Window(edge, WHOLE.end), True)]  # fmt: skip


def test_oldest_first(tmp_path: Path) -> None:
    """Oldest first: all that is older than the last second that came is here."""
    slice_ = came(tmp_path, day("03:00:00", "03:00:00", "04:00:00"))
    edge = at("04:00:00")
    assert parts(slice_, tmp_path) == [(Window(WHOLE.start, edge), True),
                                       (Window(edge, WHOLE.end), False)]  # fmt: skip


def test_ties_at_the_last_second(tmp_path: Path) -> None:
    """Of the last second that came there may be more: it is asked for again as a whole."""
    slice_ = came(tmp_path, day("20:00:00", "18:00:00", "18:00:00", "18:00:00"))
    [(rest, _), (kept, _)] = parts(slice_, tmp_path)
    assert rest.end == kept.start == at("18:00:01")


def test_milliseconds(tmp_path: Path) -> None:
    """Times may be finer than seconds, if all are told in one way: parts meet at whole ones."""
    slice_ = came(tmp_path, day("20:00:00.500", "18:00:00.500"))
    assert [window for window, _ in parts(slice_, tmp_path)] == [
        Window(WHOLE.start, at("18:00:01")), Window(at("18:00:01"), WHOLE.end)]  # fmt: skip


def test_another_zone(tmp_path: Path) -> None:
    """Times of another zone are as good, if all have it."""
    times: list[str | None] = ["2026-01-05T20:00:00+0200", "2026-01-05T19:00:00+0200"]
    slice_ = came(tmp_path, times)
    assert parts(slice_, tmp_path)[1] == (Window(at("17:00:01"), WHOLE.end), True)


HALVES = [(Window(WHOLE.start, NOON), False), (Window(NOON, WHOLE.end), False)]


@pytest.mark.parametrize(
    "times",
    [
        day("20:00:00", "18:00:00", "19:00:00"),
        day("20:00:00"),
        [],
        ["2026-01-05T20:00:00Z", "2026-01-05T19:00:00+00:00"],
        ["2026-01-05T20:00:00+0000", "2026-01-05T19:00:00+0100"],
        ["2026-01-05T20:00:00.5Z", "2026-01-05T19:00:00Z"],
        [*day("20:00:00"), None, *day("19:00:00")],
        [*day("20:00:00", "19:00:00"), ""],
        [*day("20:00:00"), "soon"],
        ["x", "x"],
        ["2026-01-09T20:00:00Z", "2026-01-09T19:00:00Z"],
        ["2026-01-02T20:00:00Z", "2026-01-02T19:00:00Z"],
        [*day("20:00:00"), "2026-01-04T23:59:59Z"],
    ],
    ids=["unsorted", "one", "none", "two zones", "two offsets", "fractions", "null", "blank",
         "no time", "no times", "of later", "of before", "down to before"],
)  # fmt: skip
def test_nobody_knows_what_is_lacking(tmp_path: Path, times: list[str | None]) -> None:
    """Where what came is not surely in order both halves are asked for, and nothing is kept."""
    slice_ = came(tmp_path, times)
    assert parts(slice_, tmp_path) == HALVES
    assert list(tmp_path.glob("*.parquet")) == []


def test_down_to_the_first_second(tmp_path: Path) -> None:
    """A listing that came down to the first second leaves that second to be asked for."""
    slice_ = came(tmp_path, day("20:00:00", "00:00:00"))
    assert parts(slice_, tmp_path)[0] == (Window(WHOLE.start, WHOLE.start + SECOND), False)


def test_one_second_that_is_too_much(tmp_path: Path) -> None:
    """A second that Vonage does not give whole cannot be split: that is an error."""
    window = Window(NOON, NOON + SECOND)
    with pytest.raises(ReportError, match="all records of 2026-01-05T12:00:00Z"):
        came(tmp_path, day("12:00:00", "12:00:00"), window)


def test_all_of_one_second(tmp_path: Path) -> None:
    """Where all that came is of one second nobody knows which way it goes on."""
    slice_ = came(tmp_path, day("18:00:00", "18:00:00"))
    assert parts(slice_, tmp_path) == HALVES


def test_what_it_cost(tmp_path: Path) -> None:
    """The part that is kept carries what all of it cost; of halves the slice itself does."""
    slice_ = came(tmp_path, day("20:00:00", "19:00:00", "18:00:00"))
    kept = slice_of(tmp_path, slice_.splits[1].window).fetched()
    # Of the last second there may be more, so its row is not among those that are kept.
    assert (kept.rows, kept.billed, kept.asked, slice_.facts["billed"]) == (2, 3, WHOLE, 0)
    other = came(tmp_path / "other", day("18:00:00", "19:00:00", "17:00:00"))
    assert other.facts["billed"] == 3


def test_found_again(tmp_path: Path) -> None:
    """Split once more, as after a crash between its notes, a slice is split in the same way."""
    times = day("20:00:00", "19:00:00", "18:00:00")
    before = parts(came(tmp_path, times), tmp_path)
    assert parts(came(tmp_path, times), tmp_path) == before


# Whatever the records are

SPAN = Window(NOON, NOON + timedelta(seconds=40))
FOLDERS = count()
TIMES = st.lists(st.integers(0, 39), min_size=1, max_size=60)


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """New folders, one a draw."""
    return (tmp_path / str(n) for n in FOLDERS)


def texts(seconds: list[int]) -> list[str | None]:
    return [iso(SPAN.start + timedelta(seconds=second)) for second in seconds]


@pytest.mark.slow
@PROPERTY
@given(seconds=TIMES, newest_first=st.booleans(), data=st.data())
def test_nothing_is_lost_at_a_cut(
    folders: Iterator[Path], seconds: list[int], newest_first: bool, data: st.DataObject
) -> None:
    """Parts tile the slice; of one that is here every record came, wherever the listing was cut."""
    listed = sorted(seconds, reverse=newest_first)
    shown = listed[: data.draw(st.integers(0, len(listed)))]
    folder = next(folders)
    slice_ = came(folder, texts(shown), SPAN)
    windows = [part.window for part in slice_.splits]
    assert (windows[0].start, windows[-1].end) == (SPAN.start, SPAN.end)
    assert all(one.end == other.start for one, other in pairwise(windows))
    for window, is_here in parts(slice_, folder):
        if is_here:
            inside = [
                s for s in listed if window.start <= SPAN.start + timedelta(seconds=s) < window.end
            ]
            assert len(inside) == len([s for s in shown if s in inside])


@pytest.mark.slow
@PROPERTY
@given(seconds=TIMES, newest_first=st.booleans(), most=st.integers(1, 8))
def test_all_comes_in_the_end(
    folders: Iterator[Path], seconds: list[int], newest_first: bool, most: int
) -> None:
    """Where only so many records come at once all come, each once; or it is told of when not."""
    folder, full = next(folders), {s for s in seconds if seconds.count(s) > most}
    records = sorted(enumerate(seconds), key=lambda r: (r[1], r[0]), reverse=newest_first)
    found: list[str] = []

    def within(window: Window) -> list[tuple[int, int]]:
        return [r for r in records
                if window.start <= SPAN.start + timedelta(seconds=r[1]) < window.end]  # fmt: skip

    def pull(window: Window) -> None:
        slice_ = slice_of(folder, window)
        if not slice_.is_whole:
            listed = within(window)
            rows = [
                {"message_id": str(n), "date_received": texts([s])[0]} for n, s in listed[:most]
            ]
            taken = raw.write_pages([rows], slice_.unfinished)
            if len(listed) > most:
                keep_what_came(slice_, taken, "r", len(rows))
                for part in slice_.splits:
                    pull(part.window)
                return
            slice_.whole(taken, "r", len(rows))
        of = slice_of(folder, window).fetched()
        inside = {str(n) for n, _ in within(window)}
        found.extend(i for i in pq.read_table(of.raw)["message_id"].to_pylist() if i in inside)

    if full:
        with pytest.raises(ReportError):
            pull(SPAN)
    else:
        pull(SPAN)
        assert sorted(found) == sorted(str(n) for n in range(len(seconds)))
