"""A lock where there is no kernel to keep it: an object that says who holds it, and until when.

It is made only where there is none (`If-None-Match`), and replaced only by whoever knows its newest
state (`If-Match`). Its age is told by the server's clock alone. Who holds it writes it anew, over
and over; of a holder that was killed it expires.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from reconcile.bucket import READ_SECONDS, Bucket, Read
from reconcile.errors import BucketError, LockedError

NAME = ".work/lock"
# How often it is written anew while it lasts; and how often it is tried where that failed.
TIMES, TIMES_ANEW = 4, 20


class Lease:
    """One holder's lock on a bucket's store.

    Args:
        bucket: where the store is.
        seconds: how long it lasts unless it is written anew.
    """

    def __init__(self, bucket: Bucket, seconds: float) -> None:
        self._bucket, self._seconds = bucket, seconds
        # Tries that wait ever longer between are not for what must be there in time.
        patience = min(READ_SECONDS, seconds / TIMES)
        self._hasty = Bucket(bucket.url, tries=1, read_seconds=patience)
        self._token = uuid.uuid4().hex
        self._owner = f"process {os.getpid()} on {socket.gethostname()}"
        self._etag, self._renewed = "", 0.0
        self._ended = threading.Event()
        self._lost = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Takes it, keeps it, and lets it go.

        Raises:
            LockedError: another has it.
        """
        self._take()
        keeper = threading.Thread(target=self._keep, name="lease", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            self._ended.set()
            keeper.join()
            with suppress(BucketError):  # then it expires
                self._renew(self._bucket, free=True)

    def check(self) -> None:
        """Says no where the lock may be another's by now.

        Raises:
            LockedError: it may.
        """
        if self._lost or time.monotonic() - self._renewed > self._seconds:
            raise LockedError(
                f"the lock on {self._bucket.url} was lost: the bucket was out of reach for longer "
                f"than {self._seconds:.0f} s, or somebody took it away; run again"
            )

    def _take(self) -> None:
        found = self._bucket.read(NAME)
        if found and not self._is_free(found):
            self._refuse(found)
        if not self._write(self._bucket, found.etag if found else None):
            other = self._bucket.read(NAME)
            self._refuse(other or Read(b"{}", "", 0.0))

    def _refuse(self, found: Read) -> None:
        told = _told(found)
        left = max(float(told.get("seconds", self._seconds)) - found.seconds_old, 0.0)
        raise LockedError(
            f"another run ({told.get('owner') or 'unknown'}) holds the store {self._bucket.url}: "
            f"wait for it to end; if it was killed, its lock expires in {left:.0f} s"
        )

    def _is_free(self, found: Read) -> bool:
        told = _told(found)
        seconds = told.get("seconds")
        if not told.get("owner") or not isinstance(seconds, int | float):
            return True
        return found.seconds_old > seconds

    def _write(self, bucket: Bucket, known: str | None, *, free: bool = False) -> bool:
        begun = time.monotonic()
        told = {
            "owner": "" if free else self._owner, "seconds": self._seconds, "token": self._token,
            "state": uuid.uuid4().hex,  # no two are alike, whoever wrote them
        }  # fmt: skip
        etag = bucket.write(NAME, json.dumps(told).encode(), instead_of=known)
        if etag:
            self._etag, self._renewed = etag, begun
        return etag is not None

    def _renew(self, bucket: Bucket, *, free: bool = False) -> bool:
        """Writes it anew; False: it is another's."""
        if self._write(bucket, self._etag, free=free):
            return True
        found = bucket.read(NAME)
        if found is None or _told(found).get("token") != self._token:
            return False
        # What we wrote before, and whose answer was lost.
        return self._write(bucket, found.etag, free=free)

    def _keep(self) -> None:
        wait = self._seconds / TIMES
        while not self._ended.wait(wait):
            wait = self._seconds / TIMES
            try:
                if not self._renew(self._hasty):
                    self._lost = True
                    return
            except BucketError:  # `check` knows for how long
                wait = self._seconds / TIMES_ANEW


def _told(found: Read) -> dict[str, Any]:
    try:
        told = json.loads(found.data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
