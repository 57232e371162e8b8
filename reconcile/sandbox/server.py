"""A Reports API on loopback: what Vonage documents, over the traffic of a data folder.

    GET    /v2/reports/records    records of at most 24 h, in pages; or up to 20 by id
    POST   /v2/reports            creates a report; GET with a status lists them
    GET    /v2/reports/{id}       its status; DELETE cancels it
    GET    /v3/media/{id}         its ZIP
    GET    /_sandbox              what was asked, billed and struck; PUT /_sandbox/now {"now": …}
                                  sets time, PUT /_sandbox/faults {"faults": {…}} what fails

Each request takes one way: `_Handler` reads it into a `Request`, `Sandbox.respond` makes a
`Response` of it, and `_Handler._answer` writes that. A refusal is a `Refused`, raised. Where
something is to go wrong, `Cruelty` says so, for a whole answer or a report: the rest knows nothing
of faults.
"""

from __future__ import annotations

import io
import json
import secrets
import shutil
import socketserver
import sys
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from typing import Any, Self

from reconcile.days import iso, parse_moment
from reconcile.errors import InputError, UsageError
from reconcile.sandbox import protocol
from reconcile.sandbox.broken_answers import Knobs
from reconcile.sandbox.cruelty import Cruelty, HowOften
from reconcile.sandbox.jobs import Reports
from reconcile.sandbox.protocol import Query, RateLimit, Refused, Request, Response, as_json
from reconcile.sandbox.world import Place, World

_COPY_BYTES = 1 << 18


