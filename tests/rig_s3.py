"""A server that speaks S3, as a process of its own, and a proxy before it that does harm."""

from __future__ import annotations

import http.client
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

BUCKET = "receipts"
PATIENCE = 60.0
# The server looks at who asks, and not at the signature.
SIGNED = ("AWS4-HMAC-SHA256 Credential=tests-only/20260101/us-east-1/s3/aws4_request, "
          "SignedHeaders=host, Signature=none")  # fmt: skip
SLOW_DOWN = (503, "SlowDown", "Please reduce your request rate.")
EXPIRED = (400, "ExpiredToken", "The provided token has expired.")
DENIED = (403, "AccessDenied", "Access Denied")


@dataclass
class S3:
    """Where the server is, and what happens on the way to it.

    Attributes:
        port, server_port: of the proxy, and of the server behind it.
        shares: with which probability a request is struck: `slow_down`, `cut_before` (it never
            reaches the server), `cut_after` (it does, and its answer is lost), `cut_mid_body`.
        refusal: what every request is answered with, if anything.
        seen: how often each method was asked for, and how often each fault struck.
        chances: how often each fault could have struck.
        watch: called with each request before it goes on; may raise `ConnectionError` to cut it.
    """

    port: int
    server_port: int
    shares: dict[str, float] = field(default_factory=dict)
    refusal: tuple[int, str, str] | None = None
    seen: Counter[str] = field(default_factory=Counter)
    chances: Counter[str] = field(default_factory=Counter)
    watch: Callable[[str, str], None] = lambda _method, _path: None
    random: random.Random = field(default_factory=lambda: random.Random(4))

    @property
    def environment(self) -> dict[str, str]:
        """What the AWS tools read."""
        return {
            "AWS_ACCESS_KEY_ID": "tests-only", "AWS_SECRET_ACCESS_KEY": "tests-only",
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }  # fmt: skip

    def calm(self) -> None:
        """Nothing goes wrong any more."""
        self.shares, self.refusal, self.watch = {}, None, lambda _method, _path: None

    def ask(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Asks the server itself: nothing goes wrong on that way."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server_port, timeout=30)
        try:
            connection.request(method, path, body, {"Authorization": SIGNED, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def put(self, name: str, body: bytes) -> None:
        """Puts an object."""
        status, told = self.ask("PUT", f"/{BUCKET}/{name}", body)
        assert status == 200, told

    def _strikes(self, fault: str) -> bool:
        """By chance, but at the latest where nothing was struck ten times: no fault is left out."""
        share = self.shares.get(fault, 0.0)
        self.chances[fault] += 1
        overdue = share and not self.seen[fault] and self.chances[fault] >= 10
        if self.random.random() >= share and not overdue:
            return False
        self.seen[fault] += 1
        return True


@contextmanager
def serving() -> Iterator[S3]:
    """A server with one empty bucket, and the proxy before it."""
    port = _free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait(port)
        proxy = _Server(("127.0.0.1", 0), _Proxy)
        rig = S3(proxy.server_address[1], port)
        proxy.rig = rig  # type: ignore[attr-defined]
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        rig.ask("PUT", f"/{BUCKET}")
        try:
            yield rig
        finally:
            proxy.shutdown()
            proxy.server_close()
    finally:
        server.kill()
        server.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked and was killed, or heard enough, is no trouble."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _pass(self) -> None:
        rig: S3 = self.server.rig  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        rig.seen[self.command] += 1
        try:
            rig.watch(self.command, self.path)
        except ConnectionError:
            self._cut()
            return
        if rig.refusal or rig._strikes("slow_down"):
            self._refuse(*(rig.refusal or SLOW_DOWN))
            return
        if rig._strikes("cut_before"):
            self._cut()
            return
        connection = http.client.HTTPConnection("127.0.0.1", rig.server_port, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            answer = connection.getresponse()
            told = answer.read()
        finally:
            connection.close()
        if rig._strikes("cut_after"):
            self._cut()
            return
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        length = answer.getheader("Content-Length", "0") if is_head else str(len(told))
        self.send_header("Content-Length", length)
        self.end_headers()
        if len(told) > 1 and rig._strikes("cut_mid_body"):
            self.wfile.write(told[: len(told) // 2])
            self.wfile.flush()
            self._cut()
        elif not is_head:
            self.wfile.write(told)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass  # noqa: N815 - http.server's names

    def _refuse(self, status: int, code: str, message: str) -> None:
        told = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(told)

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _wait(port: int) -> None:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            with urlopen(f"http://127.0.0.1:{port}/moto-api/data.json", timeout=5):
                return
        except (URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
