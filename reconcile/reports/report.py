"""A slice by an asynchronous report: asked for once, waited for, downloaded, opened."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from reconcile.errors import ApiError, ContractError, ReconcileError, ReportError
from reconcile.reports import raw as raw_slices
from reconcile.reports.budget import Budget
from reconcile.reports.client import Client, Report
from reconcile.reports.partial import keep_what_came
from reconcile.reports.underway import UnderWay
from reconcile.settings import Settings

Progress = Callable[[str, int], None]
# How often a report that failed is asked for again, and a damaged file fetched again, in one run.
TRIES = 3
FILE_TRIES = 3
UNTOLD = -1
# Inflating and parsing take a core each: two files at once would only take more memory.
_OPENING = threading.Lock()


def fetch(
    client: Client, slice_: UnderWay, settings: Settings, budget: Budget, expected: int | None,
    progress: Progress,
) -> None:  # fmt: skip
    """Brings the slice, from wherever a run before was stopped.

    Where the report was cut at its size limit, what came is kept and the rest goes on as a slice.

    Args:
        client, slice_, settings, progress: what it works with.
        budget: where the report's records are booked when it is made.
        expected: how many records it may hold, as far as that is known.
    """
    if slice_.facts.get("doubtful"):
        _drop(slice_)
    for _ in range(TRIES + 1):
        try:
            taken = _one_report(client, slice_, settings, budget, expected or 1)
        except _Ended as ended:
            _drop(slice_)
            why = str(ended)
            continue
        progress(f"{slice_.part.source.name} {slice_.part.day}", taken.rows)
        _hand_over(slice_, taken)
        return
    raise ReportError(f"{why}, as did {TRIES} before it: run again")


class _Ended(Exception):  # noqa: N818 - no error to the caller: another report is asked for
    """A report that will give us nothing, and why."""

    def __init__(self, why: str, *, perhaps_billed: bool = False) -> None:
        super().__init__(why)
        self.perhaps_billed = perhaps_billed


def _one_report(
    client: Client, slice_: UnderWay, settings: Settings, budget: Budget, expected: int
) -> raw_slices.RawSlice:
    """Asks for a report unless it was asked for, waits until it has ended, and opens its file."""
    if "items_count" not in slice_.facts:
        asked = "asked" in slice_.facts or "request_id" in slice_.facts
        held = 0 if asked else budget.hold(expected)
        told: int | None = 0
        try:
            told = _wait(client, slice_, _ask(client, slice_), settings)
        except _Ended as ended:
            # A report that has vanished was perhaps billed.
            budget.settle(0, 0, lost=expected if ended.perhaps_billed else 0)
            raise
        finally:
            budget.settle(held, told or 0)
    return _open(client, slice_, str(slice_.facts["request_id"]))


def _ask(client: Client, slice_: UnderWay) -> str:
    """The id of the slice's report, which is asked for only if it was not before.

    That it is being asked for stands on disk first: should the answer be lost, with us or without
    us, the report is looked for before another is paid for.
    """
    if "request_id" in slice_.facts:
        return str(slice_.facts["request_id"])
    lost = "asked" in slice_.facts
    slice_.jot(asked=True)
    used = frozenset(slice_.facts.get("used", []))
    try:
        report = client.create_report(slice_.part, slice_.begun_at, lost=lost, used=used)
    except ApiError as error:
        if error.status < 500 and error.status != 429:
            slice_.jot(asked=None)  # it was refused: there is no report
        raise
    slice_.jot(request_id=report.request_id)
    return report.request_id


def _wait(client: Client, slice_: UnderWay, request_id: str, settings: Settings) -> int | None:
    """Waits, ever longer, until the report has ended; notes and returns how many records it has."""
    pause, longest = settings.poll_first.total_seconds(), settings.poll_max.total_seconds()
    ends = time.monotonic() + settings.report_timeout.total_seconds()
    while True:
        client.pause(pause)
        report = _state(client, slice_, request_id)
        if report.status in ("SUCCESS", "TRUNCATED") and report.download:
            told = report.items_count
            slice_.jot(items_count=UNTOLD if told is None else told, href=report.download,
                       truncated=report.status == "TRUNCATED" or None)  # fmt: skip
            return told
        if report.status in ("FAILED", "ABORTED"):
            raise _Ended(f"Vonage ended report {request_id} as {report.status}")
        if time.monotonic() > ends:
            raise ReportError(
                f"report {request_id} is still {report.status or 'nothing'}: run again to go on "
                "waiting for the same report"
            )
        pause = min(pause * 1.5, longest)


def _state(client: Client, slice_: UnderWay, request_id: str) -> Report:
    try:
        return client.report(request_id, slice_.part.account_id)
    except ApiError as error:
        raise _forgotten(error, request_id) from None


def _open(client: Client, slice_: UnderWay, request_id: str) -> raw_slices.RawSlice:
    """The rows of the report's file. A file that is damaged costs nothing to fetch again."""
    found: ReconcileError | None = None
    for _ in range(FILE_TRIES):
        if found or not slice_.archive.exists():
            try:
                client.download(str(slice_.facts["href"]), slice_.archive)
            except ApiError as error:
                if isinstance(found, ContractError):
                    raise found from None  # it is all there is, and paid for: it is kept
                raise _forgotten(error, request_id) from None
        try:
            with _OPENING:
                taken = raw_slices.write_archive(slice_.archive, slice_.unfinished)
            return _counted(slice_, taken, request_id)
        except (ReportError, ContractError) as error:
            found = error
    if isinstance(found, ReportError):
        slice_.archive.unlink()
    raise found or ReportError(f"report {request_id} was not opened")


def _counted(slice_: UnderWay, taken: raw_slices.RawSlice, request_id: str) -> raw_slices.RawSlice:
    """The rows, if they are as many as were announced; if not, the next run asks anew."""
    told = slice_.facts["items_count"]
    if told in (UNTOLD, taken.rows):
        return taken
    slice_.jot(doubtful=True)
    raise ReportError(
        f"report {request_id} announces {told} records and holds {taken.rows}: run again"
    )


def _forgotten(error: ApiError, request_id: str) -> Exception:
    """What a failure means: Vonage knows a report's file for 72 h, and the report for 4 days."""
    if error.status in (404, 410):
        return _Ended(f"Vonage knows report {request_id} no more", perhaps_billed=True)
    return error


def _drop(slice_: UnderWay) -> None:
    """Forgets a report, but not that it was of no use, nor what it has cost."""
    facts = slice_.facts
    used = [*facts.get("used", []), facts["request_id"]]
    spent = facts.get("spent", 0) + max(facts.get("items_count", 0), 0)
    gone = ("request_id", "asked", "items_count", "href", "truncated", "doubtful")
    slice_.jot(used=used, spent=spent, **dict.fromkeys(gone))
    slice_.archive.unlink(missing_ok=True)


def _hand_over(slice_: UnderWay, taken: raw_slices.RawSlice) -> None:
    request_id = str(slice_.facts["request_id"])
    told = int(slice_.facts["items_count"])
    billed = (taken.rows if told == UNTOLD else told) + slice_.facts.get("spent", 0)
    if slice_.facts.get("truncated"):
        keep_what_came(slice_, taken, request_id, billed)
    else:
        slice_.whole(taken, request_id, billed)
        slice_.archive.unlink()