class Sandbox:
    """The server. A context manager: serves from a thread, and leaves nothing behind.

    Args:
        data: the folder of the traffic; `reconcile.sandbox.world` says what is in it.
        port: on 127.0.0.1; 0 takes a free one.
        now: the moment at which the world stands; without it, the wall clock.
        pending_seconds: how long a report waits before it is processed.
        seconds_per_million: how long at least the processing of a million records takes.
        retry_after: whether a 429 says how long to wait (the documentation is silent).
        link_host: the host in links; by default the real API's, which clients must map to theirs.
        latency: seconds that every answer of the API waits before it is written.
        faults: what goes wrong, and how often; `reconcile.sandbox.cruelty` has the table. An int
            strikes the first so many, a float between 0 and 1 each with that probability.
        fault_seed: of the faults' random numbers.
        stall_seconds: how long an answer that stalls is silent.
        truncate_after: how many records a truncated report has.
        redirect_to: the host, as a base URL, to which `redirect_file` leads.

    Attributes:
        requests: those that reached the API, in order.

    Raises:
        InputError: the folder is missing or malformed, or the port is taken.
        UsageError: there is no fault of that name, or a number that cannot be meant.
    """

    def __init__(
        self,
        data: Path,
        *,
        port: int = 0,
        now: datetime | None = None,
        pending_seconds: float = 0.2,
        seconds_per_million: float = 2.0,
        retry_after: bool = True,
        link_host: str = "https://api.nexmo.com",
        latency: float = 0.0,
        faults: Mapping[str, HowOften] | None = None,
        fault_seed: int = 0,
        stall_seconds: float = 5.0,
        truncate_after: int = 1000,
        redirect_to: str | None = None,
    ) -> None:
        self.pending_seconds, self.seconds_per_million = pending_seconds, seconds_per_million
        self.link_host, self.latency = link_host.rstrip("/"), latency
        knobs = Knobs(stall_seconds, truncate_after, redirect_to)
        self.cruelty = Cruelty(faults or {}, fault_seed, knobs)
        self.requests: list[Request] = []
        self._rate_limit = RateLimit(retry_after=retry_after)
        self.now = now
        self.billed_records = self.downloads = 0
        self.request_counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        # Where a listing goes on, and the moment at which it froze, by cursor, iv and query.
        self._cursors: dict[tuple[str, str, Query], tuple[datetime, Place]] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        with ExitStack() as undo:
            scratch = Path(tempfile.mkdtemp(prefix="reconcile-sandbox-"))
            undo.callback(shutil.rmtree, scratch, ignore_errors=True)
            self._world = World(Path(data), scratch)
            undo.callback(self._world.close)
            self._reports = Reports(self, self._world, scratch)
            undo.callback(self._reports.close)
            try:
                self._server = _Server(("127.0.0.1", port), self)
            except OSError as error:
                raise InputError(
                    f"cannot listen on 127.0.0.1:{port}: {error.strerror}: name another --port"
                ) from error
            undo.callback(self._server.server_close)
            self._cleanup = undo.pop_all()
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.api_key, self.api_secret = next(iter(self._world.accounts.secrets.items()))

    @property
    def now(self) -> datetime:
        """The moment at which the world stands; set to None, it is the wall clock's."""
        return self._now or datetime.now(UTC)

    @now.setter
    def now(self, moment: datetime | None) -> None:
        if moment is not None and moment.utcoffset() is None:
            raise UsageError("the sandbox's time needs a time zone")
        self._now = moment and moment.astimezone(UTC)

    @property
    def faults(self) -> Mapping[str, HowOften]:
        """What goes wrong, and how often; it can be set anew at any time, and then counts anew."""
        return self.cruelty.faults

    @faults.setter
    def faults(self, faults: Mapping[str, HowOften]) -> None:
        self.cruelty.faults = faults

    def __enter__(self) -> Self:
        if self._thread is None:
            # Looks often whether to stop, or each test would wait for it.
            serve = partial(self._server.serve_forever, poll_interval=0.02)
            self._thread = threading.Thread(target=serve, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def serve_forever(self) -> None:
        """Serves until it is interrupted or closed, then cleans up."""
        with self:
            self._closed.wait()

    def close(self) -> None:
        """Stops serving, cuts open connections, and removes every file."""
        self._closed.set()
        if self._thread is not None:
            self._server.shutdown()
            self._thread.join()
        self._cleanup.close()

    def respond(self, request: Request) -> Response:
        """The answer to a request, as documented unless a fault strikes."""
        try:
            if request.path.startswith("/_sandbox"):
                return self._control(request)
            self.requests.append(request)
            account = self._authenticate(request)
            self._rate_limit.admit(account, request.endpoint)
            return self.cruelty.answer(request, partial(self._work, account))
        except Refused as refusal:
            return refusal.response

    def pause(self, seconds: float) -> None:
        """Lets time pass, unless the sandbox is closed meanwhile."""
        self._closed.wait(seconds)

    def _work(self, account: str, request: Request) -> Response:
        """The answer that is due to an account."""
        try:
            match request.method, request.endpoint:
                case "GET", "/v2/reports/records":
                    return self._list_records(request, account)
                case "POST", "/v2/reports":
                    return self._reports.create(request, account)
                case "GET", "/v2/reports":
                    return self._reports.show_all(request, account)
                case "GET", "/v2/reports/{id}":
                    return self._reports.show(request, account)
                case "DELETE", "/v2/reports/{id}":
                    return self._reports.cancel(request, account)
                case "GET", "/v3/media/{id}":
                    return self._reports.download(request, account)
            raise protocol.problem(404, "#not-found", "Not found", "There is no such resource.")
        except Refused as refusal:
            return refusal.response
        except Exception as error:  # a bug of the sandbox: the client must see it, as a 500
            return protocol.problem(500, "#internal-error", "Internal error", repr(error)).response

    def count(self, request: Request, response: Response) -> None:
        """Books an answer that is about to be written."""
        with self.lock:
            if not request.path.startswith("/_sandbox"):
                self.request_counts[f"{request.method} {request.endpoint} {response.status}"] += 1
                self.billed_records += response.billed
            self.downloads += isinstance(response.body, Path)

    def _control(self, request: Request) -> Response:
        """What stands outside the API: for people and tests."""
        try:
            match request.method, request.path:
                case "GET", "/_sandbox":
                    pass
                case "PUT", "/_sandbox/now":
                    moment = json.loads(request.body)["now"]
                    self.now = None if moment is None else parse_moment(moment)
                case "PUT", "/_sandbox/faults":
                    self.faults = json.loads(request.body)["faults"]
                case _:
                    detail = "There is no such control."
                    raise protocol.problem(404, "#not-found", "Not found", detail)
        except (ValueError, LookupError, TypeError, AttributeError, UsageError) as error:
            sent = '{"now": "2026-01-05T02:00:00Z"}, {"now": null} or {"faults": {"error_500": 3}}'
            detail = f"{error}: send {sent}."
            raise protocol.problem(400, "#invalid-json", "Malformed JSON", detail) from error
        with self.lock:
            billed = {"billed_records": self.billed_records, "downloads": self.downloads}
            cruelty = {"faults": dict(self.faults), "struck": dict(self.cruelty.struck)}
            asked = {"now": iso(self.now), "requests": dict(self.request_counts)}
            return as_json(asked | billed | cruelty)

    def _authenticate(self, request: Request) -> str:
        """The account whose key and secret came with a request."""
        key, secret = request.credentials
        if self._world.accounts.secrets.get(key) != secret:
            detail = "You did not provide correct credentials."
            raise protocol.problem(401, "#unauthorized", "Unauthorized", detail)
        return key

    def _list_records(self, request: Request, account: str) -> Response:
        """One page of a listing, or the records of some ids."""
        given, at, place = request.query, self.now, None
        query = protocol.read_query(given, at, is_report=False)
        self._world.accounts.demand_right(account, query.account_id)
        if "cursor" in given or "iv" in given:
            cursor = given.get("cursor", ""), given.get("iv", ""), query
            if cursor not in self._cursors:
                reason = "Unknown, or not with its iv and the same parameters"
                raise protocol.invalid({"cursor": reason})
            at, place = self._cursors[cursor]
        links = {"self": {"href": self.link_host + request.target}}
        extra: dict[str, str] = {}
        if query.ids:
            records, unknown = self._world.by_id(query, at)
            extra |= {"ids_not_found": ",".join(unknown)} if unknown else {}
        else:
            records, place = self._world.page(query, at, place)
            if place is not None:
                extra |= {"cursor": secrets.token_urlsafe(135), "iv": secrets.token_urlsafe(16)}
                self._cursors[extra["cursor"], extra["iv"], query] = at, place
                links["next"] = {"href": self.link_host + protocol.next_target(given, extra)}
        page = {
            "_links": links,
            "request_id": str(uuid.uuid4()),
            "request_status": "TRUNCATED" if "next" in links else "SUCCESS",
            "received_at": f"{self.now:%Y-%m-%dT%H:%M:%S}+00:00",
            "price": round(len(records) * protocol.PRICE_PER_RECORD, 4),
            "currency": "EUR",
            "items_count": len(records),
            **query.echo(),
            **extra,
            "records": records,
        }
        return replace(as_json(page), billed=len(records))


class _Server(ThreadingHTTPServer):
    """Knows its open connections, so that stopping does not wait for clients that keep theirs."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self._open: set[Any] = set()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Binds only: the base class would look up the host's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Notes a connection before its thread starts."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets a connection that has ended."""
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """Closes the listening socket, and cuts what is still open."""
        super().server_close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a client that went away; anything else is a bug."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads requests off one connection and writes their answers."""

    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = 1 << 16
    # Else the small end of an answer waits for the client's acknowledgement, some 40 ms.
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal():
            self.close_connection = True  # where this request ends is unknown
            length = "0"
        body = self.rfile.read(int(length))
        authorization = self.headers.get("Authorization", "")
        request = Request(self.command, self.path, authorization, body)
        self._answer(request, self.server.sandbox.respond(request))

    do_GET = do_POST = do_PUT = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _answer(self, request: Request, response: Response) -> None:
        """Writes as much of a response as is to be sent."""
        sandbox = self.server.sandbox
        sandbox.count(request, response)
        sandbox.pause(0 if request.path.startswith("/_sandbox") else sandbox.latency)
        if response.sent != "nothing":
            self._write(response, response.size if response.sent == "all" else response.size // 2)
        if response.sent != "all":
            self.wfile.flush()
            sandbox.pause(response.silence)
            self.close_connection = True

    def _write(self, response: Response, size: int) -> None:
        """Writes the headers of a whole response, and so many bytes of its body."""
        self.send_response_only(response.status)
        own = {"Server": self.version_string(), "Date": self.date_time_string()}
        length = {"Content-Length": str(response.size)}
        for name, value in (own | dict(response.headers) | length).items():
            self.send_header(name, value)
        self.end_headers()
        body = response.body
        with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as content:
            while chunk := content.read(min(size, _COPY_BYTES)):
                self.wfile.write(chunk)
                size -= len(chunk)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Keeps stderr silent."""
