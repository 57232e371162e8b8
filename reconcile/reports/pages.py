"""A slice by pages: each is on disk before the next is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from reconcile.errors import ApiError, AuthError, RateLimitError
from reconcile.reports import raw as raw_slices
from reconcile.reports.client import Client, LoopError
from reconcile.reports.partial import keep_what_came
from reconcile.reports.underway import UnderWay

Progress = Callable[[str, int], None]


@dataclass
class _Bill:
    """What a slice's pages were: the request that began it, the records billed, and how many."""

    request_id: str = ""
    billed: int = 0
    pages: int = 0

    def enter(self, page: dict[str, Any]) -> None:
        self.request_id = self.request_id or str(page["request_id"])
        self.billed += page["billed"]
        self.pages += 1


def fetch(client: Client, slice_: UnderWay, progress: Progress) -> None:
    """Goes on behind the last page that is here, to the end of the slice.

    Where its cursor is refused, what came is kept and the rest goes on as a slice of its own.
    """
    bill = _Bill()
    try:
        listed = _list(client, slice_, bill, progress)
        taken = raw_slices.write_pages(listed, slice_.unfinished)
    except LoopError:
        _split(slice_)
        raise
    except ApiError as error:
        if not bill.pages or _may_pass(error):
            raise
        _split(slice_)
        return
    slice_.whole(taken, bill.request_id, bill.billed)
    slice_.pages.forget()


def _list(
    client: Client, slice_: UnderWay, bill: _Bill, progress: Progress
) -> Iterator[list[dict[str, Any]]]:
    """The records of each page: of those that are here, then of those that come, once kept."""
    known: list[str | None] = []
    last: list[dict[str, Any]] | None = None
    for kept in slice_.pages:
        known.append(kept["next"])
        last = kept["records"] or last
        bill.enter(kept)
        yield kept["records"]
    if known and known[-1] is None:
        return
    seen = [query for query in known if query]
    for page in client.records(slice_.part, seen[-1] if seen else None, seen):
        # A page that comes a second time is paid for and counts once.
        records = [] if page.records == last else page.records
        kept = {"request_id": page.request_id, "next": page.next, "billed": len(page.records),
                "records": records}  # fmt: skip
        slice_.pages.append(kept)
        bill.enter(kept)
        progress(f"{slice_.part.source.name} {slice_.part.day}", len(page.records))
        last = page.records or last
        yield records


def _may_pass(error: ApiError) -> bool:
    """Whether it is not the cursor that was refused."""
    return isinstance(error, (AuthError, RateLimitError)) or error.status >= 500


def _split(slice_: UnderWay) -> None:
    """Keeps what came of a slice, and lets the rest be one of its own."""
    bill = _Bill()
    taken = raw_slices.write_pages(_kept(slice_, bill), slice_.unfinished)
    keep_what_came(slice_, taken, bill.request_id, bill.billed)


def _kept(slice_: UnderWay, bill: _Bill) -> Iterator[list[dict[str, Any]]]:
    for page in slice_.pages:
        bill.enter(page)
        yield page["records"]
