"""One message over HTTP to somebody who watches the job; it never changes how the job ends.

The URL is a secret: of it only the host is ever shown.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from reconcile import __version__
from reconcile.bucket import LOOPBACK
from reconcile.reports.transport import authorities

Warn = Callable[[str], None]

CONNECT_SECONDS, READ_SECONDS = 5.0, 5.0
# A name server that is silent, or an answer that comes drop by drop, holds nobody up for longer.
LONGEST_SECONDS = 12.0


def ping(url: str, event: str, body: str, warn: Warn) -> None:
    """Tells a health check of a start, a success or a failure, as healthchecks.io has it.

    Args:
        url: the check's URL: a success is sent there, the others to `/start` and `/fail` below it.
        event: start, success or fail.
        body: what is shown beside it.
        warn: gets one line if it could not be told.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + {"start": "/start", "success": "", "fail": "/fail"}[event]
    there = urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))
    _send(there, body.encode(), "text/plain; charset=utf-8", f"the ping ({event})", warn)


def post(url: str, payload: dict[str, Any], warn: Warn) -> None:
    """Posts JSON to a webhook."""
    body = json.dumps(payload, ensure_ascii=False).encode()
    _send(url, body, "application/json", "the webhook", warn)


def _send(url: str, body: bytes, kind: str, what: str, warn: Warn) -> None:
    problems = ["did not answer in time"]

    def attempt() -> None:
        problems[:] = _attempt(url, body, kind)

    # A thread of its own can be left behind, whatever it hangs on.
    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(LONGEST_SECONDS)
    for problem in problems:
        warn(f"{what} was not taken: {urlsplit(url).hostname} {problem}")


def _attempt(url: str, body: bytes, kind: str) -> list[str]:
    """Sends it, if need be twice; what is wrong comes back in words that hold nothing of the URL"""
    found: list[str] = []
    for _ in range(2):
        found, is_final = _once(url, body, kind)
        if not found or is_final:
            break
    return found


def _once(url: str, body: bytes, kind: str) -> tuple[list[str], bool]:
    headers = {"Content-Type": kind, "User-Agent": f"dlr-reconcile/{__version__}"}
    try:
        with requests.Session() as session:
            session.trust_env = urlsplit(url).hostname not in LOOPBACK
            session.verify = authorities()
            with session.post(
                url, data=body, headers=headers, timeout=(CONNECT_SECONDS, READ_SECONDS),
                allow_redirects=False, stream=True, auth=_no_auth,
            ) as answer:  # fmt: skip
                if 200 <= answer.status_code < 300:
                    return [], True
                return [f"answered {answer.status_code}"], answer.status_code < 500
    except requests.exceptions.SSLError:
        return ["is not who it says (TLS cannot be verified)"], True
    except requests.Timeout:
        return ["did not answer in time"], True
    except (requests.RequestException, ValueError, OSError):
        return ["could not be reached"], False


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sends no credentials, not even what a .netrc would offer."""
    return request
