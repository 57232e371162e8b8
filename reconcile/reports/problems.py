"""An answer that is no success → the error it means, with the API's own words."""

from __future__ import annotations

from typing import NoReturn
from urllib.parse import urljoin, urlsplit

import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util import Retry

from reconcile.errors import ApiError, AuthError, RateLimitError


def location(answer: requests.Response) -> str | None:
    """Where a redirect leads; None if it is none."""
    if not answer.is_redirect:
        return None
    return urljoin(str(answer.url), answer.headers["Location"])


def refuse(answer: requests.Response, where: str, *, with_credentials: bool = True) -> NoReturn:
    """Raises an answer that is no success, with the API's own words where it has any."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    problem = found if isinstance(found, dict) else {}
    title = str(problem.get("title") or answer.reason or "no reason given")
    if answer.is_redirect:
        host = urlsplit(location(answer) or "").hostname or "nowhere"
        title = f"a redirect to {host}, which is refused"
    invalid = problem.get("invalid_parameters")
    detail = str(problem.get("detail") or "")
    if isinstance(invalid, list):
        named = (f"{p.get('name')}: {p.get('reason')}" for p in invalid if isinstance(p, dict))
        detail = "; ".join(filter(None, (detail, *named)))
    # Only where our credentials went can they be wrong.
    kinds = {401: AuthError, 403: AuthError} if with_credentials else {}
    kind = (kinds | {429: RateLimitError}).get(answer.status_code, ApiError)
    instance = str(problem.get("instance") or "")
    error = kind(answer.status_code, _line(title), _line(detail), _line(instance), where)
    error.retry_after = _retry_after(answer)
    raise error


def _retry_after(answer: requests.Response) -> float | None:
    """Seconds to wait by the answer's Retry-After, which may be a number or a date."""
    header = answer.headers.get("Retry-After")
    if header is None:
        return None
    try:
        return Retry().parse_retry_after(header)
    except InvalidHeader:
        return None


def _line(words: str) -> str:
    """Words on one line, as every error is told."""
    return " ".join(words.split())
