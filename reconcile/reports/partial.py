"""A listing that came in part and was paid for: what is kept of it, and what is asked again.

Real reports are sorted by `date_received`, newest first, but nobody promises it. Where the part
that came is sorted, all of a second that is not its last one is here: that much is a slice of its
own, and only the rest is asked for. Otherwise nobody knows what is lacking: both halves are asked.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from reconcile.days import Window, iso, parse_moment
from reconcile.errors import ReportError, UsageError
from reconcile.reports.raw import RawSlice
from reconcile.reports.slices import cut
from reconcile.reports.underway import UnderWay

# Times are told in whole seconds: of the last one that came there may be more.
SECOND = timedelta(seconds=1)
DIGITS = len("2026-01-31T02:00:00")


def keep_what_came(slice_: UnderWay, taken: RawSlice, request_id: str, billed: int) -> None:
    """Splits a slice of which only a part came into what is here and what is to be asked.

    Raises:
        ReportError: it is a second long and cannot be split: Vonage does not give it whole.
    """
    window = slice_.part.window
    kept, rest = _part_that_is_whole(taken.path, window)
    if kept is None:
        taken.path.unlink()
        halves = cut(window, 2)
        if len(halves) < 2:
            raise ReportError(f"Vonage does not give all records of {iso(window.start)}")
        slice_.split(halves, billed)
        return
    rows = _rows_since(taken.path, kept)
    slice_.keep(slice_.part.source.slice(kept), replace(taken, rows=rows), request_id, billed)
    slice_.split(sorted([kept, rest]), 0)


def _part_that_is_whole(raw: Path, window: Window) -> tuple[Window | None, Window]:
    """The part of a window that the rows of a file surely fill, and the rest of it."""
    nothing = None, window
    try:
        ends = _sorted_ends(raw)
    except UsageError:
        return nothing
    if ends is None:
        return nothing
    first, last = (end.replace(microsecond=0) for end in ends)
    if first == last:  # nobody knows which way it goes on
        return nothing
    edge = last + SECOND if first > last else last
    if not window.start < edge < window.end:
        return nothing
    older, newer = Window(window.start, edge), Window(edge, window.end)
    return (newer, older) if first > last else (older, newer)


def _rows_since(raw: Path, window: Window) -> int:
    """The rows of a file that lie in a window of whole seconds; all are told in one zone."""
    column = pq.read_table(raw, columns=["date_received"]).column(0)
    zone = parse_moment(column[0].as_py()).replace(microsecond=0)
    shift = zone.replace(tzinfo=None) - datetime.fromisoformat(column[0].as_py()[:DIGITS])
    times = pc.strptime(
        pc.replace_substring(pc.utf8_slice_codeunits(column, 0, DIGITS), " ", "T"),
        format="%Y-%m-%dT%H:%M:%S", unit="us",
    )  # fmt: skip
    start, end = ((edge.replace(tzinfo=None) - shift) for edge in (window.start, window.end))
    inside = pc.and_(pc.greater_equal(times, start), pc.less(times, end))
    return int(pc.sum(inside).as_py() or 0)


def _sorted_ends(raw: Path) -> tuple[datetime, datetime] | None:
    """The first and the last `date_received` of a file, if all are in order, up or down."""
    column = pq.read_table(raw, columns=["date_received"]).column(0)
    times = pc.utf8_slice_codeunits(column.cast(pa.string()), 0, DIGITS)
    if len(times) < 2 or times.null_count or _zones(column) > 1:
        return None
    before, after = times.slice(0, len(times) - 1), times.slice(1)
    if (
        not pc.all(pc.greater_equal(before, after)).as_py()
        and not pc.all(pc.less_equal(before, after)).as_py()
    ):
        return None
    return parse_moment(column[0].as_py()), parse_moment(column[-1].as_py())


def _zones(column: pa.ChunkedArray) -> int:
    """How many ways there are in which the texts go on behind the seconds."""
    return len(pc.unique(pc.utf8_slice_codeunits(column, DIGITS, DIGITS + 10)))
