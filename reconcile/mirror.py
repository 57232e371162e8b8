"""A store that lies in a bucket, and what of it is on this machine: the same files and names.

What is asked for is fetched unless it is here in its newest state; what was written is put, whole
objects each. The bucket is what counts: a file that is here and was never put is fetched over.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
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
from reconcile.lease import Lease

KNOWN = ".work/mirror.json"
SLICES = ".work/slices"
# Pages of a slice under way: a file that grows, in pieces.
GROWING, PIECE = ".pages", ".at-"
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
    """

    def __init__(self, url: str, root: Path) -> None:
        self.bucket, self.root = Bucket(url), root
        self._lease: Lease | None = None
        self._listed: dict[str, dict[str, Stat]] = {}  # folder → its objects, by name
        self._known: dict[str, list[str | int]] | None = None
        self._guard = threading.RLock()
        self._pages: dict[str, int] = {}  # a growing file → how much of it is in the bucket
        self._kept: dict[str, tuple[int, int]] = {}  # a file of a slice → as it was put

    @contextmanager
    def held(self, expiry: timedelta) -> Iterator[None]:
        """The store's lock; what runs before have left half is dropped, or brought here."""
        lease = Lease(self.bucket, expiry.total_seconds())
        with lease.hold():
            self._lease = lease
            self._listed.clear()
            try:
                self.bucket.drop_partial()
                self._restore()
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

    # --- slices under way --------------------------------------------------------------------

    def keep_slices(self) -> None:
        """Puts what has changed in the folder of slices; notes come after what they note."""
        with self._guard:
            here = {
                entry.name: (entry.stat().st_size, entry.stat().st_mtime_ns)
                for entry in os.scandir(self.root / SLICES) if _is_kept(entry.name)
            } if (self.root / SLICES).is_dir() else {}  # fmt: skip
            gone = [name for name in self._kept if name not in here]
            changed = [name for name, state in here.items() if self._kept.get(name) != state]
            for name in sorted(gone, key=lambda name: not name.endswith(".json")):
                self._forget_slice(name)
            for name in sorted(changed, key=lambda name: name.endswith(".json")):
                if name.endswith(GROWING):
                    self._put_piece(name, here[name][0])
                else:
                    self._check()
                    self.bucket.put(self.root / SLICES / name, f"{SLICES}/{name}")
                self._kept[name] = here[name]

    def _put_piece(self, name: str, size: int) -> None:
        start = self._pages.get(name, 0)
        if size < start:
            self._forget_slice(name)
            start = 0
        with (self.root / SLICES / name).open("rb") as file:
            file.seek(start)
            piece = file.read(size - start)
        self._check()
        if piece:
            fresh = self.root / SLICES / f".{name}.piece"
            fresh.write_bytes(piece)
            self.bucket.put(fresh, f"{SLICES}/{name}{PIECE}{start:015}")
            fresh.unlink()
        self._pages[name] = size

    def _forget_slice(self, name: str) -> None:
        self._check()
        whole = f"{SLICES}/{name}"
        names = [
            each for each in self.bucket.list(SLICES)
            if each == whole or (name.endswith(GROWING) and each.startswith(f"{whole}{PIECE}"))
        ]  # fmt: skip
        self.bucket.drop(names)
        self._kept.pop(name, None)
        self._pages.pop(name, None)

    def _restore(self) -> None:
        """Lets the folder of slices be what it is in the bucket."""
        folder = self.root / SLICES
        shutil.rmtree(folder, ignore_errors=True)
        self._pages, self._kept = {}, {}
        for path in sorted(self.bucket.list(SLICES)):
            name, piece, _ = path.removeprefix(f"{SLICES}/").partition(PIECE)
            folder.mkdir(parents=True, exist_ok=True)
            fresh = folder / f".{name}.piece"
            if self.bucket.get(path, fresh) is None:
                continue
            with (folder / name).open("ab" if piece else "wb") as file, fresh.open("rb") as part:
                shutil.copyfileobj(part, file)
            fresh.unlink()
            told = (folder / name).stat()
            self._kept[name] = (told.st_size, told.st_mtime_ns)
            if piece:
                self._pages[name] = told.st_size

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


def _is_kept(name: str) -> bool:
    """Whether a file of a slice is worth putting: not what is half, nor what can be had again."""
    return not name.startswith(".") and not name.endswith((".part", ".zip"))
