"""A slice by pages: each is on disk before the next is asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from reconcile.errors import ApiError, AuthError, RateLimitError
from reconcile.reports import raw as raw_slices
from reconcile.reports.client import Client, LoopError, Page
from reconcile.reports.partial import keep_what_came
from reconcile.reports.underway import UnderWay

Progress = Callable[[str, int], None]


def fetch(client: Client, slice_: UnderWay, progress: Progress) -> None:
    """Goes on behind the last page that is here, to the end of the slice.

    Where its cursor is refused, what came is kept and the rest goes on as a slice of its own.
    """
    known, last = [], None
    for kept in slice_.pages:
        known.append(kept["next"])
        last = kept["records"] or last
    after = known[-1] if known else None
    try:
        if not known or after:
            for page in client.records(slice_.part, after, known):
                known.append(page.next)
                last = _append(slice_, page, last)
                progress(f"{slice_.part.source.name} {slice_.part.day}", len(page.records))
    except LoopError:
        _split(slice_)
        raise
    except ApiError as error:
        if not known or _may_pass(error):
            raise
        _split(slice_)
        return
    slice_.whole(_taken(slice_), *_paid(slice_))
    slice_.pages.forget()


def _append(slice_: UnderWay, page: Page, last: Any) -> Any:
    """Keeps a page; one that comes a second time is paid for and counts once."""
    records = [] if page.records == last else page.records
    slice_.pages.append({"request_id": page.request_id, "next": page.next,
                         "billed": len(page.records), "records": records})  # fmt: skip
    return page.records or last


def _may_pass(error: ApiError) -> bool:
    """Whether it is not the cursor that was refused."""
    return isinstance(error, (AuthError, RateLimitError)) or error.status >= 500


def _split(slice_: UnderWay) -> None:
    keep_what_came(slice_, _taken(slice_), *_paid(slice_))


def _taken(slice_: UnderWay) -> raw_slices.RawSlice:
    records = (page["records"] for page in slice_.pages)
    return raw_slices.write_pages(records, slice_.unfinished)


def _paid(slice_: UnderWay) -> tuple[str, int]:
    """The request that began it, and the records that were billed for it."""
    first, billed = "", 0
    for page in slice_.pages:
        first, billed = first or str(page["request_id"]), billed + page["billed"]
    return first, billed
