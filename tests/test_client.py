"""The client of the Reports API, over real HTTP: against the sandbox, and against faults."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from reconcile.days import Window, day_window, iso
from reconcile.errors import (
    ApiError,
    AuthError,
    ContractError,
    RateLimitError,
    UnreachableError,
)
from reconcile.reports.client import Client, LoopError, Report
from reconcile.reports.slices import Slice, Source
from reconcile.reports.transport import Pacer
from reconcile.sandbox.generate import Generated
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account

DAY = day_window(datetime(2026, 1, 5, tzinfo=UTC).date())
OWN = Account("5a4d0b0e", "5a4d0b0e", "s:cret ü €")
PART, SOURCE = Slice("5a4d0b0e", DAY), Source("5a4d0b0e")
OTHER = Slice("11112222", DAY)
SINCE = datetime(2026, 1, 6, 2, tzinfo=UTC)
RECORD = {"message_id": "0A", "date_received": "2026-01-05T00:00:00Z", "status": "delivered"}
LAST = {"request_status": "SUCCESS", "request_id": "r", "records": [RECORD]}
Script = Callable[["Handler", int], None]


class Handler(BaseHTTPRequestHandler):
    """Plays a test's script, which is told how many requests came before."""

    protocol_version = "HTTP/1.1"
    server: Any

    def _play(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.sent = json.loads(self.rfile.read(length)) if length else None
        number = len(self.server.seen)
        self.server.seen.append(f"{self.command} {self.path}")
        self.server.headers_seen.append(dict(self.headers))
        self.server.script(self, number)

    do_GET = do_POST = _play  # noqa: N815 - http.server's names

    def answer(self, status: int, body: Any = b"", **headers: str) -> None:
        """Answers with bytes as they are, or with anything else as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def cut(self) -> None:
        """Ends the connection without a word."""
        self.close_connection = True
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Keeps stderr silent."""


@contextmanager
def serving(script: Script) -> Iterator[Any]:
    """A server on loopback that plays a script."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # connections are cut on purpose
    server.script, server.seen, server.headers_seen = script, [], []
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Playing:
    """A client and the server that it speaks to."""

    def __init__(self, server: Any, client: Client) -> None:
        self.client, self._server = client, server

    @property
    def seen(self) -> list[str]:
        """Method and target of every request."""
        return list(self._server.seen)

    @property
    def headers(self) -> list[dict[str, str]]:
        """Headers of every request."""
        return list(self._server.headers_seen)

    def page(self) -> list[dict[str, Any]]:
        """The records of all pages."""
        return [record for page in self.client.records(PART) for record in page.records]


@pytest.fixture
def play(configure: Any) -> Iterator[Callable[..., Any]]:
    """A way to play a script, with settings."""

    @contextmanager
    def playing(script: Script, **flags: Any) -> Iterator[Playing]:
        with serving(script) as server:
            url = f"http://127.0.0.1:{server.server_port}"
            client = Client(OWN, configure(base_url=url, **flags))
            try:
                yield Playing(server, client)
            finally:
                client.close()

    return playing  # type: ignore[return-value]


@pytest.fixture
def sandbox(world: Generated) -> Iterator[Sandbox]:
    """The tiny world, as it stands when all of it is mature."""
    with Sandbox(world.folder, now=world.mature_at, pending_seconds=0,
                 seconds_per_million=0) as server:  # fmt: skip
        yield server


@pytest.fixture
def client(sandbox: Sandbox, account: Account, configure: Any) -> Iterator[Client]:
    """A client of the sandbox."""
    client = Client(account, configure(base_url=sandbox.base_url))
    yield client
    client.close()


def first(fault: Callable[[Handler], None]) -> Script:
    """A fault on the first request, and the last page from then on."""
    return lambda handler, number: handler.answer(200, LAST) if number else fault(handler)


# Faults that pass


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_passing_refusals(play: Any, status: int) -> None:
    """A 429 or 5xx without Retry-After is tried again."""
    with play(first(lambda h: h.answer(status))) as it:
        assert it.page() == [RECORD]
        assert len(it.seen) == 2


def test_retry_after(play: Any) -> None:
    """A 429 with Retry-After is waited for as long as it says."""
    begun = time.monotonic()
    with play(first(lambda h: h.answer(429, Retry_After="1")), retry_longest="5s") as it:
        assert it.page() == [RECORD]
    assert 0.99 < time.monotonic() - begun < 4


def test_retry_after_is_bounded(play: Any) -> None:
    """No Retry-After makes us wait longer than `retry_longest`."""
    begun = time.monotonic()
    with play(first(lambda h: h.answer(429, Retry_After="3600"))) as it:
        assert it.page() == [RECORD]
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("header", ["soon", "Thu, 01 Jan 1970 00:00:00 GMT", "-5"])
def test_odd_retry_after(play: Any, header: str) -> None:
    """A Retry-After that says nothing of use is passed over."""
    with play(first(lambda h: h.answer(503, Retry_After=header))) as it:
        assert it.page() == [RECORD]


def test_cut_connection(play: Any) -> None:
    """A connection that is cut before the answer is tried again."""
    with play(first(lambda h: h.cut())) as it:
        assert it.page() == [RECORD]


def test_cut_body(play: Any) -> None:
    """A connection that is cut within the answer is tried again."""

    def half(handler: Handler) -> None:
        handler.answer(200, b'{"records": [', Content_Length="5000")
        handler.cut()

    with play(first(half)) as it:
        assert it.page() == [RECORD]


def test_stall(play: Any) -> None:
    """An answer that does not come within `read_timeout` is tried again."""
    gone = threading.Event()
    with play(first(lambda _: gone.wait(5) and None), read_timeout="200ms") as it:
        assert it.page() == [RECORD]
        gone.set()


def test_stall_for_ever(play: Any) -> None:
    """One that never comes is an UnreachableError that says how often it was tried."""
    gone = threading.Event()
    script = lambda *_: gone.wait(5) and None  # noqa: E731
    with play(script, read_timeout="100ms", retries=1) as it:
        with pytest.raises(UnreachableError, match=r"did not answer GET .* in time, 2 times"):
            it.page()
        gone.set()


def test_nobody_there(configure: Any) -> None:
    """A host that refuses connections is an UnreachableError that names it."""
    client = Client(OWN, configure(base_url="http://127.0.0.1:9", retries=1))
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:9 could not be reached"):
        list(client.records(PART))
    client.close()


def test_rate_limit_for_ever(play: Any) -> None:
    """A 429 on every try is a RateLimitError."""
    with play(lambda h, _: h.answer(429), retries=2) as it:
        with pytest.raises(RateLimitError):
            it.page()
        assert len(it.seen) == 3


# Refusals


@pytest.mark.parametrize(("status", "kind"), [(401, AuthError), (403, AuthError), (422, ApiError)])
def test_refusals(play: Any, status: int, kind: type[ApiError]) -> None:
    """A refusal is not tried again; its error holds title, detail, instance and what to check."""
    problem = {"title": "No", "detail": "Not\nyou.", "instance": "abc"}
    with play(lambda h, _: h.answer(status, problem)) as it:
        with pytest.raises(kind) as caught:
            it.page()
        assert len(it.seen) == 1
    words = f"Vonage answered {status} to GET /v2/reports/records: No: Not you. [instance abc]"
    mend = "; check the API key, its secret, and that the account may use the Reports API"
    assert str(caught.value) == words + (mend if kind is AuthError else "")


def test_invalid_parameters(play: Any) -> None:
    """A 422 names every parameter with its reason."""
    wrong = [{"name": "date_end", "reason": "Missing"}, {"name": "product", "reason": "Odd"}, 7]
    with (
        play(lambda h, _: h.answer(422, {"title": "Bad", "invalid_parameters": wrong})) as it,
        pytest.raises(ApiError, match="Bad: date_end: Missing; product: Odd"),
    ):
        it.page()


def test_refusal_of_a_proxy(play: Any) -> None:
    """A refusal that is HTML still tells its status."""
    with (
        play(lambda h, _: h.answer(403, b"<html>blocked")) as it,
        pytest.raises(AuthError, match=r"403 .*Forbidden"),
    ):
        it.page()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\n <!DOCTYPE html><html>", "an HTML page instead of JSON"),
        (b"", "something else instead of JSON"),
        (b"[" * 100_000, "something else instead of JSON"),
        (b"[]", "JSON that is no object"),
        (b"{}", "holds no records"),
        (b'{"records": [1]}', "holds no records"),
    ],
)
def test_odd_answers(play: Any, body: bytes, words: str) -> None:
    """A 200 that holds something else every time is an UnreachableError that says what."""
    with play(lambda h, _: h.answer(200, body), retries=1) as it:
        with pytest.raises(UnreachableError, match=words):
            it.page()
        assert len(it.seen) == 2


@pytest.mark.parametrize("body", [b"<html>", b"", b"{}"])
def test_odd_answers_pass(play: Any, body: bytes) -> None:
    """A 200 that holds something else is tried again, as a lost connection is."""
    with play(first(lambda h: h.answer(200, body))) as it:
        assert it.page() == [RECORD]


def test_records_without_ids(play: Any) -> None:
    """Records that lack a field without which nothing can be joined break the contract."""
    with (
        play(lambda h, _: h.answer(200, {"records": [{"status": "x"}]})) as it,
        pytest.raises(ContractError, match="lack message_id, date_received"),
    ):
        it.page()


def test_a_field_that_is_blank_everywhere(play: Any) -> None:
    """A field that some records have and others leave out is there."""
    both = [RECORD, {"message_id": "0B"}]
    with play(lambda h, _: h.answer(200, {"records": both})) as it:
        assert it.page() == both


def test_money_stays_text(play: Any) -> None:
    """A price that comes as a JSON number stays the digits that it came as."""
    body = b'{"records": [{"message_id": "0A", "date_received": "", "status": "", "p": 0.10}]}'
    with play(lambda h, _: h.answer(200, body)) as it:
        assert it.page()[0]["p"] == "0.10"


# Who is refused


def test_refused_credentials(play: Any) -> None:
    """After a 401 nothing is asked for any more, of whichever account."""
    with play(lambda h, _: h.answer(401)) as it:
        for part in (PART, OTHER):
            with pytest.raises(AuthError, match="401"):
                list(it.client.records(part))
        with pytest.raises(AuthError):
            it.client.report("x")
        assert len(it.seen) == 1


def test_refused_account(play: Any) -> None:
    """After a 403 nothing is asked for this account any more; for others it is."""

    def script(handler: Handler, _: int) -> None:
        handler.answer(403 if "account_id=11112222" in handler.path else 200, LAST)

    with play(script) as it:
        for _ in range(2):
            with pytest.raises(AuthError):
                list(it.client.records(OTHER))
            with pytest.raises(AuthError):
                it.client.records_by_id(OTHER.source, ["0A"])
            assert it.page() == [RECORD]
        assert len(it.seen) == 3


def test_refused_by_id(play: Any) -> None:
    """A 403 to a question by id forbids neither listings nor reports."""

    def script(handler: Handler, _: int) -> None:
        refused = "id=0A" in handler.path and "account_id=0A" not in handler.path
        handler.answer(403 if "&id=" in handler.path and refused else 200, LAST)

    with play(script) as it:
        with pytest.raises(AuthError):
            it.client.records_by_id(SOURCE, ["0A"])
        assert it.page() == [RECORD]
        assert it.client.create_report(PART, SINCE).request_id == "r"


def test_a_client_that_is_stopped(play: Any) -> None:
    """Once it is stopped no request begins, and nobody waits."""
    with play(lambda h, _: h.answer(200, LAST)) as it:
        it.client.stop()
        with pytest.raises(UnreachableError, match="stopped"):
            it.page()
        with pytest.raises(UnreachableError, match="stopped"):
            it.client.pause(60)
        assert it.seen == []


@pytest.mark.parametrize(
    ("place", "host"),
    [("https://evil.example/x", "evil.example"), ("/elsewhere", "127.0.0.1"), ("x:y", "nowhere")],
)
def test_redirect(play: Any, place: str, host: str) -> None:
    """A redirect of a query is refused, and the error names where it led."""
    with (
        play(lambda h, _: h.answer(302, Location=place)) as it,
        pytest.raises(ApiError, match=f"a redirect to {host}, which is refused"),
    ):
        it.page()


def test_redirect_to_no_address(play: Any) -> None:
    """A redirect to what is no address is an error of ours, not a crash within requests."""
    with (
        play(lambda h, _: h.answer(302, Location="//[")) as it,
        pytest.raises(UnreachableError, match="to what is no address"),
    ):
        it.page()


def test_credentials(play: Any) -> None:
    """Key and secret travel as Basic authorization in UTF-8, whatever letters they hold."""
    with play(lambda h, _: h.answer(200, LAST)) as it:
        it.page()
        scheme, encoded = it.headers[0]["Authorization"].split()
    assert (scheme, base64.b64decode(encoded).decode()) == ("Basic", "5a4d0b0e:s:cret ü €")


# Pages


def paged(*pages: dict[str, Any]) -> Script:
    """One page after the other."""
    return lambda handler, number: handler.answer(200, {"records": [RECORD], **pages[number]})


def test_query(play: Any) -> None:
    """The first query names the window in UTC, and asks for `concatenated`."""
    with play(paged({})) as it:
        it.page()
    assert parse_qs(urlsplit(it.seen[0]).query) == {
        "account_id": ["5a4d0b0e"], "product": ["SMS"], "direction": ["outbound"],
        "date_start": ["2026-01-05T00:00:00Z"], "date_end": ["2026-01-06T00:00:00Z"],
        "show_concatenated": ["true"],
    }  # fmt: skip


def test_query_of_messages(play: Any) -> None:
    """Of Messages only the channel sms is listed, as what comes is billed; parts it has none."""
    messages = Slice("5a4d0b0e", DAY, "MESSAGES")
    with play(paged({}, {})) as it:
        list(it.client.records(messages))
        it.client.records_by_id(messages.source, ["a", "b"])
    listing, by_id = (parse_qs(urlsplit(line).query) for line in it.seen)
    assert (listing["product"], listing["provider"]) == (["MESSAGES"], ["sms"])
    assert "show_concatenated" not in listing
    assert by_id == {"account_id": ["5a4d0b0e"], "product": ["MESSAGES"],
                     "direction": ["outbound"], "id": ["a,b"]}  # fmt: skip


def test_next_link(play: Any) -> None:
    """A next link is followed as it stands, on the configured host whatever host it names."""
    link = (
        "https://evil.example/v2/reports/records?date_start=2026-01-05T00%3A00%3A00%2B0000&cursor=a"
    )
    with play(paged({"_links": {"next": {"href": link}}}, {})) as it:
        assert len(it.page()) == 2
    assert it.seen[1] == f"GET {link.removeprefix('https://evil.example')}"


def test_cursor_alone(play: Any) -> None:
    """Where there is no link, `cursor` and `iv` are put to the first query."""
    with play(paged({"cursor": "a+b", "iv": "c"}, {})) as it:
        assert len(it.page()) == 2
    query = parse_qs(urlsplit(it.seen[1]).query)
    assert (query["cursor"], query["iv"], query["account_id"]) == (["a+b"], ["c"], ["5a4d0b0e"])


def test_going_on(play: Any) -> None:
    """A listing goes on behind a page that is here already."""
    with play(paged({})) as it:
        assert len(list(it.client.records(PART, "cursor=z&iv=y", ["cursor=z&iv=y"]))) == 1
    assert it.seen == ["GET /v2/reports/records?cursor=z&iv=y"]


def test_repeated_cursor(play: Any) -> None:
    """A cursor that comes again is an error with the page's number, not a listing without end."""
    again = {"cursor": "a", "iv": "b"}
    with (
        play(paged(again, again, again)) as it,
        pytest.raises(LoopError, match=r"page 2 of SMS-5a4d0b0e-.* a page that came before"),
    ):
        it.page()
    assert len(it.seen) == 2


def test_cursor_of_a_run_before(play: Any) -> None:
    """So is one that points to a page which a run before had."""
    with play(paged({"cursor": "a", "iv": "b"}, {"cursor": "a", "iv": "b"})) as it:
        first_page = next(it.client.records(PART))
        listing = it.client.records(PART, "cursor=z", ["cursor=z", str(first_page.next)])
        with pytest.raises(LoopError, match="page 3 of"):
            list(listing)


def test_the_page_that_loops_is_not_lost(play: Any) -> None:
    """What points back was paid for: it comes before the error does."""
    again = {"cursor": "a", "iv": "b"}
    with play(paged(again, again)) as it:
        listing = it.client.records(PART)
        assert [next(listing).records, next(listing).records] == [[RECORD], [RECORD]]
        with pytest.raises(LoopError):
            next(listing)


def test_empty_page_pointing_on(play: Any) -> None:
    """A page without records that points on is an error: something would be missing."""
    with (
        play(paged({"records": [], "cursor": "a"})) as it,
        pytest.raises(UnreachableError, match=r"page 1 of .* more without a record"),
    ):
        it.page()


def test_truncated_without_next(play: Any) -> None:
    """TRUNCATED without a way on is an error: something would be missing."""
    with (
        play(paged({"request_status": "TRUNCATED"})) as it,
        pytest.raises(UnreachableError, match="does not say where"),
    ):
        it.page()


def test_link_that_is_none(play: Any) -> None:
    """A next link that cannot be read is an error that says so."""
    with (
        play(paged({"_links": {"next": {"href": "http://[/"}}})) as it,
        pytest.raises(UnreachableError, match="a link that is none"),
    ):
        it.page()


def test_sandbox_listing(client: Client, world: Generated) -> None:
    """The pages of a day hold each of its messages once."""
    pages = list(client.records(PART))
    ids = [record["message_id"] for page in pages for record in page.records]
    assert len(ids) == len(set(ids)) == world.messages / 2
    assert pages[-1].next is None


def test_sandbox_by_id(client: Client) -> None:
    """Up to 20 messages are had by their ids, and those not found are named."""
    ids = [r["message_id"] for r in next(client.records(PART)).records[:19]]
    page = client.records_by_id(SOURCE, [*ids, "NOBODY"])
    assert {r["message_id"] for r in page.records} == set(ids)
    assert page.ids_not_found == ["NOBODY"]


def test_pace(sandbox: Sandbox, client: Client) -> None:
    """15 calls in a row meet no rate limit."""
    second = SOURCE.slice(Window(DAY.start, DAY.start + timedelta(seconds=1)))
    begun = time.monotonic()
    for _ in range(15):
        list(client.records(second))
    assert time.monotonic() - begun > 1.4
    assert sandbox.request_counts == {"GET /v2/reports/records 200": 15}


def test_pace_of_threads() -> None:
    """A pacer keeps its pace whatever the number of threads."""
    pacer, times = Pacer(50), []

    def walk() -> None:
        for _ in range(4):
            pacer.wait()
            times.append(time.monotonic())

    threads = [threading.Thread(target=walk) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times.sort()
    assert min(b - a for a, b in pairwise(times)) > 0.015


# Reports


def test_sandbox_report(client: Client, tmp_path: Path) -> None:
    """A report is created, polled and downloaded."""
    report = client.create_report(PART, SINCE)
    while report.status in ("PENDING", "PROCESSING"):
        time.sleep(0.1)
        report = client.report(report.request_id)
    assert report.status == "SUCCESS"
    size = client.download(str(report.download), tmp_path / "a.zip")
    assert (tmp_path / "a.zip").stat().st_size == size > 10_000


def test_report_shapes(play: Any) -> None:
    """Both shapes in which the documentation shows a report are read."""
    shapes = [
        {"request_id": "ri-1", "request_status": "SUCCESS", "status": "delivered",
         "items_count": 5, "receive_time": "t",
         "_links": {"download_report": {"href": "https://api.nexmo.com/v3/media/1"}}},
        {"request_id": "ri-1", "status": "success", "items_count": "5", "receive_time": "t",
         "download_url": "https://api.nexmo.com/v3/media/1"},
    ]  # fmt: skip
    wanted = Report("ri-1", "SUCCESS", 5, "https://api.nexmo.com/v3/media/1", "t")
    with play(lambda h, n: h.answer(200, shapes[n])) as it:
        assert [it.client.report("ri-1"), it.client.report("ri-1")] == [wanted, wanted]


def test_report_without_id(play: Any) -> None:
    """An answer that names no report is not the API's: tried again, then unreachable."""
    with play(lambda h, _: h.answer(200, {}), retries=1) as it:
        with pytest.raises(UnreachableError, match="names no request_id"):
            it.client.report("x")
        assert len(it.seen) == 2


@pytest.mark.parametrize(
    ("part", "wanted"),
    [
        (PART, {"product": "SMS", "show_concatenated": True}),
        (Slice("5a4d0b0e", DAY, "MESSAGES"), {"product": "MESSAGES", "provider": "sms"}),
        (Slice("5a4d0b0e", DAY, "SMS", subaccounts=True),
         {"product": "SMS", "show_concatenated": True, "include_subaccounts": True}),
    ],
)  # fmt: skip
def test_what_a_report_is_asked_for(play: Any, part: Slice, wanted: dict[str, Any]) -> None:
    """A report names its window, and whether the subaccounts' records are to be in it."""
    sent: list[Any] = []

    def script(handler: Handler, _: int) -> None:
        sent.append(handler.sent)
        handler.answer(200, {"request_id": "ri-1"})

    with play(script) as it:
        it.client.create_report(part, SINCE)
    window = {"date_start": "2026-01-05T00:00:00Z", "date_end": "2026-01-06T00:00:00Z"}
    assert sent == [{"account_id": "5a4d0b0e", "direction": "outbound"} | window | wanted]


def test_report_id_is_quoted(play: Any) -> None:
    """A strange report id stays within its place in the path."""
    with play(lambda h, _: h.answer(200, {"request_id": "x"})) as it:
        it.client.report("../../v3?a")
    assert it.seen == ["GET /v2/reports/..%2F..%2Fv3%3Fa"]


@pytest.mark.parametrize("fault", ["cut", "503"])
def test_lost_answer(play: Any, fault: str) -> None:
    """A report whose answer was lost is found among the account's reports, not created again."""
    made = {"request_id": "ri-1", "request_status": "PENDING", "product": "SMS",
            "date_start": "2026-01-05T00:00:00+0000",
            "date_end": "2026-01-06T00:00:00+0000"}  # fmt: skip
    other = made | {"request_id": "ri-0", "date_end": "2026-01-05T12:00:00+0000"}

    def script(handler: Handler, _: int) -> None:
        if handler.command == "GET":
            handler.answer(200, {"reports": [other, made, 7, {"product": "MESSAGES"}]})
        elif fault == "cut":
            handler.cut()
        else:
            handler.answer(503)

    with play(script) as it:
        assert it.client.create_report(PART, SINCE).request_id == "ri-1"
        assert [line.split("?")[0] for line in it.seen] == ["POST /v2/reports", "GET /v2/reports"]
    query = parse_qs(urlsplit(it.seen[1]).query)
    assert query["account_id"] == ["5a4d0b0e"]
    assert query["status"] == ["PENDING,PROCESSING,SUCCESS,TRUNCATED"]


def test_lost_question(play: Any) -> None:
    """A report that is not among the account's reports is created after all."""

    def script(handler: Handler, number: int) -> None:
        if number == 0:
            handler.cut()
        else:
            handler.answer(200, {"reports": []} if number == 1 else {"request_id": "ri-2"})

    with play(script) as it:
        assert it.client.create_report(PART, SINCE).request_id == "ri-2"
        assert [line[:4] for line in it.seen] == ["POST", "GET ", "POST"]


def test_report_of_another_run(play: Any) -> None:
    """A report that a run before asked for, without an answer, is looked for first."""
    made = {"request_id": "ri-1", "product": "SMS", "date_start": iso(DAY.start),
            "date_end": iso(DAY.end)}  # fmt: skip
    with play(lambda h, _: h.answer(200, {"reports": [made]})) as it:
        assert it.client.create_report(PART, SINCE, lost=True).request_id == "ri-1"
    assert parse_qs(urlsplit(it.seen[0]).query)["date_from"] == ["2026-01-06T01:00:00Z"]


@pytest.mark.parametrize(
    ("change", "used"),
    [
        ({"include_subaccounts": True}, ()), ({"product": "MESSAGES"}, ()),
        ({"account_id": "11112222"}, ()), ({"date_start": "soon"}, ()), ({}, ("ri-1",)),
    ],
)  # fmt: skip
def test_a_report_that_is_not_ours(play: Any, change: dict[str, Any], used: tuple[str]) -> None:
    """A report of other records, or one that was of no use, is not taken for the one asked for."""
    made = {"request_id": "ri-1", "product": "SMS", "date_start": iso(DAY.start),
            "date_end": iso(DAY.end), "account_id": "5a4d0b0e"} | change  # fmt: skip

    def script(handler: Handler, number: int) -> None:
        handler.answer(200, {"request_id": "ri-2"} if number else {"reports": [made]})

    with play(script) as it:
        assert it.client.create_report(PART, SINCE, lost=True, used=used).request_id == "ri-2"


def test_the_newest_report_is_ours(play: Any) -> None:
    """Of several reports of one slice the one that was asked for last is taken."""
    made = [
        {"request_id": f"ri-{n}", "receive_time": f"2026-01-06T02:0{n}:00+0000",
         "request_params": {"product": "SMS", "date_start": iso(DAY.start),
                            "date_end": iso(DAY.end)}}
        for n in (1, 3, 2)
    ]  # fmt: skip
    with play(lambda h, _: h.answer(200, {"reports": made})) as it:
        assert it.client.create_report(PART, SINCE, lost=True).request_id == "ri-3"


# Files


def test_short_file(play: Any, tmp_path: Path) -> None:
    """A file that came short is fetched again, and appears only when it is whole."""
    seen: list[bool] = []

    def script(handler: Handler, number: int) -> None:
        seen.append((tmp_path / "a.zip").exists())
        handler.answer(200, b"x" * 1000 if number else b"x" * 500, Content_Length="1000")
        if not number:
            handler.cut()

    with play(script) as it:
        assert (
            it.client.download("https://api.nexmo.com/v3/media/1?a=b", tmp_path / "a.zip") == 1000
        )
    assert seen == [False, False]
    assert it.seen == ["GET /v3/media/1?a=b"] * 2
    assert [p.name for p in tmp_path.glob("a.zip*")] == ["a.zip"]


def test_file_is_not_encoded(play: Any, tmp_path: Path) -> None:
    """A file is asked for without compression on the way, which would hide its length."""
    with play(lambda h, _: h.answer(200, b"abc")) as it:
        it.client.download("/v3/media/1", tmp_path / "a.zip")
    assert it.headers[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("place", ["http://127.0.0.1:1/x", "http://files.example/x", "/x"])
def test_redirected_file(play: Any, tmp_path: Path, place: str) -> None:
    """A redirect of a file that leads to http, or to the same host, is refused."""
    with (
        play(lambda h, _: h.answer(302, Location=place)) as it,
        pytest.raises(ApiError, match=r"a redirect to .*, which is refused"),
    ):
        it.client.download("/v3/media/1", tmp_path / "a.zip")
    assert len(it.seen) == 1


def test_redirect_to_https(play: Any, tmp_path: Path) -> None:
    """A redirect of a file to https on another host is followed: here nobody speaks TLS there."""
    with serving(lambda h, _: h.answer(200, b"x")) as other:
        place = f"https://127.0.0.1:{other.server_port}/x"
        with (
            play(lambda h, _: h.answer(302, Location=place), retries=0) as it,
            pytest.raises(UnreachableError),
        ):
            it.client.download("/v3/media/1", tmp_path / "a.zip")
    assert other.seen == []


def test_vanished_file(play: Any, tmp_path: Path) -> None:
    """A file that is no more is an ApiError with its status."""
    with play(lambda h, _: h.answer(404, {"title": "Gone"})) as it:
        with pytest.raises(ApiError) as caught:
            it.client.download("/v3/media/1", tmp_path / "a.zip")
        assert caught.value.status == 404
