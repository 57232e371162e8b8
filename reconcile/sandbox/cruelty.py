"""What can go wrong with the API, by name: the table of faults, and what decides when one strikes.

A fault strikes an answer in one of three ways, and a report in a fourth:

    instead    an answer is made before any work is done: nothing is billed, no report exists
    spoil      the work is done, and billed; its answer is another, or not whole
    fate       a new report will end otherwise

Those that would replace an answer exclude each other: the first that strikes is the one, and the
others wait. Those that spoil it add up, in the order of the table.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import partial
from random import Random

from reconcile.errors import UsageError
from reconcile.sandbox import broken_answers as answers
from reconcile.sandbox import broken_archives as archives
from reconcile.sandbox import fates
from reconcile.sandbox.broken_answers import Hit, Instead, Knobs, Spoil
from reconcile.sandbox.broken_archives import archive
from reconcile.sandbox.fates import Decree, Fate, Size
from reconcile.sandbox.protocol import Request, Response

ALL = ("records", "by_id", "create", "status", "list", "file")
PAGES = ("records", "by_id")
RECORDS = (*PAGES, "file")
REPORTS = ("create", "status", "list")
HowOften = int | float


def columns(change: Callable[[dict[str, str]], dict[str, str]]) -> Spoil:
    """Changes the fields of records, on a page or in a file."""
    on_page, in_file = answers.records(change), archives.columns(change)
    return lambda response, hit: on_page(response, hit) or in_file(response, hit)


@dataclass(frozen=True)
class Fault:
    """A way for the API to fail.

    Attributes:
        name: as it is asked for.
        sentence: what the client sees.
        endpoints: which requests it may strike; kinds, as `kind_of` tells them.
        instead, spoil, fate: how it strikes; each fault has one of them.
        lasts: whether what it struck once, it strikes for good: the same path, the same cursor.
    """

    name: str
    sentence: str
    endpoints: tuple[str, ...]
    instead: Instead | None = None
    spoil: Spoil | None = None
    fate: Decree | None = None
    lasts: bool = False


# fmt: off
FAULTS = (
    # Instead of an answer: no work is done.
    Fault("rate_limited", "429, and no word on how long to wait.", ALL,
          instead=answers.too_many()),
    Fault("rate_limited_retry_after", "429, to be tried again in a second.", ALL,
          instead=answers.too_many(lambda: "1")),
    Fault("rate_limited_date", "429, to be tried again at a date.", ALL,
          instead=answers.too_many(answers.in_a_second)),
    Fault("error_500", "500 with a problem as JSON.", ALL,
          instead=answers.internal_error),
    Fault("error_502", "502 with the HTML page of a proxy.", ALL,
          instead=answers.bad_gateway),
    Fault("error_503", "503 without a body.", ALL,
          instead=answers.unavailable),
    Fault("html_page", "200 with an HTML page: a captive proxy.", ALL,
          instead=answers.captive_page),
    Fault("redirect_elsewhere", "302 to another host, where nobody listens.", ALL,
          instead=answers.elsewhere),
    Fault("redirect_file", "302 to the same path on the host `redirect_to`.", ("file",),
          instead=answers.other_host),
    Fault("cursor_expired", "422 for a cursor, which stays refused.", ("records",),
          instead=answers.expired, lasts=True),
    Fault("ids_refused", "403: the account may not ask by id.", ("by_id",),
          instead=answers.forbidden),
    # A page of records that is spoilt.
    Fault("page_twice", "The next page is this one again, billed again; then it goes on.",
          ("records",), spoil=answers.page(answers.twice)),
    Fault("cursor_repeats", "The link to the next page holds the cursor of this one.",
          ("records",), spoil=answers.page(answers.same_cursor)),
    Fault("empty_page", "No record, and a link to where they are.", ("records",),
          spoil=answers.page(answers.empty)),
    Fault("cursor_only", "No link to the next page: only its cursor and iv.", ("records",),
          spoil=answers.page(answers.without_link)),
    Fault("next_without_truncated", "SUCCESS, and yet a link to a next page.", ("records",),
          spoil=answers.page(answers.success)),
    Fault("items_count_wrong", "A page says one record more than it holds.", PAGES,
          spoil=answers.page(answers.miscounted)),
    Fault("ids_missing", "None of the ids is known; nothing is billed.", ("by_id",),
          spoil=answers.page(answers.none_found)),
    Fault("ids_by_record_id_only", "Messages are found by their record's id alone.", ("by_id",),
          spoil=answers.page(answers.found_by_record_id)),
    Fault("column_added", "Records have a field that nobody knows, `surge_index`.", RECORDS,
          spoil=columns(answers.with_new_column)),
    Fault("column_missing", "Records have no message_id.", RECORDS,
          spoil=columns(answers.without_message_id)),
    Fault("columns_shuffled", "Fields come in another order.", RECORDS,
          spoil=columns(answers.in_other_order)),
    # A report, its end and what is said of it.
    Fault("report_failed", "The next report ends as FAILED.", ("create",),
          fate=fates.ends("FAILED")),
    Fault("report_aborted", "The next report ends as ABORTED.", ("create",),
          fate=fates.ends("ABORTED")),
    Fault("report_truncated", "A report of more than `truncate_after` records ends as TRUNCATED, "
          "with the newest of them.", ("create",), fate=fates.truncated("rowid")),
    Fault("report_truncated_unsorted", "The same, with any of them in any order.", ("create",),
          fate=fates.truncated("hash(rowid)")),
    Fault("report_count_wrong", "A report says one record more than its file holds.",
          ("create",), fate=fates.miscounted),
    Fault("slow_report", "A report stays PROCESSING for two seconds more.", ("create",),
          fate=fates.slow),
    Fault("shape_flat", "Reports in the other documented shape: status, download_url, "
          "request_params.", REPORTS, spoil=answers.flat),
    Fault("report_forgotten", "404 for a report that exists, for good.", ("status",),
          spoil=answers.forgotten, lasts=True),
    Fault("file_gone", "404 for a file that exists, for good.", ("file",),
          spoil=answers.forgotten, lasts=True),
    # A report's file that is spoilt.
    Fault("zip_two_csvs", "The records are split over two CSVs.", ("file",),
          spoil=archives.members(archives.two_csvs)),
    Fault("zip_other_members", "A README.txt and a folder beside the CSV.", ("file",),
          spoil=archives.members(archives.with_others)),
    Fault("zip_path_trick", "A CSV of junk named ../../evil.csv before the real one.", ("file",),
          spoil=archives.members(archives.path_trick)),
    Fault("zip_bomb", "A second CSV that inflates to two gigabytes.", ("file",),
          spoil=archive(archives.bomb)),
    Fault("zip_bad_crc", "A bit of the content is flipped.", ("file",),
          spoil=archive(archives.flipped)),
    Fault("zip_cut_short", "The end of the file is missing, and its length agrees.", ("file",),
          spoil=archive(archives.cut_short)),
    Fault("not_a_zip", "200 with an HTML page as the file.", ("file",),
          spoil=archive(archives.no_archive)),
    # Any answer: whose clock is wrong, then how much of it comes.
    Fault("clock_skew", "Dates and stamps are ten minutes slow.", ALL,
          spoil=answers.skewed),
    Fault("stall", "The work is done, then nothing comes for `stall_seconds`.", ALL,
          spoil=answers.silent),
    Fault("stall_mid_body", "Half of the body, then nothing for `stall_seconds`.", ALL,
          spoil=answers.half_then_silent),
    Fault("cut_before_answer", "The work is done, and the connection closed without a byte.", ALL,
          spoil=answers.cut_off),
    Fault("cut_mid_body", "Half of the body, then the connection is closed.", ALL,
          spoil=answers.cut_in_half),
)
# fmt: on


class Cruelty:
    """Decides which answers and reports are struck, by what.

    Args:
        faults: how often each strikes, by name. An int strikes the first so many of those that it
            can strike; a float between 0 and 1 is each one's probability.
        seed: of the random numbers; each fault has its own.
        knobs: what the faults are told.

    Raises:
        UsageError: a name that is no fault's, or a number that cannot be meant.
    """

    def __init__(self, faults: Mapping[str, HowOften], seed: int, knobs: Knobs) -> None:
        self.knobs = knobs
        self.struck: Counter[str] = Counter()
        self._random = {fault.name: Random(f"{seed} {fault.name}") for fault in FAULTS}
        self._for_good: set[tuple[str, str]] = set()
        self._again: dict[str, str] = {}
        self._lock = threading.Lock()
        self.faults = faults

    @property
    def faults(self) -> Mapping[str, HowOften]:
        """How often each fault strikes, as it was set; setting it counts anew."""
        return self._faults

    @faults.setter
    def faults(self, faults: Mapping[str, HowOften]) -> None:
        demand_faults(faults)
        if "redirect_file" in faults and not self.knobs.redirect_to:
            raise UsageError("redirect_file needs redirect_to, the host to which it leads")
        with self._lock:
            self._faults, self._left = dict(faults), dict(faults)

    def answer(self, request: Request, work: Callable[[Request], Response]) -> Response:
        """What a client gets who asks, where `work` makes the answer that is due."""
        meant = replace(request, target=self._again.get(_cursor_of(request), request.target))
        hit = Hit(request, self.knobs, partial(self._come_again, meant))
        armed = self._armed(kind_of(request))
        for fault in armed:
            found = fault.instead and fault.instead(hit)
            if found and self._strikes(fault, request):
                return found
        response = work(meant)
        for fault in armed:
            spoilt = fault.spoil and fault.spoil(response, hit)
            if spoilt and self._strikes(fault, request):
                response = spoilt
        return response

    def fate(self, size: Size) -> Fate:
        """How a report that is being created will end; `size` counts its records."""
        fate = Fate()
        for fault in self._armed("create"):
            other = fault.fate and fault.fate(fate, self.knobs, size)
            if other and self._strikes(fault):
                fate = other
        return fate

    def _armed(self, kind: str) -> list[Fault]:
        """The faults that may strike a kind of request."""
        return [f for f in FAULTS if kind in f.endpoints and (f.lasts or f.name in self._left)]

    def _strikes(self, fault: Fault, request: Request | None = None) -> bool:
        """Decides, and keeps count, of what the fault could strike."""
        struck = "" if request is None else _cursor_of(request) or request.path
        place = fault.name, struck
        with self._lock:
            strikes = fault.lasts and place in self._for_good
            if not strikes and fault.name in self._left:
                left = self._left[fault.name]
                if isinstance(left, float):
                    strikes = self._random[fault.name].random() < left
                elif left > 0:
                    strikes, self._left[fault.name] = True, left - 1
            if strikes:
                self.struck[fault.name] += 1
                self._for_good |= {place} if fault.lasts else set()
        return strikes

    def _come_again(self, meant: Request) -> dict[str, str]:
        """A cursor and an iv that stand for a request."""
        paging = {"cursor": secrets.token_urlsafe(135), "iv": secrets.token_urlsafe(16)}
        self._again[paging["cursor"]] = meant.target
        return paging


def kind_of(request: Request) -> str:
    """Which kind of a fault's endpoints a request is; blank for one that none strikes."""
    match request.method, request.endpoint:
        case "GET", "/v2/reports/records":
            return "by_id" if "id" in request.query else "records"
        case "POST", "/v2/reports":
            return "create"
        case "GET", "/v2/reports":
            return "list"
        case "GET", "/v2/reports/{id}":
            return "status"
        case "GET", "/v3/media/{id}":
            return "file"
    return ""


def demand_faults(faults: Mapping[str, object]) -> None:
    """Refuses names that are no fault's, and numbers that cannot be meant."""
    names = [fault.name for fault in FAULTS]
    for name, often in faults.items():
        if name not in names:
            near = get_close_matches(name, names, n=5, cutoff=0.4) or names
            raise UsageError(f"{name} is no fault of the sandbox; near are {', '.join(near)}")
        is_count = isinstance(often, int) and not isinstance(often, bool) and often >= 0
        is_share = isinstance(often, float) and 0 < often < 1
        if not is_count and not is_share:
            raise UsageError(f"{name}: {often!r} is neither a count nor a share between 0 and 1")


def read_faults(words: Iterable[str]) -> dict[str, HowOften]:
    """Reads faults as a command line names them: `error_500=3`, `stall=0.01`, `shape_flat`."""
    faults: dict[str, HowOften] = {}
    for word in words:
        name, _, often = word.partition("=")
        try:
            faults[name] = float(often) if "." in often else int(often or "1")
        except ValueError:
            raise UsageError(f"{word!r} is no fault and how often, as error_500=3 is one") from None
    demand_faults(faults)
    return faults


def _cursor_of(request: Request) -> str:
    return request.query.get("cursor", "")
