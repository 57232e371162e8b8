"""A store in a bucket: filled and judged under faults, by machines of which one is lost."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from subprocess import Popen
from urllib.parse import unquote

from reconcile.days import DAY
from reconcile.sandbox.generate import START, Generated
from reconcile.store import Store
from tests import rig_s3
from tests.judged_stores import begin, judge
from tests.judged_traffic import take_in
from tests.rig_s3 import BUCKET, S3

URL = f"s3://{BUCKET}/store"
# The share of requests that each fault strikes.
SHARES = {"slow_down": 0.03, "cut_before": 0.02, "cut_after": 0.02, "cut_mid_body": 0.03}
EXPIRY_SECONDS = 20
_FIRST_PART = re.compile(r"partNumber=1(&|$)")


@dataclass(frozen=True)
class Judged:
    """A store as a machine sees it that had no part in it, and how it came about.

    Attributes:
        store: to be read while the bucket is there.
        seconds: how long its last judging took, without waiting for the lock of a lost machine.
        killed: whether a machine was lost.
        struck: how often each fault struck.
    """

    store: Store
    seconds: float
    killed: bool
    struck: Counter[str]


def lacking() -> str:
    """What this takes and this machine has not, by name; empty if it has all."""
    return " and ".join(name for name in ("s3fs", "moto") if not find_spec(name))


@contextmanager
def judged_in_a_bucket(
    made: Generated, folder: Path, night: datetime, *flags: str, days: int, kill: bool, faults: bool
) -> Iterator[Judged]:
    """Fetches, ingests and judges, in the night after the last day and when all is over.

    Args:
        made: the traffic.
        folder: where the machines have their caches.
        night: the as_of of the first judging.
        flags: of `reconcile judge`.
        days: of how many days the traffic is.
        kill: whether the machine is lost as it puts verdicts in the middle of the last judging.
        faults: whether requests are struck.
    """
    with rig_s3.serving() as s3:
        if faults:
            s3.shares = dict(SHARES)
        first, second, third = (_machine(s3, folder / name) for name in ("one", "two", "three"))
        take_in(made, URL, days=days, env=first)
        judge(URL, night, *flags, env=first)
        seconds, killed = 0.0, False
        if kill:
            began = time.monotonic()
            running = begin(URL, made.mature_at, *flags, env=first)
            at = _losing_the_machine(s3, running, START + days // 2 * DAY)
            running.communicate()
            seconds, killed = time.monotonic() - began, bool(at)
            time.sleep(EXPIRY_SECONDS + 1)
        seconds += judge(URL, made.mature_at, *flags, env=second)
        struck = Counter({fault: s3.seen[fault] for fault in SHARES})
        s3.calm()
        with _environment(third):
            yield Judged(Store.open(URL), seconds, killed, struck)


def _machine(s3: S3, cache: Path) -> dict[str, str]:
    """What a machine has in its environment: its cache is its own."""
    expiry = f"{EXPIRY_SECONDS}s"
    return s3.environment | {"XDG_CACHE_HOME": str(cache), "RECONCILE_LOCK_EXPIRY": expiry}


def _losing_the_machine(s3: S3, running: Popen[str], day: date) -> list[str]:
    """Kills a run as it puts a day's verdicts, a large file's behind its first part."""
    at: list[str] = []

    def watch(method: str, path: str) -> None:
        is_it = method == "PUT" and f"/verdicts/day={day}/" in unquote(path)
        if is_it and not _FIRST_PART.search(path) and running.poll() is None:
            at.append(path)
            running.kill()
            raise ConnectionError

    s3.watch = watch
    return at


@contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    """Lets this process be a machine."""
    before = dict(os.environ)
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
