"""HTTP as the Reports API wants it: paced, and tried again where that may help."""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.auth import HTTPBasicAuth

from reconcile import __version__
from reconcile.bucket import LOOPBACK
from reconcile.errors import ApiError, DiskError, UnreachableError, trouble
from reconcile.reports.problems import location, refuse
from reconcile.settings import Account, Settings

T = TypeVar("T")

TRANSIENT = (429, 500, 502, 503, 504)
CHUNK_BYTES = 1 << 20
# Requests are spaced wider than the limit, so that arrivals that bunch on their way keep it too.
SLACK = 1.06
# A thread that woke late by no more than this does not put off the requests behind its own.
MADE_UP_FOR = 0.005


class GarbledError(requests.RequestException):
    """An answer that is not what the API sends: somebody in between has spoken."""


# What may go better next time; all else of requests' errors will not.
PASSING = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
    GarbledError,
)


class Pacer:
    """Lets requests through at most so often, whatever the number of threads."""

    def __init__(self, per_second: float) -> None:
        self._gap = SLACK / per_second
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Sleeps until the next request may go."""
        with self._lock:
            time.sleep(max(0.0, self._next - time.monotonic()))
            self._next = max(self._next, time.monotonic() - MADE_UP_FOR) + self._gap


class Transport:
    """One account's requests to the configured host, and to no other; threads may share it.

    Every method raises `ApiError` (or `AuthError`, `RateLimitError`) with the API's own words, and
    `UnreachableError` where no whole answer came within the allowed tries.
    """

    def __init__(self, account: Account, settings: Settings) -> None:
        self._settings, self._account = settings, account
        self._own = threading.local()
        self._sessions: list[requests.Session] = []
        self._stopped = threading.Event()

    def close(self) -> None:
        """Ends the connections."""
        for session in self._sessions:
            session.close()

    def stop(self) -> None:
        """Lets no further request begin, and ends all pauses: the run is over."""
        self._stopped.set()

    def pause(self, seconds: float) -> None:
        """Waits, unless the run is over.

        Raises:
            UnreachableError: it is.
        """
        if self._stopped.wait(seconds):
            raise UnreachableError("stopped")

    @property
    def _session(self) -> requests.Session:
        """This thread's own: requests promises nothing for a shared one."""
        if not hasattr(self._own, "session"):
            session = self._own.session = requests.Session()
            key, secret = self._account.api_key, self._account.api_secret
            # Given as text, a secret of letters beyond Latin-1 would stop requests.
            session.auth = HTTPBasicAuth(key.encode(), secret.encode())
            session.headers["User-Agent"] = f"dlr-reconcile/{__version__}"
            # A proxy of the company's has no business on loopback.
            session.trust_env = urlsplit(self._settings.base_url).hostname not in LOOPBACK
            session.verify = authorities()
            self._sessions.append(session)
        return self._own.session  # type: ignore[no-any-return] # a thread-local has no types

    def json_once(
        self, method: str, path: str, pacer: Pacer, *,
        query: dict[str, str] | str | None = None, body: dict[str, Any] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """The JSON object that answers a request, in a single try."""
        pacer.wait()
        answer = self._send(
            self._session, method, self._settings.base_url + path, params=query, json=body
        )
        if not 200 <= answer.status_code < 300:
            refuse(answer, f"{method} {path}")
        return _object(answer, f"{method} {path}")

    def clock(self, path: str, pacer: Pacer, query: dict[str, str]) -> datetime | None:
        """What time it is where a GET is answered, in a single try; None: the answer is silent."""
        pacer.wait()
        answer = self._send(self._session, "GET", self._settings.base_url + path, params=query)
        if not 200 <= answer.status_code < 300:
            refuse(answer, f"GET {path}")
        _object(answer, f"GET {path}")
        try:
            return parsedate_to_datetime(answer.headers.get("Date", "")).astimezone(UTC)
        except ValueError:
            return None

    def file(self, path: str, target: Path) -> int:
        """Streams a file to disk, where it appears only when it is whole; returns its bytes."""
        partial = target.with_name(target.name + ".part")
        where = f"GET {urlsplit(path).path}"

        def attempt() -> int:
            with self._get_file(self._settings.base_url + path, where) as answer:
                size = _save(answer, partial)
            partial.replace(target)
            return size

        return self.retrying(attempt, where)

    @contextmanager
    def _get_file(self, url: str, where: str) -> Iterator[requests.Response]:
        """A file's answer. One redirect to another https host is followed, without credentials."""
        # Encoded, its length would not be the announced one.
        options: dict[str, Any] = {"stream": True, "headers": {"Accept-Encoding": "identity"}}
        answer = self._send(self._session, "GET", url, **options)
        elsewhere = _elsewhere(answer)
        if elsewhere:
            answer.close()
            with requests.Session() as bare:
                bare.trust_env, bare.verify = self._session.trust_env, self._session.verify
                answer = self._send(bare, "GET", elsewhere, auth=_no_auth, **options)
        with answer:
            if answer.status_code != 200:
                refuse(answer, where, with_credentials=not elsewhere)
            yield answer

    def _send(
        self, session: requests.Session, method: str, url: str, **options: Any
    ) -> requests.Response:
        """Sends a request that follows no redirect."""
        self.pause(0)
        connect, read = self._settings.connect_timeout, self._settings.read_timeout
        try:
            return session.request(
                method, url, timeout=(connect.total_seconds(), read.total_seconds()),
                allow_redirects=False, **options,
            )  # fmt: skip
        except requests.RequestException:
            raise
        except ValueError:  # requests looks where a redirect leads even if it is not to follow
            raise UnreachableError(
                f"{urlsplit(url).netloc} redirects {method} {urlsplit(url).path} to what is no "
                "address: is base_url right?"
            ) from None

    def retrying(self, attempt: Callable[[], T], where: str) -> T:
        """Tries again after 429, 5xx and lost connections, ever later, but not for ever."""
        longest = self._settings.retry_longest.total_seconds()
        for tries in range(self._settings.retries + 1):
            last = tries == self._settings.retries
            wait = min(longest, 0.5 * 2**tries) * random.uniform(0.5, 1)
            try:
                return attempt()
            except ApiError as error:
                if error.status not in TRANSIENT or last:
                    raise
                if error.retry_after:
                    wait = min(longest, error.retry_after)
            except requests.RequestException as error:
                if last or not isinstance(error, PASSING) or _is_distrust(error):
                    raise UnreachableError(_unreachable(error, self._settings, where)) from None
            self.pause(wait)
        raise AssertionError("the last try returns or raises")


def authorities() -> str | bool:
    """Whose certificates are trusted: the usual authorities, or those that the user's file names.

    requests reads the variable by itself, but not where it is told to use no proxy.
    """
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True


def _elsewhere(answer: requests.Response) -> str | None:
    """Where a redirect leads that may be followed: to https, on another host."""
    there = location(answer)
    if there and urlsplit(there).scheme == "https":
        return there if urlsplit(there).netloc != urlsplit(str(answer.url)).netloc else None
    return None


def _object(answer: requests.Response, where: str) -> dict[str, Any]:
    try:
        # Money stays the text that it came as: nobody here calculates with it.
        found = json.loads(answer.content, parse_float=str)
    except (ValueError, RecursionError):
        html = answer.content[:200].lstrip().startswith(b"<")
        raise GarbledError(
            f"{where} was answered with {'an HTML page' if html else 'something else'} instead of "
            "JSON: is a proxy in between, or base_url wrong?"
        ) from None
    if not isinstance(found, dict):
        raise GarbledError(f"{where} was answered with JSON that is no object")
    return found


def _is_distrust(error: requests.RequestException) -> bool:
    """Whether a certificate is refused; other faults of TLS are lost connections."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _unreachable(error: requests.RequestException, settings: Settings, where: str) -> str:
    host = urlsplit(settings.base_url).netloc
    if isinstance(error, GarbledError):
        return str(error)
    if _is_distrust(error):
        return f"{host}: TLS cannot be verified: {error}"
    if isinstance(error, requests.Timeout) or "Read timed out" in str(error):
        return f"{host} did not answer {where} in time, {settings.retries + 1} times: try later"
    if isinstance(error, PASSING):
        return f"{host} could not be reached for {where}: check base_url and the network"
    return f"{host}: {where} failed: {type(error).__name__}"


def _save(answer: requests.Response, target: Path) -> int:
    """Streams a body to disk and holds its length against the one announced."""
    size = 0
    try:
        with target.open("wb") as file:
            for chunk in answer.iter_content(CHUNK_BYTES):
                size += file.write(chunk)
    except requests.RequestException:  # an OSError too, but none of the disk
        raise
    except OSError as error:
        raise DiskError(f"{target} cannot be written: {trouble(error)}") from None
    announced = answer.headers.get("Content-Length", "")
    if (
        announced.isdecimal()
        and "Content-Encoding" not in answer.headers
        and int(announced) != size
    ):
        raise requests.ConnectionError(f"{size} of {announced} bytes came")
    return size


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sends nothing, not even what a .netrc would offer."""
    return request
