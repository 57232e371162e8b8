"""TLS: always verified; a file may lie on another https host, which learns no credentials."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from reconcile.days import day_window
from reconcile.errors import ApiError, UnreachableError
from reconcile.reports.client import Client
from reconcile.reports.slices import Slice
from reconcile.sandbox.generate import START, Generated
from reconcile.sandbox.server import Sandbox
from reconcile.settings import Account

PART = Slice("5a4d0b0e", day_window(START))
Answer = Callable[[BaseHTTPRequestHandler], bytes]


@contextmanager
def tls_server(certificate: trustme.LeafCert, answer: Answer) -> Iterator[Any]:
    """A server on loopback that speaks TLS; `seen` holds the headers of each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.seen.append(dict(self.headers))
            body = answer(self)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            """Keeps stderr silent."""

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads, server.seen = True, []
    server.handle_error = lambda *_: None  # clients that do not trust it go away
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def authority(configure: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> trustme.CA:
    """An authority that the client is told to trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    return authority


def no_records(_: BaseHTTPRequestHandler) -> bytes:
    return b'{"request_status": "SUCCESS", "request_id": "r", "records": []}'


def pages(configure: Any, account: Account, url: str) -> list[Any]:
    client = Client(account, configure(base_url=url))
    try:
        return list(client.records(PART))
    finally:
        client.close()


def test_a_trusted_certificate(authority: trustme.CA, configure: Any, account: Account) -> None:
    """A certificate of a trusted authority, for the host that is asked, is accepted."""
    with tls_server(authority.issue_cert("localhost"), no_records) as server:
        found = pages(configure, account, f"https://localhost:{server.server_port}")
    assert [page.records for page in found] == [[]]


def test_a_strange_certificate(configure: Any, account: Account) -> None:
    """One that nobody vouches for ends it at once, in one line, and no credentials are sent."""
    with tls_server(trustme.CA().issue_cert("localhost"), no_records) as server:
        with pytest.raises(UnreachableError, match="TLS cannot be verified"):
            pages(configure, account, f"https://localhost:{server.server_port}")
        assert server.seen == []


def test_a_certificate_of_another(authority: trustme.CA, configure: Any, account: Account) -> None:
    """So does a trusted one for another host."""
    with tls_server(authority.issue_cert("elsewhere.example"), no_records) as server:
        with pytest.raises(UnreachableError, match="TLS cannot be verified"):
            pages(configure, account, f"https://localhost:{server.server_port}")
        assert server.seen == []


@pytest.fixture
def files(world: Generated, authority: trustme.CA) -> Iterator[Any]:
    """A sandbox that sends for its files to another host, and that host."""
    sandbox: list[Sandbox] = []

    def file(handler: BaseHTTPRequestHandler) -> bytes:
        own = sandbox[0]
        url = own.base_url + handler.path
        return requests.get(url, auth=(own.api_key, own.api_secret), timeout=10).content

    with tls_server(authority.issue_cert("localhost"), file) as host:
        there = f"https://localhost:{host.server_port}"
        with Sandbox(
            world.folder, now=world.mature_at, pending_seconds=0, seconds_per_million=0,
            faults={"redirect_file": 1}, redirect_to=there,
        ) as served:  # fmt: skip
            sandbox.append(served)
            yield served, host


def test_a_file_on_another_host(
    files: Any, configure: Any, account: Account, tmp_path: Path
) -> None:
    """A redirect of a file to another https host is followed, without credentials."""
    sandbox, host = files
    client = Client(account, configure(base_url=sandbox.base_url))
    report = client.create_report(PART, sandbox.now)
    while not report.download:
        report = client.report(report.request_id)
    client.download(report.download, tmp_path / "report.zip")
    client.close()
    assert (tmp_path / "report.zip").read_bytes()[:2] == b"PK"
    assert sandbox.cruelty.struck["redirect_file"] == 1
    [headers] = host.seen
    assert "Authorization" not in headers


def test_a_file_on_a_host_of_no_trust(
    files: Any, configure: Any, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, too, the certificate is verified."""
    sandbox, host = files
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "other.pem"))
    client = Client(account, configure(base_url=sandbox.base_url))
    report = client.create_report(PART, sandbox.now)
    while not report.download:
        report = client.report(report.request_id)
    with pytest.raises((UnreachableError, ApiError), match="TLS cannot be verified"):
        client.download(report.download, tmp_path / "report.zip")
    client.close()
    assert host.seen == []
    assert not (tmp_path / "report.zip").exists()
