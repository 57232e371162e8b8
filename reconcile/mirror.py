"""A store that lies in a bucket, and what of it is on this machine: the same files and names.

What is asked for is fetched unless it is here in its newest state; what was written is put, whole
objects each. The bucket is what counts: a file that is here and was never put is fetched over. What
is under way goes by rules of its own (`handing_on.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from reconcile.bucket import Bucket, Stat
from reconcile.errors import BucketError, DiskError, LockedError, trouble
from reconcile.handing_on import HandingOn
from reconcile.lease import Lease

KNOWN = ".work/mirror.json"
AT_ONCE = 8


def local_root(url: str) -> Path:
    """Where on this machine a bucket's store is mirrored: below `XDG_CACHE_HOME`."""
    given = os.environ.get("XDG_CACHE_HOME")
    try:
        cache = Path(given) if given else Path.home() / ".cache"
    except RuntimeError:  # a container without homes
        cache = Path(tempfile.gettempdir())
    name = url.removeprefix("s3://").replace("/", "-")[:60]
    return cache / "reconcile" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}"


class Mirror:
    """What of a bucket is here.

    Args:
        url: of the store.
        root: the folder on this machine.

    Attributes:
        under_way: its slices, which are put as they grow.
    """

    def __init__(self, url: str, root: Path) -> None:
        self.bucket, self.root = Bucket(url), root
        self._lease: Lease | None = None
        self._listed: dict[str, dict[str, Stat]] = {}  # folder → its objects, by name
        self._known: dict[str, list[str | int]] | None = None
        self._guard = threading.RLock()
        self.under_way = HandingOn(self.bucket, root, self._check)

    @contextmanager
    def held(self, expiry: timedelta) -> Iterator[None]:
        """The store's lock; what runs before have left half is dropped, or brought here."""
        lease = Lease(self.bucket, expiry.total_seconds())
        with lease.hold():
            self._lease = lease
            self._listed.clear()
            try:
                self.bucket.drop_partial()
                self.under_way.restore()
                self.under_way.keep()
                yield
            finally:
                self._lease = None

    def names(self, folder: str) -> list[str]:
        """The names of all objects in a folder of the store, in order."""
        return sorted(self._objects(folder))

    def pull(self, *names: str) -> None:
        """Lets these files be here as they are in the bucket, or not be here as they are not."""
        with self._guard:
            stale = [name for name in names if not self._is_newest(name)]
        if not stale:
            return
        with ThreadPoolExecutor(min(AT_ONCE, len(stale))) as pool:
            for _ in pool.map(self._fetch, stale):
                pass
        self._remember()

    def newest(self, folder: str) -> list[str]:
        """The name of the object that was put last into a folder, if there is one."""
        found = self._objects(folder)
        return [max(found, key=lambda name: (found[name].modified, name))] if found else []

    def begin(self, name: str) -> None:
        """Puts the file that makes it a store, unless another has been faster."""
        self.bucket.write(name, (self.root / name).read_bytes(), instead_of=None)
        self._listed.clear()

    def push(self, *names: str) -> None:
        """Puts files that were written here."""
        for name in names:
            self._check()
            self._enter(name, self.bucket.put(self.root / name, name))
        self._remember()

    def push_small(self, name: str) -> None:
        """Puts a small file, if nobody else has written it since we know it.

        Raises:
            LockedError: somebody has.
        """
        self._check()
        before = self._objects(_folder(name)).get(name)
        data = (self.root / name).read_bytes()
        etag = self.bucket.write(name, data, instead_of=before.etag if before else None)
        found = self.bucket.stat(name) if etag else None
        if not etag or not found or found.etag != etag:
            raise LockedError(
                f"another run has written {self.bucket.url}/{name} meanwhile: run again"
            )
        self._enter(name, found)  # not remembered: it is fetched again as fast as that is written

    def size(self, folder: str) -> int:
        """How many bytes the objects in a folder have; nothing is fetched."""
        objects = self._objects(_folder(f"{folder}/"))
        return sum(found.size for name, found in objects.items() if name.startswith(f"{folder}/"))

    def drop(self, *names: str) -> None:
        """Drops objects that are here no more."""
        self._check()
        self.bucket.drop(names)
        with self._guard:
            for name in names:
                self._objects(_folder(name)).pop(name, None)

    def push_folder(self, folder: str) -> None:
        """Lets a partition in the bucket be what it is here: files first, then what names them."""
        here = {
            str(path.relative_to(self.root)): path
            for path in (self.root / folder).rglob("*") if path.is_file()
        }  # fmt: skip
        there = {n for n in self._objects(_folder(folder)) if n.startswith(f"{folder}/")}
        last = [name for name in here if name.endswith(".json")]
        self.push(*sorted(set(here).difference(last)), *last)
        gone = sorted(there.difference(here), key=lambda name: not name.endswith(".json"))
        if gone:
            self.drop(*gone)

    # --- what is here ------------------------------------------------------------------------

    def _objects(self, folder: str) -> dict[str, Stat]:
        with self._guard:
            if folder not in self._listed:
                self._listed[folder] = self.bucket.list(folder, deep=bool(folder))
            return self._listed[folder]

    def _is_newest(self, name: str) -> bool:
        found, path = self._objects(_folder(name)).get(name), self.root / name
        try:
            told = path.stat()
        except OSError:
            return found is None
        return found is not None and self._notes().get(name) == _note(found.etag, told)

    def _fetch(self, name: str) -> None:
        path = self.root / name
        if self._objects(_folder(name)).get(name) is None:
            path.unlink(missing_ok=True)
            return
        fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            found = self.bucket.get(name, fresh)
            if found is None:
                self._objects(_folder(name)).pop(name, None)
                path.unlink(missing_ok=True)
                return
            fresh.replace(path)
        except OSError as error:
            raise DiskError(f"{path} cannot be written: {trouble(error)}") from None
        finally:
            fresh.unlink(missing_ok=True)
        self._enter(name, found)

    def _enter(self, name: str, found: Stat) -> None:
        with self._guard:
            self._objects(_folder(name))[name] = found
            self._notes()[name] = _note(found.etag, (self.root / name).stat())

    def _notes(self) -> dict[str, list[str | int]]:
        """Of each file that is here the etag that it was fetched with, and how it lay then."""
        if self._known is None:
            self._known = {}
            with suppress(OSError, ValueError):
                self._known = json.loads((self.root / KNOWN).read_text("utf-8"))
        return self._known

    def _remember(self) -> None:
        with self._guard:
            path = self.root / KNOWN
            fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                fresh.write_text(json.dumps(self._notes()), "utf-8")
                fresh.replace(path)
            except OSError as error:
                raise DiskError(f"{path} cannot be written: {trouble(error)}") from None

    def _check(self) -> None:
        if self._lease is None:
            raise BucketError(f"{self.bucket.url} is written without its lock: this is a bug")
        self._lease.check()


def _note(etag: str, told: os.stat_result) -> list[str | int]:
    return [etag, told.st_size, told.st_mtime_ns]


def _folder(name: str) -> str:
    """The folder that is listed to know of a name: the first of its path; "": that of the store."""
    return name.partition("/")[0] if "/" in name else ""
